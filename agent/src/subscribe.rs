//! The stream from the operator: hears snapshots, answers verdicts, and comes back when it breaks.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use protocol::proto::agent_config_client::AgentConfigClient;
use protocol::proto::{self, agent_message, operator_message};
use protocol::{
    Digest, Finding, Hello, MAX_MESSAGE_BYTES, PROTOCOL, Refusal, Report, Snapshot, Token, Verdicts,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::access::Questions;
use crate::collector::capabilities;
use crate::config::Config;
use crate::health::Health;
use crate::reach::{self, Reach, ReachError};
use crate::telemetry::Telemetry;

/// How to reach the operator and what to say there.
pub struct Subscription {
    /// `--operator` and what belongs to it.
    pub reach: Reach,
    /// `--node-name`
    pub node: String,
    /// Where snapshots go.
    pub config: Config,
    /// Counts.
    pub telemetry: Arc<Telemetry>,
    /// What the operator is told of the agent itself.
    pub health: Health,
    /// What it is asked.
    pub questions: Questions,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error("{}: {}", .0.code(), .0.message())]
    Status(Box<tonic::Status>),
    #[error("{0}")]
    Refused(String),
    #[error("the operator closed the stream")]
    Closed,
}

impl From<tonic::Status> for StreamError {
    fn from(status: tonic::Status) -> Self {
        StreamError::Status(Box::new(status))
    }
}

/// How often a newer token is looked for; the kubelet renews it when a fifth of its life is left.
const TOKEN_LOOK: Duration = Duration::from_secs(10);
/// How long an operator that is not followed has to hear why.
const PARTING: Duration = Duration::from_secs(1);
/// While nobody leads, which is over in seconds, the bound doubles no more often than this.
const MOST_WITHOUT_LEADER: u32 = 2;
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

impl Subscription {
    /// Follows the operator until the program ends. What is in force stays in force whenever nobody is heard.
    pub async fn run(mut self, mut verdicts: Option<Verdicts>) {
        let mut failures = 0u32;
        let mut last_error = String::new();
        let addresses = self.reach.addresses.clone();
        loop {
            for address in &addresses {
                let Err(error) = self.follow(address, &mut verdicts, &mut failures).await;
                self.questions.lose();
                // Behind one address there may be several operators, and the next try may meet the leader.
                if matches!(&error, StreamError::Status(s) if s.code() == tonic::Code::FailedPrecondition) {
                    failures = failures.min(MOST_WITHOUT_LEADER);
                }
                self.telemetry.connected(false);
                // With its causes: `transport error` alone would not tell a wrong name from a closed port.
                let text = format!("{address}: {:#}", anyhow::Error::from(error));
                if text != last_error {
                    tracing::warn!("operator {text}; what is in force stays");
                    last_error = text;
                }
            }
            failures = failures.saturating_add(1);
            tokio::time::sleep(backoff(failures, random())).await;
        }
    }

    async fn follow(
        &mut self,
        address: &str,
        verdicts: &mut Option<Verdicts>,
        failures: &mut u32,
    ) -> Result<std::convert::Infallible, StreamError> {
        let mut token = self.reach.token()?;
        let channel = self.reach.connect(address).await?;
        let mut client = AgentConfigClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        // Two: the hello, and the report on the snapshot that was already had. From then on each waits for its turn.
        let (say, said) = mpsc::channel(2);
        let in_force = self.config.in_force();
        let hello = Hello {
            protocol: PROTOCOL,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.clone(),
            capabilities: capabilities(),
            in_force: in_force.revisions(),
            digest: verdicts.as_ref().map(|v| v.digest.clone()).unwrap_or_default(),
        };
        send(&say, agent_message::Message::Hello(hello.into())).await?;
        let mut call = tonic::Request::new(ReceiverStream::new(said));
        if let Some(shown) = token.as_ref().and_then(reach::header) {
            call.metadata_mut().insert("authorization", shown);
        }
        let mut stream = client.subscribe(call).await?.into_inner();
        let mut looks = tokio::time::interval(TOKEN_LOOK);
        let mut health = self.health.subscribe();
        let mut is_followed = false;
        loop {
            let message = tokio::select! {
                message = stream.message() => message?.ok_or(StreamError::Closed)?,
                Ok(()) = health.changed(), if is_followed => {
                    say_health(&say, &mut health).await?;
                    continue;
                }
                question = self.questions.next(), if is_followed => {
                    send(&say, question).await?;
                    continue;
                }
                _ = looks.tick(), if is_followed && token.is_some() => {
                    self.renew(&mut token, &say).await?;
                    continue;
                }
            };
            match message.message {
                Some(operator_message::Message::Welcome(welcome)) => {
                    if let Err(error) = self.welcome(&welcome, &say).await {
                        // Closing at once would take the report back before it is sent.
                        drop(say);
                        let _ = tokio::time::timeout(PARTING, stream.message()).await;
                        return Err(error);
                    }
                    self.telemetry.connected(true);
                    *failures = 0;
                    tracing::info!(address, term = welcome.term, "following the operator");
                    is_followed = true;
                    // Before the verdicts: an operator writes conditions once it has heard those of every agent.
                    say_health(&say, &mut health).await?;
                    if let Some(verdicts) = verdicts {
                        report(&say, Report::Verdicts(verdicts.clone())).await?;
                    }
                }
                Some(operator_message::Message::Snapshot(message)) => {
                    let answer = self.snapshot(message);
                    if let Report::Verdicts(new) = &answer {
                        *verdicts = Some(new.clone());
                    }
                    report(&say, answer).await?;
                }
                Some(operator_message::Message::AccessAnswer(answer)) => self.questions.answer(&answer),
                // A kind of message that a newer operator has.
                None => {}
            }
        }
    }

