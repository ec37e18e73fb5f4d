//! Where connections come from: addresses, and sockets that systemd hands over.

use std::io::{Error, Result};
use std::net::IpAddr;

use listenfd::ListenFd;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// A socket that connections come in on.
#[derive(Debug)]
pub enum Listener {
    /// A TCP address
    Tcp(TcpListener),
    /// A path, which only systemd hands over
    Unix(UnixListener),
}

/// A connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Listener::Tcp(listener)
    }
}

impl Listener {
    /// Listens on an address; one without a host is every address, of both families where the node has both.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn bind(address: &str) -> Result<Self> {
        let Some(port) = address.strip_prefix(':') else {
            return Ok(TcpListener::bind(address).await?.into());
        };
        match TcpListener::bind(format!("[::]:{port}")).await {
            Ok(listener) => Ok(listener.into()),
            Err(_) => Ok(TcpListener::bind(format!("0.0.0.0:{port}")).await?.into()),
        }
    }

    /// The sockets that systemd hands over, as `LISTEN_FDS` and `LISTEN_PID` say (sd_listen_fds(3)).
    ///
    /// # Errors
    /// Where there are none, or one cannot be served on.
    pub fn from_systemd() -> Result<Vec<Self>> {
        let mut sockets = ListenFd::from_env();
        let mut listeners = Vec::new();
        for index in 0..sockets.len() {
            // The error about the other kind is the one that a socket unit of some third kind would get.
            if let Ok(Some(socket)) = sockets.take_unix_listener(index) {
                socket.set_nonblocking(true)?;
                listeners.push(Listener::Unix(UnixListener::from_std(socket)?));
            } else if let Some(socket) = sockets.take_tcp_listener(index)? {
                socket.set_nonblocking(true)?;
                listeners.push(Listener::Tcp(TcpListener::from_std(socket)?));
            }
        }
        match listeners.is_empty() {
            true => Err(Error::other(
                "systemd handed over no sockets; is the program started by its socket unit?",
            )),
            false => Ok(listeners),
        }
    }

    /// Where it listens, for the log.
    pub fn address(&self) -> String {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(|address| address.to_string()),
            Listener::Unix(listener) => listener.local_addr().map(|address| format!("{address:?}")),
        }
        .unwrap_or_default()
    }

    /// A connection, and from where it is.
    pub(super) async fn accept(&self) -> Result<(Box<dyn Io>, Option<IpAddr>)> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                (Box::new(stream), Some(address.ip()))
            }
            Listener::Unix(listener) => (Box::new(listener.accept().await?.0), None),
        })
    }
}
