//! No more connections than so many at once: the rest wait to be accepted, and none that says nothing keeps a place.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// A connection that counts until it is dropped.
pub(super) struct Counted {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

/// After a failure to accept: what files are open to this process may take a while to become fewer.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts at most `most` connections at once.
pub(super) fn accepted(listener: TcpListener, most: usize) -> impl Stream<Item = io::Result<Counted>> {
    let listener = Arc::new(listener);
    let accept = move || {
        let listener = Arc::clone(&listener);
        async move { listener.accept().await.map(|(stream, _)| stream) }
    };
    accepted_by(accept, most, PAUSE)
}

fn accepted_by<A, F>(accept: A, most: usize, pause: Duration) -> impl Stream<Item = io::Result<Counted>>
where
    A: FnMut() -> F,
    F: Future<Output = io::Result<TcpStream>>,
{
    let room = Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)));
    stream::unfold((accept, room, false), move |(mut accept, room, failed)| async move {
        // Closed never.
        let permit = Arc::clone(&room).acquire_owned().await.ok()?;
        if failed {
            tokio::time::sleep(pause).await;
        }
        let counted = accept().await.map(|stream| Counted { stream, _permit: permit });
        let failed = counted.is_err();
        Some((counted, (accept, room, failed)))
    })
    .inspect(|accepted| {
        if let Ok(counted) = accepted {
            // A connection that could not be told so is slower, and works.
            let _ = counted.stream.set_nodelay(true);
        }
    })
}

/// What is written goes on to the `stream` as it is.
macro_rules! write_through {
    () => {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.stream).poll_write(cx, bytes)
        }

        fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
        }

        fn is_write_vectored(&self) -> bool {
            self.stream.is_write_vectored()
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    };
}

impl Connected for Counted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    write_through!();
}

/// Bytes that every client says first (RFC 9113 section 3.4).
const PREFACE: usize = 24;

/// A connection that fails when it has not said [`PREFACE`] bytes in time; from then on HTTP/2 asks it for signs of life.
pub(super) struct Prompt<S> {
    stream: S,
    /// Bytes still to come, and until when.
    awaited: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<S> Prompt<S> {
    /// Within so long.
    pub fn new(stream: S, within: Duration) -> Prompt<S> {
        Prompt { stream, awaited: Some((PREFACE, Box::pin(tokio::time::sleep(within)))) }
    }
}

impl<S: Connected> Connected for Prompt<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.stream.connect_info()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prompt<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Prompt { stream, awaited } = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(stream).poll_read(cx, buffer);
        let Some((left, deadline)) = awaited else { return read };
        *left = left.saturating_sub(buffer.filled().len() - before);
        if *left == 0 {
            *awaited = None;
        } else if read.is_pending() && deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prompt<S> {
    write_through!();
}

#[cfg(test)]
mod tests {
    use futures::{pin_mut, poll};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn after_a_failure_to_accept_there_is_a_pause() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut one = Some(listener.accept().await.unwrap().0);
        let fails = || async { Err(io::Error::other("too many open files")) };
        let long = accepted_by(fails, 1, Duration::from_secs(3600));
        pin_mut!(long);
        assert!(long.next().await.unwrap().is_err());
        assert!(poll!(long.next()).is_pending(), "it was tried again at once");
        let mut tries = 0;
        let once = move || {
            tries += 1;
            let stream = if tries == 1 { None } else { one.take() };
            async move { stream.ok_or_else(|| io::Error::other("too many open files")) }
        };
        let short = accepted_by(once, 1, Duration::ZERO);
        pin_mut!(short);
        assert!(short.next().await.unwrap().is_err());
        assert!(short.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_connection_that_says_too_little_fails_and_one_that_has_begun_does_not() {
        for said in [0, 1, PREFACE - 1] {
            let (mut client, server) = duplex(64);
            let mut server = Prompt::new(server, Duration::ZERO);
            client.write_all(&[7; PREFACE][..said]).await.unwrap();
            let error = server.read_exact(&mut [0; PREFACE]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{said}");
        }
        let (mut client, server) = duplex(64);
        let mut server = Prompt::new(server, Duration::ZERO);
        client.write_all(&[7; PREFACE]).await.unwrap();
        server.read_exact(&mut [0; PREFACE]).await.unwrap();
        assert!(poll!(Box::pin(server.read(&mut [0; 1]))).is_pending());
    }

    #[tokio::test]
    async fn a_connection_beyond_the_bound_waits_until_another_one_is_closed() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_first, _second) = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let accepted = accepted(listener, 1);
        pin_mut!(accepted);
        let one = accepted.next().await.unwrap().unwrap();
        let two = accepted.next();
        pin_mut!(two);
        assert!(poll!(&mut two).is_pending());
        drop(one);
        assert!(two.await.unwrap().is_ok());
    }
}
