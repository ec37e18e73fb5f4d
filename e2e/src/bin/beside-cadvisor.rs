//! The agent beside the kubelet's cAdvisor on a cluster that exists, such as a node on cgroup v2: `beside-cadvisor`, with
//! `KUBECONFIG` and `E2E_LOAD_IMAGE`; without them on a cluster of our own.
//!
//! The cluster needs one Linux node and neither names nor Services: the agent runs without an operator, and everything is
//! asked through the API server. What it makes there it removes.

#![expect(clippy::print_stdout, reason = "what it finds is what it is for")]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::cadvisor;
use e2e::cluster::Cluster;
use e2e::exposition::Exposition;
use e2e::interrupt;
use e2e::product::{self, Agent};
use e2e::wait::wait_for_every;

/// A node may be an emulated one.
const PATIENCE: Duration = Duration::from_secs(300);
/// Through the API server each look has its price.
const INTERVAL: Duration = Duration::from_secs(2);
const PODS: &str = include_str!("../../manifests/beside-cadvisor.yaml");
const NAMESPACE: &str = "beside-cadvisor";
/// The Job of `PODS` has so many.
const SHORT: usize = 6;

const OF_SHORT: [(&str, &str); 2] = [("namespace", NAMESPACE), ("container", "short")];
/// Every container that runs has it.
const GAUGE: &str = "container_memory_working_set_bytes";

/// What must hold of a node; it says what it saw.
type Check = fn(&Cluster, &Agent) -> Result<String>;

const CHECKS: &[(&str, Check)] = &[
    ("every series of the kubelet is there with its value or a known difference", same_as_the_kubelet),
    ("what a container is held back by, has at its peak and moves on disks is there", is_used),
    ("kills for want of memory are the container's, though it is gone", kills),
    ("what short containers counted to their end is told without a gauge", ends),
];

fn main() -> Result<()> {
    interrupt::watch_with_parent()?;
    let cluster = Cluster::up(1)?;
    let result = check(&cluster);
    if cluster.machine().is_err() {
        // It goes on without us, so it should look as before.
        cluster.kubectl.delete(PODS)?;
        product::remove_agent(&cluster)?;
    }
    result
}

