//! A small HTTP service to register, check, kill and freeze: answers `/` with its process number and `/healthz` with 200,
//! or with 503 while a file exists, or once and then removes the file.
//!
//! `muster-demo-service PORT [--unhealthy-while FILE] [--fail-once FILE] [--ignore-term] [--exit CODE]`

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{SigHandler, Signal, signal};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(port) = arguments.next().and_then(|port| port.parse::<u16>().ok()) else {
        eprintln!("muster-demo-service PORT [--unhealthy-while FILE] [--fail-once FILE] [--ignore-term] [--exit CODE]");
        return ExitCode::from(64);
    };
    let mut unhealthy_while: Option<PathBuf> = None;
    let mut fail_once: Option<PathBuf> = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--unhealthy-while" => unhealthy_while = arguments.next().map(PathBuf::from),
            "--fail-once" => fail_once = arguments.next().map(PathBuf::from),
            "--ignore-term" => ignore_term(),
            "--exit" => return ExitCode::from(arguments.next().and_then(|code| code.parse().ok()).unwrap_or(1)),
            other => eprintln!("muster-demo-service: {other:?} is not known"),
        }
    }
    let listener = match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("muster-demo-service: port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("listening on 127.0.0.1:{port}");
    for stream in listener.incoming().flatten() {
        let healthy = !unhealthy_while.as_ref().is_some_and(|path| path.exists());
        // A client that hangs must not keep the others waiting for ever.
        let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
        let _ = answer(&stream, healthy, fail_once.as_deref());
    }
    ExitCode::SUCCESS
}

fn answer(mut stream: &TcpStream, healthy: bool, fail_once: Option<&Path>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1);
    let fails = path == Some("/healthz") && fail_once.is_some_and(|file| std::fs::remove_file(file).is_ok());
    let (status, body) = match path {
        Some("/healthz") if !healthy || fails => ("503 Service Unavailable", "unhealthy".to_owned()),
        Some("/healthz") => ("200 OK", "healthy".to_owned()),
        _ => ("200 OK", std::process::id().to_string()),
    };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[allow(unsafe_code)] // the reason: setting a signal's disposition is unsafe in every library
fn ignore_term() {
    // SAFETY: SIG_IGN runs no code of ours.
    let _ = unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) };
}
