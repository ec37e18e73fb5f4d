//! The keys and certificates of a cluster: one authority, and what it signed.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// A folder with `ca.crt`, `ca.key`, `sa.pub`, `sa.key` and what [`Authority::issue`] adds.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes the authority, and the key pair that signs service account tokens.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        write(folder, "ca.crt", &params.self_signed(&key)?.pem())?;
        write(folder, "ca.key", &key.serialize_pem())?;
        let tokens = KeyPair::generate()?;
        write(folder, "sa.pub", &tokens.public_key_pem())?;
        write(folder, "sa.key", &tokens.serialize_pem())?;
        Ok(Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// The path of a file in its folder.
    pub fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    /// Signs `NAME.crt` with `NAME.key`, good for servers and clients; `names` may be addresses.
    pub fn issue(&self, name: &str, subject: &Subject<'_>, names: &[&str]) -> Result<()> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, subject.user);
        if let Some(group) = subject.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        for &other in names {
            params.subject_alt_names.push(match other.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(other.try_into()?),
            });
        }
        let key = KeyPair::generate()?;
        let certificate =
            params.signed_by(&key, &self.issuer).with_context(|| format!("cannot sign {name}"))?.pem();
        write(&self.folder, &format!("{name}.crt"), &certificate)?;
        write(&self.folder, &format!("{name}.key"), &key.serialize_pem())
    }

    /// Signs a client and writes `NAME.conf`, a kubeconfig for it; returns its path.
    pub fn kubeconfig(&self, name: &str, subject: &Subject<'_>, server: &str) -> Result<PathBuf> {
        self.issue(name, subject, &[])?;
        // JSON is YAML too.
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "e2e", "cluster": {"server": server, "certificate-authority": self.path("ca.crt")}}],
            "users": [{"name": name, "user": {
                "client-certificate": self.path(&format!("{name}.crt")),
                "client-key": self.path(&format!("{name}.key")),
            }}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": name}}],
            "current-context": "e2e",
        });
        write(&self.folder, &format!("{name}.conf"), &format!("{config:#}\n"))?;
        Ok(self.folder.join(format!("{name}.conf")))
    }
}

/// Whom a certificate speaks for: the common name is the user, the organisation the group.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The user.
    pub user: &'a str,
    /// The group, if RBAC asks for one.
    pub group: Option<&'a str>,
}

impl<'a> Subject<'a> {
    /// A user alone.
    pub fn user(user: &'a str) -> Self {
        Self { user, group: None }
    }

    /// A user in a group.
    pub fn grouped(user: &'a str, group: &'a str) -> Self {
        Self { user, group: Some(group) }
    }
}

fn write(folder: &Path, file: &str, text: &str) -> Result<()> {
    let path = folder.join(file);
    let open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut opened = open.with_context(|| format!("cannot create {}", path.display()))?;
    std::io::Write::write_all(&mut opened, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
