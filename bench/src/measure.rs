//! Clocks and counters: latencies against one clock, a pace that waits for nobody, what a process has used.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::time::MissedTickBehavior;

/// Latencies in nanoseconds, up to a minute, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds that the histogram accepts")
}

/// When each of a number of operations began: written by who sends, read by who receives, on one clock.
pub(crate) struct Begun {
    start: Instant,
    at_ns: Vec<AtomicU64>,
}

impl Begun {
    pub(crate) fn new(count: usize) -> Self {
        Self { start: Instant::now(), at_ns: (0..count).map(|_| AtomicU64::new(0)).collect() }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Just before an operation begins.
    pub(crate) fn begin(&self, number: usize) {
        if let Some(at) = self.at_ns.get(number) {
            at.store(self.now_ns().max(1), Ordering::Release);
        }
    }

    /// Nanoseconds since it began, if it has.
    pub(crate) fn since(&self, number: usize) -> Option<u64> {
        let at = self.at_ns.get(number)?.load(Ordering::Acquire);
        (at > 0).then(|| self.now_ns().saturating_sub(at).max(1))
    }

    /// Nanoseconds since it began, the first time that this is asked.
    pub(crate) fn end(&self, number: usize) -> Option<u64> {
        let at = self.at_ns.get(number)?.swap(0, Ordering::AcqRel);
        (at > 0).then(|| self.now_ns().saturating_sub(at).max(1))
    }
}

/// Sends one after the other at a fixed rate, whatever becomes of them.
pub(crate) async fn open_loop<F: Future<Output = Result<()>>>(
    per_second: u32,
    numbers: std::ops::Range<usize>,
    send: impl Fn(usize) -> F,
) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in numbers {
        ticks.tick().await;
        send(number).await?;
    }
    Ok(())
}

/// Processor time that a process has used so far, in seconds; of all its threads, those that have ended included. From the
/// scheduler's nanoseconds: `/proc/PID/stat` counts hundredths of a second, which an idle process hardly ever uses.
#[cfg(target_os = "linux")]
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    use nix::time::{clock_getcpuclockid, clock_gettime};
    let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(i32::try_from(pid)?));
    let used = clock.and_then(clock_gettime).with_context(|| format!("process {pid} is not there"))?;
    Ok(Duration::from(used).as_secs_f64())
}

/// Only Linux tells of other processes.
#[cfg(not(target_os = "linux"))]
pub(crate) fn cpu_seconds(_pid: u32) -> Result<f64> {
    anyhow::bail!("processor time of other processes can be read on Linux only")
}

/// Memory of a process that is in use now, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1_024.0)
}

/// Processor time that a process used over several turns, and not between them.
pub(crate) struct TurnsCpu {
    pid: u32,
    seconds: f64,
    operations: u64,
}

impl TurnsCpu {
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid, seconds: 0.0, operations: 0 }
    }

    /// What was used since `before`, for so many operations.
    pub(crate) fn add(&mut self, before: f64, operations: usize) -> Result<()> {
        self.seconds += self.now()? - before;
        self.operations += u64::try_from(operations).unwrap_or(0);
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Used so far, in seconds.
    pub(crate) fn now(&self) -> Result<f64> {
        cpu_seconds(self.pid)
    }

    /// Microseconds for each operation, and how many there were.
    pub(crate) fn us_each(&self) -> (f64, u64) {
        (self.seconds * 1e6 / self.operations.max(1) as f64, self.operations)
    }
}

/// Processor time used by a process while something was done.
pub(crate) struct CpuUse {
    pid: u32,
    before: f64,
    since: Instant,
}

impl CpuUse {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        Ok(Self { pid, before: cpu_seconds(pid)?, since: Instant::now() })
    }

    /// Microseconds of processor time per operation.
    pub(crate) fn us_each(&self, operations: u64) -> Result<f64> {
        Ok((cpu_seconds(self.pid)? - self.before) * 1e6 / operations.max(1) as f64)
    }

    /// Percent of one core since the beginning.
    pub(crate) fn percent(&self) -> Result<f64> {
        Ok((cpu_seconds(self.pid)? - self.before) * 100.0 / self.since.elapsed().as_secs_f64())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn processor_time_of_threads_that_have_ended_counts_and_is_read_finer_than_ticks() {
        let own = std::process::id();
        let before = cpu_seconds(own).unwrap();
        let spent = std::thread::spawn(|| {
            let began = cpu_of_this_thread();
            while cpu_of_this_thread() - began < Duration::from_millis(3) {}
            (cpu_of_this_thread() - began).as_secs_f64()
        });
        let spent = spent.join().unwrap();
        let used = cpu_seconds(own).unwrap() - before;
        assert!(used >= spent, "{used} s of which one thread alone used {spent} s");
        assert!((used * 1e9).round() % 1e7 != 0.0, "{used} s is a whole number of ticks");
    }

    fn cpu_of_this_thread() -> Duration {
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
    }
}
