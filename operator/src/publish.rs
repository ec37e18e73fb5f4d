//! Hands each agent the latest snapshot of its node, on one stream per agent, and hears what it makes of it.

mod refused;
mod stream;

use std::collections::{BTreeMap, btree_map};
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::proto;
use protocol::proto::agent_config_server::{AgentConfig, AgentConfigServer};
use protocol::{Digest, Hello, MAX_MESSAGE_BYTES, Report, Snapshot, Token};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use self::refused::Refused;
use self::stream::Caller;
use crate::accept::{self, Peer};
use crate::access::Accesses;
use crate::agents::{Agent, Agents};
use crate::identity::{Alarm, Alarms, Denied, Identify, Identity, Unbelieved};
use crate::telemetry::Telemetry;

/// The leader's term: grows with each leader of a cluster.
pub type Term = u64;

/// The server that agents subscribe to. Clones share everything.
#[derive(Clone)]
pub struct Publisher {
    cluster: String,
    leading: watch::Receiver<Option<Term>>,
    state: Arc<Mutex<State>>,
    heard: Arc<watch::Sender<()>>,
    admission: Admission,
    telemetry: Telemetry,
}

/// Whom the publisher believes.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Whoever comes, and that it is of the node that it names.
    Anyone,
    /// Who shows the token of an agent; who does not is told of.
    Tokens {
        /// Tells agents by their tokens.
        identify: Arc<Identify>,
        /// Where it is told.
        alarms: Alarms,
        /// Whom agents may let read their metrics, where they ask.
        accesses: Option<Arc<Accesses>>,
    },
}

#[derive(Default)]
struct State {
    /// What each node is told now, with the term that it was made in.
    published: BTreeMap<String, Arc<Published>>,
    agents: Agents,
    /// Where the latest snapshot of a node goes, by node; a newer stream takes the place of an older one of the same pod.
    streams: BTreeMap<String, Subscriber>,
    last_stream: u64,
}

struct Subscriber {
    stream: u64,
    latest: watch::Sender<Option<Arc<Published>>>,
    /// Ends the stream from this side.
    end: oneshot::Sender<Refused>,
    /// Whose it is, where that was proved.
    identity: Option<Identity>,
    /// From where it comes, where the connection tells.
    from: Option<IpAddr>,
}

/// A stream's own end of a [`Subscriber`].
struct Subscription {
    stream: u64,
    latest: watch::Receiver<Option<Arc<Published>>>,
    end: oneshot::Receiver<Refused>,
}

struct Published {
    term: Term,
    digest: Digest,
    snapshot: Snapshot,
}

/// A half-open connection is found within the sum of both.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A call has one header of any length, its token.
const MAX_HEADERS: u32 = 32 << 10;
/// Streams of pods that are gone are looked for this long after a change, for many pods change together.
const GATHER: Duration = Duration::from_millis(200);

impl Publisher {
    /// A publisher for a cluster; whoever holds no term is told so.
    pub fn new(
        cluster: &str,
        leading: watch::Receiver<Option<Term>>,
        admission: Admission,
        telemetry: Telemetry,
    ) -> Self {
        let heard = Arc::new(watch::Sender::new(()));
        Publisher { cluster: cluster.to_owned(), leading, state: Arc::default(), heard, admission, telemetry }
    }

