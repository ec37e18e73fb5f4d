//! Hands each agent the latest snapshot of its node, on one stream per agent, and hears what it makes of it.

use std::collections::{BTreeMap, btree_map};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::proto::agent_config_server::{AgentConfig, AgentConfigServer};
use protocol::proto::{self, agent_message, operator_message};
use protocol::{Digest, Hello, MAX_MESSAGE_BYTES, PROTOCOL, Report, Snapshot};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::agents::{Agent, Agents};
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
    telemetry: Telemetry,
}

#[derive(Default)]
struct State {
    /// What each node is told now, with the term that it was made in.
    published: BTreeMap<String, Arc<Published>>,
    agents: Agents,
    /// Where the latest snapshot of a node goes, by node; a newer stream takes the place of an older one.
    streams: BTreeMap<String, Subscriber>,
    last_stream: u64,
}

struct Subscriber {
    stream: u64,
    latest: watch::Sender<Option<Arc<Published>>>,
}

struct Published {
    term: Term,
    digest: Digest,
    snapshot: Snapshot,
}

/// Why a stream is refused, or ends from this side; the word is a metric's label.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("not leader")]
    NotLeader,
    #[error("this operator speaks protocol {PROTOCOL}, the agent {0}")]
    OtherProtocol(u32),
    #[error("the first message must be a hello that names the node")]
    NoHello,
    #[error("a newer stream of the same node took the place of this one")]
    Replaced,
    #[error("{0}")]
    Undecodable(protocol::DecodeError),
}

/// An agent that connects says who it is at once.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// An agent that reads hears why its stream ends.
const END_WITHIN: Duration = Duration::from_secs(5);
/// A half-open connection is found within the sum of both.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest name that a Kubernetes object has.
const MAX_NODE_NAME: usize = 253;

impl Publisher {
    /// A publisher for a cluster; whoever holds no term is told so.
    pub fn new(cluster: &str, leading: watch::Receiver<Option<Term>>, telemetry: Telemetry) -> Self {
        let heard = Arc::new(watch::Sender::new(()));
        Publisher { cluster: cluster.to_owned(), leading, state: Arc::default(), heard, telemetry }
    }

    /// Serves agents until the shutdown is over; streams end with the leadership.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error> {
        let service = AgentConfigServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(4)
            .serve_with_incoming_shutdown(
                service,
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                shutdown,
            )
            .await
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

    /// One stream, from the hello to its end.
    async fn attend(
        self,
        term: Term,
        mut said: Streaming<proto::AgentMessage>,
        say: mpsc::Sender<Result<proto::OperatorMessage, Status>>,
    ) {
        let end = match self.hello(&mut said).await {
            Ok(hello) => {
                let (stream, latest) = self.connect(&hello);
                let end = self.converse(term, &hello, latest, &mut said, &say).await;
                self.disconnect(&hello.node, stream);
                end
            }
            Err(end) => Err(end),
        };
        if let Err(why) = end {
            // One that does not read is told by the end of the stream alone.
            let _ = tokio::time::timeout(END_WITHIN, say.send(Err(self.refuse(&why)))).await;
        }
    }

    async fn hello(&self, said: &mut Streaming<proto::AgentMessage>) -> Result<Hello, Refused> {
        let first = tokio::time::timeout(HELLO_WITHIN, said.message()).await;
        let Ok(Ok(Some(proto::AgentMessage { message: Some(agent_message::Message::Hello(hello)) }))) = first
        else {
            return Err(Refused::NoHello);
        };
        let hello = Hello::from(hello);
        if hello.protocol != PROTOCOL {
            return Err(Refused::OtherProtocol(hello.protocol));
        }
        if hello.node.is_empty() || hello.node.len() > MAX_NODE_NAME {
            return Err(Refused::NoHello);
        }
        Ok(hello)
    }

