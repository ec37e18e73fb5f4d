//! Every series of a real kubelet's `/metrics/cadvisor`, judged against what the agent gives at the same moment.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use agent::compare::{Accepted, Difference, Exposition, Labels, What, accepted, parse};
use anyhow::{Context as _, Result, anyhow, ensure};
use e2e::cluster::Cluster;
use e2e::process::output;
use e2e::product::Agent;
use e2e::wait::wait_for;

use crate::installed::{PATIENCE, installed};

/// How long ours is taken before the kubelet is asked: its samples are up to 16 s old.
const BEFORE: usize = 20;
/// After how many readings of ours the kubelet is asked, each time.
const ASKED: [usize; 3] = [BEFORE, BEFORE + 5, BEFORE + 10];
/// The kubelet's timestamp is that of the middle of its reading, which takes a while on a machine that is busy.
const MARGIN: f64 = 1.0;

/// Families whose values do not move.
const STATIC: [&str; 8] = [
    "cadvisor_",
    "container_health_state",
    "container_spec_",
    "container_start_time_seconds",
    "container_tasks_state",
    "container_threads_max",
    "container_ulimits_soft",
    "machine_",
];

pub(crate) fn every_series_of_the_kubelet_is_there_with_its_value_or_a_known_difference(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let node = cluster.machine()?.nodes.iter().find(|node| node.name == agent.node).context("no node")?;
    output(node.command("mkdir")?.args(["-p", "-m", "777", "/var/lib/local-volume"]))?;
    cluster.kubectl.apply(&PODS.replace("NODE", &agent.node))?;
    cluster.kubectl.rollout("deployment/direct", "differential", PATIENCE)?;
    let judged = compare(cluster, &agent);
    cluster.kubectl.delete(&PODS.replace("NODE", &agent.node))?;
    judged
}

fn compare(cluster: &Cluster, agent: &Agent) -> Result<()> {
    let path = format!("/api/v1/nodes/{}/proxy/metrics/cadvisor", agent.node);
    let read = || -> Result<Reading> {
        let begun = now()?;
        let text = agent.get(cluster, "/metrics/cadvisor", &[])?;
        let exposition = parse(text.text()?).map_err(|error| anyhow!(error))?;
        Ok(Reading { begun, ended: now()?, exposition: known(exposition) })
    };
    wait_for("the same rows as the kubelet's, the writer's among them", PATIENCE, || {
        let [theirs, ours] = [theirs(cluster, &path)?.0, read()?.exposition];
        // Whether its writes are counted for it, or with the root alone, is the kernel's (on cgroup v1 since 6.10 only
        // where a disk has a limit); what counts here is that both say the same.
        let pods = |exposition: &Exposition| -> Vec<Labels> {
            let rows = exposition.get("container_cpu_usage_seconds_total").into_iter();
            let rows = rows.flat_map(|family| family.series.keys().cloned());
            rows.filter(|labels| label(labels, "id").contains("kubepods")).collect()
        };
        let has_writer = pods(&theirs).iter().any(|labels| label(labels, "container") == "direct");
        let (theirs, ours) = (pods(&theirs), pods(&ours));
        ensure!(has_writer, "the kubelet does not know the writer yet");
        let odd = |of: &[Labels], others: &[Labels]| of.iter().find(|it| !others.contains(it)).cloned();
        ensure!(theirs == ours, "theirs: {:?}, ours: {:?}", odd(&theirs, &ours), odd(&ours, &theirs));
        Ok(Some(()))
    })?;

    let (mut readings, mut asked) = (Vec::new(), Vec::new());
    let mut next = Instant::now();
    let last = ASKED[ASKED.len() - 1];
    for number in 0..=last + 3 {
        if ASKED.contains(&number) {
            asked.push(theirs(cluster, &path)?);
        }
        readings.push(read()?);
        next += Duration::from_secs(1);
        // A thread that ends, as one did for the reading, may have left word to go on at once.
        while Instant::now() < next {
            std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
        }
    }
    let mut judge =
        Judge { readings, known: accepted("kubelet").map_err(|error| anyhow!(error))?, ..Judge::new() };
    for (theirs, times) in &asked {
        judge.of_theirs(theirs, times)?;
    }
    judge.of_ours(asked.iter().map(|(theirs, _)| theirs));
    println!(
        "{} values of the kubelet judged, {} of them differ in a known way, {} were too old",
        judge.judged, judge.explained, judge.too_old
    );
    ensure!(judge.unexplained.is_empty(), "{} differ:\n{}", judge.unexplained.len(), judge.said());
    ensure!(judge.too_old * 20 < judge.judged, "{} samples are older than our first reading", judge.too_old);
    Ok(())
}

