//! The TCP check: whether the port is open. It says nothing about what answers there.

use std::io::{Error, ErrorKind};

use muster_schemas::HealthStatus;
use tokio::net::TcpStream;

use super::Target;

pub(super) async fn look(target: &Target) -> (HealthStatus, String) {
    match connect(target).await {
        Ok(_) => (HealthStatus::Passing, format!("{target} is open")),
        Err(error) => (HealthStatus::Critical, format!("cannot connect to {target}: {error}")),
    }
}

/// Connects, but not to itself: where nobody listens on a port that the system also gives to clients, a connection
/// may come about from the port to itself.
pub(super) async fn connect(target: &Target) -> Result<TcpStream, Error> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}
