//! Many idle pods on a cluster, for measuring.

use std::time::Duration;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(300);

/// Starts so many idle pods, in the namespace `default`, and waits until all run.
pub fn start(cluster: &Cluster, pods: u32) -> Result<()> {
    cluster.kubectl.apply(&manifest(pods))?;
    wait_for("all pods to run", PATIENCE, || {
        let ready = cluster.kubectl.get(&["deployment", "many"])?["status"]["readyReplicas"].as_u64();
        Ok((ready == Some(pods.into())).then_some(()))
    })
}

/// Each has a limit, so that every file of a cgroup counts.
fn manifest(pods: u32) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: many, namespace: default}}
spec:
  replicas: {pods}
  selector: {{matchLabels: {{app: many}}}}
  template:
    metadata: {{labels: {{app: many}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: main
          image: local/workload:dev
          imagePullPolicy: Never
          resources: {{requests: {{cpu: 1m, memory: 1Mi}}, limits: {{cpu: 50m, memory: 32Mi}}}}
"#
    )
}
