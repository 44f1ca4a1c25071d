//! Who may ask for what: API keys, of which only hashes are known here, and signed tokens.
//!
//! Without any of them everybody may do everything, which is for the loopback interface. A key or a token is sent as `Authorization: Bearer
//! KEY`. Keys are random and long, so that one round of SHA-256 is enough: there is nothing to guess.

use actix_web::http::StatusCode;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::ApiError;
use super::token::Tokens;
use crate::config::Scope;

impl Scope {
    /// As a token would have to say it.
    pub(super) fn asked(self, tenant: Option<&str>) -> String {
        match (self, tenant) {
            (Scope::Admin, _) => "admin".to_owned(),
            (Scope::Inference, None) => "inference".to_owned(),
            (Scope::Samples, None) => "samples".to_owned(),
            (Scope::Inference, Some(tenant)) => format!("inference:{tenant}"),
            (Scope::Samples, Some(tenant)) => format!("samples:{tenant}"),
        }
    }
}

/// One scope of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// What it is for.
    pub scope: Scope,
    /// Whom it is for; `None` = every tenant.
    pub tenant: Option<String>,
}

impl Grant {
    /// Whether it is for this.
    pub fn allows(&self, scope: Scope, tenant: Option<&str>) -> bool {
        let own = || self.tenant.as_deref().is_none_or(|own| tenant.is_none_or(|tenant| tenant == own));
        self.scope == Scope::Admin || self.scope == scope && own()
    }
}

/// Keys and tokens.
#[derive(Default)]
pub struct Access {
    /// The keys in force.
    pub keys: Keys,
    /// Who verifies tokens, where there are any.
    pub tokens: Option<Tokens>,
}

impl Access {
    /// Whether everybody may do everything.
    pub fn open(&self) -> bool {
        self.keys.0.is_empty() && self.tokens.is_none()
    }

    /// Checks what a request says of itself (its header `Authorization`); `tenant` = whom it is about, if anybody.
    ///
    /// # Errors
    /// 401 without a known key or a good token, 403 with one that is not for this.
    pub fn check(&self, authorization: Option<&str>, scope: Scope, tenant: Option<&str>) -> Result<(), ApiError> {
        if self.open() {
            return Ok(());
        }
        let sent = authorization.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let sent = sent.map(|(_, sent)| sent.trim()).ok_or_else(unknown)?;
        match (self.keys.find(sent), &self.tokens) {
            (Some(key), _) => key.allows(scope, tenant),
            (None, Some(tokens)) if Tokens::looks_like_one(sent) => tokens.check(sent, scope, tenant),
            (None, _) => Err(unknown()),
        }
    }
}

fn unknown() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "a key is needed: Authorization: Bearer KEY")
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
    fn find(&self, sent: &str) -> Option<&Key> {
        if self.0.is_empty() {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(sent.as_bytes()).into();
        // All are compared, so that the time taken tells nothing of which comes near.
        self.0.iter().fold(None, |found, key| if bool::from(key.sha256.ct_eq(&hash)) { Some(key) } else { found })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, secret: &str, tenants: &[&str], scopes: &[Scope]) -> Key {
        let tenants = tenants.iter().map(|tenant| (*tenant).to_owned()).collect();
        Key { name: name.to_owned(), sha256: Sha256::digest(secret.as_bytes()).into(), tenants, scopes: scopes.to_vec() }
    }

    fn access(keys: Vec<Key>) -> Access {
        Access { keys: Keys(keys), tokens: None }
    }

    #[test]
    fn a_key_opens_what_it_is_for_and_nothing_else() {
        let keys = access(vec![key("a's", "secret-a", &["a"], &[Scope::Inference]), key("root", "secret-r", &[], &[Scope::Admin])]);
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
    fn a_key_that_looks_like_a_token_is_a_key_all_the_same() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [b'x'; 32]).unwrap();
        let (algorithm, key_file) = (crate::config::JwtAlgorithm::Hs256, file.path().to_owned());
        let jwt = crate::config::JwtConfig { algorithm, key: key_file, issuer: None, audience: None, leeway_s: 0.0 };
        let keys = Keys(vec![key("dots", "a.b.c", &["a"], &[Scope::Inference])]);
        let both = Access { keys, tokens: Some(Tokens::open(&jwt).unwrap()) };
        let check = |sent: &str, tenant| both.check(Some(sent), Scope::Inference, Some(tenant)).map_err(|e| e.status.as_u16());
        assert_eq!(check("Bearer a.b.c", "a"), Ok(()));
        assert_eq!(check("Bearer a.b.c", "b"), Err(403));
        assert_eq!(check("Bearer a.b.d", "a"), Err(401));
    }

    #[test]
    fn without_keys_everything_is_open() {
        assert_eq!(Access::default().check(None, Scope::Admin, None), Ok(()));
    }
}
