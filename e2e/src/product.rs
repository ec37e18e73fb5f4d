//! The product on a cluster: installs operator and agents from plain manifests and asks the agents what they expose.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::cluster::Cluster;
use crate::exposition::Exposition;
use crate::http::{self, Response};
use crate::programs::{AGENT, OPERATOR};
use crate::wait::wait_for;

/// The namespace of operator and agents.
pub const NAMESPACE: &str = "exporter-operator";
/// The port of the agents.
pub const AGENT_PORT: u16 = 9110;
/// The name of the resource, as kubectl takes it.
pub const POLICIES: &str = "exporterpolicies.exporter-operator.dev";

const NAMESPACE_MANIFEST: &str = include_str!("../manifests/namespace.yaml");
const OPERATOR_MANIFEST: &str = include_str!("../manifests/operator.yaml");
const AGENT_MANIFEST: &str = include_str!("../manifests/agent.yaml");
const SAMPLE_PODS_MANIFEST: &str = include_str!("../manifests/sample-pods.yaml");

/// Where the operator publishes its authority, as a volume has it.
const OPERATOR_CA: &str = "                  name: exporter-operator-ca";

const PATIENCE: Duration = Duration::from_secs(120);

/// Builds operator and agent, loads their images, and installs the resource, the operator and the agents.
pub fn install(cluster: &Cluster) -> Result<()> {
    cluster.load(&[OPERATOR, AGENT])?;
    apply(cluster)
}

/// As [`install`], when the images are there.
pub fn apply(cluster: &Cluster) -> Result<()> {
    let crd = file("../crds/exporterpolicies.yaml")?;
    cluster.kubectl.apply_server_side(&crd, "e2e")?;
    // One that has no condition at all yet is an error to kubectl.
    wait_for("the resource to be established", PATIENCE, || {
        cluster.kubectl.wait("condition=Established", &["crd", POLICIES], PATIENCE).map(Some)
    })?;
    cluster.kubectl.apply(NAMESPACE_MANIFEST)?;
    cluster.kubectl.apply(OPERATOR_MANIFEST)?;
    rollout(cluster, "deployment/exporter-operator")?;
    // After the operator's Service, whose address a pod's environment holds only if the Service was there first.
    cluster.kubectl.apply(AGENT_MANIFEST)?;
    rollout(cluster, "daemonset/exporter-agent")
}

/// Builds the agent and runs it without an operator, which exposes everything of its node: for a cluster in which pods
/// reach no Service. The image is that of the sandbox of every pod.
pub fn install_agent(cluster: &Cluster, sandbox_image: &str) -> Result<()> {
    cluster.load(&[AGENT])?;
    cluster.kubectl.apply(NAMESPACE_MANIFEST)?;
    cluster.kubectl.apply(&agent_alone(sandbox_image))?;
    rollout(cluster, "daemonset/exporter-agent")
}

/// Removes what [`install_agent`] made.
pub fn remove_agent(cluster: &Cluster) -> Result<()> {
    cluster.kubectl.delete(AGENT_MANIFEST)?;
    cluster.kubectl.delete(NAMESPACE_MANIFEST).map(drop)
}

fn agent_alone(sandbox_image: &str) -> String {
    let is_of_operator = |line: &&str| {
        ["- --operator", "- --last-good=", "- --sandbox-image="]
            .iter()
            .any(|it| line.trim_start().starts_with(it))
    };
    let lines: Vec<_> = AGENT_MANIFEST.lines().filter(|line| !is_of_operator(line)).collect();
    let first = "            - --node-name=$(NODE_NAME)";
    let alone =
        lines.join("\n").replace(first, &format!("{first}\n            - --sandbox-image={sandbox_image}"));
    // A pod waits for the ConfigMap of each of its volumes, and this one nobody makes there.
    alone.replace(OPERATOR_CA, &format!("{OPERATOR_CA}\n                  optional: true"))
}

/// Removes what [`install`] and [`start_sample_pods`] made, for a cluster that outlives us.
pub fn uninstall(cluster: &Cluster) -> Result<()> {
    remove(cluster)?;
    cluster.kubectl.delete(SAMPLE_PODS_MANIFEST).map(drop)
}

/// As [`uninstall`], but leaves the sample pods.
pub fn remove(cluster: &Cluster) -> Result<()> {
    // The resource goes first, and with it every policy.
    cluster.kubectl.delete(&file("../crds/exporterpolicies.yaml")?)?;
    for manifest in [AGENT_MANIFEST, OPERATOR_MANIFEST, NAMESPACE_MANIFEST] {
        cluster.kubectl.delete(manifest)?;
    }
    Ok(())
}

