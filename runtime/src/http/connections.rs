//! The connections of the HTTP endpoint: so many at once at most, and each for so long and for so many bytes at most.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::logging::limited;

/// What the connections may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Open at once; a further one waits in the operating system's queue until one ends.
    pub(super) connections: usize,
    /// From being accepted to the end of the answer; whoever is silent, or takes its answer slowly, is cut off then.
    pub(super) time: Duration,
    /// Bytes of the request; whoever sends more is cut off.
    pub(super) request_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, time: Duration::from_secs(10), request_bytes: 16 * 1024 }
    }
}

/// Accepts no more connections than may be open.
pub(super) struct Connections {
    listener: TcpListener,
    limits: Limits,
    free: Arc<Semaphore>,
}

impl Connections {
    pub(super) fn new(listener: TcpListener, limits: Limits) -> Self {
        Self { listener, limits, free: Arc::new(Semaphore::new(limits.connections)) }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return permit;
        }
        let connections = self.limits.connections;
        limited("http connections", |suppressed| {
            tracing::warn!(suppressed, connections, "the HTTP endpoint has as many connections as it may: others wait");
        });
        match Arc::clone(&self.free).acquire_owned().await {
            Ok(permit) => permit,
            // Nobody closes it.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = self.permit().await;
        let (stream, from) = Listener::accept(&mut self.listener).await;
        let end = Box::pin(tokio::time::sleep(self.limits.time));
        (Connection { stream, end, request_bytes_left: self.limits.request_bytes, _permit: permit }, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection; its place is free once it is dropped.
pub(super) struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    request_bytes_left: usize,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Whether its time is over. Whoever reads or writes is woken at its end.
    fn check_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_time(context)?;
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        match self.request_bytes_left.checked_sub(buffer.filled().len() - before) {
            Some(left) => self.request_bytes_left = left,
            None => return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into())),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_time(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_time(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_time(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    async fn listening(limits: Limits) -> Connections {
        Connections::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), limits)
    }

    #[tokio::test]
    async fn one_connection_more_than_may_be_open_waits_until_one_ends() {
        let mut connections = listening(Limits { connections: 2, time: LONG, ..Limits::default() }).await;
        let address = connections.local_addr().unwrap();
        let _clients = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let (first, _) = connections.accept().await;
        let (_second, _) = connections.accept().await;
        let mut third = Box::pin(connections.accept());
        assert!(poll!(&mut third).is_pending(), "a third one was accepted though two are open");
        drop(first);
        third.await;
    }

    #[tokio::test]
    async fn whoever_sends_more_than_a_request_may_have_is_cut_off() {
        let mut connections = listening(Limits { time: LONG, request_bytes: 10, ..Limits::default() }).await;
        let mut client = TcpStream::connect(connections.local_addr().unwrap()).await.unwrap();
        let (mut connection, _) = connections.accept().await;
        client.write_all(b"0123456789").await.unwrap();
        connection.read_exact(&mut [0; 10]).await.unwrap();
        client.write_all(b"x").await.unwrap();
        let error = connection.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[tokio::test]
    async fn whoever_does_not_take_the_answer_is_cut_off() {
        let limits = Limits { time: Duration::from_millis(100), ..Limits::default() };
        let mut connections = listening(limits).await;
        let _client = TcpStream::connect(connections.local_addr().unwrap()).await.unwrap();
        let (mut connection, _) = connections.accept().await;
        let answering = async {
            loop {
                if let Err(error) = connection.write(&[0; 64 * 1024]).await {
                    return error;
                }
            }
        };
        let error = tokio::time::timeout(Duration::from_secs(5), answering).await.expect("it is cut off");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
