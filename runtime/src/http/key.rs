//! Who may ask for what: API keys, of which only hashes are known here.
//!
//! Without any key everybody may do everything, which is for the loopback interface. A key is sent as `Authorization: Bearer KEY`. Keys are
//! random and long, so that one round of SHA-256 is enough: there is nothing to guess.

use actix_web::http::StatusCode;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::ApiError;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Requests, statistics and metadata of its tenants.
    Inference,
    /// Labelled samples of its tenants.
    Samples,
    /// Everything, of all tenants.
    Admin,
}

/// A key that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name, for the log.
    pub name: String,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
    /// Whom it is for; empty = every tenant.
    pub tenants: Vec<String>,
    /// What it is for.
    pub scopes: Vec<Scope>,
}

/// The keys in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(pub Vec<Key>);

impl Keys {
    /// Checks what a request says of itself (its header `Authorization`); `tenant` = whom it is about, if anybody.
    ///
    /// # Errors
    /// 401 without a known key, 403 with one that is not for this.
    pub fn check(&self, authorization: Option<&str>, scope: Scope, tenant: Option<&str>) -> Result<(), ApiError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let unknown = || ApiError::new(StatusCode::UNAUTHORIZED, "a key is needed: Authorization: Bearer KEY");
        let (scheme, sent) = authorization.and_then(|value| value.split_once(' ')).ok_or_else(unknown)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unknown());
        }
        let hash: [u8; 32] = Sha256::digest(sent.trim().as_bytes()).into();
        // All are compared, so that the time taken tells nothing of which comes near.
        let known = self.0.iter().fold(None, |found, key| if bool::from(key.sha256.ct_eq(&hash)) { Some(key) } else { found });
        known.ok_or_else(unknown)?.allows(scope, tenant)
    }
}

impl Key {
    fn allows(&self, scope: Scope, tenant: Option<&str>) -> Result<(), ApiError> {
        if self.scopes.contains(&Scope::Admin) {
            return Ok(());
        }
        let named = |tenant: &str| self.tenants.is_empty() || self.tenants.iter().any(|own| own == tenant);
        if self.scopes.contains(&scope) && tenant.is_none_or(named) {
            return Ok(());
        }
        Err(ApiError::new(StatusCode::FORBIDDEN, format!("key {:?} is not for this", self.name)))
    }
}

/// A hash as the configuration has it: 64 hexadecimal digits.
pub fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, secret: &str, tenants: &[&str], scopes: &[Scope]) -> Key {
        let tenants = tenants.iter().map(|tenant| (*tenant).to_owned()).collect();
        Key { name: name.to_owned(), sha256: Sha256::digest(secret.as_bytes()).into(), tenants, scopes: scopes.to_vec() }
    }

    #[test]
    fn a_key_opens_what_it_is_for_and_nothing_else() {
        let keys = Keys(vec![key("a's", "secret-a", &["a"], &[Scope::Inference]), key("root", "secret-r", &[], &[Scope::Admin])]);
        let check = |sent: Option<&str>, scope, tenant| keys.check(sent, scope, tenant).map_err(|e| e.status.as_u16());
        assert_eq!(check(Some("Bearer secret-a"), Scope::Inference, Some("a")), Ok(()));
        assert_eq!(check(Some("bearer secret-a"), Scope::Inference, None), Ok(()));
        assert_eq!(check(Some("Bearer secret-a"), Scope::Inference, Some("b")), Err(403));
        assert_eq!(check(Some("Bearer secret-a"), Scope::Samples, Some("a")), Err(403));
        assert_eq!(check(Some("Bearer secret-a"), Scope::Admin, None), Err(403));
        assert_eq!(check(Some("Bearer secret-r"), Scope::Samples, Some("b")), Ok(()));
        for sent in [None, Some("secret-a"), Some("Basic secret-a"), Some("Bearer "), Some("Bearer secret-")] {
            assert_eq!(check(sent, Scope::Inference, Some("a")), Err(401), "{sent:?}");
        }
    }

    #[test]
    fn without_keys_everything_is_open() {
        assert_eq!(Keys::default().check(None, Scope::Admin, None), Ok(()));
    }

    #[test]
    fn a_hash_is_64_hexadecimal_digits() {
        assert_eq!(parse_hash(&"0f".repeat(32)), Some([15; 32]));
        for wrong in ["", "0f", &"0g".repeat(32), &"é".repeat(32), &"+1".repeat(32)] {
            assert_eq!(parse_hash(wrong), None, "{wrong}");
        }
    }
}
