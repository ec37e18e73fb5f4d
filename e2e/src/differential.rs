//! Holds the agent to node_exporter: both run on the same files, and what differs must be an accepted difference.

pub mod processes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use agent::collector::{COLLECTORS, Run};
use agent::compare::{Accepted, Difference, Exposition, Labels, accepted, differences, parse};
use anyhow::{Context as _, Result, anyhow, ensure};

use crate::exporter::Exporter;
use crate::parts::NODE_EXPORTER;
use crate::process::output;

/// A reading may fall between two changes of a value, and node_exporter may meet itself at work, by the thread that it reads
/// on; what differs in each of so many rounds differs for good.
const ROUNDS: usize = 10;

/// What both say of themselves and not of the machine.
const OF_THEMSELVES: [&str; 5] =
    ["go_", "process_", "promhttp_", "node_exporter_build_info", "node_scrape_collector_duration_seconds"];

/// Without these in it node_exporter panics, so that a recorded node which lacks one cannot be compared.
const NEEDED: [&str; 2] = ["sys/devices/system/cpu/cpu0", "proc/self"];

/// What node_exporter asks the kernel for and not the files, so that it says nothing of a tree.
const OF_THE_KERNEL: [&str; 4] = ["ethtool", "network_route", "qdisc", "tcpstat"];
/// And what it can be told to read from the files.
const FROM_FILES: [&str; 2] = ["--no-collector.arp.netlink", "--no-collector.netdev.netlink"];

/// The files that both read.
struct Tree {
    name: String,
    root: PathBuf,
    is_live: bool,
}

/// Compares on this machine and on every recorded or made node, and says what was compared.
///
/// # Errors
/// Every difference that no row of `agent/accepted-differences.md` explains.
pub fn check() -> Result<String> {
    let programs = [agent()?, NODE_EXPORTER.program("node_exporter")?];
    let logs = std::env::temp_dir().join(format!("differential-{}", std::process::id()));
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let rows = accepted("node_exporter").map_err(|row| anyhow!(row))?;
    let (mut said, mut wrong) = (Vec::new(), Vec::new());
    for tree in trees()? {
        let (series, found) = tree.compare(&programs, &logs).with_context(|| tree.name.clone())?;
        let (explained, unexplained): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|difference| rows.iter().any(|row: &Accepted| row.explains(difference)));
        said.push(format!("{}: {series} series, {} accepted differences", tree.name, explained.len()));
        wrong.extend(unexplained.iter().map(|difference| format!("{}: {difference}", tree.name)));
    }
    std::fs::remove_dir_all(&logs).with_context(|| format!("cannot remove {}", logs.display()))?;
    ensure!(wrong.is_empty(), "{} unexplained differences:\n{}", wrong.len(), wrong.join("\n"));
    Ok(said.join("\n"))
}

/// As the unit tests have built it.
fn agent() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "--quiet", "-p", "agent", "--bin", "exporter-agent", "--message-format=json"];
    let messages = output(Command::new(cargo).current_dir(root()).args(arguments))?;
    let built = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let program = built.filter_map(|message| Some(message["executable"].as_str()?.to_owned())).next_back();
    program.map(PathBuf::from).context("cargo built no agent")
}

fn trees() -> Result<Vec<Tree>> {
    let mut trees = vec![Tree { name: "this machine".to_owned(), root: "/".into(), is_live: true }];
    let fixtures = root().join("agent/fixtures");
    for entry in std::fs::read_dir(&fixtures).with_context(|| fixtures.display().to_string())? {
        let root = entry?.path();
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if NEEDED.iter().all(|needed| root.join(needed).is_dir()) {
            trees.push(Tree { name, root, is_live: false });
        }
    }
    trees[1..].sort_by(|one, other| one.name.cmp(&other.name));
    Ok(trees)
}

impl Tree {
    /// How many series node_exporter has, and what differs.
    fn compare(&self, programs: &[PathBuf; 2], logs: &Path) -> Result<(usize, Vec<Difference>)> {
        let flags = self.flags();
        let ours = Exporter::start("agent", &programs[0], &flags, logs)?;
        let theirs = Exporter::start("node_exporter", &programs[1], &flags, logs)?;
        let mut lasting: BTreeMap<String, (Difference, usize)> = BTreeMap::new();
        let rounds = if self.is_live { ROUNDS } else { 1 };
        let mut series = 0;
        for _ in 0..rounds {
            let before = read(&theirs.text("/metrics")?)?;
            let mut ours = read(&ours.text("/metrics/node")?)?;
            let after = read(&theirs.text("/metrics")?)?;
            let theirs = settle(before, &after, &mut ours);
            series = theirs.values().map(|family| family.series.len()).sum();
            for difference in differences(&theirs, &ours, |_, a, b| is_same(a, b)) {
                // Not its text, in which a value may move from round to round.
                let key =
                    format!("{} {:?} {:?}", difference.family, difference.labels, difference.what.side());
                lasting.entry(key).or_insert((difference, 0)).1 += 1;
            }
        }
        ensure!(series > 0, "node_exporter has nothing; its log ends with\n{}", theirs.log());
        Ok((series, lasting.into_values().filter(|(_, seen)| *seen == rounds).map(|(it, _)| it).collect()))
    }

