//! A checkpoint as something to be read in pieces: written on a thread of its own, no faster than it is read.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::core::catalog::checkpoint::{Checkpoint, Written};

/// Pieces that may wait for the reader.
const WAITING_MAX: usize = 4;

/// The reading end.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    at_hand: Bytes,
}

/// Begins to write; what was written is known once the reader has come to the end.
pub(super) fn stream(checkpoint: Checkpoint, piece_bytes: usize) -> (Pieces, JoinHandle<io::Result<Written>>) {
    let (out, pieces) = mpsc::channel(WAITING_MAX);
    let writing = tokio::task::spawn_blocking(move || {
        let mut writer = Writer { held: Vec::with_capacity(piece_bytes), piece_bytes, out };
        let written = checkpoint.write(&mut writer)?;
        writer.flush()?;
        Ok(written)
    });
    (Pieces { pieces, at_hand: Bytes::new() }, writing)
}

/// What would be written.
pub(super) async fn measure(checkpoint: &Checkpoint) -> Result<Written, String> {
    let checkpoint = checkpoint.clone();
    let measured = tokio::task::spawn_blocking(move || checkpoint.write(&mut io::sink())).await;
    measured.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.at_hand.is_empty() {
            match ready!(self.pieces.poll_recv(context)) {
                Some(piece) => self.at_hand = piece,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.at_hand.len().min(into.remaining());
        into.put_slice(&self.at_hand[..length]);
        self.at_hand.advance(length);
        Poll::Ready(Ok(()))
    }
}

struct Writer {
    held: Vec<u8>,
    piece_bytes: usize,
    out: mpsc::Sender<Bytes>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= self.piece_bytes {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.held, Vec::with_capacity(self.piece_bytes));
        self.out.blocking_send(piece.into()).map_err(|_| io::Error::other("nobody reads any more"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::queries::catalog_of;

    #[tokio::test]
    async fn who_writes_a_checkpoint_waits_for_who_reads_it_and_nothing_is_lost() {
        let checkpoint = Checkpoint::of(&catalog_of(&[("orders", 10)]), None).unwrap();
        let mut whole = Vec::new();
        checkpoint.write(&mut whole).unwrap();
        let (mut pieces, writing) = stream(checkpoint, 1);
        while pieces.pieces.len() < WAITING_MAX {
            assert!(!writing.is_finished(), "there are more pieces than may wait");
            tokio::task::yield_now().await;
        }
        let mut read = Vec::new();
        while pieces.read_buf(&mut read).await.unwrap() > 0 {
            assert!(pieces.pieces.len() <= WAITING_MAX, "{} pieces wait", pieces.pieces.len());
        }
        writing.await.unwrap().unwrap();
        assert_eq!(read, whole);
    }
}
