//! The signals that an agent gets: some ask it to stop, the others are meant for its services.

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Asks the agent to stop; a second time: to hurry.
const STOP: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];
/// Handed on to the services as they are.
const FORWARD: [Signal; 5] = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGQUIT, Signal::SIGWINCH];
/// Signals that were not looked at yet; more at once are lost, as the system's own are.
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
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let all = STOP.map(|it| (it, Wanted::Stop(it))).into_iter().chain(FORWARD.map(|it| (it, Wanted::Forward(it))));
    for (number, wanted) in all {
        let mut caught = signal(SignalKind::from_raw(number as i32))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while caught.recv().await.is_some() {
                let _ = sender.try_send(wanted);
            }
        });
    }
    Ok(receiver)
}
