//! The HTTP endpoint of a daemon: `/metrics`, `/health/live`, `/health/ready`.

mod connections;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::connections::{Connections, Limits};
use crate::exit::{Exit, ExitReason};
use crate::metrics::{self, Metrics};
use crate::stop::Stop;

/// Where these settings stand in the help. On each argument, for a heading of the struct would go on below it.
const HEADING: &str = "HTTP";

/// How long answers under way may take when the endpoint ends.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a daemon serves metrics and health.
#[derive(Clone, Debug, clap::Args)]
pub struct HttpSettings {
    /// Serve /metrics, /health/live and /health/ready here, for instance 127.0.0.1:9090; port 0 takes a free one
    #[arg(long, help_heading = HEADING, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
}

/// Whether a process can do its work, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether it can.
    pub ready: bool,
    /// One word for programs: `ready`, `warming`, `disconnected`.
    pub state: String,
    /// A sentence for people.
    pub reason: String,
}

impl Readiness {
    /// It can.
    #[must_use]
    pub fn ready(state: impl Into<String>) -> Self {
        Self { ready: true, state: state.into(), reason: String::new() }
    }

    /// It cannot, and this is why.
    #[must_use]
    pub fn not_ready(state: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { ready: false, state: state.into(), reason: reason.into() }
    }
}

/// Why the endpoint does not come up.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (--http): {reason}; choose another address, or leave --http out")]
pub struct HttpError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the operating system says.
    pub reason: std::io::Error,
}

impl ExitReason for HttpError {
    fn exit(&self) -> Exit {
        Exit::Configuration
    }
}

/// A running endpoint. It ends with the process, or when its [`Stop`] is requested.
#[derive(Debug)]
pub struct HttpServer {
    /// Where it listens; the real port where 0 was asked for.
    pub address: SocketAddr,
    readiness: watch::Sender<Readiness>,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Says whether the process can do its work; readiness is "starting" until this is called.
    pub fn set(&self, readiness: Readiness) {
        self.readiness.send_replace(readiness);
    }

    /// A way to say so from elsewhere.
    #[must_use]
    pub fn readiness(&self) -> watch::Sender<Readiness> {
        self.readiness.clone()
    }

    /// Waits until it listens no more and no answer is under way, once its [`Stop`] is requested; after a second it waits
    /// no longer.
    pub async fn ended(mut self) {
        if tokio::time::timeout(END_TIMEOUT, &mut self.task).await.is_err() {
            self.task.abort();
            let _ = self.task.await;
        }
    }
}

impl HttpSettings {
    /// Starts the endpoint; `None` without `--http`.
    ///
    /// # Errors
    /// The address cannot be had; nothing listens then.
    pub async fn start(&self, metrics: &Metrics, stop: &Stop) -> Result<Option<HttpServer>, HttpError> {
        let Some(address) = self.http else { return Ok(None) };
        serve(address, Limits::default(), metrics.clone(), stop.clone()).await.map(Some)
    }
}

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    readiness: watch::Receiver<Readiness>,
}

async fn serve(address: SocketAddr, limits: Limits, metrics: Metrics, stop: Stop) -> Result<HttpServer, HttpError> {
    let error = |reason| HttpError { address, reason };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let bound = listener.local_addr().map_err(error)?;
    let (readiness, receiver) = watch::channel(Readiness::not_ready("starting", "the process is starting"));
    let router = router(Shared { metrics, readiness: receiver });
    let connections = Connections::new(listener, limits);
    let task = tokio::spawn(async move {
        let served = axum::serve(connections, router).with_graceful_shutdown(async move { stop.requested().await });
        if let Err(error) = served.await {
            tracing::error!(%error, "the HTTP endpoint ended");
        }
    });
    tracing::info!(address = %bound, "serving metrics and health");
    Ok(HttpServer { address: bound, readiness, task })
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(serve_metrics))
        .route("/health/live", get(|| async { json(StatusCode::OK, &Readiness::ready("live")) }))
        .route("/health/ready", get(serve_readiness))
        .with_state(Arc::new(shared))
        .layer(map_response(only_answer))
}

/// A connection has a limited time, so it is for one answer: none ends in the midst of a later one.
async fn only_answer(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn serve_metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], shared.metrics.text()).into_response()
}