    fn flags(&self) -> Vec<String> {
        let optional = COLLECTORS.iter().filter(|c| {
            let is_optional = matches!(c.run, Run::Node { .. }) && !c.enabled_by_default;
            is_optional && (self.is_live || !OF_THE_KERNEL.contains(&c.name))
        });
        let mut flags: Vec<_> = optional.map(|c| format!("--collector.{}", c.name)).collect();
        if !self.is_live {
            flags.extend(FROM_FILES.map(str::to_owned));
            // What the tree was made to show, in node_exporter's spelling.
            let own = std::fs::read_to_string(self.root.join("flags")).unwrap_or_default();
            flags.extend(own.lines().map(str::to_owned));
            for (flag, part) in [
                ("path.procfs", "proc"),
                ("path.sysfs", "sys"),
                ("path.rootfs", ""),
                ("path.udev.data", "udev"),
                ("collector.textfile.directory", "textfile"),
            ] {
                flags.push(format!("--{flag}={}", self.root.join(part).display()));
            }
        }
        flags
    }
}

fn read(text: &str) -> Result<Exposition> {
    let mut exposition = parse(text).map_err(|what| anyhow!(what))?;
    exposition.retain(|name, _| !OF_THEMSELVES.iter().any(|own| name.starts_with(own)));
    Ok(exposition)
}

/// What they have before and after us, with our value where theirs moved and ours lies between; what came or went
/// meanwhile is left out of both.
fn settle(mut before: Exposition, after: &Exposition, ours: &mut Exposition) -> Exposition {
    for (name, family) in &mut before {
        let nothing = Default::default();
        let later = after.get(name).map_or(&nothing, |family| &family.series);
        let mine = ours.get_mut(name);
        let is_counter = family.kind == "counter";
        let mut gone = Vec::new();
        for (labels, value) in &mut family.series {
            let Some(later) = later.get(labels) else {
                gone.push(labels.clone());
                continue;
            };
            let Some(ours) = mine.as_ref().and_then(|family| family.series.get(labels)) else { continue };
            let is_between = ours >= value && ours <= later;
            if !is_same(*value, *later) && (is_between || !is_counter) {
                *value = *ours;
            }
        }
        if let Some(mine) = mine {
            let came = |labels: &Labels| later.contains_key(labels) && !family.series.contains_key(labels);
            mine.series.retain(|labels, _| !came(labels) && !gone.contains(labels));
        }
        family.series.retain(|labels, _| !gone.contains(labels));
    }
    before
}

/// Equal but for the last digit, which depends on the order of divisions.
fn is_same(one: f64, other: f64) -> bool {
    one == other
        || (one.is_nan() && other.is_nan())
        || (one - other).abs() <= 1e-12 * one.abs().max(other.abs())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &str, ours: &str, after: &str, expected: &[&str]) {
        let [before, mut ours, after] = [before, ours, after]
            .map(|lines| parse(&format!("# TYPE c counter\n# TYPE g gauge\n{lines}")).unwrap());
        let theirs = settle(before, &after, &mut ours);
        let found: Vec<_> =
            differences(&theirs, &ours, |_, a, b| is_same(a, b)).iter().map(Difference::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_value_that_moves_must_lie_between_and_one_that_does_not_must_be_equal() {
        check("c 1\ng 5", "c 2\ng 9", "c 3\ng 6", &[]);
        check("c 1\ng 5", "c 4\ng 5.1", "c 3\ng 5", &["c: 1 there, 4 here", "g: 5 there, 5.1 here"]);
    }

    #[test]
    fn what_comes_or_goes_meanwhile_is_no_difference() {
        check("g{d=\"a\"} 1\ng{d=\"b\"} 1", "g{d=\"b\"} 1\ng{d=\"c\"} 1", "g{d=\"b\"} 1\ng{d=\"c\"} 1", &[]);
        check("g 1", "g{d=\"a\"} 1", "g 1", &["g: missing", "g{d=\"a\"}: extra"]);
    }
}
