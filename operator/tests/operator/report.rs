//! What users are told: conditions, counts, times and events.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::{ExporterPolicyStatus, Reason};
use k8s_openapi::jiff::Timestamp;
use operator::agents::{Agent, Agents};
use operator::compile::Verdict;
use operator::report::{Outlook, happening, own, report, status};
use operator::validate::Rejection;
use protocol::{Digest, Finding, Hello, Outcome, Refusal, Report, Revision, Verdicts};
use serde_json::json;

pub(crate) fn revision() -> Revision {
    "r2".to_owned().into()
}

pub(crate) fn selects(nodes: &[&str]) -> Verdict {
    Verdict::Valid {
        revision: revision(),
        nodes: nodes.iter().map(|n| (*n).to_owned()).collect(),
        namespaces: None,
        emergency: None,
    }
}

fn finding(reason: &str, message: &str) -> Finding {
    Finding { field: "collectors[0].options.x".into(), reason: reason.into(), message: message.into() }
}

/// An agent that is connected and has judged revision r2 of policy p.
fn judged(outcome: Outcome, findings: &[Finding], in_force: &str) -> Agent {
    let mut agent = Agent::new(&Hello::default(), None);
    let verdict = protocol::Verdict {
        policy: "p".into(),
        revision: revision(),
        outcome,
        findings: findings.to_vec(),
        in_force: in_force.to_owned().into(),
    };
    agent.hear(Report::Verdicts(Verdicts { digest: Digest::default(), policies: vec![verdict] }), None);
    agent
}

pub(crate) fn accepts() -> Agent {
    judged(Outcome::Accepted, &[], "r2")
}

pub(crate) fn agents(agents: &[(&str, Agent)]) -> Agents {
    agents.iter().map(|(node, agent)| ((*node).to_owned(), Arc::new(agent.clone()))).collect()
}

#[track_caller]
pub(crate) fn check(
    outlook: &Outlook,
    accepted: (bool, &str, &str),
    programmed: (bool, &str, &str),
    nodes: [i32; 3],
) {
    let answer = |a: &operator::report::Answer| (a.holds, a.reason.clone(), a.message.clone());
    let expected =
        |(holds, reason, message): (bool, &str, &str)| (holds, reason.to_owned(), message.to_owned());
    assert_eq!(answer(&outlook.accepted), expected(accepted));
    assert_eq!(answer(&outlook.programmed), expected(programmed));
    assert_eq!([outlook.nodes.selected, outlook.nodes.updated, outlook.nodes.rejected], nodes);
}

pub(crate) const VALID: (bool, &str, &str) = (true, "Accepted", "The policy is valid.");
const KEPT: &str = "The policy is not accepted; where an earlier content of it was, that stays in force.";

#[test]
fn a_policy_is_programmed_when_every_connected_agent_has_it() {
    let verdict = selects(&["n1", "n2", "n3"]);
    let waiting = Agent::new(&Hello::default(), None);
    let outlook = report("p", &verdict, &agents(&[("n1", accepts()), ("n2", waiting)]));
    let pending = "In force on 1 of 3 selected nodes. No agent is connected on 1 node.";
    check(&outlook, VALID, (false, "Pending", pending), [3, 1, 0]);

    let outlook = report("p", &verdict, &agents(&[("n1", accepts()), ("n2", accepts())]));
    let programmed = "In force on 2 of 3 selected nodes. No agent is connected on 1 node.";
    check(&outlook, VALID, (true, "Programmed", programmed), [3, 2, 0]);
}

#[test]
fn an_agent_that_is_away_keeps_what_it_has() {
    let away = Agent { connected: false, ..accepts() };
    let outlook = report("p", &selects(&["n1"]), &agents(&[("n1", away)]));
    check(&outlook, VALID, (true, "Programmed", "In force on 1 of 1 selected node."), [1, 1, 0]);
}

#[test]
fn without_agents_nothing_is_programmed() {
    let outlook = report("p", &selects(&["n1", "n2"]), &Agents::new());
    check(&outlook, VALID, (false, "NoAgents", "No agent is connected on 2 selected nodes."), [2, 0, 0]);
    assert!(!outlook.settled);
}

#[test]
fn what_selects_nothing_is_accepted_and_says_so() {
    let verdict =
        Verdict::Valid { revision: revision(), nodes: [].into(), namespaces: Some(0), emergency: None };
    let message =
        "The policy is valid. No node matches nodeSelector. No namespace matches namespaceSelector.";
    let outlook = report("p", &verdict, &Agents::new());
    check(&outlook, (true, "Accepted", message), (true, "NoNodes", "No node is selected."), [0, 0, 0]);
    assert!(outlook.settled);
}

