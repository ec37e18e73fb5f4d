//! One stream, from the hello to its end: what is said and heard on it, and by when.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use protocol::proto::{self, agent_message, operator_message};
use protocol::{Access, Hello, PROTOCOL, Snapshot, Token};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Status, Streaming};

use super::{Admission, Publisher, Refused, Subscription, Term};
use crate::accept::Peer;
use crate::identity::{Denied, Identity, Unbelieved, clipped};

/// Who calls, and in which term.
pub(super) struct Caller {
    pub(super) term: Term,
    /// Where it was asked for.
    pub(super) identity: Option<Identity>,
    /// Where the connection tells.
    pub(super) peer: Option<Peer>,
}

type Say = mpsc::Sender<Result<proto::OperatorMessage, Status>>;

/// An agent that connects says who it is at once.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// An agent that reads hears why its stream ends.
const END_WITHIN: Duration = Duration::from_secs(5);
/// The API server is not asked more often than this whose a newer token is, neither again nor about the next one.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Questions of one agent that wait for an answer.
const MOST_QUESTIONS: usize = 8;
/// The longest name that a Kubernetes object has.
const MAX_NODE_NAME: usize = 253;
/// A token that the API server has just taken is good for a moment, whatever this machine's clock says.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);
/// Longer than the life of any token, and short enough to count with.
const LONGEST_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);

impl Publisher {
    /// One stream, from the hello to its end.
    pub(super) async fn attend(self, caller: Caller, mut said: Streaming<proto::AgentMessage>, say: Say) {
        let end = match self.begin(&caller, &mut said).await {
            Ok((hello, subscription)) => {
                let stream = subscription.stream;
                let end = self.converse(&caller, &hello, subscription, &mut said, &say).await;
                self.disconnect(&hello.node, stream);
                end
            }
            Err(end) => Err(end),
        };
        if let Err(why) = end {
            // One that does not read is told by the end of the stream alone.
            let _ = timeout(END_WITHIN, say.send(Err(self.refuse(&why)))).await;
        }
        if let Some(peer) = &caller.peer {
            peer.dismiss();
        }
    }

    async fn begin(
        &self,
        caller: &Caller,
        said: &mut Streaming<proto::AgentMessage>,
    ) -> Result<(Hello, Subscription), Refused> {
        let hello = hello(said).await?;
        let subscription = claimed(&hello, caller).map_err(Refused::from);
        let subscription = subscription.and_then(|()| self.connect(&hello, caller));
        if let Err(Refused::Denied(denied)) = &subscription {
            let credential = caller.identity.as_ref().map_or("", |it| it.credential.as_str());
            self.alarm(denied, caller.peer.as_ref(), credential);
        }
        let subscription = subscription?;
        if let Some(peer) = &caller.peer {
            peer.admit();
        }
        Ok((hello, subscription))
    }

    /// Speaks and listens until the agent goes (Ok) or may not stay.
    async fn converse(
        &self,
        caller: &Caller,
        hello: &Hello,
        subscription: Subscription,
        said: &mut Streaming<proto::AgentMessage>,
        say: &Say,
    ) -> Result<(), Refused> {
        let Subscription { mut latest, mut end, .. } = subscription;
        let term = caller.term;
        let mut leading = self.leading.clone();
        let welcome = proto::Welcome { protocol: PROTOCOL, term, cluster: self.cluster.clone() };
        if say.send(Ok(message(operator_message::Message::Welcome(welcome)))).await.is_err() {
            return Ok(());
        }
        let mut has = hello.digest.clone();
        let mut pass = caller.identity.as_ref().map(Pass::of);
        let questions = Arc::new(Semaphore::new(MOST_QUESTIONS));
        loop {
            if *leading.borrow_and_update() != Some(term) {
                return Err(Refused::NotLeader);
            }
            let due = latest.borrow_and_update().clone().filter(|p| p.term == term && p.digest != has);
            tokio::select! {
                biased;
                changed = leading.changed() => if changed.is_err() { return Err(Refused::NotLeader) },
                why = &mut end => return Err(ended(why)),
                // Whoever ends a stream says why first, and drops this after.
                Ok(()) = latest.changed() => {}
                // Room for one message: a slow reader gets what is the latest when it reads.
                room = say.reserve(), if due.is_some() => {
                    let (Ok(room), Some(due)) = (room, due) else { return Ok(()) };
                    has = due.digest.clone();
                    let snapshot = Snapshot { term, ..due.snapshot.clone() };
                    room.send(Ok(message(operator_message::Message::Snapshot(snapshot.into()))));
                    self.telemetry.snapshots_published.inc();
                }
                due = next(pass.as_ref()) => if let Some(pass) = &mut pass {
                    match due {
                        Due::End => return Err(Denied::Expired.into()),
                        Due::Review(token) => self.renew(pass, token, caller).await?,
                    }
                },
                heard = said.message() => match heard {
                    Ok(Some(heard)) => match heard.message {
                        Some(agent_message::Message::Report(report)) => self.hear(&hello.node, report)?,
                        Some(agent_message::Message::Credential(it)) => if let Some(pass) = &mut pass {
                            pass.newer = Some((Token::new(it.token), pass.reviewed + ASK_AGAIN));
                        },
                        Some(agent_message::Message::AccessQuestion(it)) => self.inquire(it, &questions, say),
                        // A second hello, and the kinds of message that a newer agent has.
                        _ => {}
                    },
                    Ok(None) | Err(_) => return Ok(()),
                },
            }
        }
    }

