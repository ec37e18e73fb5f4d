//! One GET over plain TCP or TLS with a certificate of its own, timed from the request to the last byte: what a scraper
//! waits for whose connection is there already.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, Stream};

use crate::exporter::AS_PROMETHEUS;
use crate::https::config;

const PATIENCE: Duration = Duration::from_secs(30);

/// Where a client asks, and as whom.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    path: &'static str,
    tls: Option<Arc<ClientConfig>>,
}

/// What one GET gave.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// From the request to the last byte.
    pub took: Duration,
    /// The bytes of the body as it was sent.
    pub bytes: usize,
}

impl Client {
    /// Asks for this path.
    pub fn new(address: SocketAddr, path: &'static str) -> Self {
        Client { address, path, tls: None }
    }

    /// Over TLS: the files of authority, certificate and key.
    pub fn with_tls(self, files: &[String; 3]) -> Result<Self> {
        let [authority, certificate, key] = files.each_ref().map(Path::new);
        let authorities = CertificateDer::pem_file_iter(authority)?.collect::<Result<_, _>>()?;
        let config = config(authorities, Some([certificate, key]))?;
        Ok(Client { tls: Some(config), ..self })
    }

    /// Asks as Prometheus does, on a new connection.
    pub fn ask(&self) -> Result<Asked> {
        let mut tcp = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        let asked = match &self.tls {
            None => self.exchange(&mut tcp),
            Some(config) => {
                let mut connection = ClientConnection::new(config.clone(), self.address.ip().into())?;
                while connection.is_handshaking() {
                    connection.complete_io(&mut tcp)?;
                }
                self.exchange(&mut Stream::new(&mut connection, &mut tcp))
            }
        };
        asked.with_context(|| format!("no answer from {}{}", self.address, self.path))
    }

    /// In HTTP 1.0, whose answers end with the connection.
    fn exchange(&self, stream: &mut (impl Read + Write)) -> Result<Asked> {
        let mut request = format!("GET {} HTTP/1.0\r\nHost: {}\r\n", self.path, self.address);
        for (name, value) in AS_PROMETHEUS {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let start = Instant::now();
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let took = start.elapsed();
        let status = String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned();
        ensure!(status.ends_with(" 200"), "it says `{status}`");
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no head")?;
        Ok(Asked { took, bytes: answer.len() - head - 4 })
    }
}