#[test]
fn what_the_operator_rejects_names_the_field_and_says_what_stays() {
    let why = Rejection {
        field: "spec.metrics.include[0]".into(),
        reason: Reason::InvalidPattern,
        message: "`(` is wrong".into(),
    };
    let outlook = report("p", &Verdict::Rejected(why), &agents(&[("n1", accepts())]));
    let accepted = (false, "InvalidPattern", "spec.metrics.include[0]: `(` is wrong.");
    check(&outlook, accepted, (false, "NotAccepted", KEPT), [0, 0, 0]);
    assert_eq!(outlook.rejected, Some(Reason::InvalidPattern));
}

#[test]
fn what_agents_reject_carries_their_reason_field_message_and_number() {
    let rejects = |message: &str| judged(Outcome::Rejected, &[finding("InvalidOption", message)], "r1");
    let (often, once) = (rejects("no regular expression."), rejects("another"));
    let all = [("n1", often.clone()), ("n2", once), ("n3", often), ("n4", accepts())];
    let outlook = report("p", &selects(&["n1", "n2", "n3", "n4"]), &agents(&all));
    let message = format!(
        "Rejected on 3 of 4 selected nodes: spec.collectors[0].options.x: no regular expression. And 1 more. {KEPT}"
    );
    let programmed = format!("In force on 1 of 4 selected nodes. {KEPT}");
    check(&outlook, (false, "InvalidOption", &message), (false, "NotAccepted", &programmed), [4, 1, 3]);
    assert_eq!(outlook.rejected, Some(Reason::RejectedByAgent));
    let examples: Vec<_> = outlook.examples.iter().map(|e| (e.node.as_str(), e.message.as_str())).collect();
    assert_eq!(examples[1], ("n2", "spec.collectors[0].options.x: another"));
}

#[test]
fn a_reason_that_kubernetes_would_not_take_is_replaced() {
    let odd = judged(Outcome::Rejected, &[finding("no such thing!", "m")], "");
    let outlook = report("p", &selects(&["n1"]), &agents(&[("n1", odd)]));
    assert_eq!(outlook.accepted.reason, "RejectedByAgent");
}

#[test]
fn the_status_names_ten_nodes_at_most() {
    let rejects = judged(Outcome::Rejected, &[finding("InvalidOption", "m")], "");
    let names: Vec<String> = (0..1000).map(|n| format!("node{n:04}")).collect();
    let all: Vec<_> = names.iter().map(|n| (n.as_str(), rejects.clone())).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let outlook = report("p", &selects(&names), &agents(&all));
    assert_eq!((outlook.examples.len(), outlook.nodes.rejected), (10, 1000));
    let size = serde_json::to_string(&status(&outlook, 1, None, Timestamp::UNIX_EPOCH)).unwrap().len();
    assert!(size < 4096, "{size} bytes");
}

#[test]
fn warnings_are_accepted_and_shown() {
    let warns = judged(Outcome::AcceptedWithWarnings, &[finding("UnknownOption", "no such option")], "r2");
    let outlook = report("p", &selects(&["n1", "n2"]), &agents(&[("n1", warns), ("n2", accepts())]));
    let message = "The policy is valid. Skipped on 1 of 2 selected nodes: UnknownOption: \
                   spec.collectors[0].options.x: no such option.";
    let programmed = (true, "Programmed", "In force on 2 of 2 selected nodes.");
    check(&outlook, (true, "AcceptedWithWarnings", message), programmed, [2, 2, 0]);
}

#[test]
fn a_refused_snapshot_is_not_the_policys_fault() {
    let mut refuses = Agent::new(&Hello::default(), None);
    let digest = Digest::from("d".to_owned());
    let refusal = Refusal { digest: digest.clone(), reason: "OtherCluster".into(), message: "m".into() };
    refuses.hear(Report::Refusal(refusal), Some(&digest));
    let outlook = report("p", &selects(&["n1"]), &agents(&[("n1", refuses.clone())]));
    let message =
        "In force on 0 of 1 selected node. The whole configuration is refused on 1 node: OtherCluster: m.";
    check(&outlook, VALID, (false, "SnapshotRefused", message), [1, 0, 1]);
    refuses.expect(&Digest::from("the next".to_owned()));
    let outlook = report("p", &selects(&["n1"]), &agents(&[("n1", refuses)]));
    assert_eq!(outlook.programmed.reason, "Pending");
}

