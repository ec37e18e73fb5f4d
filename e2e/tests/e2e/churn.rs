//! Containers that come and go by the hundred: what two scrapers see of them, judged by what the API server says.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::cluster::Cluster;
use e2e::process::{Component, kill_all};
use e2e::product::Agent;
use e2e::wait::wait_for;
use serde_json::Value;

use crate::installed::{PATIENCE, installed};

/// How long all the pods may take that end by themselves.
const CHURN: Duration = Duration::from_secs(400);
const INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// The API server tells whole seconds.
const SECOND: f64 = 1.0;
/// From the end of a process until its cgroup has gone, and from its beginning until the agent may tell of it: at most
/// two seconds withheld, after one in which it was not looked for. Under a load that starts a pod each second.
const LEEWAY: f64 = 4.0;

/// Namespace, pod and container.
type Name = [String; 3];

/// One look at the containers: when it began and ended, and the name of each container that had a gauge, by id.
struct Look {
    began: f64,
    ended: f64,
    shown: BTreeMap<String, Name>,
}

/// What the API server said of one container.
#[derive(Debug, Default)]
struct Life {
    name: Name,
    started: Option<f64>,
    finished: Option<f64>,
}

pub(crate) fn containers_that_come_and_go_are_shown_as_long_as_they_live_and_under_their_own_names(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let machine = cluster.machine()?;
    let node = machine.nodes.first().context("no node")?;
    let log = machine.instance.folder().join("watched-pods.json");
    let mut watch: Command = cluster.kubectl.command();
    // It outlives the pause of the API server.
    watch.args(["get", "pods", "--all-namespaces", "--watch", "--output=json", "--request-timeout=0"]);
    let watch = Component::start("watch of pods", &watch, log.clone())?;
    let static_pod = node.folder().join("static-pods/still.json");

    let over = AtomicBool::new(false);
    let (looks, result) = std::thread::scope(|threads| {
        let (agent, over) = (&agent, &over);
        let lookers = INTERVALS.map(|interval| threads.spawn(move || look(cluster, agent, interval, over)));
        let result = churn(cluster, &static_pod);
        over.store(true, Ordering::Relaxed);
        let looks: Result<Vec<Vec<Look>>> =
            lookers.into_iter().map(|it| it.join().unwrap_or_else(|_| bail!("a scraper panicked"))).collect();
        (looks, result)
    });
    let _ = std::fs::remove_file(&static_pod);
    let watched = result.and_then(|()| lives(&log));
    drop(watch);
    cluster.kubectl.run(&["delete", "namespace", "churn", "--wait=false"])?;
    let (looks, lives) = (looks?, watched?);
    let ended = lives.values().filter(|life| life.finished.is_some()).count();
    ensure!(ended >= 200, "only {ended} containers have ended: {lives:?}");
    for (looks, interval) in looks.iter().zip(INTERVALS) {
        let wrong = judged(looks, &lives);
        ensure!(wrong.is_empty(), "every {interval:?}, {} looks:\n{}", looks.len(), wrong.join("\n"));
    }
    Ok(())
}

/// Everything that comes and goes, until all of it has ended that ends by itself.
fn churn(cluster: &Cluster, static_pod: &std::path::Path) -> Result<()> {
    let machine = cluster.machine()?;
    let node = machine.nodes.first().context("no node")?;
    cluster.kubectl.apply(COMING_AND_GOING)?;
    std::fs::write(static_pod, STATIC_POD).context("cannot write a static pod")?;
    cluster.kubectl.wait("condition=Ready", &["pod/kept", "-n", "churn"], PATIENCE)?;
    // As `kubectl debug` does.
    let debugger = r#"{"spec": {"ephemeralContainers": [{"name": "debugger", "image": "local/workload:dev",
        "imagePullPolicy": "Never", "args": ["quit", "--milliseconds", "8000"]}]}}"#;
    cluster.kubectl.run(&[
        "patch",
        "pod",
        "kept",
        "-n",
        "churn",
        "--subresource=ephemeralcontainers",
        "-p",
        debugger,
    ])?;
    cluster.kubectl.run(&["delete", "pod", "deleted", "-n", "churn", "--wait=false"])?;

    // A container that ends while nobody can ask the API server is started again by its kubelet.
    let program = "/workload memory --mebibytes 7";
    let before = node.processes(program)?;
    ensure!(!before.is_empty(), "no process `{program}`");
    machine.plane.pause()?;
    let restarted = kill_all(program, || {
        node.processes(program).unwrap_or_default().into_iter().filter(|pid| before.contains(pid)).collect()
    })
    .and_then(|()| {
        wait_for("the container to be started again", PATIENCE, || {
            Ok((!node.processes(program)?.is_empty()).then_some(()))
        })
    });
    machine.plane.resume()?;
    restarted?;
    wait_for("all short pods to have ended", CHURN, || {
        let jobs = cluster.kubectl.get(&["jobs", "-n", "churn"])?;
        let mut jobs = jobs["items"].as_array().context("no jobs")?.iter();
        Ok(jobs.all(|job| job["status"]["succeeded"] == job["spec"]["completions"]).then_some(()))
    })
}

/// Looks at the containers again and again.
fn look(cluster: &Cluster, agent: &Agent, interval: Duration, over: &AtomicBool) -> Result<Vec<Look>> {
    let mut looks = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let began = now()?;
        let exposition = agent.scrape(cluster, "/metrics/cadvisor")?;
        let rows = exposition.select("container_memory_working_set_bytes", &[]);
        let rows = rows.into_iter().filter(|row| !row.label("container").is_empty());
        let shown = rows.map(|row| {
            (row.label("name").to_owned(), ["namespace", "pod", "container"].map(|l| row.label(l).to_owned()))
        });
        looks.push(Look { began, ended: now()?, shown: shown.collect() });
        std::thread::park_timeout(interval);
    }
    Ok(looks)
}

