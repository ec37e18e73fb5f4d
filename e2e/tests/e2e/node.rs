//! The harness itself: a node is a real one, and gives the product what a real one gives.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::node::Node;
use e2e::parts::KUBERNETES;
use e2e::process::output;
use rustix::process::Pid;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn a_node_becomes_ready_and_runs_pods(cluster: &Cluster) -> Result<()> {
    start(cluster)?;
    let pods = cluster.kubectl.get(&["pods", "-n", "harness"])?;
    let pods = pods["items"].as_array().context("no list of pods")?;
    ensure!(pods.len() == 2, "{} pods, not 2", pods.len());
    ensure!(pods.iter().all(|pod| pod["status"]["phase"] == "Running"), "not all run: {pods:?}");
    Ok(())
}

pub(crate) fn a_pod_reaches_a_service_of_the_cluster(cluster: &Cluster) -> Result<()> {
    start(cluster)?;
    let pid = workload(node(cluster)?)?.as_raw_nonzero();
    let connect = "exec 3<>/dev/tcp/10.96.0.1/443";
    // The image holds nothing but the workload, so the machine's shell enters the network of the pod.
    let mut shell = Command::new("nsenter");
    shell.args([&format!("--target={pid}"), "--net", "--", "timeout", "10", "bash", "-c", connect]);
    output(&mut shell).map(drop)
}

pub(crate) fn the_kubelet_takes_a_service_account_token_and_shows_its_pods(cluster: &Cluster) -> Result<()> {
    start(cluster)?;
    let machine = cluster.machine()?;
    let token = cluster.kubectl.run(&["create", "token", "reader", "-n", "harness"])?;
    // kubectl serves as the client; an empty kubeconfig keeps the administrator's certificate out of it.
    let mut client = machine.plane.netns.command(KUBERNETES.program("kubectl")?);
    client.env("KUBECONFIG", "/dev/null").args([
        format!("--server=https://{}:10250", node(cluster)?.address),
        format!("--certificate-authority={}", machine.plane.authority.path("ca.crt")),
        format!("--token={}", token.trim()),
    ]);
    let pods = output(client.args(["get", "--raw", "/pods"]))?;
    ensure!(pods.contains("\"namespace\":\"harness\""), "our pods are not among them: {pods}");
    Ok(())
}

pub(crate) fn a_mount_made_on_the_node_shows_in_a_running_pod(cluster: &Cluster) -> Result<()> {
    start(cluster)?;
    let node = node(cluster)?;
    let pid = workload(node)?.as_raw_nonzero();
    output(node.command("mkdir")?.args(["-p", "/run/later"]))?;
    output(node.command("mount")?.args(["-t", "tmpfs", "later", "/run/later"]))?;
    let seen = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    output(node.command("umount")?.arg("/run/later"))?;
    ensure!(seen.contains(" /host/root/run/later "), "the pod does not see it:\n{seen}");
    Ok(())
}

/// Removes what these tests made.
pub(crate) fn stop(cluster: &Cluster) -> Result<()> {
    cluster.kubectl.delete(PODS).map(drop)
}

/// Two pods with the node's root as the agent mounts it.
const PODS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: harness}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: harness}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: harness-reader}
rules: [{apiGroups: [""], resources: [nodes/pods], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: harness-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: harness-reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: harness}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle, namespace: harness}
spec:
  replicas: 2
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: idle
          image: local/workload:dev
          imagePullPolicy: Never
          args: [memory, --mebibytes, "3"]
          volumeMounts: [{name: root, mountPath: /host/root, readOnly: true, mountPropagation: HostToContainer}]
      volumes: [{name: root, hostPath: {path: /}}]
"#;

fn start(cluster: &Cluster) -> Result<()> {
    cluster.kubectl.apply(PODS)?;
    cluster.kubectl.rollout("deployment/idle", "harness", PATIENCE)
}

fn node(cluster: &Cluster) -> Result<&Node> {
    cluster.machine()?.nodes.first().context("no node")
}

fn workload(node: &Node) -> Result<Pid> {
    node.processes("/workload memory --mebibytes 3")?.first().copied().context("no process of the pods")
}
