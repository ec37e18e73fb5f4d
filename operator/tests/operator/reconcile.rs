//! The whole sentence at work, between a stand-in for the API server and agents over real connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use operator::gather::Gathered;
use operator::publish::{Admission, Publisher, Term};
use operator::reconcile::Reconciler;
use operator::report::write::Writer;
use operator::telemetry::Telemetry;
use protocol::{Hello, Outcome, Report, Revision, Snapshot, Verdict, Verdicts};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api_server::{Asked, Cluster, Record, client};
use crate::publish::{Operator, Stream, hello};

fn policy(name: &str, generation: i64, spec: Value) -> Value {
    json!({
        "apiVersion": "exporter-operator.dev/v1alpha1", "kind": "ExporterPolicy", "spec": spec,
        "metadata": {"name": name, "uid": name, "generation": generation, "resourceVersion": "5",
            "creationTimestamp": "2026-01-01T00:00:00Z"},
    })
}

/// An operator that leads in a term, in front of the cluster.
async fn start(cluster: &Cluster, term: Term) -> (Operator, Record, JoinSet<()>) {
    start_with(cluster, term, false, Telemetry::new().unwrap()).await
}

async fn start_with(
    cluster: &Cluster,
    term: Term,
    emergency: bool,
    telemetry: Telemetry,
) -> (Operator, Record, JoinSet<()>) {
    let answers = cluster.clone();
    let (client, record) = client(move |asked| answers.answer(asked));
    let mut tasks = JoinSet::new();
    let mut gathered = Gathered::start(&client, &telemetry, &mut tasks);
    assert!(gathered.complete().await);
    // The watches follow the lists.
    record.wait_for_one(|a| a.path.ends_with("/exporterpolicies") && a.query.contains("watch=true")).await;
    let (leading, elected) = watch::channel(Some(term));
    let publisher =
        Publisher::new(gathered.world().cluster(), elected.clone(), Admission::Anyone, telemetry.clone());
    let operator = Operator::serve(publisher.clone(), leading).await;
    let (outlooks, wishes) = watch::channel(Arc::default());
    tasks.spawn(Writer::new(client, "me", telemetry.clone()).run(wishes));
    tasks.spawn(Reconciler { leading: elected, gathered, publisher, emergency, outlooks, telemetry }.run());
    (operator, record, tasks)
}

/// The answer of an agent that takes everything.
fn takes(snapshot: &Snapshot) -> Report {
    let verdict = |p: &protocol::Policy| Verdict {
        policy: p.name.clone(),
        revision: p.revision.clone(),
        outcome: Outcome::Accepted,
        findings: vec![],
        in_force: p.revision.clone(),
    };
    let policies = snapshot.policies.iter().map(verdict).collect();
    Report::Verdicts(Verdicts { digest: snapshot.digest(), policies })
}

