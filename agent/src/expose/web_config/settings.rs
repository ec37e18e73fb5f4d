//! The text of a web configuration to checked settings.
//!
//! The format is the exporter toolkit's, docs/web-configuration.md.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use rustls::crypto::{SupportedKxGroup, ring};
use rustls::{ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion, version};
use serde::Deserialize;

use super::Fault;
use super::limit::Rate;
use crate::duration;

/// A web configuration that makes sense by itself; what its files hold is not known yet.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) tls: Option<Tls>,
    pub(super) http2: bool,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Names and bcrypt hashes.
    pub(super) users: BTreeMap<String, String>,
    pub(super) rate: Option<Rate>,
    /// What is taken and protects nobody.
    pub(super) warnings: Vec<String>,
}

/// `tls_server_config`
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) certificate: Source,
    pub(super) key: Source,
    pub(super) client_ca: Option<Source>,
    pub(super) client_auth: ClientAuth,
    /// Subject alternative names, of which a client's certificate must have one.
    pub(super) client_sans: Option<Vec<String>>,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    pub(super) suites: Vec<SupportedCipherSuite>,
    pub(super) groups: Vec<&'static dyn SupportedKxGroup>,
    pub(super) prefers_own_suites: bool,
}

/// Where PEM text is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The field, with its section.
    pub(super) field: &'static str,
    pub(super) place: Place,
}

/// In the configuration, or in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Inline(String),
    File(PathBuf),
}

/// `client_auth_type`: what is asked of clients, the names are Go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ClientAuth {
    /// Nothing.
    None,
    /// A certificate, if the client has one; whoever signed it.
    Request,
    /// A certificate, if the client has one; then one that the CA signed.
    VerifyIfGiven,
    /// A certificate; whoever signed it.
    RequireAny,
    /// A certificate that the CA signed.
    RequireAndVerify,
}

impl ClientAuth {
    fn parse(word: &str) -> Result<Self, Fault> {
        Ok(match word {
            "" | "NoClientCert" => ClientAuth::None,
            "RequestClientCert" => ClientAuth::Request,
            "RequireAnyClientCert" | "RequireClientCert" => ClientAuth::RequireAny,
            "VerifyClientCertIfGiven" => ClientAuth::VerifyIfGiven,
            "RequireAndVerifyClientCert" => ClientAuth::RequireAndVerify,
            _ => {
                return Err(Fault::new(
                    CLIENT_AUTH,
                    format!(
                        "`{word}` is none of NoClientCert, RequestClientCert, RequireAnyClientCert, \
                         VerifyClientCertIfGiven, RequireAndVerifyClientCert"
                    ),
                ));
            }
        })
    }

    /// Whether who signed a certificate is checked.
    pub(super) fn verifies(self) -> bool {
        matches!(self, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify)
    }

    /// Whether a client without a certificate is turned away.
    pub(super) fn is_required(self) -> bool {
        matches!(self, ClientAuth::RequireAny | ClientAuth::RequireAndVerify)
    }
}

const CLIENT_AUTH: &str = "tls_server_config.client_auth_type";
const CLIENT_CA: &str = "tls_server_config.client_ca_file";
const CLIENT_SANS: &str = "tls_server_config.client_allowed_sans";
const SUITES: &str = "tls_server_config.cipher_suites";

