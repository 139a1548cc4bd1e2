//! What each check says of servers that answer well, badly, slowly and not at all.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use HealthStatus::{Critical, Passing, Warning};

const PATIENCE: Duration = Duration::from_secs(10);

/// A server that reads a request and answers every one with `answer`.
async fn server(answer: &'static str) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    target
}

fn target(port: u16) -> Target {
    Target { host: "127.0.0.1".to_owned(), port }
}

fn http() -> Probe {
    Probe::Http { path: "/healthz?deep=1".to_owned() }
}

/// A port on which nobody listens, and which nobody gets as long as the listener of the test lives.
async fn closed() -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    target(listener.local_addr().unwrap().port())
}

#[tokio::test]
async fn the_status_decides_and_the_body_is_shown() {
    for (answer, status, output) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine", Passing, "200 OK fine"),
        ("HTTP/1.1 204 No Content\r\n\r\n", Passing, "204 No Content"),
        ("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r\nbusy", Warning, "429 Too Many Requests busy"),
        ("HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", Critical, "301 Moved Permanently"),
        (
            "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            Critical,
            "503 Service Unavailable no",
        ),
        ("HTTP/1.0 200 OK\r\n\r\nold\n\tbut  good", Passing, "200 OK old but good"),
    ] {
        let result = http().run(&server(answer).await, PATIENCE).await;
        assert_eq!((result.status, result.output.as_str()), (status, output), "{answer}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_critical_for_the_http_check_and_open_for_the_tcp_check() {
    let target = server("SSH-2.0-what\r\n").await;
    let result = http().run(&target, PATIENCE).await;
    assert_eq!(result.status, Critical, "{}", result.output);
    assert_eq!(Probe::Tcp.run(&target, PATIENCE).await.status, Passing);
}

#[tokio::test]
async fn the_output_is_cut_at_a_kilobyte_although_the_body_never_ends() {
    let answer: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\n\r\n{}", "ä".repeat(5_000)).into_boxed_str());
    let result = http().run(&server(answer).await, PATIENCE).await;
    assert_eq!(result.status, Passing);
    assert!((1_000..=1_024).contains(&result.output.len()), "{}", result.output.len());
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_critical_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap().port());
    let result = http().run(&target, Duration::from_millis(50)).await;
    assert_eq!(result.status, Critical);
    assert_eq!(result.output, format!("no answer from {target} within 50 ms"));
}

#[tokio::test]
async fn a_closed_port_is_critical_and_named() {
    let target = closed().await;
    for probe in [Probe::Tcp, http()] {
        let result = probe.run(&target, PATIENCE).await;
        assert_eq!(result.status, Critical);
        assert!(result.output.starts_with(&format!("cannot connect to {target}: ")), "{}", result.output);
    }
}

#[test]
fn an_ipv6_address_is_shown_in_brackets() {
    let target = Target { host: "fd00::5".to_owned(), port: 80 };
    assert_eq!(target.to_string(), "[fd00::5]:80");
}
