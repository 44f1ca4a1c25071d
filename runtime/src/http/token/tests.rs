use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const SECRET: &[u8] = b"a secret of this test, which is long enough";

fn config(algorithm: JwtAlgorithm, key: PathBuf) -> JwtConfig {
    JwtConfig { algorithm, key, issuer: None, audience: None, leeway_s: 0.0 }
}

fn file(content: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

/// A public key as PEM: the head of its kind (RFC 5480, RFC 8410), then the key.
fn pem(head: &[u8], key: &[u8]) -> Vec<u8> {
    let der = STANDARD.encode([head, key].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n").into_bytes()
}

fn token(algorithm: &str, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    headed(&json!({ "alg": algorithm, "typ": "JWT" }), claims, sign)
}

fn headed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(sign(message.as_bytes())))
}

fn hmac(message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message).as_ref().to_vec()
}

fn hs256(claims: &Value) -> String {
    token("HS256", claims, hmac)
}

fn tokens(change: impl Fn(&mut JwtConfig)) -> Tokens {
    let (_folder, path) = file(SECRET);
    let mut config = config(JwtAlgorithm::Hs256, path);
    change(&mut config);
    Tokens::open(&config).unwrap()
}

fn status(tokens: &Tokens, token: &str, scope: Scope, tenant: Option<&str>) -> Result<(), (u16, String)> {
    tokens.check(token, scope, tenant).map_err(|error| (error.status.as_u16(), error.message))
}

fn soon() -> f64 {
    now() + 1000.0
}

#[test]
fn a_token_opens_what_its_scopes_say_and_nothing_else() {
    let tokens = tokens(|_| {});
    let of = |scope: Value| hs256(&json!({ "exp": soon(), "sub": "cam", "scope": scope }));
    let check = |scope: Value, asked, tenant| status(&tokens, &of(scope), asked, tenant).map_err(|(code, _)| code);
    use Scope::{Admin, Inference, Samples};
    assert_eq!(check(json!("inference:a samples:b"), Inference, Some("a")), Ok(()));
    assert_eq!(check(json!("inference:a samples:b"), Samples, Some("b")), Ok(()));
    assert_eq!(check(json!("inference:a samples:b"), Inference, Some("b")), Err(403));
    assert_eq!(check(json!("inference:a samples:b"), Admin, None), Err(403));
    assert_eq!(check(json!(["inference"]), Inference, Some("b")), Ok(()));
    assert_eq!(check(json!(["inference:*"]), Inference, Some("b")), Ok(()));
    for all in ["admin", "*"] {
        assert_eq!(check(json!(all), Admin, None), Ok(()));
        assert_eq!(check(json!(all), Samples, Some("b")), Ok(()));
    }
    for nothing in [json!(""), json!("admin:a *:a root"), json!([])] {
        assert_eq!(check(nothing, Inference, Some("a")), Err(403));
    }
    let (_, message) = status(&tokens, &of(json!("samples:b")), Inference, Some("a")).unwrap_err();
    assert_eq!(message, "the token of \"cam\" has no scope \"inference:a\"");
}

#[test]
fn claims_are_checked_and_what_is_wrong_is_said() {
    let tokens = tokens(|config| (config.issuer, config.audience) = (Some("us".to_owned()), Some("migrator".to_owned())));
    let good = json!({ "exp": soon(), "iss": "us", "aud": ["other", "migrator"], "scope": "*" });
    assert_eq!(status(&tokens, &hs256(&good), Scope::Admin, None), Ok(()));
    let with = |key: &str, value: Value| {
        let mut claims = good.clone();
        claims[key] = value;
        status(&tokens, &hs256(&claims), Scope::Admin, None).unwrap_err()
    };
    let refused = |why: &str| (401, format!("the token is refused: {why}"));
    assert_eq!(with("exp", json!(now() - 10.0)), refused("it has expired"));
    assert_eq!(with("nbf", json!(soon())), refused("it is not valid yet"));
    assert_eq!(with("iss", json!("them")), refused("it is of another issuer"));
    assert_eq!(with("aud", json!("them")), refused("it is for another audience"));
    assert_eq!(with("exp", json!("tomorrow")).0, 401);
    assert_eq!(with("nbf", json!("tomorrow")).0, 401);
    let without = json!({ "exp": soon(), "iss": "us", "scope": "*" });
    assert_eq!(status(&tokens, &hs256(&without), Scope::Admin, None).unwrap_err(), refused("it has no claim \"aud\""));
}

#[test]
fn a_remembered_token_expires_too() {
    let tokens = tokens(|_| {});
    let token = hs256(&json!({ "exp": now() - 10.0, "scope": "*" }));
    let remember = |from: f64, until: f64| {
        let grants = vec![Grant { scope: Scope::Admin, tenant: None }];
        let granted = Granted { name: String::new(), grants, from, until };
        tokens.known.lock().unwrap().insert(Sha256::digest(token.as_bytes()).into(), Arc::new(granted));
    };
    // As long as it is remembered as good, it is not looked at again.
    remember(0.0, soon());
    assert_eq!(status(&tokens, &token, Scope::Admin, None), Ok(()));
    for (from, until) in [(0.0, now() - 1.0), (soon(), soon())] {
        remember(from, until);
        let refused = (401, "the token is refused: it has expired".to_owned());
        assert_eq!(status(&tokens, &token, Scope::Admin, None), Err(refused));
    }
}

