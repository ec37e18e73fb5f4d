//! A claim on a disk of the first node, and what the agent says of it beside the kubelet.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::exposition::Exposition;
use e2e::process::output;
use e2e::product::Agent;
use e2e::wait::wait_for_every;

use crate::installed::{PATIENCE, installed};

/// Off by default, since most keep the kubelet's own.
pub(crate) const VOLUMES_ON: &str = r#"{"apiVersion": "exporter-operator.dev/v1alpha1", "kind": "ExporterPolicy",
    "metadata": {"name": "volumes"}, "spec": {"collectors": [{"name": "kubelet_volumes", "enabled": true}]}}"#;
/// The kubelet looks at volumes every one to two minutes, and the agent asks it once a minute.
pub(crate) const TOLD: Duration = Duration::from_secs(240);
const INTERVAL: Duration = Duration::from_secs(1);

/// Makes the claim, and the pod that writes to it, where they are not there yet.
pub(crate) fn claimed(cluster: &Cluster, agent: &Agent) -> Result<()> {
    let node = cluster.machine()?.nodes.iter().find(|node| node.name == agent.node).context("no node")?;
    output(node.command("mkdir")?.args(["-p", "-m", "777", "/var/lib/local-volume"]))?;
    cluster.kubectl.apply(&PODS.replace("NODE", &agent.node))?;
    cluster.kubectl.rollout("deployment/direct", "claims", PATIENCE)
}

pub(crate) fn every_figure_of_a_claim_is_the_kubelets_own(cluster: &Cluster) -> Result<()> {
    let agent = installed(cluster)?;
    claimed(cluster, &agent)?;
    cluster.kubectl.apply(VOLUMES_ON)?;
    let path = format!("/api/v1/nodes/{}/proxy/metrics", agent.node);
    let compared = wait_for_every(INTERVAL, "the kubelet's figures of the claim", TOLD, || {
        // Both give what the kubelet last measured, so that there is a time at which not a byte is different.
        let ours = figures(&agent.scrape(cluster, "/metrics/volumes")?);
        let theirs = figures(&Exposition::parse(&cluster.kubectl.raw(&path)?)?);
        ensure!(theirs.len() >= 6, "the kubelet has {theirs:?}");
        ensure!(ours == theirs, "ours: {ours:?}, theirs: {theirs:?}");
        Ok(Some(()))
    });
    cluster.kubectl.delete(VOLUMES_ON)?;
    compared
}

/// By name and labels.
fn figures(exposition: &Exposition) -> BTreeMap<(String, BTreeMap<String, String>), f64> {
    let of_volumes = exposition.samples().iter().filter(|it| it.name.starts_with("kubelet_volume_stats_"));
    of_volumes.map(|it| ((it.name.clone(), it.labels.clone()), it.value)).collect()
}

/// A claim on a folder of the node, and a pod that reads and writes there past the page cache.
const PODS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: claims}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: claims}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: claims
  local: {path: /var/lib/local-volume}
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [NODE]}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: claims}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: claims
  resources: {requests: {storage: 1Gi}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: direct, namespace: claims}
spec:
  selector: {matchLabels: {app: direct}}
  template:
    metadata: {labels: {app: direct}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: direct
          image: local/workload:dev
          imagePullPolicy: Never
          args: [direct, --path, /data/block]
          resources: {limits: {cpu: 50m, memory: 32Mi}}
          volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
"#;
