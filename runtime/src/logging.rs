//! The log: to standard error, as text or JSON, filtered by `RUST_LOG`; and a limit for lines that would repeat.

mod limit;

use std::io::IsTerminal;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;

pub use limit::LogLimit;

/// What is logged where `RUST_LOG` says nothing.
const FILTER_DEFAULT: &str = "info";
/// The client library logs every failed attempt; what matters of it we log ourselves, rarely.
const FILTER_CLIENT: &str = "async_nats=off";

/// Where these settings stand in the help. On each argument, for a heading of the struct would go on below it.
const HEADING: &str = "Log";

/// How the log is written.
#[derive(Clone, Debug, clap::Args)]
pub struct LogSettings {
    /// How a line of the log looks; RUST_LOG chooses which lines there are
    #[arg(long, help_heading = HEADING, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for programs.
    Json,
}

impl LogSettings {
    /// Starts the log of this process at `info`. A second call changes nothing.
    pub fn start(&self) {
        self.start_at(FILTER_DEFAULT);
    }

    /// Starts the log with another filter for the case that `RUST_LOG` says nothing: `warn` for a command whose output
    /// is what matters.
    pub fn start_at(&self, filter: &str) {
        let (filter, complaint) = filter_of(std::env::var("RUST_LOG").ok().as_deref(), filter);
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            // Whoever closes our standard error must not end us: the report of that would go there too, and panic.
            .log_internal_errors(false)
            .with_writer(std::io::stderr);
        let started = match self.log_format {
            LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
            LogFormat::Json => builder.json().flatten_event(true).try_init(),
        };
        if let (Ok(()), Some(complaint)) = (started, complaint) {
            tracing::warn!("{complaint}");
        }
    }
}

/// A filter with the client library silenced, unless it speaks of it itself.
#[must_use]
pub fn filter(wanted: &str) -> String {
    if wanted.contains("async_nats") { wanted.to_owned() } else { format!("{wanted},{FILTER_CLIENT}") }
}

/// The filter, and what is wrong with `RUST_LOG`.
fn filter_of(variable: Option<&str>, default: &str) -> (EnvFilter, Option<String>) {
    let wanted = variable.filter(|text| !text.trim().is_empty()).unwrap_or(default);
    let text = if wanted.contains("async_nats") { wanted.to_owned() } else { format!("{wanted},{FILTER_CLIENT}") };
    match EnvFilter::try_new(&text) {
        Ok(filter) => (filter, None),
        Err(error) => {
            let fallback = EnvFilter::new(format!("{default},{FILTER_CLIENT}"));
            (fallback, Some(format!("RUST_LOG=`{wanted}` is no filter: {error}; `{default}` holds instead")))
        }
    }
}

/// Logs at most once per key in ten seconds, whoever asks in this process; `log` gets the number of lines left out
/// since the last one.
pub fn limited(key: &str, log: impl FnOnce(u64)) {
    static LIMIT: LazyLock<Mutex<LogLimit>> = LazyLock::new(|| Mutex::new(LogLimit::new(Duration::from_secs(10))));
    let allowed = match LIMIT.lock() {
        Ok(mut limit) => limit.allow(key, Instant::now()),
        Err(poisoned) => poisoned.into_inner().allow(key, Instant::now()),
    };
    if let Some(suppressed) = allowed {
        log(suppressed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_library_is_silent_unless_it_is_asked_for() {
        assert!(filter_of(None, "info").0.to_string().contains("async_nats=off"));
        assert!(filter_of(Some("debug"), "info").0.to_string().contains("async_nats=off"));
        assert!(!filter_of(Some("async_nats=debug"), "info").0.to_string().contains("off"));
    }

    #[test]
    fn a_filter_that_is_none_is_complained_about_and_replaced() {
        let (_, complaint) = filter_of(Some("a=b=c"), "warn");
        assert!(complaint.is_some_and(|text| text.contains("a=b=c")));
    }
}