/// What the agent gave, and from when until when it read.
struct Reading {
    begun: f64,
    ended: f64,
    exposition: Exposition,
}

/// The kubelet's answer, and the time of each series that has one.
type Theirs = (Exposition, BTreeMap<(String, Labels), f64>);

fn theirs(cluster: &Cluster, path: &str) -> Result<Theirs> {
    let text = cluster.kubectl.raw(path)?;
    let mut times = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rfind('}').map_or(0, |end| end + 1);
        let Some(milliseconds) = line[series..].split_whitespace().nth(1) else { continue };
        let family = parse(line).map_err(|error| anyhow!(error))?;
        for (name, family) in known(family) {
            for labels in family.series.into_keys() {
                times.insert((name.clone(), labels), milliseconds.parse::<f64>()? / 1000.0);
            }
        }
    }
    Ok((known(parse(&text).map_err(|error| anyhow!(error))?), times))
}

/// The families that the two have in common by their names, without empty labels, as Prometheus has them.
fn known(exposition: Exposition) -> Exposition {
    let is_of_cadvisor =
        |name: &String| ["cadvisor_", "container_", "machine_"].iter().any(|prefix| name.starts_with(prefix));
    let mut found: Exposition = exposition.into_iter().filter(|(name, _)| is_of_cadvisor(name)).collect();
    for family in found.values_mut() {
        let series = std::mem::take(&mut family.series).into_iter();
        family.series = series
            .map(|(labels, value)| (labels.into_iter().filter(|(_, v)| !v.is_empty()).collect(), value))
            .collect();
    }
    found
}

fn label<'a>(labels: &'a Labels, name: &str) -> &'a str {
    labels.iter().find(|(label, _)| label == name).map_or("", |(_, value)| value)
}

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64())
}

/// What has been found so far.
struct Judge {
    readings: Vec<Reading>,
    known: Vec<Accepted>,
    judged: usize,
    explained: usize,
    too_old: usize,
    unexplained: Vec<Difference>,
}

impl Judge {
    fn new() -> Self {
        Judge {
            readings: Vec::new(),
            known: Vec::new(),
            judged: 0,
            explained: 0,
            too_old: 0,
            unexplained: Vec::new(),
        }
    }

    fn of_theirs(&mut self, theirs: &Exposition, times: &BTreeMap<(String, Labels), f64>) -> Result<()> {
        for (name, family) in theirs {
            let ours = self.readings.iter().find_map(|reading| reading.exposition.get(name));
            if let Some(ours) = ours.filter(|ours| ours.kind != family.kind && !family.series.is_empty()) {
                let what = What::Type(family.kind.clone(), ours.kind.clone());
                self.note(name, &Labels::new(), what);
            }
            for (labels, value) in &family.series {
                self.judged += 1;
                let time = times.get(&(name.clone(), labels.clone())).copied();
                if let Some(what) = self.difference(name, labels, &family.kind, *value, time)? {
                    self.note(name, labels, what);
                }
            }
        }
        Ok(())
    }

