//! What the agent exposes because its kubelet tells: kills of containers that are gone, and what pods take of the disk.

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::wait::wait_for;

use crate::installed::{PATIENCE, installed};

/// A pod whose container takes more memory than it may, and does so again each time it is started anew.
const GREEDY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: greedy, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: local/workload:dev
      imagePullPolicy: Never
      args: [memory, --mebibytes, "96"]
      resources: {limits: {memory: 32Mi}}
    - name: modest
      image: local/workload:dev
      imagePullPolicy: Never
"#;

pub(crate) fn a_container_that_is_killed_for_want_of_memory_shows_under_its_name_though_it_is_gone(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    cluster.kubectl.apply(GREEDY)?;
    let kills = |container: &str| -> Result<f64> {
        let of = [("namespace", "default"), ("pod", "greedy"), ("container", container)];
        // One series, whichever of its containers it was.
        Ok(agent.scrape(cluster, "/metrics/cadvisor")?.one("container_oom_events_total", &of)?.value)
    };
    let mut before = None;
    // The pod is new, so that its row begins at 0 for a minute, whatever has happened until it is first looked at.
    let counted = wait_for("the second kill of the container", 3 * PATIENCE, || {
        let now = kills("main")?;
        let least = before.unwrap_or(0.0);
        ensure!(now >= least, "{least} kills became {now}");
        ensure!(before.is_some() || now == 0.0, "the first sample is {now}");
        before = Some(now);
        Ok((now >= 2.0).then_some(now))
    });
    let pod = cluster.kubectl.get(&["pod", "greedy", "-n", "default"]);
    let modest = kills("modest");
    cluster.kubectl.delete(GREEDY)?;
    let (counted, pod) = (counted?, pod?);
    let statuses = pod["status"]["containerStatuses"].as_array().context("no statuses")?;
    let status = statuses.iter().find(|s| s["name"] == "main").context("no status of main")?;
    let restarts = status["restartCount"].as_f64().context("no restarts")?;
    // It is killed once each time that it runs, now may be one of them.
    ensure!((restarts..=restarts + 1.0).contains(&counted), "{counted} kills and {restarts} restarts");
    ensure!(modest? == 0.0, "the other container has kills");
    wait_for("the series to end with the pod", 3 * PATIENCE, || {
        let exposition = agent.scrape(cluster, "/metrics/cadvisor")?;
        Ok(exposition.select("container_oom_events_total", &[("pod", "greedy")]).is_empty().then_some(()))
    })
}

pub(crate) fn what_pods_take_of_the_disk_is_there_as_the_kubelet_tells_it(cluster: &Cluster) -> Result<()> {
    let agent = installed(cluster)?;
    let cart = [("namespace", "shop"), ("container", "cart")];
    wait_for("what the cart takes of the disk", 2 * PATIENCE, || {
        let exposition = agent.scrape(cluster, "/metrics/cadvisor")?;
        let logs = exposition.one("container_logs_usage_bytes", &cart)?.value;
        let all = exposition.one("container_ephemeral_storage_usage_bytes", &cart)?.value;
        // It writes no log, and its layer has folders that are mounted on.
        ensure!(all > 0.0 && all >= logs, "{logs} bytes of logs, {all} in all");
        Ok(Some(()))
    })?;
    let own = agent.scrape(cluster, "/metrics/agent")?;
    ensure!(own.one("exporter_agent_kubelet_stats_up", &[])?.value == 1.0, "the kubelet is not up");
    Ok(())
}