#[test]
fn a_token_that_demands_to_be_understood_better_is_refused() {
    let claims = json!({ "exp": soon(), "scope": "*" });
    let critical = |names: Value| headed(&json!({ "alg": "HS256", "crit": names }), &claims, hmac);
    for names in [json!(["exp"]), json!([]), json!("exp")] {
        assert_eq!(status(&tokens(|_| {}), &critical(names), Scope::Admin, None).unwrap_err().0, 401);
    }
    let (_, message) = status(&tokens(|_| {}), &critical(json!(["b64"])), Scope::Admin, None).unwrap_err();
    assert!(message.contains("[\"b64\"]"), "{message}");
}

#[test]
fn forged_tokens_are_refused() {
    let tokens = tokens(|_| {});
    let claims = json!({ "exp": soon(), "scope": "*" });
    let good = hs256(&claims);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (head, payload) = message.split_once('.').unwrap();
    let other = URL_SAFE_NO_PAD.encode(json!({ "exp": soon(), "scope": "admin" }).to_string());
    let none = token("none", &claims, |_| Vec::new());
    let long = format!("{head}.{}.{signature}", "A".repeat(LONGEST));
    for forged in [format!("{head}.{other}.{signature}"), format!("{head}.{payload}."), none, "..".to_owned(), "a.b.c".to_owned(), long] {
        assert_eq!(status(&tokens, &forged, Scope::Admin, None).unwrap_err().0, 401, "{forged}");
    }
    assert!(tokens.known.lock().unwrap().is_empty(), "what is refused is not remembered");
}

#[test]
fn signatures_of_public_keys_are_verified() {
    let random = SystemRandom::new();
    let claims = json!({ "exp": soon(), "scope": "*" });
    let ed = Ed25519KeyPair::from_pkcs8_maybe_unchecked(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
    let (_a, path) = file(&pem(&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], ed.public_key().as_ref()));
    let tokens = Tokens::open(&config(JwtAlgorithm::EdDsa, path)).unwrap();
    assert_eq!(status(&tokens, &token("EdDSA", &claims, |m| ed.sign(m).as_ref().to_vec()), Scope::Admin, None), Ok(()));
    // The public key is no secret to sign with.
    let confused =
        token("HS256", &claims, |m| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, ed.public_key().as_ref()), m).as_ref().to_vec());
    assert_eq!(status(&tokens, &confused, Scope::Admin, None).unwrap_err().1, "the token is refused: it is signed by another algorithm");

    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let head = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
        0x07, 0x03, 0x42, 0x00,
    ];
    let (_b, path) = file(&pem(&head, ec.public_key().as_ref()));
    let tokens = Tokens::open(&config(JwtAlgorithm::Es256, path)).unwrap();
    let signed = token("ES256", &claims, |m| ec.sign(&random, m).unwrap().as_ref().to_vec());
    assert_eq!(status(&tokens, &signed, Scope::Admin, None), Ok(()));
    let foreign = token("ES256", &claims, |_| vec![7; 64]);
    assert_eq!(status(&tokens, &foreign, Scope::Admin, None).unwrap_err().1, "the token is refused: its signature is wrong");
}

#[test]
fn a_key_that_will_not_do_is_refused_and_named() {
    let (_folder, path) = file(b"short");
    for algorithm in [JwtAlgorithm::Hs256, JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::EdDsa] {
        let error = format!("{:#}", Tokens::open(&config(algorithm, path.clone())).err().unwrap());
        assert!(error.contains("must hold") && error.starts_with(path.to_str().unwrap()), "{error}");
        assert!(!error.contains("short"), "{error}");
    }
    assert!(Tokens::open(&config(JwtAlgorithm::Hs256, "/not/there".into())).is_err());
}

#[test]
fn a_key_of_the_wrong_kind_is_refused() {
    // Of RSA: two small numbers (RFC 8017 appendix A.1.1), which nothing looks at before there is a signature.
    let named = |label: &str| {
        let der = STANDARD.encode([0x30, 0x06, 0x02, 0x01, 0x23, 0x02, 0x01, 0x03]);
        file(format!("-----BEGIN {label}-----\n{der}\n-----END {label}-----\n").as_bytes())
    };
    let said = |label: &str, algorithm| {
        let (_folder, path) = named(label);
        Tokens::open(&config(algorithm, path)).map(|_| ()).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(said("RSA PUBLIC KEY", JwtAlgorithm::Rs256), Ok(()));
    for label in ["RSA PRIVATE KEY", "PRIVATE KEY", "CERTIFICATE"] {
        let error = said(label, JwtAlgorithm::Rs256).unwrap_err();
        assert!(error.contains("must hold a public key") && error.contains("no private key"), "{error}");
    }
    for label in ["PUBLIC KEY", "RSA PUBLIC KEY", "PRIVATE KEY"] {
        let error = said(label, JwtAlgorithm::Hs256).unwrap_err();
        assert!(error.contains("must hold a secret") && error.contains("a public key is no secret"), "{error}");
    }
}
