//! What a scrape costs on a real node with many pods, beside the floor: `measure [PODS]`, 90 when not given.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::interrupt;
use e2e::process::output;
use e2e::programs::{ON_NODE, build};
use e2e::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    let pods: u64 = std::env::args().nth(1).map_or(Ok(90), |n| n.parse()).context("PODS is a number")?;
    interrupt::watch_with_parent()?;
    let program = build(&[ON_NODE])?.pop().context("nothing was built")?;
    let cluster = Cluster::own(1)?;
    let machine = cluster.machine()?;
    let node = machine.nodes.first().context("no node")?;
    cluster.kubectl.apply(&many(pods))?;
    wait_for("all pods to run", PATIENCE, || {
        let ready = cluster.kubectl.get(&["deployment", "many"])?["status"]["readyReplicas"].as_u64();
        Ok((ready == Some(pods)).then_some(()))
    })?;
    let list = cluster.kubectl.raw(&format!("/api/v1/nodes/{}/proxy/pods", node.name))?;
    let file = machine.instance.folder().join("pods.json");
    std::fs::write(&file, list)?;
    let figures = output(node.command(&program.to_string_lossy())?.arg(&file))?;
    ensure!(figures.contains("scrape / floor"), "no ratio in what it says:\n{figures}");
    print!("{figures}");
    Ok(())
}

/// A deployment of so many idle pods: each has a limit, so that every file of a cgroup counts.
fn many(pods: u64) -> String {
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