    /// Series of ours that the kubelet has in none of its answers.
    fn of_ours<'a>(&mut self, theirs: impl Iterator<Item = &'a Exposition> + Clone) {
        let Some(last) = self.readings.last() else { return };
        let has = |name: &String, labels: &Labels| {
            theirs.clone().any(|it| it.get(name).is_some_and(|family| family.series.contains_key(labels)))
        };
        let mut extra = Vec::new();
        for (name, family) in &last.exposition {
            let only_ours = family.series.keys().filter(|labels| !has(name, labels));
            extra.extend(only_ours.map(|labels| (name.clone(), labels.clone())));
        }
        for (name, labels) in extra {
            self.note(&name, &labels, What::Extra);
        }
    }

    fn note(&mut self, family: &str, labels: &Labels, what: What) {
        let difference = Difference { family: family.to_owned(), labels: labels.clone(), what };
        match self.known.iter().any(|row| row.explains(&difference)) {
            true => self.explained += 1,
            false => self.unexplained.push(difference),
        }
    }

    /// What is different about one of their series.
    fn difference(
        &mut self,
        name: &str,
        labels: &Labels,
        kind: &str,
        value: f64,
        time: Option<f64>,
    ) -> Result<Option<What>> {
        let ours = |reading: &Reading| reading.exposition.get(name)?.series.get(labels).copied();
        let any = self.readings.iter().rev().find_map(ours);
        let Some(any) = any else { return Ok(Some(What::Missing)) };
        let is_static = STATIC.iter().any(|prefix| name.starts_with(prefix));
        let differs = |ours: f64| Ok(Some(What::Value(value, ours)));
        let (Some(time), false) = (time, is_static) else {
            return if value == any { Ok(None) } else { differs(any) };
        };
        let before = self.readings.iter().rposition(|reading| reading.ended <= time - MARGIN);
        let after = self.readings.iter().position(|reading| reading.begun >= time + MARGIN);
        let (Some(before), Some(after)) = (before, after) else {
            self.too_old += 1;
            return Ok(None);
        };
        if kind == "counter" {
            let [low, high] = [before, after].map(|at| ours(&self.readings[at]));
            let (low, high) = (low.unwrap_or(0.0), high.unwrap_or(f64::INFINITY));
            // The two divide differently in the last digit.
            let slack = value.abs() * 1e-9;
            return if (low - slack..=high + slack).contains(&value) { Ok(None) } else { differs(low) };
        }
        // A gauge may have been anywhere between two readings; as far as it went in the seconds around, it may have gone.
        let around = &self.readings[before.saturating_sub(3)..(after + 4).min(self.readings.len())];
        let values: Vec<f64> = around.iter().filter_map(ours).collect();
        let [low, high] = [f64::min, f64::max].map(|choose| values.iter().copied().reduce(choose));
        let (low, high) = (low.context("no neighbours")?, high.context("no neighbours")?);
        // The kernel counts memory in batches for each CPU.
        let batch = if high > f64::from(1 << 20) { f64::from(1 << 20) } else { 1.0 };
        let slack = (high - low) + high.abs() * 0.02 + batch;
        if (low - slack..=high + slack).contains(&value) { Ok(None) } else { differs(low) }
    }

    /// What is not explained, the first of each family.
    fn said(&self) -> String {
        let mut families = BTreeMap::<(&str, String), Vec<&Difference>>::new();
        for difference in &self.unexplained {
            let side = format!("{:?}", difference.what.side());
            families.entry((&difference.family, side)).or_default().push(difference);
        }
        let first = families.values().map(|all| format!("{} × {}", all.len(), all[0]));
        first.collect::<Vec<_>>().join("\n")
    }
}

/// A pod that reads and writes past the page cache, on a volume of its own.
const PODS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: differential}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: differential}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: differential
  local: {path: /var/lib/local-volume}
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [NODE]}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: differential}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: differential
  resources: {requests: {storage: 1Gi}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: direct, namespace: differential}
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
