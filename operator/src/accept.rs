//! Connections of agents: accepted, encrypted, and cut off where nobody shows in time who he is.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// Connections at a time of which nobody knows yet whose they are; more wait to be accepted. Those of agents are as many
/// as there are nodes.
const MOST_STRANGERS: usize = 256;
/// From the connection to the end of its handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// From the handshake to the first stream that is let in; a little more than a hello and a review may take.
const ADMITTED_WITHIN: Duration = Duration::from_secs(20);
/// A listener that cannot accept is out of file descriptors, most likely; this passes, and must not spin.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Lets this process have as many connections open as it may: one for each node.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        tracing::warn!(%error, limit = limit.current, "cannot raise the limit of open files");
    }
}

/// The connections that come in, as long as the stream is there. Without TLS whoever connects is believed.
pub fn connections(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let (ready, connections) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = accept(listener, tls, &ready) => {}
            () = ready.closed() => {}
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(connections)
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    ready: &mpsc::Sender<io::Result<Connection>>,
) {
    let strangers = Arc::new(Semaphore::new(MOST_STRANGERS));
    loop {
        let Ok(permit) = strangers.clone().acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE_WITHIN, shake_hands(stream, tls)).await {
                Ok(Ok(io)) => _ = ready.send(Ok(Connection::new(io, from, permit))).await,
                Ok(Err(error)) => tracing::debug!(%from, %error, "a connection broke before it began"),
                Err(_) => tracing::debug!(%from, "a client that is slow with its handshake is cut off"),
            }
        });
    }
}

async fn shake_hands(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Io> {
    stream.set_nodelay(true)?;
    Ok(match tls {
        Some(tls) => Io::Tls(Box::new(tls.accept(stream).await?)),
        None => Io::Plain(stream),
    })
}

/// A connection whose client has some time to say who it is.
pub struct Connection {
    io: Io,
    peer: Peer,
    /// None once it has.
    deadline: Option<Pin<Box<Sleep>>>,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Who is at the other end, as far as the connection tells.
#[derive(Clone, Debug)]
pub struct Peer {
    /// From where it comes.
    pub address: IpAddr,
    stranger: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Peer {
    /// Lets the connection stay: it is an agent's.
    pub fn admit(&self) {
        self.stranger.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn is_stranger(&self) -> bool {
        self.stranger.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl Connection {
    fn new(io: Io, from: SocketAddr, permit: OwnedSemaphorePermit) -> Self {
        let peer = Peer { address: from.ip().to_canonical(), stranger: Arc::new(Mutex::new(Some(permit))) };
        Connection { io, peer, deadline: Some(Box::pin(sleep(ADMITTED_WITHIN))) }
    }

    /// Fails once the time of a stranger is over.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some(deadline) = &mut self.deadline else { return Ok(()) };
        if !self.peer.is_stranger() {
            self.deadline = None;
        } else if deadline.as_mut().poll(context).is_ready() {
            tracing::debug!(from = %self.peer.address, "a client that has not said who it is is cut off");
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn io(&mut self) -> Pin<&mut (dyn Both + '_)> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io),
            Io::Tls(io) => Pin::new(&mut **io),
        }
    }
}

trait Both: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        ready!(self.io().poll_read(context, buffer))?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn connected() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut connections = Box::pin(connections(listener, None));
        (client, connections.next().await.unwrap().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_say_who_it_is_is_cut_off() {
        let (_client, mut connection) = connected().await;
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_was_let_in_may_be_silent() {
        let (mut client, mut connection) = connected().await;
        connection.connect_info().admit();
        let patient = timeout(10 * ADMITTED_WITHIN, connection.read_u8()).await;
        assert!(patient.is_err(), "the time of the test was over, not that of the connection");
        client.write_u8(7).await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_keep_no_more_than_their_places_and_lose_them_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = Box::pin(connections(listener, None));
        let mut kept = Vec::new();
        for _ in 0..=MOST_STRANGERS {
            kept.push(TcpStream::connect(address).await.unwrap());
        }
        let mut strangers = Vec::new();
        for _ in 0..MOST_STRANGERS {
            strangers.push(connections.next().await.unwrap().unwrap());
        }
        let more = timeout(Duration::from_secs(1), connections.next()).await;
        assert!(more.is_err(), "one more waits");
        strangers.pop();
        assert!(connections.next().await.is_some(), "until one has gone");
    }
}