async fn serve_readiness(State(shared): State<Arc<Shared>>) -> Response {
    let readiness = shared.readiness.borrow().clone();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &readiness)
}

fn json(status: StatusCode, body: &Readiness) -> Response {
    // Two strings and a switch: there is nothing that could fail to become JSON.
    let body = serde_json::to_string(body).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use muster_tests::http::answer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    fn settings(address: &str) -> HttpSettings {
        HttpSettings { http: Some(address.parse().unwrap()) }
    }

    #[tokio::test]
    async fn readiness_says_why_not_and_metrics_are_served() {
        let (metrics, stop) = (Metrics::new(), Stop::new());
        metrics.counter("tests_run", "Tests run").inc();
        let server = settings("127.0.0.1:0").start(&metrics, &stop).await.unwrap().unwrap();
        let port = server.address.port();
        let starting = answer(port, "/health/ready").await.unwrap();
        assert!(starting.starts_with("HTTP/1.1 503") && starting.contains(r#""state":"starting""#), "{starting}");
        server.set(Readiness::ready("ready"));
        assert!(answer(port, "/health/ready").await.unwrap().starts_with("HTTP/1.1 200"));
        assert!(answer(port, "/health/live").await.unwrap().starts_with("HTTP/1.1 200"));
        assert!(answer(port, "/metrics").await.unwrap().contains("muster_tests_run_total 1"));
        stop.request();
    }

    #[tokio::test]
    async fn an_address_in_use_is_a_configuration_error_that_names_it() {
        let stop = Stop::new();
        let first = settings("127.0.0.1:0").start(&Metrics::new(), &stop).await.unwrap().unwrap();
        let error = settings(&first.address.to_string()).start(&Metrics::new(), &stop).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Configuration);
        assert!(error.to_string().contains(&first.address.to_string()), "{error}");
    }

    /// A server with its own limits.
    async fn limited_to(connections: usize, time: Duration, stop: &Stop) -> HttpServer {
        let limits = Limits { connections, time, ..Limits::default() };
        serve("127.0.0.1:0".parse().unwrap(), limits, Metrics::new(), stop.clone()).await.unwrap()
    }

    /// So many connections that were accepted by the operating system and send this, no whole request.
    async fn silent(server: &HttpServer, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
        let connect = || async {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream
        };
        join_all(std::iter::repeat_with(connect).take(count)).await
    }

    #[tokio::test]
    async fn connections_that_never_ask_keep_nobody_from_an_answer_once_their_time_is_over() {
        let (stop, bound) = (Stop::new(), Limits::default().connections);
        let server = limited_to(bound, Duration::from_millis(300), &stop).await;
        for begun in [&b""[..], b"GET /health/live HT", b"GET /health/live HTTP/1.1\r\nhost: "] {
            let _silent = silent(&server, bound, begun).await;
            let live = answer(server.address.port(), "/health/live").await.unwrap();
            assert!(live.starts_with("HTTP/1.1 200"), "{live}");
        }
    }

    #[tokio::test]
    async fn one_connection_more_than_may_be_open_is_answered_when_another_ends() {
        let stop = Stop::new();
        let server = limited_to(2, Duration::from_secs(3600), &stop).await;
        let silent = silent(&server, 2, b"").await;
        let (live, ()) = tokio::join!(answer(server.address.port(), "/health/live"), async { drop(silent) });
        assert!(live.unwrap().starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn an_answer_is_the_last_of_its_connection() {
        let stop = Stop::new();
        let server = limited_to(1, Duration::from_secs(3600), &stop).await;
        for path in ["/health/live", "/unknown"] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
            assert!(answer.contains("connection: close"), "{answer}");
        }
    }

    #[tokio::test]
    async fn it_ends_while_as_many_connections_as_may_be_are_silent_and_others_wait() {
        let stop = Stop::new();
        let server = limited_to(2, Duration::from_secs(3600), &stop).await;
        let (address, _silent) = (server.address, silent(&server, 4, b"GET /health/live HTTP/1.1\r\nhost: ").await);
        stop.request();
        tokio::time::timeout(END_TIMEOUT * 5, server.ended()).await.expect("it has ended");
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
