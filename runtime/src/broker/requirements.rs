//! What a broker must have: a version that knows per-message TTLs, and JetStream.

use std::time::Duration;

use async_nats::jetstream::{self, ErrorCode, context::AccountErrorKind};
use async_nats::{Client, ServerInfo};

use super::error::BrokerError;

/// The oldest server that works (major, minor).
pub const SERVER_VERSION_MIN: (u64, u64) = (2, 11);

/// How long a server may take to say whether it has JetStream.
const JETSTREAM_TIMEOUT: Duration = Duration::from_millis(500);

/// Refuses a server that is too old.
pub(super) fn check_version(info: &ServerInfo) -> Result<(), BrokerError> {
    if is_recent_enough(&info.version) {
        return Ok(());
    }
    Err(BrokerError::TooOld { server: name_of(info), version: info.version.clone() })
}

/// Whether a server of this version works. One that cannot be read counts as recent: it is a development build more likely
/// than a museum piece.
#[must_use]
pub fn is_recent_enough(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split(['.', '-', '+']).map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= SERVER_VERSION_MIN,
        _ => true,
    }
}

/// Refuses an account without JetStream. The server's own flag is not enough: in a cluster another server may have it,
/// and the account may not.
pub(super) async fn check_jetstream(client: &Client) -> Result<(), BrokerError> {
    let info = client.server_info();
    let refuse = |reason: String| Err(BrokerError::NoJetStream { server: name_of(&info), reason });
    let context = jetstream::new(client.clone());
    match tokio::time::timeout(JETSTREAM_TIMEOUT, context.query_account()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => match error.kind() {
            AccountErrorKind::JetStreamUnavailable => refuse("nobody answers for it".to_owned()),
            AccountErrorKind::JetStream(error) if is_switched_off(error.error_code()) => refuse(error.to_string()),
            // It is there, and has another trouble that passes: an election, say.
            AccountErrorKind::JetStream(_) => Ok(()),
            _ => by_flag(&info),
        },
        // No answer in time: the user may lack the permission to ask.
        Err(_) => by_flag(&info),
    }
}

fn is_switched_off(code: ErrorCode) -> bool {
    code == ErrorCode::JETSTREAM_NOT_ENABLED || code == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
}

fn by_flag(info: &ServerInfo) -> Result<(), BrokerError> {
    if info.jetstream {
        return Ok(());
    }
    Err(BrokerError::NoJetStream { server: name_of(info), reason: "the server says so".to_owned() })
}

fn name_of(info: &ServerInfo) -> String {
    format!("{} at {}:{}", info.server_name, info.host, info.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_version_that_works_is_2_11() {
        for (version, recent) in [
            ("2.10.29", false),
            ("2.11.0", true),
            ("2.15.1-preview.2", true),
            ("3.0.0", true),
            ("1.4.1", false),
            ("dev", true),
        ] {
            assert_eq!(is_recent_enough(version), recent, "{version}");
        }
    }
}
