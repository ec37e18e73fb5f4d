//! Holds the agent to process-exporter: both watch the same processes, which come and go as a script says.

mod churn;
mod rights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use agent::compare::{Accepted, Difference, Exposition, Labels, Side, What, accepted, differences};
use anyhow::{Context as _, Result, anyhow, ensure};

use super::{ROUNDS, agent, is_same, read, settle};
use crate::exporter::Exporter;
use crate::process::{Component, output};
use crate::process_exporter;
use crate::programs::{WORKLOAD, build};
use crate::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(30);
const FAMILIES: &str = "namedprocess_namegroup_";
const SWITCHES: &str = "namedprocess_namegroup_thread_context_switches_total";
const GROUP_SWITCHES: &str = "namedprocess_namegroup_context_switches_total";
const PROCESSES: &str = "namedprocess_namegroup_num_procs";

/// Every part of the language: by comm, by program with and without its path, by command line with what is captured,
/// with and without a name, and what no rule names but its parent.
const NAMES: &str = "process_names:
- name: 'comm {{.Comm}}'
  comm: [pop-wait, pop-burn, pop-threads]
- name: 'user {{.Username}} {{.ExeFull}}'
  exe: [FOLDER/pop-full]
- exe: [pop-base]
- name: '{{.ExeBase}}:{{.Matches.code}}'
  cmdline: ['pop-role', '--code (?P<code>\\d+)']
- name: 'shell {{.Comm}}'
  comm: [pop-sh]
";

