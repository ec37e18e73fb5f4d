//! How long the last good configuration lasts while the operator is away: a container, a pod, a node.

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::parts::HELM;
use e2e::process::output;
use e2e::product::{Agent, NAMESPACE};
use e2e::wait::wait_for;

use crate::chart::{POLICY, acts};
use crate::installed::{self, PATIENCE};
use crate::release::Release;

/// Replaces every agent, as any upgrade of the agent does, and leaves the operator away.
const ROLL: &str = "--set=operator.replicas=0,agent.podAnnotations.rolled=yes";

const HOST_PATH: &str = "/var/lib/exporter-agent";

pub(crate) fn on_a_host_path_it_outlives_the_pod(cluster: &Cluster) -> Result<()> {
    let value = format!("--set=agent.lastGood.hostPath={HOST_PATH}");
    let (release, first) = with_the_operator_away(cluster, &[&value])?;
    // Somebody opens it to others; the next pod closes it again.
    on_node(cluster, &["chmod", "755", HOST_PATH])?;
    release.upgrade(&[&value, ROLL])?;
    let rolled = acts(cluster).context("after the upgrade")?;
    ensure!(rolled != first, "the upgrade did not replace {}", first.pod);
    is_from(cluster, &rolled, "last_good")?;
    let found = on_node(cluster, &["stat", "--format=%a %u:%g", HOST_PATH])?;
    ensure!(found.trim() == "700 65532:65532", "{HOST_PATH}: {found}");

    installed::scale_operator(cluster, 1)?;
    wait_for("the agent to hear the operator", PATIENCE, || {
        let own = rolled.scrape(cluster, "/metrics/agent")?;
        Ok((own.one("exporter_agent_operator_connected", &[])?.value == 1.0).then_some(()))
    })?;
    ensure!(acts(cluster)? == rolled, "{} was replaced", rolled.pod);
    Ok(())
}

pub(crate) fn without_one_a_new_pod_exposes_the_machine_only_until_it_hears_the_operator(
    cluster: &Cluster,
) -> Result<()> {
    let (release, first) = with_the_operator_away(cluster, &[])?;
    release.upgrade(&[ROLL])?;
    let rolled = Agent::first(cluster)?;
    ensure!(rolled != first, "the upgrade did not replace {}", first.pod);
    is_from(cluster, &rolled, "waiting")?;
    // By now it could expose them.
    wait_for("the agent to know the pods", PATIENCE, || {
        let own = rolled.scrape(cluster, "/metrics/agent")?;
        Ok((own.one("exporter_agent_kubelet_pods", &[])?.value > 0.0).then_some(()))
    })?;
    let all = rolled.scrape(cluster, "/metrics")?;
    ensure!(all.has("node_load1"), "no node_load1");
    let leaked = all.samples().iter().find(|it| it.name.starts_with("container_"));
    ensure!(leaked.is_none(), "exposed before any policy is known: {leaked:?}");

    installed::scale_operator(cluster, 1)?;
    ensure!(acts(cluster)? == rolled, "{} was replaced", rolled.pod);
    is_from(cluster, &rolled, "operator")
}

pub(crate) fn a_directory_of_somebody_else_is_refused_in_the_status_of_the_pod(
    cluster: &Cluster,
) -> Result<()> {
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    // The kubelet's own, which is root's and not empty.
    release.install(&["--set=agent.lastGood.hostPath=/var/lib/kubelet"])?;
    wait_for("the refusal in the status of the pod", PATIENCE, || {
        let pods = cluster.kubectl.get(&["pods", "-n", NAMESPACE])?;
        let said = pods.to_string();
        ensure!(said.contains("is not empty, there is `"), "no such message: {said}");
        Ok(Some(()))
    })?;
    let found = on_node(cluster, &["stat", "--format=%u", "/var/lib/kubelet"])?;
    ensure!(found.trim() == "0", "the directory was taken: {found}");
    Ok(())
}

/// Installs with these values, puts a policy in force, takes the operator away and restarts the agent's container, which
/// keeps the policy whatever the values are.
fn with_the_operator_away<'a>(cluster: &'a Cluster, values: &[&str]) -> Result<(Release<'a>, Agent)> {
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    release.install(&[&["--wait"], values].concat())?;
    cluster.kubectl.apply(POLICY)?;
    let first = acts(cluster)?;
    installed::scale_operator(cluster, 0)?;
    installed::restart_agent(cluster, &first)?;
    ensure!(acts(cluster).context("after the restart")? == first, "{} was replaced", first.pod);
    is_from(cluster, &first, "last_good")?;
    Ok((release, first))
}

/// Waits until the configuration in force is from this source.
fn is_from(cluster: &Cluster, agent: &Agent, source: &str) -> Result<()> {
    wait_for(&format!("a configuration from: {source}"), PATIENCE, || {
        let own = agent.scrape(cluster, "/metrics/agent")?;
        let found = own.one("exporter_agent_config_source_info", &[])?;
        ensure!(found.label("source") == source, "it is from: {}", found.label("source"));
        Ok(Some(()))
    })
}

/// Runs a program on the node.
fn on_node(cluster: &Cluster, words: &[&str]) -> Result<String> {
    let node = cluster.machine()?.nodes.first().context("no node")?;
    let (program, arguments) = words.split_first().context("no program")?;
    output(node.command(program)?.args(arguments))
}
