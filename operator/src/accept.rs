//! Connections of agents: accepted, encrypted, and cut off where nobody shows in time who he is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::task::AtomicWaker;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// Connections at a time of which nobody knows yet whose they are; more wait to be accepted. Those of agents are as many
/// as there are nodes.
const MOST_STRANGERS: usize = 256;
/// Of one address, for one client must not keep the agents out.
const MOST_OF_ONE: usize = 32;
/// From the connection to the end of its handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// From the handshake to the first stream that is let in; a little more than a hello and a review may take.
const ADMITTED_WITHIN: Duration = Duration::from_secs(20);
/// From the end of a stream to that of its connection.
const DISMISSED_WITHIN: Duration = Duration::from_secs(6);
/// A client that takes nothing of what is written for so long is cut off.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);
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
    let counts = Arc::new(Mutex::default());
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
        let from = from.ip().to_canonical();
        let Some(place) = Place::take(from, &counts, permit) else {
            tracing::debug!(%from, "too many connections of one address that do not say who they are");
            continue;
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE_WITHIN, shake_hands(stream, tls)).await {
                Ok(Ok(io)) => _ = ready.send(Ok(Connection::new(io, from, place))).await,
                Ok(Err(error)) => tracing::debug!(%from, %error, "a connection broke before it began"),
                Err(_) => tracing::debug!(%from, "a client that is slow with its handshake is cut off"),
            }
        });
    }
}

/// How many strangers there are, by address.
type Counts = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A stranger's place, free again when dropped.
#[derive(Debug)]
struct Place {
    from: IpAddr,
    counts: Counts,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn take(from: IpAddr, counts: &Counts, permit: OwnedSemaphorePermit) -> Option<Self> {
        let mut all = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(from).or_default();
        if *count >= MOST_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Place { from, counts: counts.clone(), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = all.entry(self.from) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

async fn shake_hands(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Io> {
    stream.set_nodelay(true)?;
    Ok(match tls {
        Some(tls) => Io::Tls(Box::new(tls.accept(stream).await?)),
        None => Io::Plain(stream),
    })
}

/// A connection whose client has some time to say who it is, and later to take what is written.
pub struct Connection {
    io: Io,
    peer: Peer,
    /// When it ends, unless the client is let in before.
    deadline: Option<Pin<Box<Sleep>>>,
    /// When it ends, unless something can be written before.
    stalled: Option<Pin<Box<Sleep>>>,
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
    standing: Arc<Standing>,
}

#[derive(Debug)]
struct Standing {
    is: Mutex<Is>,
    /// The connection, to look at its standing.
    waker: AtomicWaker,
}

#[derive(Debug)]
enum Is {
    Stranger(#[expect(dead_code, reason = "its place is free when it is dropped")] Place),
    Admitted,
    Dismissed,
}

impl Peer {
    /// Lets the connection stay: it is an agent's, and has a stream.
    pub fn admit(&self) {
        let mut is = self.standing.is.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*is, Is::Stranger(_)) {
            *is = Is::Admitted;
        }
    }

    /// Ends the connection, once it has had the time to hear why: its stream is over, or there will be none.
    pub fn dismiss(&self) {
        *self.standing.is.lock().unwrap_or_else(PoisonError::into_inner) = Is::Dismissed;
        self.standing.waker.wake();
    }
}

impl Connection {
    fn new(io: Io, from: IpAddr, place: Place) -> Self {
        let is = Mutex::new(Is::Stranger(place));
        let standing = Arc::new(Standing { is, waker: AtomicWaker::new() });
        let peer = Peer { address: from, standing };
        Connection { io, peer, deadline: Some(Box::pin(sleep(ADMITTED_WITHIN))), stalled: None }
    }

    /// Fails once the time is over. Asked before every step, for a client that does not read lets nothing be read from it.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.peer.standing.waker.register(context.waker());
        let is = self.peer.standing.is.lock().unwrap_or_else(PoisonError::into_inner);
        match *is {
            Is::Stranger(_) => {}
            Is::Admitted => self.deadline = None,
            Is::Dismissed => {
                let soon = Instant::now() + DISMISSED_WITHIN;
                let is_later = self.deadline.as_ref().is_none_or(|it| it.deadline() > soon);
                if is_later {
                    self.deadline = Some(Box::pin(sleep(DISMISSED_WITHIN)));
                }
            }
        }
        drop(is);
        let timers = [self.deadline.as_mut(), self.stalled.as_mut()];
        if timers.into_iter().flatten().any(|timer| timer.as_mut().poll(context).is_ready()) {
            tracing::debug!(from = %self.peer.address, "a client whose time is over is cut off");
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

    /// Begins to count where nothing can be written, and ends where something was.
    fn written<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
        } else if self.stalled.is_none() {
            self.stalled = Some(Box::pin(sleep(WRITTEN_WITHIN)));
            self.check(context)?;
        }
        result
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
        self.io().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let result = self.io().poll_write(context, bytes);
        self.written(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        let result = self.io().poll_flush(context);
        self.written(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        let result = self.io().poll_shutdown(context);
        self.written(context, result)
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
    async fn a_connection_ends_soon_after_its_stream() {
        let (_client, mut connection) = connected().await;
        let peer = connection.connect_info();
        peer.admit();
        let reading = tokio::spawn(async move { connection.read_u8().await });
        tokio::task::yield_now().await;
        peer.dismiss();
        let ended = timeout(2 * DISMISSED_WITHIN, reading).await.unwrap().unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_cut_off_whether_it_was_let_in_or_not() {
        for is_admitted in [false, true] {
            let (_client, mut connection) = connected().await;
            if is_admitted {
                connection.connect_info().admit();
            }
            let error = async {
                loop {
                    if let Err(error) = connection.write_all(&[0; 64 << 10]).await {
                        break error;
                    }
                }
            };
            let error = timeout(2 * WRITTEN_WITHIN, error).await.unwrap();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_of_one_address_keep_no_more_than_their_places_and_lose_them_when_they_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = Box::pin(connections(listener, None));
        let mut kept = Vec::new();
        let mut strangers = Vec::new();
        for _ in 0..MOST_OF_ONE {
            kept.push(TcpStream::connect(address).await.unwrap());
            strangers.push(connections.next().await.unwrap().unwrap());
        }
        let mut refused = TcpStream::connect(address).await.unwrap();
        let more = timeout(Duration::from_secs(1), connections.next()).await;
        assert!(more.is_err(), "one more is let in");
        assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0, "it is told by the end");
        strangers.pop();
        let _later = TcpStream::connect(address).await.unwrap();
        assert!(connections.next().await.is_some(), "one has gone");
    }
}
