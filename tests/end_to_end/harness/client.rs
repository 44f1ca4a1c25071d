//! A plain blocking HTTP client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Talks to one address.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
    agent: ureq::Agent,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// `Inference-Header-Content-Length`: where the JSON of a binary answer ends.
    pub json_len: Option<usize>,
    /// Body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client of `host:port`.
    pub fn new(address: &str) -> Client {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).proxy(None).build();
        Client { address: address.to_owned(), agent: config.into() }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// GET.
    ///
    /// # Panics
    /// Without an answer.
    pub fn get(&self, path: &str) -> Reply {
        let answer = self.agent.get(self.url(path)).call();
        Reply::of(answer.unwrap_or_else(|e| panic!("GET {path}: {e}")))
    }

    /// GET of something that answers 200 with JSON.
    ///
    /// # Panics
    /// When it does not.
    pub fn json(&self, path: &str) -> Value {
        self.get(path).ok(path)
    }

    /// POST.
    ///
    /// # Panics
    /// Without an answer.
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        self.post_with(path, &[("Content-Type", "application/json")], body)
    }

    /// POST with headers.
    ///
    /// # Panics
    /// Without an answer.
    pub fn post_with(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
        let mut request = self.agent.post(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Reply::of(request.send(body.as_ref()).unwrap_or_else(|e| panic!("POST {path}: {e}")))
    }

    /// A connection on which bytes are written as they are.
    ///
    /// # Panics
    /// When there is none to be had.
    pub fn connect(&self) -> Raw {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Raw(stream)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Reply {
    fn of(mut response: ureq::http::Response<ureq::Body>) -> Reply {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (content_type, json_len) = (header("Content-Type").unwrap_or_default(), header("Inference-Header-Content-Length"));
        let status = response.status().as_u16();
        let body = response.body_mut().read_to_vec().unwrap();
        Reply { status, content_type, json_len: json_len.and_then(|length| length.parse().ok()), body }
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body of a 200 as JSON.
    ///
    /// # Panics
    /// When it is something else.
    pub fn ok(&self, what: &str) -> Value {
        assert_eq!(self.status, 200, "{what}: {}", self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{what}: {e}: {}", self.text()))
    }

    /// The one line of an error.
    ///
    /// # Panics
    /// When the body is anything but `{"error": "one line"}`.
    pub fn error(&self) -> String {
        assert!(self.content_type.starts_with("application/json"), "{self:?}");
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()));
        let line = body["error"].as_str().unwrap_or_default();
        assert!(!line.is_empty() && !line.contains('\n') && body.as_object().is_some_and(|o| o.len() == 1), "{body}");
        line.to_owned()
    }
}

/// One connection.
pub struct Raw(TcpStream);

impl Raw {
    /// Writes bytes.
    ///
    /// # Panics
    /// When the other side is gone.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Reads one answer: its status and its body, which ends where `Content-Length` says.
    ///
    /// # Errors
    /// What arrived instead.
    pub fn read(&mut self) -> Result<(u16, String), String> {
        let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            if let Some(answer) = whole(&all) {
                return Ok(answer);
            }
            match self.0.read(&mut chunk) {
                Ok(0) => return Err(format!("closed after {:?}", String::from_utf8_lossy(&all))),
                Ok(n) => all.extend_from_slice(&chunk[..n]),
                Err(e) => return Err(format!("{e} after {:?}", String::from_utf8_lossy(&all))),
            }
        }
    }
}

fn whole(bytes: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let lower = head.to_ascii_lowercase();
    let length: usize = lower.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    (body.len() >= length).then(|| (status, body[..length].to_owned()))
}