/// Starts the sample pods, in the namespaces `shop` (label `team: web`) and `batch`, and waits for them.
pub fn start_sample_pods(cluster: &Cluster) -> Result<()> {
    cluster.kubectl.apply(SAMPLE_PODS_MANIFEST)?;
    for namespace in ["shop", "batch"] {
        cluster.kubectl.wait("condition=Available", &["deployment", "--all", "-n", namespace], PATIENCE)?;
    }
    Ok(())
}

/// The sample policies in `crds/samples/`, by name of file.
pub fn sample_policies() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/samples");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    Ok(files)
}

/// One running agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its pod.
    pub pod: String,
    /// The node that it measures.
    pub node: String,
    address: IpAddr,
}

impl Agent {
    /// The ready agent of every node, by name of node.
    pub fn all(cluster: &Cluster) -> Result<Vec<Self>> {
        let pods =
            cluster.kubectl.get(&["pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=exporter-agent"])?;
        let mut agents = Vec::new();
        for pod in pods["items"].as_array().into_iter().flatten() {
            let conditions = pod["status"]["conditions"].as_array();
            let ready =
                conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True");
            if !ready || pod["metadata"]["deletionTimestamp"].is_string() {
                continue;
            }
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            agents.push(Self {
                pod: text(&pod["metadata"]["name"]),
                node: text(&pod["spec"]["nodeName"]),
                address: text(&pod["status"]["podIP"]).parse().context("a ready pod has no address")?,
            });
        }
        agents.sort_by(|one, other| one.node.cmp(&other.node));
        Ok(agents)
    }

    /// The agent of the first node, once it is ready.
    pub fn first(cluster: &Cluster) -> Result<Self> {
        let first = cluster.machine().ok().and_then(|machine| machine.nodes.first());
        wait_for("a ready agent", PATIENCE, || {
            let mut agents = Self::all(cluster)?.into_iter();
            Ok(agents.find(|agent| first.is_none_or(|node| agent.node == node.name)))
        })
    }

    /// The address of its pod.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.address, AGENT_PORT)
    }

    /// A GET of one of its paths: straight to it on a cluster of our own, else through the API server, where headers
    /// cannot be given and times include the way.
    pub fn get(&self, cluster: &Cluster, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
        if let Ok(machine) = cluster.machine() {
            return machine.plane.netns.inside(|| http::get(self.address(), path, headers))?;
        }
        if !headers.is_empty() {
            bail!("the API server does not pass headers on; this needs a cluster of our own");
        }
        let start = std::time::Instant::now();
        let body = cluster.kubectl.raw_of_pod(NAMESPACE, &self.pod, AGENT_PORT, path)?.into_bytes();
        Ok(Response { status: 200, headers: Vec::new(), body, took: start.elapsed() })
    }

    /// What it exposes under a path, such as `/metrics`.
    pub fn scrape(&self, cluster: &Cluster, path: &str) -> Result<Exposition> {
        Exposition::parse(self.get(cluster, path, &[])?.text()?)
    }
}

fn rollout(cluster: &Cluster, workload: &str) -> Result<()> {
    cluster.kubectl.rollout(workload, NAMESPACE, PATIENCE).map_err(|error| {
        let pods = cluster.kubectl.run(&["get", "pods", "-n", NAMESPACE, "-o", "wide"]).unwrap_or_default();
        let logs = cluster.kubectl.run(&["logs", "-n", NAMESPACE, workload, "--tail=20"]);
        let logs = logs.unwrap_or_else(|error| format!("{error:#}"));
        error.context(format!("{workload} does not become ready\n{pods}\n{logs}"))
    })
}

fn file(path: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_alone_waits_for_nothing_that_an_operator_makes() {
        let alone = agent_alone("registry/pause:1");
        let lines: Vec<_> = alone.lines().map(str::trim).collect();
        let maps: Vec<_> = lines.windows(3).filter(|lines| lines[0] == "- configMap:").collect();
        let waited_for: Vec<_> =
            maps.iter().filter(|map| map[2] != "optional: true").map(|map| map[1]).collect();
        assert_eq!((maps.len(), &waited_for[..]), (2, &["name: kube-root-ca.crt"][..]), "{alone}");
        assert!(!alone.contains("--operator"), "{alone}");
        assert!(lines.contains(&"- --sandbox-image=registry/pause:1"), "{alone}");
    }
}