/// Runs the script and says what was compared.
///
/// # Errors
/// Every difference that no row of `agent/accepted-differences.md` explains.
pub fn check() -> Result<String> {
    let folder = std::env::temp_dir().join(format!("differential-processes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let checked = Script::start(&folder)
        .and_then(|mut script| script.run())
        .and_then(|said| Ok(format!("{said}\n{}", rights::check(&folder)?)));
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    checked.and_then(|said| Ok(format!("{said}\n{}", churn::check()?)))
}

struct Script {
    folder: PathBuf,
    workload: PathBuf,
    ours: Exporter,
    theirs: Exporter,
    rows: Vec<Accepted>,
    /// By how much we are ahead where a row of the side `more` explains it: from then on both have to grow alike.
    ahead: BTreeMap<(String, Labels), f64>,
    compared: usize,
    explained: usize,
}

impl Script {
    fn start(folder: &Path) -> Result<Self> {
        let names = folder.join("names.yml");
        std::fs::write(&names, NAMES.replace("FOLDER", &folder.display().to_string()))?;
        let flags = |flags: &[String]| flags.to_vec();
        let ours = flags(&[
            "--collector.disable-defaults".to_owned(),
            "--collector.process_groups".to_owned(),
            format!("--collector.process_groups.config-path={}", names.display()),
            "--collector.process_groups.expose-command-lines".to_owned(),
            "--collector.process_groups.gather-smaps".to_owned(),
        ]);
        let theirs = flags(&[format!("--config.path={}", names.display())]);
        let theirs = Exporter::start("process-exporter", &process_exporter::program()?, &theirs, folder)?;
        let ours = Exporter::start("agent", &agent()?, &ours, folder)?;
        let workload = build(&[WORKLOAD])?.pop().context("nothing was built")?;
        let rows = accepted("process-exporter").map_err(|row| anyhow!(row))?;
        let (folder, ahead) = (folder.to_owned(), BTreeMap::new());
        Ok(Script { folder, workload, ours, theirs, rows, ahead, compared: 0, explained: 0 })
    }

    fn run(&mut self) -> Result<String> {
        // What begins from now on both have seen begin.
        self.ours.text("/metrics/processes")?;
        self.theirs.text("/metrics")?;
        // process-exporter counts starts from when the machine was booted, which it knows to the second (`btime` of
        // proc(5)): what begins in the second of its first look it can take for older, and counts nothing of before.
        let first = Instant::now();
        wait_for("that second to pass", PATIENCE, || {
            Ok((first.elapsed() > Duration::from_secs(2)).then_some(()))
        })?;
        let mut waiting =
            [self.work("pop-wait", &["pause"])?, self.work("pop-wait", &["memory", "--mebibytes", "8"])?];
        let leave = self.folder.join("leave");
        output(Command::new("mkfifo").arg(&leave))?;
        let threads = ["threads", "--count", "5", "--leave-with", &leave.display().to_string()];
        let threads = self.work("pop-threads", &threads)?;
        let _others = [
            self.work("pop-burn", &["burn", "--millicores", "100"])?,
            self.work("pop-full", &["pause"])?,
            self.work("pop-base", &["pause"])?,
            self.work("pop-other", &["pause", "pop-role", "--code", "7"])?,
        ];
        let mut shell = self.shell("trap 'kill $!; exit' TERM; sleep 60 & wait")?;
        let write = self.folder.join("written").display().to_string();
        let _writer = self.work("pop-base", &["direct", "--path", &write])?;
        self.compare(10, "all of them")?;
        // Quiet ones, so that nothing is lost that one of the two has not seen.
        waiting[0].kill();
        let _again = self.work("pop-wait", &["pause"])?;
        self.compare(10, "a member that has ended, and a new one")?;
        std::fs::write(&leave, "x").with_context(|| format!("cannot write {}", leave.display()))?;
        wait_for("a thread to end", PATIENCE, || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", threads.pid()))?.count();
            Ok((tasks == 5).then_some(()))
        })?;
        // Of what went before, every difference was one.
        self.learn("a thread that has ended", |name| name == GROUP_SWITCHES)?;
        self.compare(10, "a thread that has ended")?;
        shell.stop(PATIENCE);
        self.compare(8, "a group that has ended")?;
        let switches = self.expose(&self.theirs, "/metrics")?;
        let switches = switches.get(SWITCHES).context("no switches of threads")?.series.values().sum::<f64>();
        ensure!(switches > 0.0, "no thread has counted anything since it was seen");
        Ok(format!("processes: {} series, {} accepted differences", self.compared, self.explained))
    }

    /// Starts the sample workload under another name.
    fn work(&self, name: &str, arguments: &[&str]) -> Result<Component> {
        let program = self.folder.join(name);
        if !program.exists() {
            std::fs::copy(&self.workload, &program)
                .with_context(|| format!("cannot write {}", program.display()))?;
        }
        self.component(name, Command::new(program).args(arguments))
    }

    /// A shell, which makes processes of its own.
    fn shell(&self, script: &str) -> Result<Component> {
        let program = self.folder.join("pop-sh");
        std::os::unix::fs::symlink("/bin/sh", &program)?;
        self.component("pop-sh", Command::new(program).args(["-c", script]))
    }

    fn component(&self, name: &str, command: &mut Command) -> Result<Component> {
        let component = Component::start(name, command, self.folder.join(format!("{name}.log")))?;
        // Until then it is called otherwise; one of them would name it by that.
        wait_for(&format!("{name} to begin"), PATIENCE, || {
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", component.pid()))?;
            Ok((comm.trim() == name).then_some(()))
        })?;
        Ok(component)
    }

    fn compare(&mut self, processes: u64, what: &str) -> Result<()> {
        // The shell's child begins a little later.
        wait_for(&format!("{what}: process-exporter to see {processes} processes"), PATIENCE, || {
            let seen = self.expose(&self.theirs, "/metrics")?;
            let counts = seen.get(PROCESSES).map(|family| family.series.values().sum::<f64>());
            Ok((counts == Some(processes as f64)).then_some(()))
        })?;
        self.learn(what, |name| name.starts_with("namedprocess_namegroup_thread_"))?;
        let mut lasting: BTreeMap<String, (Difference, usize)> = BTreeMap::new();
        for _ in 0..ROUNDS {
            let (before, mut ours, after) = self.both()?;
            for ((family, labels), ahead) in &self.ahead {
                let ours = ours.get_mut(family).and_then(|family| family.series.get_mut(labels));
                ours.into_iter().for_each(|value| *value -= ahead);
            }
            let theirs = settle(before, &after, &mut ours);
            self.compared = theirs.values().map(|family| family.series.len()).sum();
            for difference in differences(&theirs, &ours, |_, a, b| is_same(a, b)) {
                let key =
                    format!("{} {:?} {:?}", difference.family, difference.labels, difference.what.side());
                lasting.entry(key).or_insert((difference, 0)).1 += 1;
            }
        }
        let found = lasting.into_values().filter(|(_, seen)| *seen == ROUNDS).map(|(it, _)| it);
        let (explained, unexplained): (Vec<_>, Vec<_>) =
            found.partition(|it| self.rows.iter().any(|row| row.side != Side::More && row.explains(it)));
        self.explained += explained.len();
        let unexplained: Vec<_> = unexplained.iter().map(Difference::to_string).collect();
        ensure!(
            unexplained.is_empty(),
            "{what}: {} unexplained differences:\n{}",
            unexplained.len(),
            unexplained.join("\n")
        );
        Ok(())
    }

    /// Finds out by how much we are ahead in these families, of each series at a time when it does not move.
    fn learn(&mut self, what: &str, is_of: impl Fn(&str) -> bool) -> Result<()> {
        wait_for(&format!("{what}: every such counter to be still once"), PATIENCE, || {
            let (before, ours, after) = self.both()?;
            let mut moving = 0;
            for (name, family) in
                before.iter().filter(|(name, family)| family.kind == "counter" && is_of(name))
            {
                let value = |of: &Exposition, labels| of.get(name)?.series.get(labels).copied();
                for (labels, theirs) in &family.series {
                    let key = (name.clone(), labels.clone());
                    let (Some(ours), Some(later)) = (value(&ours, labels), value(&after, labels)) else {
                        continue;
                    };
                    if self.ahead.contains_key(&key) {
                        continue;
                    }
                    moving += usize::from(later != *theirs);
                    let difference = Difference {
                        family: name.clone(),
                        labels: labels.clone(),
                        what: What::Value(*theirs, ours),
                    };
                    if later == *theirs && self.rows.iter().any(|row| row.explains(&difference)) {
                        self.ahead.insert(key, ours - theirs);
                        self.explained += 1;
                    }
                }
            }
            Ok((moving == 0).then_some(()))
        })
    }

    /// What process-exporter has before and after us.
    fn both(&self) -> Result<(Exposition, Exposition, Exposition)> {
        let before = self.expose(&self.theirs, "/metrics")?;
        let ours = self.expose(&self.ours, "/metrics/processes")?;
        Ok((before, ours, self.expose(&self.theirs, "/metrics")?))
    }

    /// What an exporter has of groups, without those that it keeps empty, and without labels that are empty.
    fn expose(&self, exporter: &Exporter, path: &str) -> Result<Exposition> {
        let mut exposition = read(&exporter.text(path)?)?;
        exposition.retain(|name, _| name.starts_with(FAMILIES));
        for family in exposition.values_mut() {
            let series = std::mem::take(&mut family.series).into_iter();
            family.series = series
                .map(|(mut labels, value)| {
                    labels.retain(|(_, value)| !value.is_empty());
                    (labels, value)
                })
                .collect();
        }
        let counts = exposition.get(PROCESSES).context("no group at all")?.series.clone();
        let group =
            |labels: &[(String, String)]| labels.iter().find(|(label, _)| label == "groupname").cloned();
        let empty: Vec<_> =
            counts.iter().filter(|(_, n)| **n == 0.0).map(|(labels, _)| group(labels)).collect();
        for family in exposition.values_mut() {
            family.series.retain(|labels, _| !empty.contains(&group(labels)));
        }
        Ok(exposition)
    }
}
