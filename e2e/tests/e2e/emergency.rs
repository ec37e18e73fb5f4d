//! What is left when a node, or all of them, are put in emergency, and that everything comes back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::product::{Agent, NAMESPACE};
use e2e::wait::wait_for;

use crate::installed::{PATIENCE, installed};
use crate::policy::{Policy, restarts};

/// What a policy does that an emergency takes away, and two things that it excludes.
const POLICY: &str = r#"{
    "labels": {"podLabels": ["app.kubernetes.io/name"]},
    "metrics": {"exclude": ["container_start_time_seconds", "node_load5"]}
}"#;

/// Of the profile Minimal what the agents have and the policy leaves.
const LEFT: [&str; 5] = [
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "container_oom_events_total",
];

const ANNOTATION: &str = "exporter-operator.dev/emergency";
/// What "within seconds" is taken for.
const SECONDS: Duration = Duration::from_secs(10);

pub(crate) fn an_annotated_node_exposes_the_minimal_profile_within_seconds_and_is_back_without_a_restart(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let policy = Policy::new(cluster, "with-a-secret", POLICY)?;
    policy.apply()?;
    let before = wait_for("the policy to hold", PATIENCE, || full(cluster, &agent))?;
    policy.condition("Programmed", "True", "Programmed")?;
    let restarts_before = restarts(cluster, &agent)?;

    let annotated = Instant::now();
    let annotation = Annotation::new(cluster, &agent.node)?;
    wait_for("the emergency in the exposition", SECONDS, || minimal(cluster, &agent))?;
    println!("from `kubectl annotate` to the emergency: {:.2} s", annotated.elapsed().as_secs_f64());
    let message = policy.condition("Degraded", "True", "Emergency")?;
    ensure!(message.contains(&agent.node) && message.contains(ANNOTATION), "{message}");
    policy.condition("Accepted", "True", "Accepted")?;
    policy.condition("Programmed", "True", "Programmed")?;

    annotation.remove()?;
    wait_for("everything to be back", SECONDS, || {
        let after = full(cluster, &agent)?.context("not yet")?;
        let gone: Vec<_> = before.difference(&after).collect();
        ensure!(gone.is_empty(), "gone: {gone:?}");
        Ok(Some(()))
    })?;
    policy.no_condition("Degraded")?;
    ensure!(restarts(cluster, &agent)? == restarts_before, "the agent was restarted");
    Ok(())
}

pub(crate) fn an_operator_in_emergency_tells_every_agent_and_one_without_it_ends_it(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let policy = Policy::new(cluster, "with-a-secret", POLICY)?;
    policy.apply()?;
    wait_for("the policy to hold", PATIENCE, || full(cluster, &agent))?;
    let restarts_before = restarts(cluster, &agent)?;

    let flag = Flag::new(cluster)?;
    wait_for("the emergency in the exposition", PATIENCE, || minimal(cluster, &agent))?;
    let message = policy.condition("Degraded", "True", "Emergency")?;
    ensure!(message.contains("--emergency"), "{message}");

    flag.remove()?;
    wait_for("everything to be back", PATIENCE, || full(cluster, &agent))?;
    policy.no_condition("Degraded")?;
    ensure!(restarts(cluster, &agent)? == restarts_before, "the agent was restarted");
    Ok(())
}

/// The families that are exposed, once they are what the policy alone leaves.
fn full(cluster: &Cluster, agent: &Agent) -> Result<Option<BTreeSet<String>>> {
    let all = agent.scrape(cluster, "/metrics")?;
    let cart = all.one("container_memory_cache", &[("namespace", "shop"), ("container", "cart")])?;
    ensure!(cart.label("label_app_kubernetes_io_name") == "cart", "no label: {cart:?}");
    excluded(&all)?;
    ensure!(all.one("exporter_agent_emergency", &[])?.value == 0.0, "the agent is in emergency");
    Ok(Some(all.samples().iter().map(|s| s.name.clone()).collect()))
}

/// Whether the agent exposes what an emergency leaves, and nothing else of containers.
fn minimal(cluster: &Cluster, agent: &Agent) -> Result<Option<()>> {
    let all = agent.scrape(cluster, "/metrics")?;
    let containers = all.samples().iter().filter(|s| s.name.starts_with("container_"));
    let families: BTreeSet<&str> = containers.clone().map(|s| s.name.as_str()).collect();
    let more: Vec<_> = families.iter().filter(|family| !LEFT.contains(family)).collect();
    ensure!(more.is_empty(), "more than an emergency leaves: {more:?}");
    let labelled = containers.clone().find(|s| s.labels.keys().any(|label| label.starts_with("label_")));
    ensure!(labelled.is_none(), "a pod label: {labelled:?}");
    let cart = [("namespace", "shop"), ("container", "cart")];
    all.one("container_cpu_usage_seconds_total", &cart)?;
    all.one("container_memory_working_set_bytes", &cart)?;
    ensure!(all.has("node_load1") && all.has("node_cpu_seconds_total"), "no metrics of the machine");
    excluded(&all)?;
    ensure!(all.one("exporter_agent_emergency", &[])?.value == 1.0, "the agent does not say so");
    Ok(Some(()))
}

fn excluded(all: &e2e::exposition::Exposition) -> Result<()> {
    for family in ["container_start_time_seconds", "node_load5"] {
        ensure!(!all.has(family), "{family} although a policy excludes it");
    }
    Ok(())
}

/// A node in emergency until this is dropped, however the test ends.
struct Annotation<'a> {
    cluster: &'a Cluster,
    node: String,
}

impl<'a> Annotation<'a> {
    fn new(cluster: &'a Cluster, node: &str) -> Result<Self> {
        let annotation = Self { cluster, node: node.to_owned() };
        annotation.annotate(&format!("{ANNOTATION}=true")).map(|()| annotation)
    }

    fn remove(&self) -> Result<()> {
        self.annotate(&format!("{ANNOTATION}-"))
    }

    fn annotate(&self, what: &str) -> Result<()> {
        self.cluster.kubectl.run(&["annotate", "node", &self.node, what, "--overwrite"]).map(drop)
    }
}

impl Drop for Annotation<'_> {
    fn drop(&mut self) {
        // One that is gone already is no error.
        let _ = self.remove();
    }
}

/// An operator with `--emergency` until this is dropped.
struct Flag<'a> {
    cluster: &'a Cluster,
    arguments: serde_json::Value,
}

const DEPLOYMENT: &str = "deployment/exporter-operator";

impl<'a> Flag<'a> {
    fn new(cluster: &'a Cluster) -> Result<Self> {
        let deployment = cluster.kubectl.get(&[DEPLOYMENT, "-n", NAMESPACE])?;
        let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone();
        let flag = Self { cluster, arguments };
        let mut with = flag.arguments.clone();
        with.as_array_mut().context("no arguments")?.push("--emergency".into());
        flag.patch(&with).map(|()| flag)
    }

    fn remove(&self) -> Result<()> {
        self.patch(&self.arguments)
    }

    fn patch(&self, arguments: &serde_json::Value) -> Result<()> {
        let path = "/spec/template/spec/containers/0/args";
        let patch = serde_json::json!([{"op": "replace", "path": path, "value": arguments}]).to_string();
        let kubectl = &self.cluster.kubectl;
        kubectl.run(&["patch", DEPLOYMENT, "-n", NAMESPACE, "--type=json", "-p", &patch])?;
        kubectl.rollout(DEPLOYMENT, NAMESPACE, PATIENCE)
    }
}

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        // Where nothing is changed, nothing is rolled out.
        let _ = self.remove();
    }
}