#[test]
fn a_verdict_on_another_revision_says_nothing() {
    let mut agent = judged(Outcome::Rejected, &[finding("InvalidOption", "m")], "r1");
    let older = Arc::new(agent.findings.remove("p").unwrap());
    let older = protocol::Verdict { revision: "r1".to_owned().into(), ..Arc::unwrap_or_clone(older) };
    agent.findings.insert("p".into(), older);
    let outlook = report("p", &selects(&["n1"]), &agents(&[("n1", agent)]));
    check(&outlook, VALID, (false, "Pending", "In force on 0 of 1 selected node."), [1, 0, 0]);
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn times(status: &ExporterPolicyStatus) -> Vec<i64> {
    status.conditions.iter().map(|c| c.last_transition_time.0.as_second()).collect()
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let verdict = selects(&["n1"]);
    let pending = status(&report("p", &verdict, &Agents::new()), 1, None, at(100));
    assert_eq!(times(&pending), [100, 100]);
    let programmed = report("p", &verdict, &agents(&[("n1", accepts())]));
    let programmed = status(&programmed, 1, Some(&pending), at(200));
    assert_eq!(times(&programmed), [100, 200]);
    let edited = status(&report("p", &verdict, &agents(&[("n1", accepts())])), 2, Some(&programmed), at(300));
    assert_eq!(times(&edited), [100, 200]);
    assert!(edited.conditions.iter().all(|c| c.observed_generation == Some(2)));
}

#[test]
fn the_same_said_again_is_the_same_status() {
    let outlook = report("p", &selects(&["n1"]), &agents(&[("n1", accepts())]));
    let first = status(&outlook, 1, None, at(100));
    assert_eq!(status(&outlook, 1, Some(&first), at(999)), first);
    // Also after the API server has stored it, and beside a condition of somebody else.
    let mut stored = serde_json::to_value(&first).unwrap();
    let foreign = json!({"type": "Foreign", "status": "True", "reason": "X", "message": "", "lastTransitionTime":
        "2026-01-01T00:00:00Z"});
    stored["conditions"].as_array_mut().unwrap().insert(0, foreign);
    let stored = own(serde_json::from_value(stored).unwrap());
    assert_eq!(status(&outlook, 1, Some(&stored), at(999)), first);
}

#[test]
fn an_event_is_recorded_once_for_each_edit_and_when_the_answer_changes() {
    let verdict = selects(&["n1", "n2"]);
    let rejects = judged(Outcome::Rejected, &[finding("InvalidOption", "m")], "");
    let step = |before: Option<&ExporterPolicyStatus>, generation, all: &[(&str, Agent)]| {
        let after = status(&report("p", &verdict, &agents(all)), generation, before, at(1));
        let told = happening(before, &after).map(|h| (h.warning, h.reason));
        (after, told)
    };
    let accepted = Some((false, "Accepted".to_owned()));
    let rejected = Some((true, "InvalidOption".to_owned()));
    let (first, told) = step(None, 1, &[]);
    assert_eq!(told, accepted);
    let (same, told) = step(Some(&first), 1, &[("n1", accepts())]);
    assert_eq!(told, None, "that it is programmed is no event");
    let (one, told) = step(Some(&same), 1, &[("n1", accepts()), ("n2", rejects.clone())]);
    assert_eq!(told, rejected);
    let (both, told) = step(Some(&one), 1, &[("n1", rejects.clone()), ("n2", rejects.clone())]);
    assert_eq!(told, None, "one more node is no event");
    let (edited, told) = step(Some(&both), 2, &[("n1", rejects.clone())]);
    assert_eq!(told, rejected, "each edit is answered");
    assert_eq!(step(Some(&edited), 2, &[]).1, accepted);
}

#[test]
fn every_reason_is_one_that_kubernetes_takes() {
    let mut seen = BTreeMap::new();
    for reason in Reason::ALL {
        assert!(reason.as_str().bytes().all(|b| b.is_ascii_alphanumeric()), "{reason}");
        assert!(seen.insert(reason.as_str(), reason.meaning()).is_none(), "{reason} is there twice");
    }
}

#[test]
fn an_agent_that_comes_back_is_taken_at_its_last_word_until_it_says_another() {
    let before = judged(Outcome::Rejected, &[finding("InvalidOption", "no")], "");
    let back = Agent::new(&Hello::default(), Some(&before));
    let outlook = report("p", &selects(&["n1"]), &agents(&[("n1", back.clone())]));
    assert_eq!((outlook.accepted.holds, outlook.accepted.reason.as_str()), (false, "InvalidOption"));
    let another = Verdict::Valid {
        revision: "r3".to_owned().into(),
        nodes: ["n1".to_owned()].into(),
        namespaces: None,
        emergency: None,
    };
    assert!(
        report("p", &another, &agents(&[("n1", back)])).accepted.holds,
        "of this one it has said nothing"
    );
}

#[test]
fn a_rejection_without_a_reason_has_one_of_ours() {
    let agent = judged(Outcome::Rejected, &[], "");
    let outlook = report("p", &selects(&["n1"]), &agents(&[("n1", agent)]));
    assert_eq!(outlook.accepted.reason, "RejectedByAgent");
    assert!(
        outlook.accepted.message.contains("gives no reason") && !outlook.accepted.message.contains("spec.")
    );
}
