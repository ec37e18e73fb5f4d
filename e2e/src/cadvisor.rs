//! The kubelet's own `/metrics/cadvisor` beside what the agent of its node gives at the same moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use agent::compare::{Accepted, Difference, Exposition, Labels, What, accepted, parse};
use anyhow::{Context as _, Result, anyhow, ensure};

use crate::cluster::Cluster;
use crate::product::Agent;
use crate::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(120);
/// How long ours is taken before the kubelet is asked: its samples are up to 16 s old.
const BEFORE: usize = 20;
/// After how many readings of ours the kubelet is asked, each time.
const ASKED: [usize; 3] = [BEFORE, BEFORE + 5, BEFORE + 10];
/// The kubelet's timestamp is that of the middle of its reading, which takes a while on a machine that is busy.
const MARGIN: f64 = 1.0;

/// The kubelet may not know of a container for so many seconds: on a slow machine the runtime answers too late when it is
/// made, and it is asked again once a minute.
const FOUND_IN: f64 = 90.0;

/// The family by which a cgroup is known to be there: of one that has gone there is no gauge.
const IS_THERE: &str = "container_start_time_seconds";
const USED: &str = "container_cpu_usage_seconds_total";

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

/// What a comparison came to.
#[derive(Debug)]
pub struct Compared {
    families: usize,
    /// Families of the kubelet that we have not, by a known difference.
    absent: Vec<String>,
    judged: usize,
    explained: usize,
    passing: usize,
    too_old: usize,
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} families of the kubelet, of which we leave out {:?}; {} of its values judged, {} differ in a known \
             way, {} are of containers that came or went meanwhile or have no name there, {} were too old",
            self.families, self.absent, self.judged, self.explained, self.passing, self.too_old
        )
    }
}

