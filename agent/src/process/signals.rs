//! The signals that an agent gets: some ask it to stop, the others are meant for its services.

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Asks the agent to stop; a second time: to hurry.
const STOP: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];
/// Handed on to the services as they are.
const FORWARD: [Signal; 5] = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGQUIT, Signal::SIGWINCH];
/// Signals that were not looked at yet. At the bound each kind waits for itself: of more of that kind one is left, as it is
/// with the system's own; no other kind is lost for it.
const CAPACITY: usize = 32;

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Stop, or hurry.
    Stop(Signal),
    /// For the services.
    Forward(Signal),
}

/// Catches all of them from now on.
///
/// # Errors
/// The system refuses a handler.
pub fn catch() -> std::io::Result<mpsc::Receiver<Wanted>> {
    catch_at_most(CAPACITY)
}

fn catch_at_most(waiting_max: usize) -> std::io::Result<mpsc::Receiver<Wanted>> {
    let (sender, receiver) = mpsc::channel(waiting_max);
    let all = STOP.map(|it| (it, Wanted::Stop(it))).into_iter().chain(FORWARD.map(|it| (it, Wanted::Forward(it))));
    for (number, wanted) in all {
        let mut caught = signal(SignalKind::from_raw(number as i32))?;
        let sender = sender.clone();
        tokio::spawn(async move { while caught.recv().await.is_some() && sender.send(wanted).await.is_ok() {} });
    }
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::raise;

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_flood_of_one_signal_that_nobody_looks_at_loses_no_other_signal() {
        let mut signals = catch_at_most(1).unwrap();
        let mut stop = signal(SignalKind::terminate()).unwrap();
        // None of these four can be told from one by the system; the first that is passed on fills what may wait.
        for _ in 0..4 {
            raise(Signal::SIGWINCH).unwrap();
        }
        let full = async {
            while signals.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, full).await.expect("the first one is passed on");
        raise(Signal::SIGTERM).unwrap();
        // Who listens here hears it when the task that passes it on does; what cannot be passed on waits then, or is lost.
        tokio::time::timeout(SOON, stop.recv()).await.expect("the signal comes");
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let (mut windows, mut stopped) = (0, false);
        let read = async {
            while !stopped {
                match signals.recv().await.unwrap() {
                    Wanted::Forward(signal) => windows += usize::from(signal == Signal::SIGWINCH),
                    Wanted::Stop(signal) => stopped = signal == Signal::SIGTERM,
                }
            }
        };
        tokio::time::timeout(SOON, read).await.expect("the agent is asked to stop");
        assert!((1..=4).contains(&windows), "{windows}");
    }
}