fn says(asked: &Asked, policy: &str, type_: &str, status: &str) -> bool {
    asked.path.ends_with(&format!("/{policy}/status"))
        && asked.body["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c["type"] == type_ && c["status"] == status))
}

#[tokio::test]
async fn an_emergency_of_a_node_reaches_its_agent_as_a_fact_and_ends_with_its_annotation() {
    let cluster = Cluster::with(&["n1"], &[policy("p", 1, json!({"metrics": {"exclude": ["node_load1"]}}))]);
    let telemetry = Telemetry::new().unwrap();
    let (operator, record, _tasks) = start_with(&cluster, 3, false, telemetry.clone()).await;
    record.wait_for_one(|a| a.path.ends_with("/nodes") && a.query.contains("watch=true")).await;
    let mut agent = Stream::welcomed(&operator, hello("n1")).await;
    let before = agent.snapshot().await;
    agent.report(takes(&before)).await;
    record.wait_for_one(|a| says(a, "p", "Programmed", "True")).await;

    let annotate = |value: &str| {
        let node = json!({"metadata": {"name": "n1", "resourceVersion": "2", "labels": {"node": "n1"},
            "annotations": {"exporter-operator.dev/emergency": value}}});
        cluster.change_of("nodes", "MODIFIED", &node);
    };
    annotate("true");
    let during = agent.snapshot().await;
    assert_eq!((during.facts.emergency, &during.policies), (true, &before.policies));
    agent.report(takes(&during)).await;
    let during = record.wait_for_one(|a| says(a, "p", "Degraded", "True")).await;
    assert!(says(&during, "p", "Accepted", "True") && says(&during, "p", "Programmed", "True"));
    assert_eq!(telemetry.emergency_nodes.get(), 1);

    annotate("false");
    let after = agent.snapshot().await;
    assert_eq!(after, before);
    agent.report(takes(&after)).await;
    record
        .wait_for_last_status(|a| says(a, "p", "Programmed", "True") && !says(a, "p", "Degraded", "True"))
        .await;
}

#[tokio::test]
async fn an_operator_that_is_told_of_an_emergency_tells_every_node() {
    let cluster = Cluster::with(&["n1", "n2"], &[]);
    let telemetry = Telemetry::new().unwrap();
    let (operator, _record, _tasks) = start_with(&cluster, 3, true, telemetry.clone()).await;
    for node in ["n1", "n2"] {
        assert!(Stream::welcomed(&operator, hello(node)).await.snapshot().await.facts.emergency, "{node}");
    }
    assert_eq!(telemetry.emergency_nodes.get(), 2);
}

#[tokio::test]
async fn a_policy_goes_out_to_the_agents_and_their_answer_comes_back_as_its_status() {
    let cluster = Cluster::with(&["n1"], &[]);
    let (operator, record, _tasks) = start(&cluster, 3).await;
    let mut agent = Stream::welcomed(&operator, hello("n1")).await;
    assert_eq!(agent.snapshot().await.policies, []);

    cluster.change("ADDED", &policy("p", 1, json!({"metrics": {"exclude": ["node_load1"]}})));
    let told = agent.snapshot().await;
    assert_eq!((told.term, told.policies[0].name.as_str()), (3, "p"));
    agent.report(takes(&told)).await;
    record.wait_for_one(|a| says(a, "p", "Programmed", "True")).await;

    cluster.change("MODIFIED", &policy("p", 2, json!({"metrics": {"exclude": ["("]}})));
    let told = agent.snapshot().await;
    let held: Vec<_> = told.held.keys().collect();
    assert_eq!((told.policies.len(), held), (0, vec![&"p".to_owned()]), "the agent keeps what it had");
    record.wait_for_one(|a| says(a, "p", "Accepted", "False")).await;

    cluster.change("DELETED", &policy("p", 2, json!({})));
    let told = agent.snapshot().await;
    assert_eq!((told.policies.len(), told.held.len()), (0, 0));
}

#[tokio::test]
async fn only_nodes_that_a_change_concerns_are_told() {
    let cluster = Cluster::with(&["n1", "n2"], &[]);
    let (operator, _record, _tasks) = start(&cluster, 1).await;
    let (mut one, mut two) =
        (Stream::welcomed(&operator, hello("n1")).await, Stream::welcomed(&operator, hello("n2")).await);
    one.snapshot().await;
    two.snapshot().await;
    let selector = json!({"matchLabels": {"node": "n2"}});
    cluster.change("ADDED", &policy("second", 1, json!({"nodeSelector": selector})));
    assert_eq!(names(two.snapshot().await), ["second"]);
    cluster.change("ADDED", &policy("both", 1, json!({})));
    assert_eq!(names(one.snapshot().await), ["both"], "not what it had already");
    assert_eq!(names(two.snapshot().await), ["both", "second"]);
}

fn names(snapshot: Snapshot) -> Vec<String> {
    snapshot.policies.into_iter().map(|p| p.name).collect()
}

#[tokio::test]
async fn after_a_restart_agents_are_told_nothing_again_and_no_status_changes() {
    let spec = json!({"metrics": {"exclude": ["node_load1"]}});
    let cluster = Cluster::with(&["n1"], &[policy("p", 1, spec.clone())]);
    let (operator, record, tasks) = start(&cluster, 1).await;
    let mut agent = Stream::welcomed(&operator, hello("n1")).await;
    let told = agent.snapshot().await;
    agent.report(takes(&told)).await;
    let written = record.wait_for_one(|a| says(a, "p", "Programmed", "True")).await;
    drop(tasks);

    let mut stored = policy("p", 1, spec);
    stored["status"] = written.body["status"].clone();
    let cluster = Cluster::with(&["n1"], &[stored]);
    let (operator, record, _tasks) = start(&cluster, 2).await;
    let in_force: BTreeMap<String, Revision> =
        told.policies.iter().map(|p| (p.name.clone(), p.revision.clone())).collect();
    let mut agent =
        Stream::welcomed(&operator, Hello { in_force, digest: told.digest(), ..hello("n1") }).await;
    agent.report(takes(&told)).await;
    // The first that is told and the first that is written are those of a policy that came after.
    cluster.change("ADDED", &policy("q", 1, json!({})));
    let told = agent.snapshot().await;
    assert_eq!(told.policies.len(), 2);
    agent.report(takes(&told)).await;
    record.wait_for_one(|a| says(a, "q", "Programmed", "True")).await;
    let about_p = record.wait_for(0).await.into_iter().filter(|a| a.path.contains("/p/")).count();
    assert_eq!(about_p, 0);
}
