//! JSON Web Tokens (RFC 7519) beside the API keys: who may ask for what is in the token, and signed.
//!
//! A token is verified once and remembered by its hash until it expires: a signature takes longer to check than a small request to answer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::http::StatusCode;
use anyhow::Context as _;
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use ring::{hmac, signature as ring_signature};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use signature::Verifier;

use super::error::ApiError;
use super::key::Grant;
use crate::config::{JwtAlgorithm, JwtConfig, Scope};

/// Tokens remembered; beyond them all are verified anew.
const REMEMBERED: usize = 4096;
/// Longest token, bytes: what headers may be long is too much to hash for everybody who asks.
const LONGEST: usize = 8192;
/// Shortest secret, bytes (RFC 7518 section 3.2).
const SECRET: usize = 32;

/// Verifies tokens.
pub struct Tokens {
    key: DecodingKey,
    validation: Validation,
    known: Mutex<HashMap<[u8; 32], Arc<Granted>>>,
}

/// What a token is good for, and when.
#[derive(Debug)]
struct Granted {
    /// Of its subject, for messages.
    name: String,
    grants: Vec<Grant>,
    /// Unix seconds, the leeway included.
    from: f64,
    until: f64,
}

/// The claims that are looked at beside those that the library checks.
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    sub: Option<String>,
    // By whatever name issuers have for them.
    #[serde(default)]
    scope: Scopes,
    #[serde(default)]
    scopes: Scopes,
    #[serde(default)]
    scp: Scopes,
}

/// Scopes in one text, with spaces between them (RFC 8693 section 4.2), or in a list.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Scopes {
    Text(String),
    List(Vec<String>),
    #[default]
    None,
}

impl Scopes {
    fn grants(&self) -> Vec<Grant> {
        match self {
            Scopes::Text(text) => text.split_whitespace().filter_map(grant).collect(),
            Scopes::List(list) => list.iter().filter_map(|scope| grant(scope)).collect(),
            Scopes::None => Vec::new(),
        }
    }
}

/// `inference:vision`, `samples` (of every tenant), `admin`, `*`; what is not known grants nothing.
fn grant(text: &str) -> Option<Grant> {
    let (scope, tenant) = text.split_once(':').map_or((text, None), |(scope, tenant)| (scope, Some(tenant)));
    let scope = match scope {
        "inference" => Scope::Inference,
        "samples" => Scope::Samples,
        "admin" | "*" if tenant.is_none() => Scope::Admin,
        _ => return None,
    };
    Some(Grant { scope, tenant: tenant.filter(|tenant| *tenant != "*").map(str::to_owned) })
}

impl Tokens {
    /// Reads the key's file.
    ///
    /// # Errors
    /// One that names the file and says what it must hold.
    pub fn open(config: &JwtConfig) -> anyhow::Result<Tokens> {
        static PROVIDED: Once = Once::new();
        // Whoever installed another one first would be this program too.
        PROVIDED.call_once(|| {
            let _ = PROVIDER.install_default();
        });
        let key = read(&config.key, config.algorithm).with_context(|| config.key.display().to_string())?;
        let mut validation = Validation::new(algorithm(config.algorithm));
        validation.leeway = config.leeway_s.ceil() as u64;
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        if let Some(issuer) = &config.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &config.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Ok(Tokens { key, validation, known: Mutex::default() })
    }

