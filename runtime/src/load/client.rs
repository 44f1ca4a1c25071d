//! HTTP/1.1 over a bounded pool of kept-alive connections, as lean as a load generator needs it: one buffer written, one read.
//!
//! Nothing is retried and nothing is hidden: a connection that breaks is the caller's to count.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Idle connections are not used again after this long: actix-web closes them after 5 s, and a request sent into the closing is lost.
const IDLE: Duration = Duration::from_millis(3500);
/// Largest answer taken.
const MAX_ANSWER: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// No connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    /// It broke.
    #[error("connection lost: {0}")]
    Io(#[from] std::io::Error),
    /// The other side closed it before the answer was complete.
    #[error("connection closed before the answer was complete")]
    Closed,
    /// What came is not HTTP.
    #[error("not an HTTP/1.1 answer: {0}")]
    Malformed(&'static str),
}

/// Connections to one server.
pub(super) struct Pool {
    address: SocketAddr,
    idle: RefCell<Vec<Connection>>,
    permits: Semaphore,
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    used: Instant,
}

impl Pool {
    /// At most `connections` at once.
    pub(super) fn new(address: SocketAddr, connections: usize) -> Self {
        Pool { address, idle: RefCell::new(Vec::new()), permits: Semaphore::new(connections.max(1)) }
    }

    /// Sends a complete request when a connection is free and gives status and body of the answer to `read`. `sent` is told when the
    /// connection was there and writing began.
    ///
    /// # Errors
    /// [`ClientError`]; the connection is dropped then, also when the future is.
    pub(super) async fn exchange<T>(
        &self,
        request: &[u8],
        sent: impl FnOnce(Instant),
        read: impl FnOnce(u16, &[u8]) -> T,
    ) -> Result<T, ClientError> {
        // The semaphore is never closed.
        let Ok(_permit) = self.permits.acquire().await else { return Err(ClientError::Closed) };
        let mut connection = self.connection().await?;
        sent(Instant::now());
        connection.stream.write_all(request).await?;
        let head = connection.read_answer().await?;
        let answer = read(head.status, &connection.buffer[head.body..]);
        if head.keep {
            connection.used = Instant::now();
            self.idle.borrow_mut().push(connection);
        }
        Ok(answer)
    }

    async fn connection(&self) -> Result<Connection, ClientError> {
        while let Some(connection) = self.take_idle() {
            if connection.usable() {
                return Ok(connection);
            }
        }
        let stream = TcpStream::connect(self.address).await.map_err(|e| ClientError::Connect(self.address, e))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::with_capacity(4096), used: Instant::now() })
    }

    /// The one used last: it is the least likely to have been closed.
    fn take_idle(&self) -> Option<Connection> {
        self.idle.borrow_mut().pop()
    }
}

/// The head of an answer whose body lies in the connection's buffer.
struct Head {
    status: u16,
    /// Where the body begins.
    body: usize,
    keep: bool,
}

impl Connection {
    /// Neither old nor closed by the other side.
    fn usable(&self) -> bool {
        let quiet = matches!(self.stream.try_read(&mut [0; 1]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        self.used.elapsed() < IDLE && quiet
    }

    async fn read_answer(&mut self) -> Result<Head, ClientError> {
        self.buffer.clear();
        let body = loop {
            self.fill().await?;
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let lines = Lines::parse(&self.buffer[..body])?;
        if lines.chunked {
            return Err(ClientError::Malformed("chunked answers are not understood"));
        }
        while self.buffer.len() < body + lines.length {
            self.fill().await?;
        }
        self.buffer.truncate(body + lines.length);
        Ok(Head { status: lines.status, body, keep: lines.keep })
    }

    async fn fill(&mut self) -> Result<(), ClientError> {
        if self.buffer.len() > MAX_ANSWER {
            return Err(ClientError::Malformed("the answer is larger than 16 MiB"));
        }
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ClientError::Closed),
            _ => Ok(()),
        }
    }
}

/// What the head says.
struct Lines {
    status: u16,
    length: usize,
    keep: bool,
    chunked: bool,
}

impl Lines {
    fn parse(head: &[u8]) -> Result<Self, ClientError> {
        let text = std::str::from_utf8(head).map_err(|_| ClientError::Malformed("the head is not text"))?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|line| line.get(..3));
        let status = status.and_then(|digits| digits.parse().ok()).ok_or(ClientError::Malformed("no status line"))?;
        let mut parsed = Lines { status, length: 0, keep: true, chunked: false };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                parsed.length = value.parse().map_err(|_| ClientError::Malformed("content-length is not a number"))?;
            } else if name.eq_ignore_ascii_case("connection") {
                parsed.keep = !value.eq_ignore_ascii_case("close");
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                parsed.chunked = true;
            }
        }
        Ok(parsed)
    }
}

/// A complete request; `body` is JSON, none makes it a GET.
pub(super) fn request(host: &str, path: &str, body: Option<&str>) -> Vec<u8> {
    match body {
        None => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n"),
        Some(body) => format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    }
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_understood_whatever_the_case() {
        let lines = Lines::parse(b"HTTP/1.1 503 Service Unavailable\r\nCONTENT-length: 12\r\nconnection: Close\r\n\r\n").unwrap();
        assert_eq!((lines.status, lines.length, lines.keep, lines.chunked), (503, 12, false, false));
        assert!(Lines::parse(b"ICY 200 OK\r\n\r\n").is_err());
        assert!(Lines::parse(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_carries_its_length() {
        let text = String::from_utf8(request("h:1", "/x", Some("{}"))).unwrap();
        assert!(text.starts_with("POST /x HTTP/1.1\r\nHost: h:1\r\n") && text.ends_with("Content-Length: 2\r\n\r\n{}"));
        assert!(request("h:1", "/x", None).starts_with(b"GET /x"));
    }
}