    /// Speaks and listens until the agent goes (Ok) or may not stay.
    async fn converse(
        &self,
        term: Term,
        hello: &Hello,
        mut latest: watch::Receiver<Option<Arc<Published>>>,
        said: &mut Streaming<proto::AgentMessage>,
        say: &mpsc::Sender<Result<proto::OperatorMessage, Status>>,
    ) -> Result<(), Refused> {
        let mut leading = self.leading.clone();
        let welcome = proto::Welcome { protocol: PROTOCOL, term, cluster: self.cluster.clone() };
        if say.send(Ok(message(operator_message::Message::Welcome(welcome)))).await.is_err() {
            return Ok(());
        }
        let mut has = hello.digest.clone();
        loop {
            if *leading.borrow_and_update() != Some(term) {
                return Err(Refused::NotLeader);
            }
            let due = latest.borrow_and_update().clone().filter(|p| p.term == term && p.digest != has);
            tokio::select! {
                biased;
                changed = leading.changed() => if changed.is_err() { return Err(Refused::NotLeader) },
                changed = latest.changed() => if changed.is_err() { return Err(Refused::Replaced) },
                // Room for one message: a slow reader gets what is the latest when it reads.
                room = say.reserve(), if due.is_some() => {
                    let (Ok(room), Some(due)) = (room, due) else { return Ok(()) };
                    has = due.digest.clone();
                    let snapshot = Snapshot { term, ..due.snapshot.clone() };
                    room.send(Ok(message(operator_message::Message::Snapshot(snapshot.into()))));
                    self.telemetry.snapshots_published.inc();
                }
                heard = said.message() => match heard {
                    Ok(Some(heard)) => self.hear(&hello.node, heard)?,
                    Ok(None) | Err(_) => return Ok(()),
                },
            }
        }
    }

    fn connect(&self, hello: &Hello) -> (u64, watch::Receiver<Option<Arc<Published>>>) {
        let mut state = self.state();
        state.last_stream += 1;
        let stream = state.last_stream;
        let latest = watch::Sender::new(state.published.get(&hello.node).cloned());
        let receiver = latest.subscribe();
        state.streams.insert(hello.node.clone(), Subscriber { stream, latest });
        let agent = Agent::new(hello, state.agents.get(&hello.node).map(Arc::as_ref));
        tracing::info!(node = hello.node, version = agent.version, "an agent connected");
        state.agents.insert(hello.node.clone(), Arc::new(agent));
        self.count_and_tell(&state);
        (stream, receiver)
    }

    fn disconnect(&self, node: &str, stream: u64) {
        let mut state = self.state();
        let btree_map::Entry::Occupied(subscriber) = state.streams.entry(node.to_owned()) else { return };
        if subscriber.get().stream != stream {
            return;
        }
        subscriber.remove();
        if state.published.contains_key(node) {
            if let Some(agent) = state.agents.get_mut(node) {
                Arc::make_mut(agent).connected = false;
            }
        } else {
            state.agents.remove(node);
        }
        self.count_and_tell(&state);
        tracing::info!(node, "an agent disconnected");
    }

    fn count_and_tell(&self, state: &State) {
        self.telemetry.connected_agents.set(i64::try_from(state.streams.len()).unwrap_or(i64::MAX));
        self.heard.send_replace(());
    }

    fn hear(&self, node: &str, heard: proto::AgentMessage) -> Result<(), Refused> {
        // A kind of message that a newer agent has says nothing to this operator.
        let Some(agent_message::Message::Report(report)) = heard.message else { return Ok(()) };
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

impl Refused {
    fn label(&self) -> &'static str {
        match self {
            Refused::NotLeader => "not_leader",
            Refused::OtherProtocol(_) => "other_protocol",
            Refused::NoHello => "no_hello",
            Refused::Replaced => "replaced",
            Refused::Undecodable(_) => "undecodable",
        }
    }

    fn status(&self) -> Status {
        let message = self.to_string();
        match self {
            Refused::NotLeader | Refused::OtherProtocol(_) => Status::failed_precondition(message),
            Refused::NoHello | Refused::Undecodable(_) => Status::invalid_argument(message),
            Refused::Replaced => Status::aborted(message),
        }
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
        let (say, saying) = mpsc::channel(1);
        tokio::spawn(self.clone().attend(term, request.into_inner(), say));
        Ok(Response::new(Box::pin(ReceiverStream::new(saying))))
    }
}

fn message(message: operator_message::Message) -> proto::OperatorMessage {
    proto::OperatorMessage { message: Some(message) }
}
