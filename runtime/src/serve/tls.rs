//! TLS whose certificate can be changed while connections are open: those go on, new ones get the new one.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::TlsConfig;

/// The certificate in force.
#[derive(Debug)]
pub(super) struct Certificate(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// One that names the file.
    pub fn open(config: &TlsConfig) -> anyhow::Result<Arc<Certificate>> {
        Ok(Arc::new(Certificate(ArcSwap::from_pointee(read(config)?))))
    }

    /// Takes what was read for new connections.
    pub fn change(&self, to: CertifiedKey) {
        self.0.store(Arc::new(to));
    }

    /// What a port listens with; `protocols` by ALPN.
    ///
    /// # Errors
    /// When the cryptography does not know TLS 1.2 and 1.3.
    pub fn server(self: &Arc<Self>, protocols: &[&[u8]]) -> anyhow::Result<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions()?;
        let mut server = builder.with_no_client_auth().with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(server)
    }
}

/// Certificate and key, which must belong together.
///
/// # Errors
/// One that names the file.
pub(super) fn read(config: &TlsConfig) -> anyhow::Result<CertifiedKey> {
    let named = |path: &Path| path.display().to_string();
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&config.certificate).with_context(|| named(&config.certificate))?.collect();
    let chain = chain.with_context(|| named(&config.certificate))?;
    anyhow::ensure!(!chain.is_empty(), "{}: holds no certificate", named(&config.certificate));
    let key = PrivateKeyDer::from_pem_file(&config.key).with_context(|| named(&config.key))?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
    certified.with_context(|| format!("{} and {}", named(&config.certificate), named(&config.key)))
}
