//! A GET by TLS from a server that one authority signed, with the certificate or the token that a test wants to show.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const PATIENCE: Duration = Duration::from_secs(10);

/// Who is believed, and who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl Asker {
    /// Believes a server with a certificate for this name by an authority of this PEM text; shows
    /// the certificate of the first of these files, whose key is in the second, or none.
    pub fn new(name: &str, ca: &str, shown: Option<&[String; 2]>) -> Result<Self> {
        let authorities = CertificateDer::pem_slice_iter(ca.as_bytes()).collect::<Result<_, _>>()?;
        let config = config(authorities, shown.map(|files| files.each_ref().map(Path::new)))?;
        Ok(Asker { name: ServerName::try_from(name.to_owned())?, config })
    }

    /// The status of the answer.
    pub fn status(&self, address: SocketAddr, path: &str, token: Option<&str>) -> Result<u16> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asked = async { tokio::time::timeout(PATIENCE, self.ask(address, path, token)).await };
        runtime.block_on(asked)?.with_context(|| format!("no answer from https://{address}{path}"))
    }

    async fn ask(&self, address: SocketAddr, path: &str, token: Option<&str>) -> Result<u16> {
        let stream = TcpStream::connect(address).await?;
        let mut stream = TlsConnector::from(self.config.clone()).connect(self.name.clone(), stream).await?;
        let shown = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{shown}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // One that ends without a farewell has answered all the same.
        let _ = stream.read_to_end(&mut answer).await;
        let head = String::from_utf8_lossy(&answer[..answer.len().min(64)]).into_owned();
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("not an answer")
    }
}

/// Believes these authorities, and shows the certificate and the key of these files.
pub(crate) fn config(
    authorities: Vec<CertificateDer<'static>>,
    shown: Option<[&Path; 2]>,
) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some([certificate, key]) => {
            let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?
        }
    };
    Ok(Arc::new(config))
}
