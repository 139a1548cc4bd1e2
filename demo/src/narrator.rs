//! What people read while the demo runs: each line with the seconds since the beginning.

use std::io::{self, Write};
use std::time::Instant;

/// Prints. Copies print to the same place and count from the same moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Narrator {
    begun: Instant,
    /// Standard output belongs to a machine.
    json: bool,
}

impl Narrator {
    pub(crate) fn new(json: bool) -> Self {
        Self { begun: Instant::now(), json }
    }

    /// Something without a place in time.
    pub(crate) fn aside(self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    /// What is done to the system.
    pub(crate) fn act(self, text: &str) {
        self.print(&format!("\n{} == {text}\n", self.moment(Instant::now())));
    }

    /// What a consumer sees, when it sees it.
    pub(crate) fn seen(self, at: Instant, text: &str) {
        self.print(&format!("{}    watch: {text}\n", self.moment(at)));
    }

    /// What came of a promise.
    pub(crate) fn verdict(self, text: &str) {
        self.print(&format!("{}    {text}\n", self.moment(Instant::now())));
    }

    /// What the whole came to; alone on standard output if that belongs to a machine.
    pub(crate) fn result(self, text: &str) {
        if self.json {
            write(io::stdout().lock(), &format!("{text}\n"));
        } else {
            self.print(&format!("\n{text}\n"));
        }
    }

    fn moment(self, at: Instant) -> String {
        format!("{:>6.2} s", at.saturating_duration_since(self.begun).as_secs_f64())
    }

    fn print(self, text: &str) {
        if self.json {
            write(io::stderr().lock(), text);
        } else {
            write(io::stdout().lock(), text);
        }
    }
}

/// A reader that has gone away is no reason to stop: the exit code still tells.
fn write(mut out: impl Write, text: &str) {
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
