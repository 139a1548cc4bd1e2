//! What a broker must have: a version that knows per-message TTLs, and JetStream.

use std::time::Duration;

use async_nats::{Client, RequestErrorKind, ServerInfo};
use serde::Deserialize;

use super::error::BrokerError;

/// The oldest server that works (major, minor).
pub const SERVER_VERSION_MIN: (u64, u64) = (2, 11);

/// For [`super::Role::jetstream`]: this connection is of no use without JetStream.
pub const JETSTREAM_REQUIRED: bool = true;

/// How long a server may take to say whether it has JetStream.
const JETSTREAM_TIMEOUT: Duration = Duration::from_millis(500);

/// Refuses a server that is too old.
pub(super) fn check_version(info: &ServerInfo) -> Result<(), BrokerError> {
    if is_recent_enough(&info.version) {
        return Ok(());
    }
    Err(BrokerError::TooOld {
        server: name_of(info),
        version: info.version.clone(),
    })
}

/// A version that cannot be read counts as recent: it is a development build more likely than a museum piece.
fn is_recent_enough(version: &str) -> bool {
    let mut parts = version
        .trim_start_matches('v')
        .split(['.', '-', '+'])
        .map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= SERVER_VERSION_MIN,
        _ => true,
    }
}

/// Refuses an account without JetStream. The server's own flag is not enough: in a cluster another server may have it,
/// and the account may not.
pub(super) async fn check_jetstream(client: &Client) -> Result<(), BrokerError> {
    let info = client.server_info();
    let refuse = |reason: String| {
        Err(BrokerError::NoJetStream {
            server: name_of(&info),
            reason,
        })
    };
    let request = client.request("$JS.API.INFO", Default::default());
    match tokio::time::timeout(JETSTREAM_TIMEOUT, request).await {
        Ok(Ok(reply)) => match serde_json::from_slice::<Reply>(&reply.payload) {
            Ok(Reply { error: Some(error) }) => refuse(error.description),
            _ => Ok(()),
        },
        Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => refuse("nobody answers for it".to_owned()),
        // No answer in time: the user may lack the permission to ask. Then the flag has to do.
        _ if info.jetstream => Ok(()),
        _ => refuse("the server says so".to_owned()),
    }
}

fn name_of(info: &ServerInfo) -> String {
    format!("{} at {}:{}", info.server_name, info.host, info.port)
}

#[derive(Deserialize)]
struct Reply {
    error: Option<ReplyError>,
}

#[derive(Deserialize)]
struct ReplyError {
    #[serde(default)]
    description: String,
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
