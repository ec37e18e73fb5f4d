//! Which certificates of clients are taken.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use webpki::EndEntityCert;

use super::Fault;
use super::settings::ClientAuth;

/// Asks clients for a certificate, checks who signed it where there is a CA to check it by, and its names where some are
/// listed.
#[derive(Debug)]
pub(super) struct ClientCertificates {
    /// Nothing where any certificate will do.
    signed: Option<Arc<dyn ClientCertVerifier>>,
    is_required: bool,
    names: Option<Vec<String>>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertificates {
    /// What `auth` asks for; `roots` are needed where it verifies.
    pub(super) fn new(
        auth: ClientAuth,
        roots: Option<RootCertStore>,
        names: Option<Vec<String>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Fault> {
        let verifier = |roots: RootCertStore| {
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(|error| Fault::new("tls_server_config.client_ca_file", error.to_string()))
        };
        let signed = roots.filter(|_| auth.verifies()).map(verifier).transpose()?;
        // A list of names that nobody need show would keep nobody out.
        let is_required = auth.is_required() || names.is_some();
        Ok(ClientCertificates { signed, is_required, names, provider })
    }

    fn has_name(&self, certificate: &CertificateDer<'_>) -> Result<bool, Error> {
        let Some(names) = &self.names else { return Ok(true) };
        let certificate = EndEntityCert::try_from(certificate)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let is_its_address = |name: &str| {
            let Ok(address) = name.parse::<std::net::IpAddr>() else { return false };
            certificate.verify_is_valid_for_subject_name(&ServerName::IpAddress(address.into())).is_ok()
        };
        Ok(names.iter().any(|name| {
            // As they are written: a wildcard stands for nothing but itself.
            certificate.valid_dns_names().chain(certificate.valid_uri_names()).any(|san| san == name)
                || is_its_address(name)
        }))
    }
}

impl ClientCertVerifier for ClientCertificates {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signed.as_ref().map_or(&[], |signed| signed.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(signed) = &self.signed {
            signed.verify_client_cert(end_entity, intermediates, now)?;
        }
        match self.has_name(end_entity)? {
            true => Ok(ClientCertVerified::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