// Sections may be empty, which YAML reads as null.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Option<TlsSection>,
    http_server_config: Option<HttpSection>,
    basic_auth_users: Option<BTreeMap<String, String>>,
    rate_limit: Option<RateSection>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TlsSection {
    cert: Option<String>,
    key: Option<String>,
    client_ca: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    client_ca_file: Option<String>,
    client_auth_type: Option<String>,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    curve_preferences: Option<Vec<String>>,
    prefer_server_cipher_suites: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpSection {
    http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateSection {
    interval: Option<String>,
    burst: Option<u32>,
}

/// Reads a web configuration; names of files in it are relative to `folder`.
///
/// # Errors
/// The first field that makes no sense, or that cannot be done here.
pub(super) fn parse(text: &str, folder: &Path) -> Result<Settings, Fault> {
    let file: Option<File> =
        serde_saphyr::from_str_with_options(text, serde_saphyr::options! { with_snippet: false })
            .map_err(|error| Fault::new("the file", error.to_string()))?;
    let file = file.unwrap_or_default();
    let http = file.http_server_config.unwrap_or_default();
    let mut warnings = Vec::new();
    let users = file.basic_auth_users.unwrap_or_default();
    for (name, hash) in &users {
        let fault = |what: &str| {
            let message = format!("{what}; htpasswd -nB makes a bcrypt hash");
            Fault::new(format!("basic_auth_users.{name}"), message)
        };
        let parts: bcrypt::HashParts = hash.parse().map_err(|error| fault(&format!("{error}")))?;
        // The parser takes any cost, the algorithm these.
        if !(4..=31).contains(&parts.get_cost()) {
            return Err(fault("its cost is not from 4 to 31"));
        }
    }
    Ok(Settings {
        tls: file.tls_server_config.map_or(Ok(None), |section| tls(section, folder, &mut warnings))?,
        http2: http.http2.unwrap_or(true),
        headers: http.headers.unwrap_or_default().into_iter().filter_map(header).collect::<Result<_, _>>()?,
        users,
        rate: file.rate_limit.map_or(Ok(None), rate)?,
        warnings,
    })
}

fn tls(section: TlsSection, folder: &Path, warnings: &mut Vec<String>) -> Result<Option<Tls>, Fault> {
    let source =
        |field: &'static str, file: &Option<String>, file_field: &'static str, inline: &Option<String>| {
            let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
            given(file)
                .map(|file| Source { field: file_field, place: Place::File(folder.join(file)) })
                .or_else(|| given(inline).map(|text| Source { field, place: Place::Inline(text) }))
        };
    let certificate =
        source("tls_server_config.cert", &section.cert_file, "tls_server_config.cert_file", &section.cert);
    let key = source("tls_server_config.key", &section.key_file, "tls_server_config.key_file", &section.key);
    let client_ca =
        source("tls_server_config.client_ca", &section.client_ca_file, CLIENT_CA, &section.client_ca);
    let auth_word = section.client_auth_type.unwrap_or_default();
    if certificate.is_none() && key.is_none() && client_ca.is_none() && auth_word.is_empty() {
        return Ok(None);
    }
    let missing = |field| {
        move || Fault::new(field, "missing: TLS needs a certificate and its key, in a file or inline")
    };
    let (certificate, key) = (
        certificate.ok_or_else(missing("tls_server_config.cert_file"))?,
        key.ok_or_else(missing("tls_server_config.key_file"))?,
    );
    let client_auth = ClientAuth::parse(&auth_word)?;
    if client_ca.is_some() && client_auth == ClientAuth::None {
        return Err(Fault::new(
            CLIENT_AUTH,
            "a client CA is given but no certificate is asked for; set RequireAndVerifyClientCert",
        ));
    }
    if client_ca.is_none() && client_auth.verifies() {
        let message = format!("{auth_word} needs a CA; there are no system roots here");
        return Err(Fault::new(CLIENT_CA, message));
    }
    if let Some(sans) = &section.client_allowed_sans {
        // webpki does not give the e-mail addresses of a certificate.
        if let Some(email) = sans.iter().find(|san| san.contains('@') && !san.contains(':')) {
            let message = format!(
                "`{email}`: e-mail addresses are not supported; use a DNS name, an IP address or a URI"
            );
            return Err(Fault::new(CLIENT_SANS, message));
        }
        if client_auth == ClientAuth::None {
            warnings.push(format!("{CLIENT_SANS} has no effect: {CLIENT_AUTH} asks for no certificate"));
        }
    }
    Ok(Some(Tls {
        certificate,
        key,
        client_ca,
        client_auth,
        client_sans: section.client_allowed_sans,
        versions: versions(section.min_version.as_deref(), section.max_version.as_deref())?,
        suites: suites(&section.cipher_suites.unwrap_or_default())?,
        groups: groups(&section.curve_preferences.unwrap_or_default())?,
        prefers_own_suites: section.prefer_server_cipher_suites.unwrap_or(true),
    }))
}

fn versions(
    least: Option<&str>,
    most: Option<&str>,
) -> Result<Vec<&'static SupportedProtocolVersion>, Fault> {
    let number = |key: &str, word: &str| match word {
        "TLS13" => Ok(ProtocolVersion::TLSv1_3),
        "TLS12" => Ok(ProtocolVersion::TLSv1_2),
        "TLS11" | "TLS10" => Err(Fault::new(
            format!("tls_server_config.{key}"),
            format!("{word} is not supported, being broken; use TLS12 or TLS13"),
        )),
        _ => Err(Fault::new(
            format!("tls_server_config.{key}"),
            format!("`{word}` is neither TLS12 nor TLS13"),
        )),
    };
    let (least, most) =
        (number("min_version", least.unwrap_or("TLS12"))?, number("max_version", most.unwrap_or("TLS13"))?);
    let range = u16::from(least)..=u16::from(most);
    let versions: Vec<_> = [&version::TLS13, &version::TLS12]
        .into_iter()
        .filter(|version| range.contains(&u16::from(version.version)))
        .collect();
    match versions.is_empty() {
        true => Err(Fault::new("tls_server_config.max_version", "less than min_version")),
        false => Ok(versions),
    }
}

/// The name that Go and IANA have for a suite; rustls' own begins with `TLS13_` where theirs begins with `TLS_`.
fn suite_name(suite: SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    name.replacen("TLS13_", "TLS_", 1)
}

/// Those of TLS 1.3 are always on, as in Go.
fn suites(names: &[String]) -> Result<Vec<SupportedCipherSuite>, Fault> {
    let all = ring::ALL_CIPHER_SUITES;
    if names.is_empty() {
        return Ok(all.to_vec());
    }
    let is_13 = |suite: &SupportedCipherSuite| suite.tls13().is_some();
    let mut chosen: Vec<SupportedCipherSuite> = all.iter().copied().filter(is_13).collect();
    for name in names {
        let Some(suite) = all.iter().find(|suite| suite_name(**suite) == *name) else {
            let known: Vec<_> = all.iter().map(|suite| suite_name(*suite)).collect();
            return Err(Fault::new(
                SUITES,
                format!("`{name}` is not supported; there are {}", known.join(", ")),
            ));
        };
        if !chosen.contains(suite) {
            chosen.push(*suite);
        }
    }
    Ok(chosen)
}

fn groups(names: &[String]) -> Result<Vec<&'static dyn SupportedKxGroup>, Fault> {
    if names.is_empty() {
        return Ok(ring::ALL_KX_GROUPS.to_vec());
    }
    let group = |name: &String| match name.as_str() {
        "X25519" => Ok(ring::kx_group::X25519),
        "CurveP256" => Ok(ring::kx_group::SECP256R1),
        "CurveP384" => Ok(ring::kx_group::SECP384R1),
        _ => Err(Fault::new(
            "tls_server_config.curve_preferences",
            format!("`{name}` is not supported; there are X25519, CurveP256, CurveP384"),
        )),
    };
    names.iter().map(group).collect()
}

