//! The smallest HTTP client that can ask a program on this machine.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// The body of a 200 answer to a GET on a port of this machine.
///
/// # Errors
/// What came instead, for people.
pub async fn get(port: u16, path: &str) -> Result<String, String> {
    let answer = answer(port, path).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => {
            let in_chunks = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
            if in_chunks {
                joined(body).ok_or_else(|| format!("not whole chunks: {body:?}"))
            } else {
                Ok(body.to_owned())
            }
        }
        _ => Err(answer.lines().next().unwrap_or("an empty answer").to_owned()),
    }
}

/// The text of a body that came in chunks, each after its length.
fn joined(mut body: &str) -> Option<String> {
    let mut text = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n")?;
        let length = usize::from_str_radix(length, 16).ok()?;
        if length == 0 {
            return Some(text);
        }
        text.push_str(rest.get(..length)?);
        body = rest.get(length..)?.strip_prefix("\r\n")?;
    }
}

/// The whole answer to a GET, whatever it is, from its status line on.
///
/// # Errors
/// Why there is none, for people.
pub async fn answer(port: u16, path: &str) -> Result<String, String> {
    let answer = timeout(PATIENCE, exchange(port, path)).await.map_err(|_| format!("no answer in {PATIENCE:?}"))?;
    answer.map_err(|error| error.to_string())
}

async fn exchange(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_in_chunks_is_joined_and_one_that_breaks_off_is_none() {
        assert_eq!(joined("5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n").as_deref(), Some("hello, world"));
        assert_eq!(joined("0\r\n\r\n").as_deref(), Some(""));
        for broken in ["", "5\r\nhel", "5\r\nhello\r\n", "x\r\n"] {
            assert_eq!(joined(broken), None, "{broken:?}");
        }
    }
}
