//! Certificates that an authority signs for servers.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType};

use super::AuthorityError;
use super::generations::{BEFORE, Signer};

/// A certificate and its key, in PEM.
pub(super) struct Leaf {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// A certificate for a server with these names, of which the first stands for it.
///
/// # Errors
/// Where a name is none.
pub(super) fn sign(
    signer: &Signer,
    names: &[String],
    now: SystemTime,
    lifetime: Duration,
) -> Result<Leaf, AuthorityError> {
    let issuer = Issuer::from_ca_cert_pem(&signer.certificate, KeyPair::from_pem(&signer.key.0)?)?;
    let mut params = CertificateParams::default();
    if let Some(name) = names.first() {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + lifetime).min(signer.validity.until).into();
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Leaf { certificate, key: key.serialize_pem() })
}