    /// Shows the token that the kubelet has renewed.
    async fn renew(
        &self,
        shown: &mut Option<Token>,
        say: &mpsc::Sender<proto::AgentMessage>,
    ) -> Result<(), StreamError> {
        match self.reach.token() {
            Ok(newer) if newer != *shown => {
                let token = newer.as_ref().map(|it| it.secret().to_owned()).unwrap_or_default();
                *shown = newer;
                send(say, agent_message::Message::Credential(proto::Credential { token })).await
            }
            Ok(_) => Ok(()),
            // The one before is good for a while.
            Err(error) => {
                tracing::warn!("{error}; the operator has the one before");
                Ok(())
            }
        }
    }

    async fn welcome(
        &self,
        welcome: &proto::Welcome,
        say: &mpsc::Sender<proto::AgentMessage>,
    ) -> Result<(), StreamError> {
        if welcome.protocol != PROTOCOL {
            let (theirs, ours) = (welcome.protocol, PROTOCOL);
            return Err(StreamError::Refused(format!("it speaks protocol {theirs}, this agent {ours}")));
        }
        let followed = tokio::task::block_in_place(|| self.config.follow(&welcome.cluster, welcome.term));
        if let Err(refusal) = followed {
            self.telemetry.snapshot("refused");
            let text = refusal.message.clone();
            report(say, Report::Refusal(refusal)).await?;
            return Err(StreamError::Refused(text));
        }
        Ok(())
    }

    fn snapshot(&self, message: proto::Snapshot) -> Report {
        let digest = Digest::from(message.digest.clone());
        match Snapshot::try_from(message) {
            // It waits for the scrape that runs, and for the disk.
            Ok(snapshot) => tokio::task::block_in_place(|| self.config.take_up(snapshot, digest, &self.node)),
            Err(error) => {
                self.telemetry.snapshot("refused");
                tracing::error!("a snapshot that does not decode: {error}; what is in force stays");
                Report::Refusal(Refusal {
                    digest,
                    reason: "NotDecodable".to_owned(),
                    message: error.to_string(),
                })
            }
        }
    }
}

/// Says what is wrong with the agent, or that nothing is, once that is known.
async fn say_health(
    say: &mpsc::Sender<proto::AgentMessage>,
    health: &mut watch::Receiver<Option<Vec<Finding>>>,
) -> Result<(), StreamError> {
    let known = health.borrow_and_update().clone();
    match known {
        Some(findings) => report(say, Report::Health(findings)).await,
        None => Ok(()),
    }
}

async fn report(say: &mpsc::Sender<proto::AgentMessage>, report: Report) -> Result<(), StreamError> {
    send(say, agent_message::Message::Report(report.into())).await
}

async fn send(
    say: &mpsc::Sender<proto::AgentMessage>,
    message: agent_message::Message,
) -> Result<(), StreamError> {
    say.send(proto::AgentMessage { message: Some(message) }).await.map_err(|_| StreamError::Closed)
}

/// Full jitter: anywhere between nothing and a bound that doubles, so that agents cut off together do not come back
/// together.
fn backoff(failures: u32, random: u64) -> Duration {
    let bound = Duration::from_millis(250).saturating_mul(1 << failures.min(8)).min(LONGEST_BACKOFF);
    bound.mul_f64(random as f64 / u64::MAX as f64)
}

/// The standard library's hash keys are random, which is all that is needed here.
fn random() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_to_half_a_minute_and_is_spread_from_zero() {
        assert_eq!(backoff(1, u64::MAX), Duration::from_millis(500));
        assert_eq!(backoff(40, u64::MAX), LONGEST_BACKOFF);
        assert_eq!(backoff(40, 0), Duration::ZERO);
    }
}
