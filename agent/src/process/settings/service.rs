//! One service: the flags of `run`, and the same as a table `[[service]]` of the file.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use muster_runtime::settings::Period;
use muster_schemas::{InstanceId, ServiceName};
use nix::sys::signal::Signal;

use super::check::CheckSetting;
use super::port::Port;

/// A service to start, or one that runs by itself.
#[derive(Debug, Clone, clap::Args)]
pub struct ServiceSettings {
    /// Name of the service
    #[arg(long, value_name = "NAME")]
    pub service: Option<ServiceName>,
    /// Id of this instance of it [default: the node's name, a dash, the first port]
    #[arg(long, value_name = "ID")]
    pub instance: Option<InstanceId>,
    /// A port, as in http=8080 or admin=http:8081; may be repeated
    #[arg(long, value_name = "NAME=PORT")]
    pub port: Vec<Port>,
    /// How a port is checked: http=/healthz, http=tcp (open, and nothing more) or http=none; options behind it, as in
    /// 'http=/healthz interval=500ms'; may be repeated [default: every port must be open]
    #[arg(long, value_name = "NAME=WHAT")]
    pub check: Vec<CheckSetting>,
    /// From one run of a check to the next
    #[arg(long, value_name = "PERIOD", default_value = "2s")]
    pub check_interval: Period,
    /// How long one run of a check may take
    #[arg(long, value_name = "PERIOD", default_value = "1s")]
    pub check_timeout: Period,
    /// Failures in a row until a check is critical
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    pub check_failures: u32,
    /// Successes in a row until a check is no longer critical
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    pub check_successes: u32,
    /// Where the checks of the service's own ports connect to [default: the advertised address, if it is one of this
    /// host's, else 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    pub check_host: Option<String>,
    /// How long a started service may take until its checks pass; then it is stopped, with code 125
    #[arg(long, value_name = "PERIOD|never", default_value = "60s")]
    pub ready_within: Limit,
    /// How long a service may be critical until it is deregistered (and registered again when it recovers)
    #[arg(long, value_name = "PERIOD|never", default_value = "60s")]
    pub critical_deregister_after: Limit,
    /// On stop: from the removal having been seen to the stop signal, so that consumers can finish
    #[arg(long, value_name = "PERIOD", default_value = "500ms")]
    pub drain: Period,
    /// On stop: from the stop signal to SIGKILL
    #[arg(long, value_name = "PERIOD", default_value = "10s")]
    pub grace: Period,
    /// The signal that asks the service to stop
    #[arg(long, value_name = "SIGNAL", default_value = "SIGTERM")]
    pub stop_signal: StopSignal,
    /// Whether a service that failed is started again, after 1 s, 2 s, 4 s, … up to a minute
    #[arg(long, value_name = "WHEN", default_value = "never")]
    pub restart: RestartSetting,
    /// What becomes of the registration when the agent stops: taken back, or left to the next agent and the ttl
    /// [default: leave for a service that runs by itself; one that the agent started stops with it]
    #[arg(long, value_name = "WHAT")]
    pub on_stop: Option<OnStop>,
    /// Start the service although somebody listens on one of its ports already (SO_REUSEPORT)
    #[arg(long)]
    pub allow_open_port: bool,
    /// Version of the service's software
    #[arg(long, value_name = "TEXT")]
    pub service_version: Option<String>,
    /// A label to filter by; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub tag: Vec<String>,
    /// A key and a value of your own; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub metadata: Vec<Metadata>,
    /// Share of the traffic; 0 = none
    #[arg(long, value_name = "NUMBER", default_value_t = muster_schemas::instance::DEFAULT_WEIGHT)]
    pub weight: u16,
    /// How long the registration outlives the last heartbeat
    #[arg(long, value_name = "PERIOD", default_value = "10s")]
    pub ttl: Period,
    /// How long it outlives a broken connection of the agent [default: 2s for a service that the agent starts and takes
    /// along, else the ttl]
    #[arg(long, value_name = "PERIOD")]
    pub linger: Option<Period>,
    /// Directory to start the service in
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// The program to start, and its arguments; without it the service runs by itself, and is only watched
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// A span of time, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// No limit.
    Never,
    /// At this age.
    After(Period),
}

impl Limit {
    /// In milliseconds; none = no limit.
    #[must_use]
    pub fn as_ms(self) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::After(period) => Some(period.as_ms()),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        text.parse().map(Self::After).map_err(|error| format!("{error}, or never"))
    }
}

/// The signal that asks a service to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopSignal(pub Signal);

impl FromStr for StopSignal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        let signal = name.parse().map_err(|_| "write the name of a signal, as in SIGTERM or SIGQUIT".to_owned())?;
        Ok(Self(signal))
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.as_str())
    }
}

/// Whether a service that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RestartSetting {
    /// Its end is final.
    Never,
    /// Started again unless it ended with code 0.
    OnFailure,
}

/// What becomes of a registration when the agent stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnStop {
    /// Taken back.
    Deregister,
    /// Left: the next agent takes it over, or it ends with its lease.
    Leave,
}

/// `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata(pub String, pub String);

impl FromStr for Metadata {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self(key.to_owned(), value.to_owned())),
            _ => Err("write KEY=VALUE, as in team=shop".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_span_of_time_or_never() {
        assert_eq!("never".parse(), Ok(Limit::Never));
        assert_eq!("2s".parse::<Limit>().unwrap().as_ms(), Some(2_000));
        assert!("soon".parse::<Limit>().unwrap_err().ends_with("or never"));
    }

    #[test]
    fn a_signal_may_be_named_with_and_without_its_first_letters() {
        for text in ["SIGQUIT", "QUIT", "quit"] {
            assert_eq!(text.parse(), Ok(StopSignal(Signal::SIGQUIT)));
        }
        assert!("15".parse::<StopSignal>().is_err());
    }
}
