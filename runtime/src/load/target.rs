//! What the load generator asks of the server besides inference: SLO, the model's input, uptime, reconfigurations.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use super::body::InputFormat;
use super::client::{Pool, request};

/// Asking takes at most this long; the server answers these without a model.
const ASK: Duration = Duration::from_secs(5);

/// One reconfiguration, on the load's clock.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reconfiguration {
    /// Generation of its plan.
    pub generation: u64,
    /// Seconds since the load began; negative before.
    pub at_s: f64,
    /// Seconds from its first step to its last.
    pub took_s: f64,
    /// Service lost, seconds.
    pub lost_s: f64,
    /// Slice-seconds idle.
    pub idle_slice_s: f64,
    /// Partition before.
    pub from: String,
    /// Partition after.
    pub to: String,
    /// Seconds by kind of step.
    pub steps: Vec<(String, f64)>,
}

/// The server.
pub(crate) struct Target {
    /// `host:port`.
    pub host: String,
    /// Where that is.
    pub address: SocketAddr,
    pool: Pool,
}

impl Target {
    /// Understands `http://host:port`.
    ///
    /// # Errors
    /// When it is something else, or the host is unknown.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let host = url.strip_prefix("http://").ok_or_else(|| anyhow!("--url {url}: must be http://HOST:PORT"))?.trim_end_matches('/');
        if host.is_empty() || host.contains('/') {
            bail!("--url {url}: must be http://HOST:PORT without a path");
        }
        let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let address = with_port.to_socket_addrs().ok().and_then(|mut all| all.next());
        let address = address.ok_or_else(|| anyhow!("--url {url}: {with_port} is no address; must be http://HOST:PORT"))?;
        Ok(Target { host: host.to_owned(), address, pool: Pool::new(address, 2) })
    }

    /// Status and body of a GET.
    ///
    /// # Errors
    /// When there is no answer; names the URL.
    pub(crate) async fn get(&self, path: &str) -> Result<(u16, Vec<u8>)> {
        let get = request(&self.host, path, None);
        let answer = timeout(ASK, self.pool.exchange(&get, |_| {}, |status, body| (status, body.to_vec()))).await;
        let answer = answer.map_err(|_| anyhow!("http://{}{path}: no answer in {} s", self.host, ASK.as_secs()))?;
        answer.with_context(|| format!("http://{}{path}", self.host))
    }

    /// A JSON answer, or `None` where the server does not know the path.
    ///
    /// # Errors
    /// When there is no answer, or another one than JSON.
    pub(crate) async fn ask(&self, path: &str) -> Result<Option<Value>> {
        let (status, body) = self.get(path).await?;
        match (status, serde_json::from_slice::<Value>(&body)) {
            (200, Ok(value)) => Ok(Some(value)),
            (200, Err(error)) => bail!("http://{}{path}: not JSON: {error}", self.host),
            (404, _) => Ok(None),
            (status, body) => bail!("http://{}{path}: status {status}: {}", self.host, reason(body.ok().as_ref())),
        }
    }

    /// The tenant's SLO, milliseconds; `None` where the server does not say.
    pub(super) async fn slo_ms(&self, tenant: &str) -> Result<Option<f64>> {
        let view = self.ask(&format!("/v1/tenants/{tenant}")).await?;
        Ok(view.and_then(|view| view["slo_ms"].as_f64()))
    }

    /// The one input of the tenant's model.
    ///
    /// # Errors
    /// When the tenant is unknown or its model has more than one input.
    pub(super) async fn input(&self, tenant: &str) -> Result<InputFormat> {
        let path = format!("/v2/models/{tenant}");
        let metadata = self.ask(&path).await?.ok_or_else(|| anyhow!("tenant {tenant}: http://{} knows no such tenant", self.host))?;
        let inputs = metadata["inputs"].as_array().with_context(|| format!("http://{}{path}: has no inputs", self.host))?;
        let [input] = inputs.as_slice() else { bail!("tenant {tenant}: its model has {} inputs; load can drive one", inputs.len()) };
        let shape = input["shape"].as_array().map(Vec::as_slice).unwrap_or_default();
        // The first dimension is the batch.
        let shape = shape
            .iter()
            .skip(1)
            .map(|n| n.as_u64().ok_or_else(|| anyhow!("tenant {tenant}: shape {n} is variable")))
            .collect::<Result<_>>()?;
        let text = |key: &str| input[key].as_str().unwrap_or_default().to_owned();
        Ok(InputFormat { name: text("name"), datatype: text("datatype"), shape })
    }

    /// Seconds since the server started and the reconfigurations it remembers (on its own clock); `None` where it does not say.
    pub(super) async fn history(&self) -> Option<(f64, Vec<Reconfiguration>)> {
        let tenants = self.ask("/v1/tenants").await.ok()??;
        let uptime_s = tenants["uptime_s"].as_f64()?;
        let partition = self.ask("/v1/partition").await.ok()??;
        Some((uptime_s, partition["history"].as_array()?.iter().map(reconfiguration).collect()))
    }
}

fn reconfiguration(entry: &Value) -> Reconfiguration {
    let number = |key: &str| entry[key].as_f64().unwrap_or_default();
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    Reconfiguration {
        generation: entry["generation"].as_u64().unwrap_or_default(),
        at_s: number("at_s"),
        took_s: number("took_s"),
        lost_s: number("lost_s"),
        idle_slice_s: number("idle_slice_s"),
        from: text("from"),
        to: text("to"),
        steps: serde_json::from_value(entry["steps"].clone()).unwrap_or_default(),
    }
}

fn reason(body: Option<&Value>) -> &str {
    body.and_then(|body| body["error"].as_str()).unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused_in_words() {
        for url in ["localhost:8000", "https://localhost", "http://", "http://h:1/path"] {
            let error = Target::new(url).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains("must be http://HOST:PORT"), "{url}: {error}");
        }
        assert_eq!(Target::new("http://127.0.0.1:8000/").unwrap().host, "127.0.0.1:8000");
    }
}