/// Takes ours each second, asks the kubelet now and then, and judges each of its samples by ours around its time.
///
/// Begins once both have the rows of the same pods, the container of this name among them. Of what comes or goes
/// meanwhile nothing is judged: the two look at different times.
///
/// # Errors
/// Every difference that no row of `agent/accepted-differences.md` explains.
pub fn compare(cluster: &Cluster, agent: &Agent, container: &str) -> Result<Compared> {
    let path = path(&agent.node);
    let read = || -> Result<Reading> {
        let begun = now()?;
        let text = agent.get(cluster, "/metrics/cadvisor", &[])?;
        let exposition = parse(text.text()?).map_err(|error| anyhow!(error))?;
        Ok(Reading { begun, ended: now()?, exposition: known(exposition) })
    };
    wait_for("the same rows as the kubelet's", PATIENCE, || {
        let [theirs, ours] = [theirs(cluster, &path)?.0, read()?.exposition];
        let is_known = rows(&theirs).any(|row| label(row, "container") == container);
        ensure!(is_known, "the kubelet does not know the container {container} yet");
        let pods = |exposition| -> BTreeSet<String> {
            let ids = rows(exposition).map(|row| label(row, "id"));
            ids.filter(|id| id.contains("kubepods")).map(str::to_owned).collect()
        };
        let new = made_after(&ours, now()? - FOUND_IN);
        let [only_theirs, only_ours] = [
            pods(&theirs).difference(&pods(&ours)).next().cloned(),
            pods(&ours).difference(&pods(&theirs)).find(|id| !new.contains(*id)).cloned(),
        ];
        let are_same = only_theirs.is_none() && only_ours.is_none();
        ensure!(are_same, "only theirs: {only_theirs:?}, only ours: {only_ours:?}");
        // The image of a new container is known a while after its name.
        let of_ours: BTreeSet<&Labels> = rows(&ours).collect();
        let mut named = rows(&theirs).filter(|row| !label(row, "name").is_empty());
        let unlike = named.find(|row| !of_ours.contains(row));
        ensure!(unlike.is_none(), "other labels than the kubelet's: {unlike:?}");
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
    let mut judge = Judge::new(readings, host_network(cluster)?)?;
    judge.leave_out_nameless(asked.iter().map(|(theirs, _)| theirs));
    judge.leave_out_new(asked.iter().map(|(theirs, _)| theirs));
    for (theirs, times) in &asked {
        judge.of_theirs(theirs, times)?;
    }
    judge.of_ours(asked.iter().map(|(theirs, _)| theirs));
    let theirs: BTreeSet<&String> = asked.iter().flat_map(|(theirs, _)| theirs.keys()).collect();
    judge.verdict(&theirs)
}

/// The image of the sandbox of every pod, of which only the runtime's configuration tells, as the kubelet gives it.
///
/// # Errors
/// A kubelet that does not answer, or has no sandbox.
pub fn sandbox_image(cluster: &Cluster, node: &str) -> Result<String> {
    let answer = theirs(cluster, &path(node))?.0;
    let mut sandboxes = rows(&answer).filter(|row| {
        label(row, "container").is_empty() && !label(row, "name").is_empty() && !label(row, "pod").is_empty()
    });
    sandboxes.next().map(|row| label(row, "image").to_owned()).context("the kubelet shows no sandbox")
}

fn path(node: &str) -> String {
    format!("/api/v1/nodes/{node}/proxy/metrics/cadvisor")
}

/// Namespace and name of each pod in the machine's network, whose interfaces are the machine's.
fn host_network(cluster: &Cluster) -> Result<Vec<[String; 2]>> {
    let pods = cluster.kubectl.get(&["pods", "--all-namespaces"])?;
    let pods = pods["items"].as_array().context("no list of pods")?.iter();
    let is_in_it = pods.filter(|pod| pod["spec"]["hostNetwork"] == true);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(is_in_it.map(|pod| [&pod["metadata"]["namespace"], &pod["metadata"]["name"]].map(text)).collect())
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

/// The rows of the cgroups that are there.
fn rows(exposition: &Exposition) -> impl Iterator<Item = &Labels> {
    exposition.get(IS_THERE).into_iter().flat_map(|family| family.series.keys())
}

/// The paths of the cgroups that were made after this time.
fn made_after(exposition: &Exposition, time: f64) -> BTreeSet<String> {
    let made = exposition.get(IS_THERE).into_iter().flat_map(|family| &family.series);
    made.filter(|(_, made)| **made > time).map(|(row, _)| label(row, "id").to_owned()).collect()
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
    host_network: Vec<[String; 2]>,
    /// The cgroups that are not there in all readings.
    passing: BTreeSet<String>,
    /// Those that the kubelet has no name of.
    nameless: BTreeSet<String>,
    of_passing: usize,
    judged: usize,
    explained: usize,
    too_old: usize,
    unexplained: Vec<Difference>,
}

impl Judge {
    fn new(readings: Vec<Reading>, host_network: Vec<[String; 2]>) -> Result<Self> {
        let mut times_seen = BTreeMap::<String, usize>::new();
        for Reading { exposition, .. } in &readings {
            // What has gone has counters for a while.
            let used = exposition.get(USED).into_iter().flat_map(|family| family.series.keys());
            for (row, times) in used.map(|row| (row, 0)).chain(rows(exposition).map(|row| (row, 1))) {
                *times_seen.entry(label(row, "id").to_owned()).or_default() += times;
            }
        }
        let passing = times_seen.into_iter().filter(|(_, times)| *times < readings.len());
        Ok(Judge {
            passing: passing.map(|(id, _)| id).collect(),
            readings,
            known: accepted("kubelet").map_err(|error| anyhow!(error))?,
            host_network,
            nameless: BTreeSet::new(),
            of_passing: 0,
            judged: 0,
            explained: 0,
            too_old: 0,
            unexplained: Vec::new(),
        })
    }

    /// A kubelet whose runtime answered too late has a container as a cgroup that is nobody's, for as long as it runs.
    fn leave_out_nameless<'a>(&mut self, theirs: impl Iterator<Item = &'a Exposition>) {
        let Some(last) = self.readings.last() else { return };
        let named = |row: &&Labels| !label(row, "name").is_empty();
        let ours: BTreeSet<&str> = rows(&last.exposition).filter(named).map(|row| label(row, "id")).collect();
        for theirs in theirs {
            let ids = rows(theirs).filter(|row| !named(row)).map(|row| label(row, "id"));
            self.nameless.extend(ids.filter(|id| ours.contains(id)).map(str::to_owned));
        }
    }

    /// What was made lately and is not in all of the kubelet's answers.
    fn leave_out_new<'a>(&mut self, theirs: impl Iterator<Item = &'a Exposition>) {
        let Some(last) = self.readings.last() else { return };
        let new = made_after(&last.exposition, last.ended - FOUND_IN);
        for theirs in theirs {
            let known: BTreeSet<&str> = rows(theirs).map(|row| label(row, "id")).collect();
            self.passing.extend(new.iter().filter(|id| !known.contains(id.as_str())).cloned());
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
                if !self.is_judged(labels) {
                    self.of_passing += 1;
                    continue;
                }
                self.judged += 1;
                let time = times.get(&(name.clone(), labels.clone())).copied();
                let difference = self.difference(name, labels, &family.kind, *value, time)?;
                let what = difference.filter(|_| !self.has_moved_pages(theirs, name, labels, time));
                if let Some(what) = what {
                    self.note(name, labels, what);
                }
            }
        }
        Ok(())
    }

    /// Series of ours that the kubelet has in none of its answers, but for processor time that nobody has used yet.
    fn of_ours<'a>(&mut self, theirs: impl Iterator<Item = &'a Exposition> + Clone) {
        let Some(last) = self.readings.last() else { return };
        let has = |name: &String, labels: &Labels| {
            theirs.clone().any(|it| it.get(name).is_some_and(|family| family.series.contains_key(labels)))
        };
        let mut extra = Vec::new();
        for (name, family) in &last.exposition {
            for (labels, value) in &family.series {
                let is_used = name != USED || *value > 0.0;
                if self.is_judged(labels) && is_used && !has(name, labels) {
                    extra.push((name.clone(), labels.clone()));
                }
            }
        }
        for (name, labels) in extra {
            self.note(&name, &labels, What::Extra);
        }
    }

    fn is_judged(&self, labels: &Labels) -> bool {
        let id = label(labels, "id");
        !self.passing.contains(id) && !self.nameless.contains(id)
    }

    fn note(&mut self, family: &str, labels: &Labels, what: What) {
        let difference = Difference { family: family.to_owned(), labels: labels.clone(), what };
        let is_of_the_machine = family.starts_with("container_network_")
            && self.host_network.iter().any(|[namespace, pod]| {
                [label(labels, "namespace"), label(labels, "pod")] == [namespace.as_str(), pod]
            });
        match is_of_the_machine || self.known.iter().any(|row| row.explains(&difference)) {
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
        let Some([before, after]) = self.around(time) else {
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
        let (Some(low), Some(high)) = (low, high) else { return Ok(Some(What::Missing)) };
        // The kernel counts memory in batches for each CPU.
        let batch = if high > f64::from(1 << 20) { f64::from(1 << 20) } else { 1.0 };
        let slack = (high - low) + high.abs() * 0.02 + batch;
        if (low - slack..=high + slack).contains(&value) { Ok(None) } else { differs(low) }
    }

    /// The last reading before this time and the first one after it.
    fn around(&self, time: f64) -> Option<[usize; 2]> {
        let before = self.readings.iter().rposition(|reading| reading.ended <= time - MARGIN)?;
        let after = self.readings.iter().position(|reading| reading.begun >= time + MARGIN)?;
        Some([before, after])
    }

    /// Whether pages have gone from the one list to the other of a cgroup that stands still, where both together are as
    /// they were: the kernel does it without CPU time of the cgroup, so that it shows here up to a minute later.
    fn has_moved_pages(&self, theirs: &Exposition, name: &str, labels: &Labels, time: Option<f64>) -> bool {
        let other = match name.contains("_total_inactive_") {
            true => name.replace("_total_inactive_", "_total_active_"),
            false => name.replace("_total_active_", "_total_inactive_"),
        };
        let Some([before, after]) = time.and_then(|time| self.around(time)).filter(|_| other != name) else {
            return false;
        };
        let around = [&self.readings[before].exposition, &self.readings[after].exposition];
        let used = |of: &Exposition| {
            let mut rows = of.get(USED)?.series.iter();
            rows.find(|(row, _)| label(row, "id") == label(labels, "id")).map(|(_, used)| *used)
        };
        let both = |of: &Exposition| {
            let [one, other] = [name, &other].map(|name| of.get(name)?.series.get(labels).copied());
            Some(one? + other?)
        };
        let [is_still, are_same] =
            [around.map(used), around.map(both)].map(|[one, other]| one.is_some() && one == other);
        is_still && are_same && both(theirs) == both(around[0])
    }

    fn verdict(self, theirs: &BTreeSet<&String>) -> Result<Compared> {
        ensure!(self.unexplained.is_empty(), "{} differ:\n{}", self.unexplained.len(), self.said());
        let (judged, too_old) = (self.judged, self.too_old);
        ensure!(too_old * 20 < judged, "{too_old} of {judged} samples are older than our first reading");
        let is_ours = |family: &&&String| self.readings.iter().any(|it| it.exposition.contains_key(**family));
        let absent = theirs.iter().filter(|family| !is_ours(family)).map(ToString::to_string).collect();
        let (explained, passing) = (self.explained, self.of_passing);
        Ok(Compared { families: theirs.len(), absent, judged, explained, passing, too_old })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn exposition(made: &[(&str, f64)]) -> Exposition {
        let lines: String = made.iter().map(|(id, at)| format!("{IS_THERE}{{id=\"{id}\"}} {at}\n")).collect();
        parse(&format!("# TYPE {IS_THERE} gauge\n{lines}")).unwrap()
    }

    /// What differs where ours has both cgroups and the kubelet none, at 1000 s.
    fn differing(made: &[(&str, f64)]) -> Vec<String> {
        let reading = Reading { begun: 999.0, ended: 1000.0, exposition: exposition(made) };
        let mut judge = Judge::new(vec![reading], Vec::new()).unwrap();
        let theirs = [exposition(&[])];
        judge.leave_out_new(theirs.iter());
        judge.of_ours(theirs.iter());
        judge.unexplained.iter().map(ToString::to_string).collect()
    }

    /// What differs where the kubelet has no page on the inactive list and two on the active one.
    fn differing_lists(ours: [f64; 2], used: [f64; 2]) -> Vec<String> {
        let row = "{id=\"/kubepods/pod1\"}";
        let of = |[inactive, active]: [f64; 2], used: f64| {
            let lines = [
                ("container_memory_total_inactive_file_bytes", "gauge", inactive),
                ("container_memory_total_active_file_bytes", "gauge", active),
                (USED, "counter", used),
                (IS_THERE, "gauge", 1.0),
            ];
            let lines =
                lines.map(|(name, kind, value)| format!("# TYPE {name} {kind}\n{name}{row} {value}\n"));
            parse(&lines.concat()).unwrap()
        };
        let reading = |at: f64, used| Reading { begun: at, ended: at, exposition: of(ours, used) };
        let readings = vec![reading(1000.0, used[0]), reading(1010.0, used[1])];
        let mut judge = Judge::new(readings, Vec::new()).unwrap();
        let theirs = of([0.0, 8192.0], used[0]);
        let series = theirs
            .iter()
            .flat_map(|(name, family)| family.series.keys().map(|row| (name.clone(), row.clone())));
        let times = series.map(|series| (series, 1005.0)).collect();
        judge.of_theirs(&theirs, &times).unwrap();
        judge.unexplained.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pages_change_their_list_while_a_cgroup_stands_still_and_do_not_come_or_go() {
        assert_eq!(differing_lists([4096.0, 4096.0], [1.0, 1.0]), [""; 0]);
        assert_eq!(
            differing_lists([4096.0, 4096.0], [1.0, 2.0]).len(),
            2,
            "of one that runs it is told at once"
        );
        assert_eq!(differing_lists([4096.0, 8192.0], [1.0, 1.0]).len(), 1, "there is a page more");
    }

    #[test]
    fn what_the_kubelet_has_not_found_yet_is_no_difference_and_what_it_should_have_is() {
        let pods = "/kubepods/pod";
        let made = [(format!("{pods}1/new"), 950.0), (format!("{pods}1/old"), 800.0)];
        let found = differing(&made.each_ref().map(|(id, at)| (id.as_str(), *at)));
        assert_eq!(found, [format!("{IS_THERE}{{id=\"{pods}1/old\"}}: extra")]);
    }
}
