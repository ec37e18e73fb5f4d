//! Many pods on a cluster, for measuring.

use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::cluster::Cluster;
use crate::wait::wait_for;

/// For the first, and for each.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_EACH: Duration = Duration::from_secs(3);

/// What they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing at all.
    None,
    /// Each wakes ten times a second and uses a thousandth of a processor.
    Some,
}

/// Starts so many pods, in the namespace `default`, and waits until all run.
pub fn start(cluster: &Cluster, pods: u32, work: Work) -> Result<()> {
    cluster.kubectl.apply(&manifest(pods, work))?;
    wait_for("all pods to run", PATIENCE + PATIENCE_EACH * pods, || {
        let ready = cluster.kubectl.get(&["deployment", "many"])?["status"]["readyReplicas"].as_u64();
        if ready == Some(pods.into()) { Ok(Some(())) } else { Err(anyhow!("{ready:?} of {pods} are ready")) }
    })
}

/// Each has a limit, so that every file of a cgroup counts.
fn manifest(pods: u32, work: Work) -> String {
    let arguments = match work {
        Work::None => r#"["pause"]"#,
        Work::Some => r#"["burn", "--millicores", "1"]"#,
    };
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
          args: {arguments}
          resources: {{requests: {{cpu: 1m, memory: 1Mi}}, limits: {{cpu: 50m, memory: 32Mi}}}}
"#
    )
}
