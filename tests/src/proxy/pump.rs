//! Carries bytes in one direction of one connection, as the link's state says at each moment.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{Direction, Flow, Link};

const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks on their way through a slow or held link; when they are full, we read no more and the sender feels it.
const CHUNKS_MAX: usize = 256;

struct Chunk {
    read_at: Instant,
    bytes: Vec<u8>,
}

/// One direction of one connection.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) link: watch::Receiver<Link>,
    /// The client's name, once it is known.
    pub(super) caller: watch::Receiver<Option<String>>,
    pub(super) direction: Direction,
}

/// Returns when either end of the direction is closed. Whatever comes is shown to `listen`.
pub(super) async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: Way, mut listen: impl FnMut(&[u8])) {
    let (sender, mut chunks) = mpsc::channel::<Chunk>(CHUNKS_MAX);
    let reading = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            listen(&buffer[..length]);
            let chunk = Chunk { read_at: Instant::now(), bytes: buffer[..length].to_vec() };
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some(chunk) = chunks.recv().await {
            if !way.until_open(chunk.read_at).await || to.write_all(&chunk.bytes).await.is_err() {
                return;
            }
        }
    };
    // Not `select`: after the last byte was read, the chunks that wait must still arrive.
    tokio::join!(reading, writing);
}

impl Way {
    /// Waits until what was read then may go on. False if the proxy is gone.
    async fn until_open(&mut self, read_at: Instant) -> bool {
        loop {
            let flow = self.link.borrow_and_update().flow_of(self.caller.borrow().as_deref(), self.direction);
            let changed = match flow {
                Flow::Open => return true,
                Flow::Delayed(delay) => tokio::select! {
                    () = sleep_until(read_at + delay) => return true,
                    changed = self.link.changed() => changed,
                },
                Flow::Held => self.link.changed().await,
            };
            if changed.is_err() {
                return false;
            }
        }
    }
}