    /// Answers when the API server has. An agent that asks more at a time gets no answer to what is too much.
    fn inquire(&self, question: proto::AccessQuestion, questions: &Arc<Semaphore>, say: &Say) {
        let Ok(place) = questions.clone().try_acquire_owned() else { return };
        let (say, admission) = (say.clone(), self.admission.clone());
        tokio::spawn(async move {
            let access = match &admission {
                Admission::Tokens { accesses: Some(accesses), .. } => {
                    accesses.of(&Token::new(question.token)).await
                }
                _ => None,
            };
            let answer = operator_message::Message::AccessAnswer(Access::answer(access, question.id));
            // One that does not read waits no longer than for its end.
            let _ = timeout(END_WITHIN, say.send(Ok(message(answer)))).await;
            drop(place);
        });
    }

    /// Takes a newer token of the same pod. Where nobody can say whose it is, that is asked again until the older one ends.
    async fn renew(&self, pass: &mut Pass, token: Token, caller: &Caller) -> Result<(), Refused> {
        let (Admission::Tokens { identify, .. }, Some(first)) = (&self.admission, &caller.identity) else {
            return Ok(());
        };
        let denied = match identify.who(&token).await {
            Ok(newer) if newer.pod_uid == first.pod_uid => {
                *pass = Pass::of(&newer);
                tracing::debug!(pod = newer.pod, credential = newer.credential, "a newer token");
                return Ok(());
            }
            Ok(_) => Denied::OtherPod,
            Err(Unbelieved { denied: Denied::NoAnswer(why), .. }) => {
                tracing::warn!(pod = first.pod, "a newer token waits: {why}");
                pass.newer = Some((token, Instant::now() + ASK_AGAIN));
                return Ok(());
            }
            Err(unbelieved) => unbelieved.denied,
        };
        self.alarm(&denied, caller.peer.as_ref(), &first.credential);
        Err(denied.into())
    }
}

/// How long an agent may stay.
struct Pass {
    reviewed: Instant,
    ends: Instant,
    /// What it gave since, and when that is looked at.
    newer: Option<(Token, Instant)>,
}

/// What comes first of a [`Pass`].
enum Due {
    End,
    Review(Token),
}

impl Pass {
    fn of(identity: &Identity) -> Self {
        let left = identity.expires.duration_since(SystemTime::now()).unwrap_or_default();
        let reviewed = Instant::now();
        Pass { reviewed, ends: reviewed + left.clamp(SHORTEST_LIFE, LONGEST_LIFE), newer: None }
    }
}

/// Waits for what comes first, for ever where nothing does.
async fn next(pass: Option<&Pass>) -> Due {
    let Some(pass) = pass else { return std::future::pending().await };
    match &pass.newer {
        Some((token, at)) if *at < pass.ends => {
            sleep_until(*at).await;
            Due::Review(token.clone())
        }
        _ => {
            sleep_until(pass.ends).await;
            Due::End
        }
    }
}

async fn hello(said: &mut Streaming<proto::AgentMessage>) -> Result<Hello, Refused> {
    let first = timeout(HELLO_WITHIN, said.message()).await;
    let Ok(Ok(Some(proto::AgentMessage { message: Some(agent_message::Message::Hello(hello)) }))) = first
    else {
        return Err(Refused::NoHello);
    };
    // What an agent can collect nobody asks the operator, and it is most of what a stream would keep.
    let hello = proto::Hello { collectors: Vec::new(), ..hello };
    let hello = Hello::from(hello);
    if hello.protocol != PROTOCOL {
        return Err(Refused::OtherProtocol(hello.protocol));
    }
    if hello.node.is_empty() || hello.node.len() > MAX_NODE_NAME {
        return Err(Refused::NoHello);
    }
    Ok(hello)
}

/// Whether the agent says the same of its node as its token.
fn claimed(hello: &Hello, caller: &Caller) -> Result<(), Denied> {
    match &caller.identity {
        Some(identity) if identity.node != hello.node => {
            Err(Denied::ClaimsOtherNode { node: identity.node.clone(), said: clipped(&hello.node) })
        }
        _ => Ok(()),
    }
}

fn ended(why: Result<Refused, oneshot::error::RecvError>) -> Refused {
    why.unwrap_or(Refused::Replaced)
}

fn message(message: operator_message::Message) -> proto::OperatorMessage {
    proto::OperatorMessage { message: Some(message) }
}
