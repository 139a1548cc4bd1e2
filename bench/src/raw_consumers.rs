//! Thousands of consumers in one process: plain sockets that speak just enough of the protocol to be told, so that the
//! client costs next to nothing and the broker's part is what is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What all of them do with a message: told its bytes.
pub(crate) type OnMessage = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// Consumers that run until this is dropped.
pub(crate) struct RawConsumers {
    tasks: JoinSet<()>,
    received: Arc<AtomicU64>,
}

impl RawConsumers {
    /// So many connections, each subscribed to what `subjects` names for it, before this returns.
    pub(crate) async fn connect(
        port: u16,
        count: usize,
        subjects: impl Fn(usize) -> Vec<String>,
        on_message: OnMessage,
    ) -> Result<Self> {
        let received = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for index in 0..count {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
            socket.set_nodelay(true)?;
            let mut greeting = "CONNECT {\"verbose\":false,\"lang\":\"rust\",\"version\":\"0\"}\r\n".to_owned();
            for (number, subject) in subjects(index).iter().enumerate() {
                greeting.push_str(&format!("SUB {subject} {}\r\n", number + 1));
            }
            greeting.push_str("PING\r\n");
            socket.write_all(greeting.as_bytes()).await?;
            let mut reader = Reader { socket, held: Vec::with_capacity(4_096) };
            // The broker has taken everything up to here when it answers.
            while !matches!(reader.next().await?, Said::Pong) {}
            let (received, on_message) = (Arc::clone(&received), Arc::clone(&on_message));
            tasks.spawn(async move {
                let outcome = reader.run(&received, &on_message).await;
                if let Err(error) = outcome {
                    eprintln!("consumer {index} ended: {error:#}");
                }
            });
        }
        Ok(Self { tasks, received })
    }

    /// How many messages all of them have received.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }
}

enum Said {
    Pong,
    Message(Vec<u8>),
    Other,
}

struct Reader {
    socket: TcpStream,
    held: Vec<u8>,
}

impl Reader {
    async fn run(&mut self, received: &AtomicU64, on_message: &OnMessage) -> Result<()> {
        loop {
            if let Said::Message(payload) = self.next().await? {
                on_message(&payload);
                received.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    async fn next(&mut self) -> Result<Said> {
        let line = loop {
            if let Some(end) = self.held.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.held[..end]).into_owned();
                self.held.drain(..end + 2);
                break line;
            }
            self.fill().await?;
        };
        if line == "PING" {
            self.socket.write_all(b"PONG\r\n").await?;
            return Ok(Said::Other);
        }
        if line.starts_with("-ERR") {
            bail!("the broker says {line}");
        }
        let Some(rest) = line.strip_prefix("MSG ") else {
            return Ok(if line == "PONG" { Said::Pong } else { Said::Other });
        };
        let length: usize = rest.rsplit(' ').next().context("no length")?.parse()?;
        while self.held.len() < length + 2 {
            self.fill().await?;
        }
        let payload = self.held[..length].to_vec();
        self.held.drain(..length + 2);
        Ok(Said::Message(payload))
    }

    async fn fill(&mut self) -> Result<()> {
        let mut chunk = [0; 4_096];
        let read = self.socket.read(&mut chunk).await?;
        if read == 0 {
            bail!("the broker closed the connection");
        }
        self.held.extend_from_slice(&chunk[..read]);
        Ok(())
    }
}
