//! What connections are accepted with at this moment; a renewal changes it for those that come after.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::x509::{self, Pair};

/// The certificate in use.
#[derive(Debug)]
pub struct Serving {
    key: RwLock<Option<Arc<CertifiedKey>>>,
    is_ready: watch::Sender<bool>,
}

impl Default for Serving {
    fn default() -> Self {
        Serving { key: RwLock::default(), is_ready: watch::Sender::new(false) }
    }
}

impl Serving {
    /// With a certificate and its key, in PEM, that nobody renews.
    ///
    /// # Errors
    /// What is wrong with which of the two.
    pub fn with(certificate: &str, key: &str) -> Result<Arc<Self>, String> {
        let serving = Arc::new(Serving::default());
        serving.take(x509::pair(certificate, key)?);
        Ok(serving)
    }

    /// Waits for the first certificate.
    pub async fn ready(&self) {
        let mut ready = self.is_ready.subscribe();
        // It cannot fail: the sender is here.
        let _ = ready.wait_for(|is_ready| *is_ready).await;
    }

    /// Whether there is a certificate.
    pub fn is_ready(&self) -> bool {
        *self.is_ready.borrow()
    }

    /// Accepts connections of agents, which all speak the newest TLS and HTTP/2.
    ///
    /// # Errors
    /// When the cryptography of this build lacks TLS 1.3.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        // Streams last for days, so there is nothing to resume.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    pub(super) fn take(&self, pair: Pair) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some(pair.key);
        self.is_ready.send_replace(true);
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