fn check(cluster: &Cluster) -> Result<()> {
    // Until the namespace has its service account, and that of an earlier run has gone.
    wait_for_every(INTERVAL, "the pods", PATIENCE, || cluster.kubectl.apply(PODS).map(Some))?;
    for name in ["direct", "throttled", "peak"] {
        cluster.kubectl.wait("condition=Ready", &["pod", name, "-n", NAMESPACE], PATIENCE)?;
    }
    let nodes = cluster.kubectl.get(&["nodes"])?;
    let name = nodes["items"][0]["metadata"]["name"].as_str().context("no node")?;
    let sandbox =
        wait_for_every(INTERVAL, "a sandbox", PATIENCE, || cadvisor::sandbox_image(cluster, name).map(Some))?;
    product::install_agent(cluster, &sandbox)?;
    let agent = Agent::first(cluster)?;
    let mut failed = 0;
    for (what, check) in CHECKS {
        match check(cluster, &agent) {
            Ok(said) => println!("ok: {what}\n    {said}"),
            Err(error) => {
                interrupt::check()?;
                failed += 1;
                println!("FAILED: {what}\n    {error:#}");
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} do not hold", CHECKS.len());
    Ok(())
}

fn same_as_the_kubelet(cluster: &Cluster, agent: &Agent) -> Result<String> {
    cadvisor::compare(cluster, agent, "direct").map(|compared| compared.to_string())
}

fn is_used(cluster: &Cluster, agent: &Agent) -> Result<String> {
    let exposition = agent.scrape(cluster, "/metrics/cadvisor")?;
    let mut wanted = vec![
        ("container_cpu_cfs_throttled_periods_total", "throttled", 1.0),
        ("container_memory_max_usage_bytes", "peak", f64::from(48 << 20)),
    ];
    if is_v2(&exposition) {
        wanted.extend([
            ("container_fs_writes_bytes_total", "direct", 4096.0),
            ("container_fs_reads_bytes_total", "direct", 4096.0),
            ("container_pressure_cpu_waiting_seconds_total", "throttled", 0.001),
            ("container_pressure_io_waiting_seconds_total", "direct", 0.0),
            ("container_pressure_memory_waiting_seconds_total", "peak", 0.0),
        ]);
    }
    let mut said = Vec::new();
    for (family, container, least) in wanted {
        let labels = [("namespace", NAMESPACE), ("container", container)];
        let rows = exposition.select(family, &labels);
        let most = rows.iter().map(|row| row.value).reduce(f64::max);
        let most = most.with_context(|| format!("no {family} of {container}"))?;
        ensure!(most >= least, "{family} of {container} is {most}");
        said.push(format!("{family}{{container={container:?}}} {most}"));
    }
    let hugetlb = exposition.samples().iter().filter(|it| it.name.starts_with("container_hugetlb_")).count();
    said.push(format!("{hugetlb} series of huge pages"));
    Ok(said.join(", "))
}

fn kills(cluster: &Cluster, agent: &Agent) -> Result<String> {
    let of = [("namespace", NAMESPACE), ("pod", "greedy"), ("container", "greedy")];
    wait_for_every(INTERVAL, "the second kill", PATIENCE, || {
        let kills = agent.scrape(cluster, "/metrics/cadvisor")?.one("container_oom_events_total", &of)?.value;
        let pod = cluster.kubectl.get(&["pod", "greedy", "-n", NAMESPACE])?;
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_f64().context("no status")?;
        // It is killed once each time that it runs, now may be one of them.
        ensure!(kills <= restarts + 1.0, "{kills} kills and {restarts} restarts");
        Ok((kills >= 2.0).then(|| format!("{kills} kills, {restarts} restarts")))
    })
}

fn ends(cluster: &Cluster, agent: &Agent) -> Result<String> {
    if !is_v2(&agent.scrape(cluster, "/metrics/cadvisor")?) {
        return Ok("cgroup v1 tells of no end".to_owned());
    }
    let missed = |cluster: &Cluster| -> Result<f64> {
        let own = agent.scrape(cluster, "/metrics/agent")?;
        Ok(own.one("exporter_agent_missed_container_ends_total", &[])?.value)
    };
    let before = missed(cluster)?;
    cluster.kubectl.run(&[
        "patch",
        "job",
        "short",
        "-n",
        NAMESPACE,
        "-p",
        r#"{"spec": {"suspend": false}}"#,
    ])?;
    let mut told = BTreeMap::new();
    let last = wait_for_every(INTERVAL, "the end of all short pods", PATIENCE, || {
        let job = cluster.kubectl.get(&["job", "short", "-n", NAMESPACE])?;
        let exposition = agent.scrape(cluster, "/metrics/cadvisor")?;
        // Where a pod takes a minute to start, the first of them are no longer told of when the last one ends.
        told.extend(told_ends(&exposition));
        let is_over = job["status"]["succeeded"] == SHORT;
        Ok(is_over.then_some(exposition))
    })?;
    let gauges = last.select(GAUGE, &OF_SHORT).len();
    ensure!(gauges == 0, "{gauges} gauges of containers that have ended");
    ensure!(told.values().all(|used| *used > 0.0), "a container that used nothing: {told:?}");
    let missed = missed(cluster)? - before;
    if told.is_empty() || told.len() + (missed as usize) < SHORT {
        bail!("only {} of {SHORT} ends are told, and {missed} missed", told.len());
    }
    Ok(format!("{} of {SHORT} ends, {missed} missed of these and of their sandboxes", told.len()))
}

/// The short containers that have counters and no gauge, by the paths of their cgroups, and what each has used.
fn told_ends(exposition: &Exposition) -> BTreeMap<String, f64> {
    let used = exposition.select("container_cpu_usage_seconds_total", &OF_SHORT).into_iter();
    let has_ended = |id: &str| exposition.select(GAUGE, &[("id", id)]).is_empty();
    let ended = used.filter(|row| has_ended(row.label("id")));
    ended.map(|row| (row.label("id").to_owned(), row.value)).collect()
}

/// On cgroup v1 the kernel has no pressure of a cgroup.
fn is_v2(exposition: &Exposition) -> bool {
    exposition.has("container_pressure_cpu_waiting_seconds_total")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_runs_has_not_ended_and_one_of_another_name_is_none_of_ours() {
        let of = |family: &str, id: &str, container: &str, value: f64| {
            format!("{family}{{id=\"{id}\",namespace=\"{NAMESPACE}\",container=\"{container}\"}} {value}\n")
        };
        let used = "container_cpu_usage_seconds_total";
        let text = [
            of(used, "/runs", "short", 1.0),
            of(GAUGE, "/runs", "short", 4096.0),
            of(used, "/over", "short", 2.0),
            of(used, "/other", "direct", 3.0),
        ];
        let told = told_ends(&Exposition::parse(&text.concat()).unwrap());
        assert_eq!(told, BTreeMap::from([("/over".to_owned(), 2.0)]));
    }
}
