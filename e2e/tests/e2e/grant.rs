//! What users read when a kubelet refuses its agent: the missing grant, or the token that is not taken.

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::product::{Agent, NAMESPACE};
use e2e::wait::wait_for;
use serde_json::{Value, json};

use crate::installed::{PATIENCE, installed};
use crate::policy::Policy;

const DAEMON_SET: &str = "daemonset/exporter-agent";
/// What gives the agents' account all that they need.
const BINDING: &str = r#"{
    "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "exporter-agent"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "exporter-agent"},
    "subjects": [{"kind": "ServiceAccount", "name": "exporter-agent", "namespace": "exporter-operator"}]
}"#;

pub(crate) fn a_kubelet_that_refuses_is_named_in_the_policys_condition_until_it_is_mended(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let policy = Policy::new(cluster, "for-every-node", r#"{"metrics": {"exclude": ["node_load15"]}}"#)?;
    policy.apply()?;
    policy.condition("Programmed", "True", "Programmed")?;
    let changed = Changed::new(cluster)?;

    changed.without_grant()?;
    degraded(&policy, &[&agent.node, "403", "`get` on `nodes/pods`"])?;
    policy.condition("Programmed", "True", "Programmed")?;
    refused(cluster, "forbidden", "grant `get` on `nodes/pods`")?;
    cluster.kubectl.apply(BINDING)?;
    policy.no_condition("Degraded")?;

    changed.audience("somebody-else")?;
    degraded(&policy, &[&agent.node, "401", "audience"])?;
    refused(cluster, "unauthorized", "does not accept the token")?;
    changed.restore()?;
    policy.no_condition("Degraded")
}

/// Waits until the condition says all of this: the agents of several nodes are heard one after another.
fn degraded(policy: &Policy<'_>, said: &[&str]) -> Result<()> {
    wait_for(&format!("a condition that says {said:?}"), PATIENCE, || {
        let message = policy.condition("Degraded", "True", "KubeletRefused")?;
        for words in said {
            ensure!(message.contains(words), "no word of {words}: {message}");
        }
        Ok(Some(()))
    })
}

/// The agent says the same in its metrics and in its log.
fn refused(cluster: &Cluster, reason: &str, said: &str) -> Result<()> {
    let agent = Agent::first(cluster)?;
    let own = agent.scrape(cluster, "/metrics/agent")?;
    ensure!(own.one("exporter_agent_kubelet_up", &[])?.value == 0.0, "the kubelet is up");
    let errors = own.one("exporter_agent_kubelet_errors_total", &[("reason", reason)])?.value;
    ensure!(errors > 0.0, "no error is counted as {reason}");
    let log = cluster.kubectl.run(&["logs", "-n", NAMESPACE, &agent.pod])?;
    ensure!(log.contains(said), "no word of `{said}`:\n{log}");
    Ok(())
}

/// The agents without their grant or with another token, until this is dropped, however the test ends.
struct Changed<'a> {
    cluster: &'a Cluster,
    spec: Value,
}

impl<'a> Changed<'a> {
    fn new(cluster: &'a Cluster) -> Result<Self> {
        let spec = cluster.kubectl.get(&[DAEMON_SET, "-n", NAMESPACE])?["spec"]["template"]["spec"].clone();
        Ok(Self { cluster, spec })
    }

    /// Takes their grant away. Kubelets remember for minutes what a pod may do, but not of another pod.
    fn without_grant(&self) -> Result<()> {
        self.cluster.kubectl.delete(BINDING)?;
        let kubectl = &self.cluster.kubectl;
        kubectl.run(&["rollout", "restart", DAEMON_SET, "-n", NAMESPACE])?;
        kubectl.rollout(DAEMON_SET, NAMESPACE, PATIENCE)
    }

    /// Gives them a token for this audience where that for the kubelet is.
    fn audience(&self, audience: &str) -> Result<()> {
        let mut spec = self.spec.clone();
        let volumes = spec["volumes"].as_array_mut().context("no volumes")?;
        let sources = volumes
            .iter_mut()
            .filter(|volume| volume["name"] == "kubelet")
            .filter_map(|volume| volume.pointer_mut("/projected/sources")?.as_array_mut());
        let token = sources.flatten().find_map(|s| s.get_mut("serviceAccountToken"));
        token.context("no projected token")?["audience"] = json!(audience);
        self.put(&spec)
    }

    fn restore(&self) -> Result<()> {
        self.put(&self.spec)
    }

    fn put(&self, spec: &Value) -> Result<()> {
        let patch = json!([{"op": "replace", "path": "/spec/template/spec", "value": spec}]).to_string();
        let kubectl = &self.cluster.kubectl;
        kubectl.run(&["patch", DAEMON_SET, "-n", NAMESPACE, "--type=json", "-p", &patch])?;
        kubectl.rollout(DAEMON_SET, NAMESPACE, PATIENCE)
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        // Where nothing is changed, nothing is rolled out; what is gone already is no error.
        let _ = self.restore();
        let _ = self.cluster.kubectl.apply(BINDING);
    }
}
