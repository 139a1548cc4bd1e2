//! Runs one check once: what it found, undamped.

mod http;
mod tcp;

use std::fmt;
use std::time::Duration;

use muster_schemas::HealthStatus;
use muster_schemas::limits::CHECK_OUTPUT_BYTES_MAX;

use super::core::supervision::CheckResult;

/// Where this host alone connects to.
pub const LOOPBACK: &str = "127.0.0.1";

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Whether the port is open, and nothing more.
    Tcp,
    /// Whether a GET of this path is answered: 2xx passing, 429 warning, else critical.
    Http {
        /// With its query, beginning with `/`.
        path: String,
    },
}

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// An IP literal or DNS name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

impl Probe {
    /// The word on the wire.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http { .. } => "http",
        }
    }

    /// Looks once, for at most `timeout`.
    pub async fn run(&self, target: &Target, timeout: Duration) -> CheckResult {
        let look = async {
            match self {
                Self::Tcp => tcp::look(target).await,
                Self::Http { path } => http::look(target, path).await,
            }
        };
        let found = tokio::time::timeout(timeout, look).await;
        let (status, output) = found.unwrap_or_else(|_| {
            let ms = timeout.as_millis();
            (HealthStatus::Critical, format!("no answer from {target} within {ms} ms"))
        });
        CheckResult { status, output: tidied(&output) }
    }
}

/// One line without control characters, of at most 1 KiB.
fn tidied(output: &str) -> String {
    let words = output.split(|c: char| c.is_whitespace() || c.is_control());
    let mut line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let end = line.floor_char_boundary(CHECK_OUTPUT_BYTES_MAX);
    line.truncate(end);
    line
}

/// Whether somebody listens there.
pub async fn is_open(target: &Target, timeout: Duration) -> bool {
    Probe::Tcp.run(target, timeout).await.status == HealthStatus::Passing
}

#[cfg(test)]
mod tests;
