//! Settings and PEM texts to what a TLS connection is accepted with.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};

use super::Fault;
use super::client::ClientCertificates;
use super::settings::{ClientAuth, Tls};

/// The PEM texts that the settings name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Texts {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) client_ca: Option<Vec<u8>>,
}

/// What connections are accepted with.
///
/// # Errors
/// The field whose text is of no use.
pub(super) fn server(settings: &Tls, texts: &Texts, http2: bool) -> Result<ServerConfig, Fault> {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: settings.suites.clone(),
        kx_groups: settings.groups.clone(),
        ..ring::default_provider()
    });
    let chain = certificates(settings.certificate.field, &texts.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&texts.key)
        .map_err(|error| Fault::new(settings.key.field, format!("no private key as PEM: {error}")))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&settings.versions)
        .map_err(|error| Fault::new("tls_server_config.cipher_suites", error.to_string()))?;
    let builder = match settings.client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        auth => {
            let roots = match (&settings.client_ca, &texts.client_ca) {
                (Some(source), Some(text)) => Some(roots(source.field, text)?),
                _ => None,
            };
            let names = settings.client_sans.clone();
            builder
                .with_client_cert_verifier(Arc::new(ClientCertificates::new(auth, roots, names, provider)?))
        }
    };
    let mut server = builder.with_single_cert(chain, key).map_err(|error| {
        Fault::new(settings.key.field, format!("not usable with the certificate: {error}"))
    })?;
    server.ignore_client_order = settings.prefers_own_suites;
    let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(server)
}

fn certificates(field: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| Fault::new(field, format!("not PEM: {error}")))?;
    match certificates.is_empty() {
        true => Err(Fault::new(field, "holds no certificate as PEM")),
        false => Ok(certificates),
    }
}

fn roots(field: &str, text: &[u8]) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(field, text)? {
        roots.add(certificate).map_err(|error| Fault::new(field, error.to_string()))?;
    }
    Ok(roots)
}