/// A header that every answer carries; a blank one is none.
fn header((name, value): (String, String)) -> Option<Result<(HeaderName, HeaderValue), Fault>> {
    let fault =
        |message: String| Some(Err(Fault::new(format!("http_server_config.headers.{name}"), message)));
    // The names as the toolkit spells them, and the values that it takes.
    let values: &[&str] = match name.as_str() {
        "Strict-Transport-Security" | "X-XSS-Protection" | "Content-Security-Policy" => &[],
        "X-Content-Type-Options" => &["nosniff"],
        "X-Frame-Options" => &["deny", "sameorigin"],
        _ => return fault("this header cannot be set".to_owned()),
    };
    if value.is_empty() {
        return None;
    }
    if !values.is_empty() && !values.contains(&value.as_str()) {
        return fault(format!("`{value}` is none of {}", values.join(", ")));
    }
    match (HeaderName::try_from(&name), HeaderValue::try_from(&value)) {
        (Ok(name), Ok(value)) => Some(Ok((name, value))),
        _ => fault("not a value of a header".to_owned()),
    }
}

fn rate(section: RateSection) -> Result<Option<Rate>, Fault> {
    let text = section.interval.unwrap_or_default();
    let interval = match text.as_str() {
        "" => Duration::ZERO,
        text => duration::parse(text).map_err(|what| Fault::new("rate_limit.interval", what))?,
    };
    let burst = section.burst.unwrap_or_default();
    match (interval.is_zero(), burst) {
        (true, _) => Ok(None),
        (false, 0) => Err(Fault::new("rate_limit.burst", "0 would refuse every request; set 1 or more")),
        (false, burst) => Ok(Some(Rate { interval, burst })),
    }
}

#[cfg(test)]
mod tests;