    /// Serves agents until the shutdown is over; streams end with the leadership, and with their pod.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error> {
        let service = AgentConfigServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .http2_max_header_list_size(MAX_HEADERS)
            .max_concurrent_streams(4)
            .serve_with_incoming_shutdown(service, accept::connections(listener, tls), shutdown);
        tokio::select! {
            end = served => end,
            never = self.end_with_pods() => match never {},
        }
    }

    /// Ends the stream of each pod that is gone.
    async fn end_with_pods(&self) -> Infallible {
        let Admission::Tokens { identify, .. } = &self.admission else {
            return std::future::pending().await;
        };
        let mut pods = identify.pods();
        while pods.changed().await {
            tokio::time::sleep(GATHER).await;
            let (pods, daemon_set) = (pods.all(), pods.daemon_set());
            let mut state = self.state();
            let is_gone = |subscriber: &Subscriber| {
                subscriber.identity.as_ref().is_some_and(|it| {
                    let pod = pods.get(&it.pod).map(Arc::as_ref);
                    !pod.is_some_and(|pod| it.is_of(pod, daemon_set.as_deref()))
                })
            };
            let gone = state.streams.iter().filter(|(_, subscriber)| is_gone(subscriber));
            let gone: Vec<String> = gone.map(|(node, _)| node.clone()).collect();
            for node in gone {
                if let Some(Subscriber { end, identity: Some(it), .. }) = state.streams.remove(&node) {
                    let _ = end.send(Denied::NoPod(it.pod).into());
                }
                state.forget(&node);
            }
            self.count_and_tell(&state);
        }
        std::future::pending().await
    }

    /// Makes these the latest snapshots. An agent that has its node's already is not told again.
    pub fn publish(&self, term: Term, snapshots: BTreeMap<String, Snapshot>) {
        // Digests are computed without the lock, and only of what changed; nobody else publishes.
        let before = self.state().published.clone();
        let published: BTreeMap<String, Arc<Published>> = snapshots
            .into_iter()
            .map(|(node, snapshot)| {
                let same = before.get(&node).filter(|p| p.term == term && p.snapshot == snapshot);
                let published = same.cloned().unwrap_or_else(|| {
                    let digest = snapshot.digest();
                    Arc::new(Published { term, digest, snapshot })
                });
                (node, published)
            })
            .collect();

        let mut state = self.state();
        let State { agents, streams, .. } = &mut *state;
        for (node, subscriber) in streams {
            let new = published.get(node);
            subscriber.latest.send_if_modified(|latest| {
                let changed = latest.as_ref().map(Arc::as_ptr) != new.map(Arc::as_ptr);
                *latest = new.cloned();
                changed
            });
        }
        // Of a node that is gone nothing is remembered once its agent is gone too.
        agents.retain(|node, agent| agent.connected || published.contains_key(node));
        for (node, agent) in agents.iter_mut().filter(|(_, agent)| agent.refusal.is_some()) {
            if let Some(published) = published.get(node) {
                Arc::make_mut(agent).expect(&published.digest);
            }
        }
        state.published = published;
    }

    /// Forgets what a leader knows. The streams end by themselves, and the next leader hears it from the agents again.
    pub fn forget(&self) {
        let mut state = self.state();
        state.published.clear();
        state.agents.retain(|_, agent| agent.connected);
    }

    /// What the agents said last.
    pub fn agents(&self) -> Agents {
        self.state().agents.clone()
    }

    /// Tells of each thing that an agent says.
    pub fn heard(&self) -> watch::Receiver<()> {
        self.heard.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, why: &Refused) -> Status {
        self.telemetry.streams_refused.with_label_values(&[why.label()]).inc();
        tracing::debug!(%why, "a stream is refused");
        why.status()
    }

    /// Tells of whoever is not believed.
    fn alarm(&self, denied: &Denied, from: Option<&Peer>, credential: &str) {
        let from = from.map(|peer| peer.address);
        tracing::warn!(?from, credential, "refused as an agent: {denied}");
        if let Admission::Tokens { alarms, .. } = &self.admission
            && denied.is_suspicious()
        {
            let credential = credential.to_owned();
            let _ = alarms.try_send(Alarm { denied: denied.clone(), from, credential });
        }
    }

    async fn identify(&self, metadata: &MetadataMap) -> Result<Option<Identity>, Unbelieved> {
        let Admission::Tokens { identify, .. } = &self.admission else { return Ok(None) };
        let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let token = header.and_then(|header| header.strip_prefix("Bearer ")).ok_or(Denied::NoToken)?;
        identify.who(&Token::new(token)).await.map(Some)
    }

    /// Takes the place of an older stream of the node, or says why not.
    fn connect(&self, hello: &Hello, caller: &Caller) -> Result<Subscription, Refused> {
        let identity = caller.identity.clone();
        let from = caller.peer.as_ref().map(|peer| peer.address);
        let mut state = self.state();
        // Since its token was reviewed the pod may have gone; from here on a change of the pods finds the stream.
        if let (Admission::Tokens { identify, .. }, Some(new)) = (&self.admission, &identity) {
            let (pod, daemon_set) = identify.pods().find(&new.pod);
            if !pod.is_some_and(|pod| new.is_of(&pod, daemon_set.as_deref())) {
                return Err(Denied::NoPod(new.pod.clone()).into());
            }
        }
        if let (Some(new), Some(older)) = (&identity, state.streams.get(&hello.node))
            && let Some(there) = &older.identity
        {
            // By the newer one's word: the first stream of a pod may come before anybody knows the pod's address.
            let is_own = |from: Option<IpAddr>| from.is_some_and(|from| new.addresses.contains(&from));
            if new.pod_uid == there.pod_uid && is_own(older.from) && !is_own(from) {
                return Err(Denied::Elsewhere(new.pod.clone()).into());
            }
            if new.pod_uid != there.pod_uid && new.pod_created < there.pod_created {
                return Err(Refused::Superseded);
            }
        }
        state.last_stream += 1;
        let stream = state.last_stream;
        let latest = watch::Sender::new(state.published.get(&hello.node).cloned());
        let (end, ended) = oneshot::channel();
        let subscription = Subscription { stream, latest: latest.subscribe(), end: ended };
        let subscriber = Subscriber { stream, latest, end, identity, from };
        if let Some(older) = state.streams.insert(hello.node.clone(), subscriber) {
            let _ = older.end.send(Refused::Replaced);
        }
        let agent = Agent::new(hello, state.agents.get(&hello.node).map(Arc::as_ref));
        let credential = caller.identity.as_ref().map(|it| it.credential.as_str());
        tracing::info!(node = hello.node, version = agent.version, credential, "an agent connected");
        state.agents.insert(hello.node.clone(), Arc::new(agent));
        self.count_and_tell(&state);
        Ok(subscription)
    }

    fn disconnect(&self, node: &str, stream: u64) {
        let mut state = self.state();
        let btree_map::Entry::Occupied(subscriber) = state.streams.entry(node.to_owned()) else { return };
        if subscriber.get().stream != stream {
            return;
        }
        subscriber.remove();
        state.forget(node);
        self.count_and_tell(&state);
        tracing::info!(node, "an agent disconnected");
    }

    fn count_and_tell(&self, state: &State) {
        self.telemetry.connected_agents.set(i64::try_from(state.streams.len()).unwrap_or(i64::MAX));
        self.heard.send_replace(());
    }

    fn hear(&self, node: &str, report: proto::Report) -> Result<(), Refused> {
        // A kind of report that a newer agent has says nothing to this operator.
        if report.report.is_none() {
            return Ok(());
        }
        let report = Report::try_from(report).map_err(Refused::Undecodable)?;
        let mut state = self.state();
        let State { agents, published, .. } = &mut *state;
        if let Some(agent) = agents.get_mut(node) {
            Arc::make_mut(agent).hear(report, published.get(node).map(|p| &p.digest));
        }
        self.heard.send_replace(());
        Ok(())
    }
}

#[tonic::async_trait]
impl AgentConfig for Publisher {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<proto::OperatorMessage, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<proto::AgentMessage>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let Some(term) = *self.leading.borrow() else {
            return Err(self.refuse(&Refused::NotLeader));
        };
        let peer = request.extensions().get::<Peer>().cloned();
        let identity = self.identify(request.metadata()).await.map_err(|unbelieved| {
            let Unbelieved { denied, credential } = unbelieved;
            self.alarm(&denied, peer.as_ref(), &credential);
            if let Some(peer) = &peer {
                peer.dismiss();
            }
            self.refuse(&denied.into())
        })?;
        let (say, saying) = mpsc::channel(1);
        tokio::spawn(self.clone().attend(Caller { term, identity, peer }, request.into_inner(), say));
        Ok(Response::new(Box::pin(ReceiverStream::new(saying))))
    }
}

impl State {
    /// The stream of a node is over.
    fn forget(&mut self, node: &str) {
        if !self.published.contains_key(node) {
            self.agents.remove(node);
        } else if let Some(agent) = self.agents.get_mut(node) {
            Arc::make_mut(agent).connected = false;
        }
    }
}
