//! Any bytes as what operator and agent send each other, and as what an agent left on its disk.

use agent::in_force::InForce;
use agent::last_good;
use agent::plan::{Overlay, Plan};
use operator::agents::Agent;
use prost::Message as _;
use protocol::proto::{self, agent_message, operator_message};
use protocol::{Access, Digest, Hello, Report, Snapshot};

/// What an operator sends to an agent: what is refused changes nothing, and what is taken up is the same after a restart.
///
/// # Panics
/// When one of both does not hold.
pub fn operator_message(bytes: &[u8]) {
    let Ok(message) = proto::OperatorMessage::decode(bytes) else { return };
    let mut in_force = InForce::default();
    match message.message {
        Some(operator_message::Message::Welcome(welcome)) => {
            let admitted = in_force.admit(&welcome.cluster, None, welcome.term, &Digest::default());
            assert!(admitted.is_ok(), "whoever has nothing follows anybody");
            in_force.set_leader(&welcome.cluster, welcome.term);
        }
        Some(operator_message::Message::Snapshot(message)) => {
            let digest = Digest::from(message.digest.clone());
            let Ok(snapshot) = Snapshot::try_from(message) else { return };
            let again = Snapshot::try_from(proto::Snapshot::from(snapshot.clone()));
            assert_eq!(again.as_ref(), Ok(&snapshot), "another snapshot once it was sent on");
            let node = Some((snapshot.node.as_str(), "n"));
            let _ = in_force.admit(&snapshot.cluster, node, snapshot.term, &digest);
            in_force.take_up(snapshot, digest);
            in_effect(in_force);
        }
        Some(operator_message::Message::AccessAnswer(answer)) => {
            let again = Access::answer(Access::from_answer(&answer), answer.id);
            assert_eq!(Access::from_answer(&again), Access::from_answer(&answer), "another answer");
        }
        None => {}
    }
}

/// What an agent sends to the operator.
pub fn agent_message(bytes: &[u8]) {
    let Ok(message) = proto::AgentMessage::decode(bytes) else { return };
    match message.message {
        Some(agent_message::Message::Hello(hello)) => {
            let hello = Hello::from(hello);
            let mut agent = Agent::new(&hello, None);
            agent.expect(&hello.digest);
            stands(&agent);
        }
        Some(agent_message::Message::Report(report)) => {
            let Ok(report) = Report::try_from(report) else { return };
            let mut agent = Agent::default();
            agent.hear(report, Some(&Digest::default()));
            stands(&agent);
        }
        // Their token is a text for the API server, and for nobody who reads a log.
        Some(agent_message::Message::Credential(it)) => {
            let without = proto::Credential { token: String::new() };
            assert_eq!(format!("{it:?}"), format!("{without:?}"), "the token shows");
        }
        Some(agent_message::Message::AccessQuestion(it)) => {
            let without = proto::AccessQuestion { id: it.id, token: String::new() };
            assert_eq!(format!("{it:?}"), format!("{without:?}"), "the token shows");
        }
        None => {}
    }
}

/// The file of the last good configuration.
pub fn last_good(bytes: &[u8]) {
    if let Ok(in_force) = last_good::decode(bytes) {
        in_effect(in_force);
    }
}

/// How an agent stands to every policy that it has spoken of.
fn stands(agent: &Agent) {
    for (policy, revision) in &agent.in_force {
        let _ = agent.standing(policy, revision);
    }
    for (policy, verdict) in &agent.findings {
        let _ = agent.standing(policy, &verdict.revision);
    }
}

/// As at a restart, and as with the first scrape after it.
fn in_effect(in_force: InForce) {
    let mut stored = last_good::encode(&in_force).ok().and_then(|bytes| last_good::decode(&bytes).ok());
    assert_eq!(stored.as_ref(), Some(&in_force), "another configuration once it was stored");
    if let Some(in_force) = &mut stored {
        in_force.take_up_again();
        let mut plan = Plan::new(in_force.policies.clone(), in_force.facts.clone(), &Overlay::default());
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let view = plan.view_of_pod("shop", &labels);
        let _ = plan.view(view).selector.exposes("container_cpu_usage_seconds_total");
    }
}