/// What is wrong with what was seen.
fn judged(looks: &[Look], lives: &BTreeMap<String, Life>) -> Vec<String> {
    let mut wrong = Vec::new();
    for look in looks {
        for (id, name) in &look.shown {
            match lives.get(id) {
                None => wrong.push(format!("nobody's container {id} is shown as {name:?}")),
                Some(life) if life.name != *name => {
                    wrong.push(format!("{id} is {:?} and is shown as {name:?}", life.name));
                }
                Some(Life { finished: Some(at), .. }) if look.began > at + SECOND + LEEWAY => {
                    wrong.push(format!("{name:?} is shown {:.1} s after its end", look.began - at));
                }
                Some(_) => {}
            }
        }
        for (id, life) in lives {
            let Some(started) = life.started else { continue };
            let lived = look.began > started + SECOND + LEEWAY
                && life.finished.is_none_or(|finished| look.ended < finished);
            if lived && !look.shown.contains_key(id) {
                wrong.push(format!(
                    "{:?} is missing {:.1} s after its start",
                    life.name,
                    look.began - started
                ));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

/// Every container that the API server ever told of on the first node, by id.
fn lives(log: &std::path::Path) -> Result<BTreeMap<String, Life>> {
    let text = std::fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let mut lives: BTreeMap<String, Life> = BTreeMap::new();
    // The last one may be cut off.
    for pod in serde_json::Deserializer::from_slice(&text).into_iter::<Value>().map_while(Result::ok) {
        if pod["spec"]["nodeName"] != "node1" {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for kind in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
            for status in pod["status"][kind].as_array().into_iter().flatten() {
                let name =
                    [&pod["metadata"]["namespace"], &pod["metadata"]["name"], &status["name"]].map(text);
                let terminated = [&status["state"]["terminated"], &status["lastState"]["terminated"]];
                let running = &status["state"]["running"]["startedAt"];
                for (id, started, finished) in [
                    (&status["containerID"], running, &Value::Null),
                    (
                        &terminated[0]["containerID"],
                        &terminated[0]["startedAt"],
                        &terminated[0]["finishedAt"],
                    ),
                    (
                        &terminated[1]["containerID"],
                        &terminated[1]["startedAt"],
                        &terminated[1]["finishedAt"],
                    ),
                ] {
                    let Some((_, id)) = id.as_str().and_then(|id| id.split_once("://")) else { continue };
                    let life = lives.entry(id.to_owned()).or_default();
                    life.name = name.clone();
                    life.started = life.started.or(seconds(started));
                    life.finished = life.finished.or(seconds(finished));
                }
            }
        }
    }
    Ok(lives)
}

/// A time of the API server, such as `2026-01-31T12:00:00Z`, in seconds since 1970.
fn seconds(time: &Value) -> Option<f64> {
    let time: jiff::Timestamp = time.as_str()?.parse().ok()?;
    Some(time.as_second() as f64)
}

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64())
}

const STATIC_POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "still", "namespace": "churn"},
    "spec": {"containers": [{"name": "still", "image": "local/workload:dev", "imagePullPolicy": "Never"}]}}"#;

/// Two hundred short pods, some after an init container; one that fails again and again, one that takes too much memory,
/// one in the machine's network, one to be kept, one to be deleted, one to be killed.
const COMING_AND_GOING: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: churn}
---
apiVersion: batch/v1
kind: Job
metadata: {name: short, namespace: churn}
spec:
  completions: 140
  parallelism: 6
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 0
      containers:
        - {name: short, image: "local/workload:dev", imagePullPolicy: Never, args: [quit, --milliseconds, "1000"]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: prepared, namespace: churn}
spec:
  completions: 60
  parallelism: 5
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 0
      initContainers:
        - {name: prepare, image: "local/workload:dev", imagePullPolicy: Never, args: [quit]}
      containers:
        - {name: prepared, image: "local/workload:dev", imagePullPolicy: Never, args: [quit, --milliseconds, "6000"]}
---
apiVersion: v1
kind: Pod
metadata: {name: failing, namespace: churn}
spec:
  containers:
    - {name: failing, image: "local/workload:dev", imagePullPolicy: Never, args: [quit, --milliseconds, "500", --code, "3"]}
---
apiVersion: v1
kind: Pod
metadata: {name: greedy, namespace: churn}
spec:
  containers:
    - name: greedy
      image: local/workload:dev
      imagePullPolicy: Never
      args: [memory, --mebibytes, "64"]
      resources: {limits: {memory: 24Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: edge, namespace: churn}
spec:
  hostNetwork: true
  containers: [{name: edge, image: "local/workload:dev", imagePullPolicy: Never}]
---
apiVersion: v1
kind: Pod
metadata: {name: kept, namespace: churn}
spec:
  containers:
    - {name: kept, image: "local/workload:dev", imagePullPolicy: Never}
    - {name: killed, image: "local/workload:dev", imagePullPolicy: Never, args: [memory, --mebibytes, "7"]}
---
apiVersion: v1
kind: Pod
metadata: {name: deleted, namespace: churn}
spec:
  terminationGracePeriodSeconds: 5
  containers: [{name: deleted, image: "local/workload:dev", imagePullPolicy: Never}]
"#;
