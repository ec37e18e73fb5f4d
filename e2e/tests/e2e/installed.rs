//! The product on the cluster that the tests share: installed once, and how its parts are killed.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::cluster::Cluster;
use e2e::process::kill_all;
use e2e::product::{self, Agent, NAMESPACE};
use e2e::wait::wait_for;

/// How long anything may take that takes a second on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Installs the product and starts the sample pods, the first time; returns the agent of the first node.
pub(crate) fn installed(cluster: &Cluster) -> Result<Agent> {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    if INSTALLED.get().is_none() {
        product::install(cluster)?;
        product::start_sample_pods(cluster)?;
        let _ = INSTALLED.set(());
    }
    Agent::first(cluster)
}

/// Kills the operator's process and waits until it is ready again and heard by the agent.
pub(crate) fn restart_operator(cluster: &Cluster) -> Result<()> {
    let agent = Agent::first(cluster)?;
    restart(cluster, "exporter-operator", "exporter-operator run")?;
    wait_for("the agent to follow the new operator", PATIENCE, || {
        let own = agent.scrape(cluster, "/metrics/agent")?;
        Ok((own.one("exporter_agent_operator_connected", &[])?.value == 1.0).then_some(()))
    })
}

/// Kills the agent's process and waits until its container is ready again.
pub(crate) fn restart_agent(cluster: &Cluster, agent: &Agent) -> Result<()> {
    restart(cluster, "exporter-agent", "exporter-agent --web.listen-address=")
        .with_context(|| format!("the agent of {}", agent.node))
}

/// Takes the operator away, or brings it back; waits until that is so.
pub(crate) fn scale_operator(cluster: &Cluster, replicas: u8) -> Result<()> {
    let deployment = "deployment/exporter-operator";
    cluster.kubectl.run(&["scale", deployment, "-n", NAMESPACE, &format!("--replicas={replicas}")])?;
    cluster.kubectl.rollout(deployment, NAMESPACE, PATIENCE)?;
    wait_for("so many operators", PATIENCE, || {
        let label = "app.kubernetes.io/name=exporter-operator";
        let pods = cluster.kubectl.get(&["pods", "-n", NAMESPACE, "-l", label])?;
        Ok((pods["items"].as_array().map(Vec::len) == Some(replicas.into())).then_some(()))
    })
}

fn restart(cluster: &Cluster, app: &str, command_line: &str) -> Result<()> {
    let node = cluster.machine()?.nodes.first().context("no node")?;
    let status = || -> Result<(i64, bool)> {
        let label = format!("app.kubernetes.io/name={app}");
        let here = format!("--field-selector=spec.nodeName={}", node.name);
        let pods = cluster.kubectl.get(&["pods", "-n", NAMESPACE, "-l", &label, &here])?;
        let status = &pods["items"][0]["status"]["containerStatuses"][0];
        let count = status["restartCount"].as_i64().context("no container status")?;
        Ok((count, status["ready"].as_bool().unwrap_or_default()))
    };
    let (before, _) = status()?;
    let doomed = node.processes(command_line)?;
    anyhow::ensure!(!doomed.is_empty(), "no process `{command_line}` on {}", node.name);
    kill_all(app, || {
        node.processes(command_line).unwrap_or_default().into_iter().filter(|p| doomed.contains(p)).collect()
    })?;
    wait_for(&format!("{app} to be ready after its restart"), PATIENCE, || {
        Ok(status().map(|(count, is_ready)| count > before && is_ready)?.then_some(()))
    })
}
