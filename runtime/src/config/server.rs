//! `[server]`: ports, limits, who may ask for what, and where state is kept.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address to listen on.
    pub host: String,
    /// Port of the inference protocol; 0 = a free one.
    pub http_port: u16,
    /// Port of `/metrics`; 0 = a free one.
    pub metrics_port: u16,
    /// Port of the inference protocol over gRPC; 0 = a free one.
    pub grpc_port: u16,
    /// Port of what only administrators may do; 0 = a free one, none = it is at `http_port` too.
    pub admin_port: Option<u16>,
    /// Largest request body, MiB.
    pub max_body_mib: u32,
    /// Most connections over HTTP at once.
    pub max_connections: u32,
    /// Seconds that a connection over HTTP may be idle between requests.
    pub idle_s: f64,
    /// Seconds between a signal to stop and draining, in which the server says that it is not ready and goes on answering.
    pub leave_s: f64,
    /// Whether every answer leaves a line in the log.
    pub access_log: bool,
    /// TLS on all ports but that of the metrics.
    pub tls: Option<TlsConfig>,
    /// Where spans of requests go.
    pub otlp: Option<OtlpConfig>,
    /// Tokens that are taken beside the keys.
    pub jwt: Option<JwtConfig>,
    /// Who may ask for what; without any, everybody for everything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyConfig>,
    /// Seconds that requests in flight get after a signal to stop.
    pub drain_s: f64,
    /// Folder of the model store, the samples and the checkpoints.
    pub state_dir: PathBuf,
}

/// `[server.tls]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// File of the certificate and those that vouch for it, PEM.
    pub certificate: PathBuf,
    /// File of its private key, PEM.
    pub key: PathBuf,
}

/// `[server.otlp]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtlpConfig {
    /// Address of the collector's traces, without TLS.
    pub endpoint: String,
    /// Share of the requests without a trace of their client's that is sampled.
    #[serde(default = "share")]
    pub share: f64,
    /// Most spans that wait to be exported; beyond it they are dropped.
    #[serde(default = "spans")]
    pub queue: u32,
}

/// `[server.jwt]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtConfig {
    /// How tokens are signed; any other way is refused.
    pub algorithm: JwtAlgorithm,
    /// File of the secret, or of the public key, PEM.
    pub key: PathBuf,
    /// Who must have issued them; none = whoever has the key.
    #[serde(default)]
    pub issuer: Option<String>,
    /// Whom they must be for; none = those that are for nobody in particular.
    #[serde(default)]
    pub audience: Option<String>,
    /// Seconds that clocks may differ.
    #[serde(default = "leeway")]
    pub leeway_s: f64,
}

/// How tokens are signed (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256, by a shared secret.
    #[serde(rename = "HS256")]
    Hs256,
    /// RSA (PKCS #1) with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Requests, statistics and metadata of its tenants.
    Inference,
    /// Labelled samples of its tenants.
    Samples,
    /// Everything, of all tenants.
    Admin,
}

/// `[[server.keys]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Its name, for the log.
    pub name: String,
    /// SHA-256 of the key, 64 hexadecimal digits.
    pub sha256: String,
    /// Whom it is for; empty = every tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
    /// What it is for.
    pub scopes: Vec<Scope>,
}

impl KeyConfig {
    /// Its hash; `None` unless it is 64 hexadecimal digits.
    pub fn hash(&self) -> Option<[u8; 32]> {
        let mut hash = [0; 32];
        let digits = self.sha256.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(hash)
    }
}

fn share() -> f64 {
    0.01
}

fn spans() -> u32 {
    8192
}

fn leeway() -> f64 {
    30.0
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            host: "127.0.0.1".to_owned(),
            http_port: 8000,
            metrics_port: 8002,
            grpc_port: 8001,
            admin_port: None,
            max_body_mib: 64,
            max_connections: 16_384,
            idle_s: 75.0,
            leave_s: 0.0,
            access_log: false,
            tls: None,
            otlp: None,
            jwt: None,
            keys: Vec::new(),
            drain_s: 10.0,
            state_dir: PathBuf::from("state"),
        }
    }
}

impl ServerConfig {
    /// File that remembers which instances on NVIDIA's GPUs are ours.
    pub fn instances_file(&self) -> PathBuf {
        self.state_dir.join("instances.json")
    }

    /// What the models take on each profile of the device ([`crate::curve::own`]).
    pub fn curves_file(&self) -> PathBuf {
        self.state_dir.join("curves.toml")
    }

    /// Folder of the model store.
    pub fn models_dir(&self) -> PathBuf {
        self.state_dir.join("models")
    }

    /// File of the labelled samples.
    pub fn samples_file(&self) -> PathBuf {
        self.state_dir.join("samples.sqlite")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_64_hexadecimal_digits() {
        let hash = |text: &str| KeyConfig { name: String::new(), sha256: text.to_owned(), tenants: Vec::new(), scopes: Vec::new() }.hash();
        assert_eq!(hash(&"0f".repeat(32)), Some([15; 32]));
        for wrong in ["", "0f", &"0g".repeat(32), &"é".repeat(32), &"+1".repeat(32)] {
            assert_eq!(hash(wrong), None, "{wrong}");
        }
    }
}
