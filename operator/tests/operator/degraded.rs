//! When a policy is said to be degraded: an emergency, or agents that cannot do all of their work.

use crds::ExporterPolicyStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use operator::agents::{Agent, Agents};
use operator::compile::{Emergency, Verdict};
use operator::report::{Outlook, own, report, status};
use protocol::{Finding, Hello, Report};

use crate::report::{VALID, accepts, agents, at, check, revision, selects};

fn in_emergency(selected: &[&str], emergency: Emergency) -> Verdict {
    let nodes = selected.iter().map(|n| (*n).to_owned()).collect();
    Verdict::Valid { revision: revision(), nodes, namespaces: None, emergency: Some(emergency) }
}

fn message(outlook: &Outlook) -> &str {
    &outlook.degraded.as_ref().unwrap().message
}

#[test]
fn an_emergency_names_the_nodes_and_the_way_out_and_holds_nothing_back() {
    let some = Emergency::Nodes(["n2".to_owned(), "n3".to_owned()].into());
    let outlook = report("p", &in_emergency(&["n1", "n2", "n3"], some), &agents(&[("n1", accepts())]));
    assert!(outlook.accepted.holds);
    assert_eq!(outlook.degraded.as_ref().unwrap().reason, "Emergency");
    assert_eq!(
        message(&outlook),
        "In emergency are 2 of 3 selected nodes: n2, n3. Agents there are told to expose the machine and the profile \
         Minimal, less what policies exclude, and to add no pod label. To end it: kubectl annotate node NAME \
         exporter-operator.dev/emergency-"
    );
    let outlook = report("p", &in_emergency(&["n1"], Emergency::Everywhere), &agents(&[("n1", accepts())]));
    check(&outlook, VALID, (true, "Programmed", "In force on 1 of 1 selected node."), [1, 1, 0]);
    for said in ["1 selected node ", "operator.emergency=false", "--emergency"] {
        assert!(message(&outlook).contains(said), "{}", message(&outlook));
    }
}

#[test]
fn an_emergency_names_ten_nodes_at_most() {
    let names: Vec<String> = (0..1000).map(|n| format!("node{n:04}")).collect();
    let emergency = Emergency::Nodes(names.iter().cloned().collect());
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let outlook = report("p", &in_emergency(&names, emergency), &Agents::new());
    assert!(message(&outlook).contains("1000 of 1000 selected nodes: node0000, "), "{}", message(&outlook));
    assert!(message(&outlook).contains("node0009 and 990 more."), "{}", message(&outlook));
}

#[test]
fn a_condition_that_is_abnormal_is_there_only_as_long_as_it_holds() {
    let kinds = |status: &ExporterPolicyStatus| -> Vec<(String, i64)> {
        let time = |c: &Condition| (c.type_.clone(), c.last_transition_time.0.as_second());
        status.conditions.iter().map(time).collect()
    };
    let all = agents(&[("n1", accepts())]);
    let emergency = report("p", &in_emergency(&["n1"], Emergency::Everywhere), &all);
    let during = status(&emergency, 1, None, at(100));
    let expected = |kind: &str, time| (kind.to_owned(), time);
    let both = [expected("Accepted", 100), expected("Programmed", 100)];
    assert_eq!(kinds(&during), [&both[..], &[expected("Degraded", 100)]].concat());
    // It is ours, and the same said again is no change.
    assert_eq!(status(&emergency, 1, Some(&own(during.clone())), at(200)), during);
    let after = status(&report("p", &selects(&["n1"]), &all), 1, Some(&during), at(300));
    assert_eq!(kinds(&after), both);
}

/// An agent that has everything in force and says this of itself.
fn says(reason: &str, message: &str) -> Agent {
    let mut agent = accepts();
    let finding = Finding { field: String::new(), reason: reason.into(), message: message.into() };
    agent.hear(Report::Health(vec![finding]), None);
    agent
}

const NO_GRANT: &str = "the kubelet refuses the agent its pods: grant `get` on `nodes/pods`";

#[test]
fn a_missing_grant_is_named_with_its_nodes_until_it_is_mended() {
    let mut all = [
        ("n1", says("KubeletRefused", NO_GRANT)),
        ("n2", says("KubeletRefused", NO_GRANT)),
        ("n3", says("KubeletRefused", "another.")),
        ("n4", accepts()),
    ];
    let verdict = selects(&["n1", "n2", "n3", "n4"]);
    let outlook = report("p", &verdict, &agents(&all));
    assert_eq!(outlook.degraded.as_ref().unwrap().reason, "KubeletRefused");
    assert_eq!(message(&outlook), format!("On 2 of 4 selected nodes, n1, n2: {NO_GRANT}. And 1 more."));
    assert!(outlook.accepted.holds && outlook.programmed.holds, "the policy is in force");
    assert_eq!(report("p", &selects(&["n4"]), &agents(&all)).degraded, None, "of its own nodes alone");
    for (_, agent) in &mut all {
        agent.hear(Report::Health(vec![]), None);
    }
    assert_eq!(report("p", &verdict, &agents(&all)).degraded, None);
}

#[test]
fn a_reason_of_an_agent_that_kubernetes_would_not_take_is_replaced() {
    let outlook = report("p", &selects(&["n1"]), &agents(&[("n1", says("no such thing!", "m"))]));
    assert_eq!(outlook.degraded.unwrap().reason, "AgentDegraded");
}

#[test]
fn an_emergency_comes_before_what_is_broken_and_both_are_said() {
    let all = agents(&[("n1", says("KubeletRefused", NO_GRANT))]);
    let outlook = report("p", &in_emergency(&["n1"], Emergency::Everywhere), &all);
    assert_eq!(outlook.degraded.as_ref().unwrap().reason, "Emergency");
    assert!(message(&outlook).starts_with("Every node is in emergency"), "{}", message(&outlook));
    assert!(message(&outlook).ends_with("`nodes/pods`."), "{}", message(&outlook));
}

#[test]
fn what_agents_say_of_themselves_names_ten_nodes_and_is_bounded() {
    let names: Vec<String> = (0..1000).map(|n| format!("node{n:04}")).collect();
    let long = says("KubeletRefused", &"x".repeat(9999));
    let all: Vec<_> = names.iter().map(|n| (n.as_str(), long.clone())).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let outlook = report("p", &selects(&names), &agents(&all));
    assert!(message(&outlook).contains("node0009 and 990 more: x"), "{}", message(&outlook));
    assert!(message(&outlook).len() < 1024, "{} bytes", message(&outlook).len());
}

#[test]
fn an_agent_that_comes_back_is_as_well_as_it_was_and_another_build_is_taken_to_be_well() {
    let before = Agent { version: "1".into(), ..says("KubeletRefused", NO_GRANT) };
    let back = |version: &str| {
        let hello = Hello { agent_version: version.into(), ..Hello::default() };
        Agent::new(&hello, Some(&before)).health.len()
    };
    assert_eq!([back("1"), back("2")], [1, 0]);
}
