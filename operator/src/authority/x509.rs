//! What is read of certificates: when they hold, and that key and chain belong together.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

/// A chain with its key, ready to be served with.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) ends: SystemTime,
}

/// From when until when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

/// The certificates of a PEM text, at least one.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(found) if found.is_empty() => Err("holds no certificate in PEM".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("is not PEM: {error}")),
    }
}

/// A certificate in PEM (RFC 7468).
pub(super) fn pem(certificate: &CertificateDer<'_>) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let encoded = BASE64_STANDARD.encode(certificate);
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

/// When a certificate holds.
///
/// # Errors
/// Where it is none.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, String> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|e| format!("is no certificate: {e}"))?;
    let time = |seconds: i64| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    };
    let validity = parsed.validity();
    Ok(Validity { from: time(validity.not_before.timestamp()), until: time(validity.not_after.timestamp()) })
}

/// Whether a client that believes these authorities takes the chain for a server of each of these names now.
///
/// # Errors
/// Why not.
pub(super) fn is_believed(chain: &str, ca: &str, names: &[String], now: SystemTime) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(ca)? {
        roots.add(authority).map_err(|error| format!("its authority is none: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| error.to_string())?;
    let chain = certificates(chain)?;
    let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    for name in names {
        let server = ServerName::try_from(name.as_str()).map_err(|error| format!("{name}: {error}"))?;
        verifier
            .verify_server_cert(&chain[0], &chain[1..], &server, &[], now)
            .map_err(|error| format!("agents would not take it for {name}: {error}"))?;
    }
    Ok(())
}

/// Chain and key, if the one is the other's.
///
/// # Errors
/// What is wrong with which of the two.
pub(super) fn pair(chain: &str, key: &str) -> Result<Pair, String> {
    let chain = certificates(chain).map_err(|error| format!("the certificate {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| format!("the key is no private key in PEM: {error}"))?;
    let ends = validity(&chain[0])?.until;
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider)
        .map_err(|error| format!("the key is not that of the certificate: {error}"))?;
    Ok(Pair { key: Arc::new(key), ends })
}
