//! The chart on a real cluster: installed, upgraded, rolled back and uninstalled by both majors of Helm.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::parts::{HELM, HELM4};
use e2e::product::{Agent, NAMESPACE, POLICIES};
use e2e::wait::wait_for;

use crate::installed::PATIENCE;
use crate::release::{DEPLOYMENT, Release, level};

/// Rolls every agent, and brings an object that was not there, a budget for the two operators.
const CHANGE: &[&str] = &["--set=agent.logLevel=debug,operator.replicas=2"];

/// Something that only a policy does: a label that shows and a family that does not.
pub(crate) const POLICY: &str = r#"{
    "apiVersion": "exporter-operator.dev/v1alpha1", "kind": "ExporterPolicy", "metadata": {"name": "of-the-chart"},
    "spec": {"labels": {"podLabels": ["app.kubernetes.io/component"]}, "metrics": {"exclude": ["container_spec_.*"]}}
}"#;

pub(crate) fn the_chart_installs_and_its_agents_expose_pods(cluster: &Cluster) -> Result<()> {
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    let start = Instant::now();
    release.install(&["--wait"])?;
    let installed = start.elapsed();
    release.agents_are_ready()?;
    let agent = Agent::first(cluster)?;
    exposes(cluster, &agent)?;
    println!(
        "from `helm install` to the first exposition of a pod: {:.1} s, of which `helm install --wait` took {:.1} s",
        start.elapsed().as_secs_f64(),
        installed.as_secs_f64()
    );
    wait_for("the agent to hear the operator", PATIENCE, || {
        let own = agent.scrape(cluster, "/metrics/agent")?;
        Ok((own.one("exporter_agent_operator_connected", &[])?.value == 1.0).then_some(()))
    })
}

pub(crate) fn a_policy_acts_through_the_chart_and_survives_upgrade_rollback_and_uninstall(
    cluster: &Cluster,
) -> Result<()> {
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    release.install(&["--wait"])?;
    cluster.kubectl.apply(POLICY)?;
    let first = acts(cluster)?;
    let policy = policy(cluster)?;

    release.upgrade(CHANGE)?;
    let upgraded = acts(cluster).context("after the upgrade")?;
    ensure!(upgraded != first, "the upgrade did not replace {}", first.pod);
    ensure!(is_budgeted(cluster)?, "two operators have no PodDisruptionBudget");

    release.rollback("1")?;
    let rolled_back = acts(cluster).context("after the rollback")?;
    ensure!(rolled_back != upgraded, "the rollback did not replace {}", upgraded.pod);
    ensure!(!is_budgeted(cluster)?, "the rollback left the PodDisruptionBudget");

    release.uninstall()?;
    ensure!(self::policy(cluster)? == policy, "the uninstall changed the policy");

    release.install(&["--wait"])?;
    let found = acts(cluster).context("after the reinstall")?;
    ensure!(found != rolled_back, "{} outlived the uninstall", found.pod);
    ensure!(self::policy(cluster)? == policy, "the reinstall changed the policy");
    Ok(())
}

pub(crate) fn helm_4_installs_and_upgrades_too(cluster: &Cluster) -> Result<()> {
    let release = Release::none_yet(cluster, HELM4, "privileged")?;
    release.install(&["--wait"])?;
    let first = Agent::first(cluster)?;
    exposes(cluster, &first)?;
    cluster.kubectl.apply(POLICY)?;
    release.upgrade(CHANGE)?;
    let upgraded = acts(cluster).context("after the upgrade")?;
    ensure!(upgraded != first, "the upgrade did not replace {}", first.pod);
    let policy = policy(cluster)?;
    release.uninstall()?;
    ensure!(self::policy(cluster)? == policy, "the uninstall changed the policy");
    Ok(())
}

pub(crate) fn pod_security_that_refuses_the_agent_says_so_in_an_event(cluster: &Cluster) -> Result<()> {
    let release = Release::none_yet(cluster, HELM, "baseline")?;
    release.install(&[])?;
    wait_for("an event that names what is refused", PATIENCE, || {
        let of_it = "--field-selector=reason=FailedCreate,involvedObject.kind=DaemonSet";
        let events = cluster.kubectl.get(&["events", "-n", NAMESPACE, of_it])?;
        let event = events["items"].as_array().and_then(|it| it.first()).context("no event")?;
        let message = event["message"].as_str().unwrap_or_default();
        ensure!(
            event["involvedObject"]["name"] == "exporter-operator-agent"
                && message.contains("hostPath volumes"),
            "{event}"
        );
        Ok(Some(()))
    })?;
    cluster.kubectl.rollout(DEPLOYMENT, NAMESPACE, PATIENCE).context("the operator needs no privilege")?;
    // What the notes of the chart advise.
    cluster.kubectl.run(&["label", "namespace", NAMESPACE, &level("privileged"), "--overwrite"])?;
    exposes(cluster, &Agent::first(cluster)?)
}

/// Waits until an agent exposes its machine and a sample pod.
fn exposes(cluster: &Cluster, agent: &Agent) -> Result<()> {
    wait_for("machine and pods to be exposed", PATIENCE, || {
        let all = agent.scrape(cluster, "/metrics")?;
        ensure!(all.has("node_load1"), "no node_load1");
        let cart =
            all.one("container_cpu_usage_seconds_total", &[("namespace", "shop"), ("container", "cart")])?;
        ensure!(cart.label("pod").starts_with("cart-"), "{cart:?}");
        Ok(Some(()))
    })
}

/// Waits until the policy holds at the agent; returns this agent.
pub(crate) fn acts(cluster: &Cluster) -> Result<Agent> {
    let agent = Agent::first(cluster)?;
    wait_for("the policy to hold", PATIENCE, || {
        let all = agent.scrape(cluster, "/metrics")?;
        let cart =
            all.one("container_cpu_usage_seconds_total", &[("namespace", "shop"), ("container", "cart")])?;
        ensure!(cart.label("label_app_kubernetes_io_component") == "backend", "no label: {cart:?}");
        ensure!(!all.has("container_spec_memory_limit_bytes"), "what it excludes is exposed");
        Ok(Some(()))
    })?;
    Ok(agent)
}

/// The identity of the policy and its generation, which an edit changes.
fn policy(cluster: &Cluster) -> Result<(String, String)> {
    let metadata = &cluster.kubectl.get(&[POLICIES, "of-the-chart"])?["metadata"];
    Ok((metadata["uid"].to_string(), metadata["generation"].to_string()))
}

fn is_budgeted(cluster: &Cluster) -> Result<bool> {
    let budgets = cluster.kubectl.get(&["poddisruptionbudgets", "-n", NAMESPACE])?;
    Ok(budgets["items"].as_array().is_some_and(|it| !it.is_empty()))
}
