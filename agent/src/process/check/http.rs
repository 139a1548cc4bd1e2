//! The HTTP check: GET, without redirects. 2xx is passing, 429 a warning, anything else critical.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use muster_schemas::HealthStatus;
use muster_schemas::limits::CHECK_OUTPUT_BYTES_MAX;

use super::{Target, tcp};

pub(super) async fn look(target: &Target, path: &str) -> (HealthStatus, String) {
    match get(target, path).await {
        Ok((status, body)) => (verdict(status), format!("{status} {body}")),
        Err(problem) => (HealthStatus::Critical, problem),
    }
}

fn verdict(status: StatusCode) -> HealthStatus {
    match status {
        StatusCode::TOO_MANY_REQUESTS => HealthStatus::Warning,
        _ if status.is_success() => HealthStatus::Passing,
        _ => HealthStatus::Critical,
    }
}

async fn get(target: &Target, path: &str) -> Result<(StatusCode, String), String> {
    let stream = tcp::connect(target).await.map_err(|error| format!("cannot connect to {target}: {error}"))?;
    let failed = |error: hyper::Error| format!("GET http://{target}{path} failed: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::get(path)
        .header(HOST, target.to_string())
        .header(USER_AGENT, concat!("muster-agent/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("GET http://{target}{path} is no request: {error}"))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        Ok((response.status(), beginning(response).await))
    };
    // The connection is driven only as long as its answer is wanted; dropping it closes it.
    let connection = std::pin::pin!(connection);
    match futures::future::select(std::pin::pin!(answer), connection).await {
        futures::future::Either::Left((answer, _)) => answer,
        futures::future::Either::Right((_, answer)) => answer.await,
    }
}

/// What fits into a check's output; an error midway ends it, for the status is known already.
async fn beginning(response: Response<Incoming>) -> String {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while bytes.len() < CHECK_OUTPUT_BYTES_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        let Ok(data) = frame.into_data() else { break };
        bytes.extend_from_slice(&data[..data.len().min(CHECK_OUTPUT_BYTES_MAX)]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
