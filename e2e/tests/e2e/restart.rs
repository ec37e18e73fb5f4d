//! What is exposed while parts of the product end and begin again.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::product::{Agent, NAMESPACE};
use e2e::wait::wait_for;

use crate::installed::{self, PATIENCE, installed};

/// Something to keep: a label that shows and a family that does not.
const POLICY: &str = r#"{
    "apiVersion": "exporter-operator.dev/v1alpha1", "kind": "ExporterPolicy", "metadata": {"name": "kept"},
    "spec": {"labels": {"podLabels": ["app.kubernetes.io/component"]}, "metrics": {"exclude": ["container_spec_.*"]}}
}"#;

pub(crate) fn nothing_changes_when_the_operator_is_killed_and_restarted(cluster: &Cluster) -> Result<()> {
    let agent = installed(cluster)?;
    let before = kept(cluster, &agent)?;
    installed::restart_operator(cluster)?;
    let after = series(cluster, &agent)?;
    cluster.kubectl.delete(POLICY)?;
    same(&before, &after)
}

pub(crate) fn nothing_changes_when_the_agents_container_is_killed_and_restarted(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let before = kept(cluster, &agent)?;
    installed::restart_agent(cluster, &agent)?;
    let after = settled(cluster, &agent, &before);
    cluster.kubectl.delete(POLICY)?;
    after
}

pub(crate) fn an_agent_that_restarts_while_the_operator_is_away_keeps_what_was_last_good(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let before = kept(cluster, &agent)?;
    installed::scale_operator(cluster, 0)?;
    installed::restart_agent(cluster, &agent)?;
    let alone = settled(cluster, &agent, &before);
    installed::scale_operator(cluster, 1)?;
    alone?;
    wait_for("the agent to follow the operator again", PATIENCE, || {
        let own = agent.scrape(cluster, "/metrics/agent")?;
        Ok((own.one("exporter_agent_operator_connected", &[])?.value == 1.0).then_some(()))
    })?;
    let after = series(cluster, &agent)?;
    cluster.kubectl.delete(POLICY)?;
    same(&before, &after)
}

/// Applies the policy, waits until it holds, and returns what is exposed then.
fn kept(cluster: &Cluster, agent: &Agent) -> Result<BTreeSet<String>> {
    cluster.kubectl.apply(POLICY)?;
    wait_for("the policy to hold", PATIENCE, || {
        let series = series(cluster, agent)?;
        // The kubelet names the image of a container some time after its cgroup is there.
        let mut of_containers =
            series.iter().filter(|s| s.contains("container=") && !s.contains("container=\"\""));
        ensure!(of_containers.all(|s| !s.contains("image=\"\"")), "a container without its image");
        let labelled = series.iter().any(|s| s.contains("label_app_kubernetes_io_component=\"backend\""));
        // What the kubelet says of the disk comes after its first answer about it, and the limits of a process when the
        // runtime's own has become it.
        let late = ["container_ephemeral_storage_usage_bytes{", "container_ulimits_soft{container=\"cart\""];
        let is_whole = late.iter().all(|late| series.iter().any(|s| s.starts_with(late)));
        let excluded = !series.iter().any(|s| s.starts_with("container_spec_"));
        Ok((labelled && is_whole && excluded).then_some(series))
    })
}

/// An agent that has just started asks the kubelet first, so what it withholds meanwhile is waited for.
fn settled(cluster: &Cluster, agent: &Agent, before: &BTreeSet<String>) -> Result<()> {
    let mut leaked = None;
    let found = wait_for("what was exposed before the restart", PATIENCE, || {
        let after = series(cluster, agent)?;
        if let Some(excluded) = after.iter().find(|s| s.starts_with("container_spec_")) {
            leaked = Some(excluded.clone());
        }
        same(before, &after)?;
        Ok(Some(()))
    });
    // Not for a moment, as often as it was looked at.
    ensure!(leaked.is_none(), "what the policy excludes was exposed after the restart: {leaked:?}");
    found
}

/// Every series of machine and pods, without its value; those of the product's own pods change when they restart.
fn series(cluster: &Cluster, agent: &Agent) -> Result<BTreeSet<String>> {
    let exposition = agent.scrape(cluster, "/metrics")?;
    let others = exposition
        .samples()
        .iter()
        .filter(|s| !s.name.starts_with("exporter_agent_") && s.label("namespace") != NAMESPACE)
        // Mounts and interfaces of pods come and go with these pods.
        .filter(|s| !s.name.starts_with("node_filesystem_") && !s.name.starts_with("node_network_"))
        .filter(|s| !s.label("device").starts_with("veth"))
        .filter(|s| s.label("interface").is_empty() || s.label("interface") == "eth0");
    Ok(others
        .map(|s| {
            format!(
                "{}{{{}}}",
                s.name,
                s.labels.iter().map(|(k, v)| format!("{k}={v:?},")).collect::<String>()
            )
        })
        .collect())
}

fn same(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Result<()> {
    let gone: Vec<_> = before.difference(after).take(5).collect();
    let new: Vec<_> = after.difference(before).take(5).collect();
    ensure!(gone.is_empty() && new.is_empty(), "gone: {gone:#?}\nnew: {new:#?}");
    before.first().context("nothing was exposed").map(drop)
}
