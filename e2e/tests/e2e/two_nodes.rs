//! What only more than one node can show: who a policy is for, and nodes that are drained, go and come again.

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::monitoring::Prometheus;
use e2e::node::Node;
use e2e::product::{Agent, NAMESPACE, POLICIES};
use e2e::wait::wait_for;
use serde_json::json;

use crate::installed::PATIENCE;
use crate::monitoring::monitored;
use crate::policy::Policy;
use crate::release::DEPLOYMENT;

/// What a policy of these tests excludes.
const FAMILY: &str = "node_load15";

pub(crate) fn a_policy_with_a_node_selector_acts_on_one_node_only(cluster: &Cluster) -> Result<()> {
    let prometheus = monitored(cluster)?;
    holds(cluster, &prometheus, &["node1", "node2"])?;
    let policy = Policy::new(
        cluster,
        "of-one-node",
        r#"{"nodeSelector": {"matchLabels": {"kubernetes.io/hostname": "node2"}}, "metrics": {"exclude": ["node_load15"]}}"#,
    )?;
    policy.apply()?;
    policy.condition("Programmed", "True", "Programmed")?;
    nodes(cluster, "of-one-node", 1, 1)?;
    holds(cluster, &prometheus, &["node1"])?;
    policy.delete()?;
    holds(cluster, &prometheus, &["node1", "node2"])
}

pub(crate) fn a_drained_node_keeps_its_agent_which_follows_the_operator_to_another_node(
    cluster: &Cluster,
) -> Result<()> {
    let prometheus = monitored(cluster)?;
    let everywhere = Policy::new(cluster, "everywhere", r#"{"metrics": {"exclude": ["node_load15"]}}"#)?;
    everywhere.apply()?;
    nodes(cluster, "everywhere", 2, 2)?;
    holds(cluster, &prometheus, &[])?;
    let before = Agent::all(cluster)?;
    ensure!(operator(cluster)? == "node2", "the operator is not where it is to be drained from");

    let _until_the_end = Drained::drain(cluster, "node2")?;
    cluster.kubectl.rollout(DEPLOYMENT, NAMESPACE, PATIENCE)?;
    wait_for("the operator on the other node", PATIENCE, || {
        Ok((operator(cluster)? == "node1").then_some(()))
    })?;
    // What holds only if the agents hear the operator where it is now.
    let edited = Policy::new(cluster, "everywhere", r#"{"metrics": {"exclude": ["node_load5"]}}"#)?;
    edited.apply()?;
    edited.condition("Programmed", "True", "Programmed")?;
    nodes(cluster, "everywhere", 2, 2)?;
    holds(cluster, &prometheus, &["node1", "node2"])?;
    ensure!(Agent::all(cluster)? == before, "the drain replaced an agent");
    Ok(())
}

pub(crate) fn a_node_object_that_is_deleted_and_made_again_is_selected_again(
    cluster: &Cluster,
) -> Result<()> {
    let prometheus = monitored(cluster)?;
    let policy = Policy::new(cluster, "everywhere", r#"{"metrics": {"exclude": ["node_load15"]}}"#)?;
    policy.apply()?;
    nodes(cluster, "everywhere", 2, 2)?;

    cluster.kubectl.run(&["delete", "node", "node2", "--wait=false"])?;
    nodes(cluster, "everywhere", 1, 1)?;
    // Nobody tells its agent anything now, so what is in force stays.
    holds(cluster, &prometheus, &[])?;
    // A kubelet makes the object of its node only when it starts.
    second(cluster)?.restart_kubelet()?;
    wait_for("the node to be Ready again", PATIENCE, || {
        cluster.kubectl.wait("condition=Ready", &["node/node2"], PATIENCE).map(Some)
    })?;
    nodes(cluster, "everywhere", 2, 2)?;
    holds(cluster, &prometheus, &[])?;

    let edited = Policy::new(cluster, "everywhere", r#"{"metrics": {"exclude": ["node_load5"]}}"#)?;
    edited.apply()?;
    nodes(cluster, "everywhere", 2, 2)?;
    holds(cluster, &prometheus, &["node1", "node2"])
}

/// A node that takes no pods, until this is dropped.
struct Drained<'a> {
    cluster: &'a Cluster,
    node: &'static str,
}

impl<'a> Drained<'a> {
    fn drain(cluster: &'a Cluster, node: &'static str) -> Result<Self> {
        let drained = Self { cluster, node };
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        cluster.kubectl.run(&["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", &timeout])?;
        Ok(drained)
    }
}

impl Drop for Drained<'_> {
    fn drop(&mut self) {
        // A failure shows in the next test, which finds no agent or no operator.
        let _ = self.cluster.kubectl.run(&["uncordon", self.node]);
    }
}

fn second(cluster: &Cluster) -> Result<&Node> {
    cluster.machine()?.nodes.get(1).context("no second node")
}

/// The node on which the operator is.
fn operator(cluster: &Cluster) -> Result<String> {
    let label = "app.kubernetes.io/component=operator";
    let pods = cluster.kubectl.get(&["pods", "-n", NAMESPACE, "-l", label])?;
    let pods = pods["items"].as_array().context("no list of pods")?;
    let pod =
        pods.iter().find(|pod| pod["metadata"]["deletionTimestamp"].is_null()).context("no operator")?;
    pod["spec"]["nodeName"].as_str().map(str::to_owned).context("the operator has no node")
}

/// Waits until the status of a policy counts so many nodes that it selects, and on which it holds.
fn nodes(cluster: &Cluster, policy: &str, selected: u32, updated: u32) -> Result<()> {
    wait_for(&format!("{policy} on {updated} of {selected} nodes"), PATIENCE, || {
        let policy = cluster.kubectl.get(&[POLICIES, policy])?;
        let (status, generation) = (&policy["status"], &policy["metadata"]["generation"]);
        let counts = json!({"selected": selected, "updated": updated, "rejected": 0});
        ensure!(status["nodes"] == counts && status["observedGeneration"] == *generation, "{status}");
        Ok(Some(()))
    })
}

/// Waits until these nodes and no others expose the family that policies exclude, to us and to Prometheus.
fn holds(cluster: &Cluster, prometheus: &Prometheus<'_>, with: &[&str]) -> Result<()> {
    wait_for(&format!("{FAMILY} of {with:?}"), PATIENCE, || {
        let agents = Agent::all(cluster)?;
        ensure!(agents.len() == 2, "agents that are ready: {agents:?}");
        for agent in &agents {
            let exposition = agent.scrape(cluster, "/metrics/node")?;
            ensure!(exposition.has("node_load1"), "{} exposes nothing", agent.node);
            let has = exposition.has(FAMILY);
            ensure!(
                has == with.contains(&agent.node.as_str()),
                "{FAMILY} is exposed by {}: {has}",
                agent.node
            );
        }
        let answer = prometheus.query(&format!(r#"{FAMILY}{{job="node-exporter"}}"#))?;
        let mut instances: Vec<&str> = answer.iter().map(|sample| sample.label("instance")).collect();
        instances.sort_unstable();
        ensure!(instances == with, "PromQL has {FAMILY} of {instances:?}");
        // Series of an agent that nobody scrapes any more would end too.
        let up = prometheus.query(r#"up{job="node-exporter"} == 1"#)?;
        ensure!(up.len() == 2, "{up:?}");
        Ok(Some(()))
    })
}