    /// Whether a text is a token by its looks: three parts with dots between them.
    pub fn looks_like_one(text: &str) -> bool {
        text.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Checks a token; `tenant` = whom the request is about, if anybody.
    ///
    /// # Errors
    /// 401 with what is wrong with the token, 403 with one that is not for this.
    pub fn check(&self, token: &str, scope: Scope, tenant: Option<&str>) -> Result<(), ApiError> {
        let granted = self.granted(token).map_err(|why| ApiError::new(StatusCode::UNAUTHORIZED, format!("the token is refused: {why}")))?;
        if granted.grants.iter().any(|grant| grant.allows(scope, tenant)) {
            return Ok(());
        }
        Err(ApiError::new(StatusCode::FORBIDDEN, format!("the token of {:?} has no scope {:?}", granted.name, scope.asked(tenant))))
    }

    fn granted(&self, token: &str) -> Result<Arc<Granted>, String> {
        if token.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        let (hash, now): ([u8; 32], f64) = (Sha256::digest(token.as_bytes()).into(), now());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        if let Some(granted) = known.filter(|granted| (granted.from..=granted.until).contains(&now)) {
            return Ok(granted);
        }
        let granted = Arc::new(self.verified(token)?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(hash, Arc::clone(&granted));
        Ok(granted)
    }

    fn verified(&self, token: &str) -> Result<Granted, String> {
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).map_err(|error| said(error.kind()))?;
        // RFC 7515 section 4.1.11: what must be understood and is not.
        if let Some(critical) = decoded.header.crit {
            return Err(format!("its header demands that {critical:?} be understood, which nothing of is here"));
        }
        let claims = decoded.claims;
        let leeway = self.validation.leeway as f64;
        Ok(Granted {
            name: claims.sub.unwrap_or_default(),
            grants: [claims.scope, claims.scopes, claims.scp].iter().flat_map(Scopes::grants).collect(),
            from: claims.nbf.map_or(0.0, |from| from - leeway),
            until: claims.exp + leeway,
        })
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// What is wrong with a token, without a word of what is in it.
fn said(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::ExpiredSignature => "it has expired".to_owned(),
        ErrorKind::ImmatureSignature => "it is not valid yet".to_owned(),
        ErrorKind::InvalidAudience => "it is for another audience".to_owned(),
        ErrorKind::InvalidIssuer => "it is of another issuer".to_owned(),
        ErrorKind::InvalidSignature => "its signature is wrong".to_owned(),
        ErrorKind::InvalidAlgorithm => "it is signed by another algorithm".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("it has no claim {claim:?}"),
        _ => "it is no JSON Web Token with the claims that are needed".to_owned(),
    }
}

fn algorithm(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

fn read(file: &Path, algorithm: JwtAlgorithm) -> anyhow::Result<DecodingKey> {
    let bytes = std::fs::read(file)?;
    let wanted = "must hold a public key, PEM";
    let label = pem_label(&bytes);
    match algorithm {
        JwtAlgorithm::Hs256 => {
            let secret = bytes.trim_ascii();
            // Whoever knows a public key could sign with it.
            anyhow::ensure!(label.is_none(), "must hold a secret for HS256, and holds PEM: a public key is no secret");
            anyhow::ensure!(secret.len() >= SECRET, "must hold a secret of {SECRET} bytes or more");
            Ok(DecodingKey::from_secret(secret))
        }
        _ if label.is_some_and(|label| !label.ends_with(PUBLIC)) => {
            anyhow::bail!("{wanted} (BEGIN PUBLIC KEY), and holds something else: no private key, no certificate")
        }
        JwtAlgorithm::Rs256 => DecodingKey::from_rsa_pem(&bytes).context(format!("{wanted}, of RSA")),
        JwtAlgorithm::Es256 => DecodingKey::from_ec_pem(&bytes).context(format!("{wanted}, of the curve P-256")),
        JwtAlgorithm::EdDsa => DecodingKey::from_ed_pem(&bytes).context(format!("{wanted}, of Ed25519")),
    }
}

/// How the label of a public key ends (RFC 7468 section 13; `RSA PUBLIC KEY` is PKCS #1's).
const PUBLIC: &[u8] = b"PUBLIC KEY";

/// What a PEM file says it holds; `None` = it is none.
fn pem_label(bytes: &[u8]) -> Option<&[u8]> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let from = bytes.windows(BEGIN.len()).position(|window| window == BEGIN)? + BEGIN.len();
    let length = bytes[from..].windows(5).position(|window| window == b"-----")?;
    Some(&bytes[from..from + length])
}

/// The cryptography of `ring`, which TLS uses already.
static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory: unsigned, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

fn unsigned(_: &Algorithm, _: &EncodingKey) -> JwtResult<Box<dyn jsonwebtoken::crypto::JwtSigner>> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> JwtResult<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(Ring { algorithm: *algorithm, key: key.try_get_as_bytes()?.to_vec() }))
}

struct Ring {
    algorithm: Algorithm,
    key: Vec<u8>,
}

impl Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let public = |how: &'static dyn ring_signature::VerificationAlgorithm| {
            ring_signature::UnparsedPublicKey::new(how, &self.key).verify(message, signature)
        };
        let verified = match self.algorithm {
            Algorithm::HS256 => hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &self.key), message, signature),
            Algorithm::RS256 => public(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::ES256 => public(&ring_signature::ECDSA_P256_SHA256_FIXED),
            Algorithm::EdDSA => public(&ring_signature::ED25519),
            _ => Err(ring::error::Unspecified),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests;
