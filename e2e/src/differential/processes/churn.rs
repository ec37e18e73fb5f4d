//! Processes that begin and end thousands of times while the agent reads them, with numbers that are soon used again.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::exporter::Exporter;
use crate::exposition::Exposition;
use crate::programs::{WORKLOAD, build};
use crate::weigh;

/// As in the issue that set the targets.
const PER_SECOND: u32 = 2000;
/// Short, since others want the machine, too.
const SECONDS: u32 = 4;
/// So few that every number is used several times.
const NUMBERS: u32 = 1000;
const PROCESSES: &str = "namedprocess_namegroup_num_procs";
const FAULTS: &str = "namedprocess_namegroup_minor_page_faults_total";
/// Those that there may be.
const GROUPS: [&str; 3] = ["churn-one churn-one", "churn-two churn-two", "churning"];

/// The name comes from one file of a process and what follows from another: of one process they agree.
const NAMES: &str = "process_names:
- name: '{{.Comm}} {{.Matches.of}}'
  comm: [churn-one, churn-two]
  cmdline: ['--of \\S+/(?P<of>\\S+)']
- name: churning
  comm: [churning]
";

/// Runs it in a pid namespace of its own and says what came of it.
///
/// # Errors
/// When a process was taken for another, when a handle was kept or when anything was logged.
pub(super) fn check() -> Result<String> {
    if !has_own_numbers()? {
        return Ok("churn: skipped, since before Linux 6.14 pid_max is the whole machine's".to_owned());
    }
    let folder = std::env::temp_dir().join(format!("churn-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let checked = run(&folder);
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    checked
}

/// Whether a pid namespace has a pid_max of its own.
fn has_own_numbers() -> Result<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or_default());
    Ok((numbers.next(), numbers.next()) >= (Some(6), Some(14)))
}

fn run(folder: &Path) -> Result<String> {
    let [one, two, churning, names, inside] =
        ["churn-one", "churn-two", "churning", "names.yml", "inside.sh"].map(|name| folder.join(name));
    let workload = build(&[WORKLOAD])?.pop().context("nothing was built")?;
    for program in [&one, &two, &churning] {
        std::fs::copy(&workload, program)?;
    }
    std::fs::write(&names, NAMES)?;
    // The first process of the namespace is the agent; with it everything there ends.
    let script = format!(
        "#!/bin/sh\nexec unshare --pid --fork --kill-child --mount-proc sh -c \
         'echo {NUMBERS} >/proc/sys/kernel/pid_max; exec {} \"$@\"' sh \"$@\"\n",
        super::agent()?.display()
    );
    std::fs::write(&inside, script)?;
    std::fs::set_permissions(&inside, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let flags = [
        "--collector.disable-defaults".to_owned(),
        "--collector.process_groups".to_owned(),
        format!("--collector.process_groups.config-path={}", names.display()),
        "--collector.process_groups.expose-command-lines".to_owned(),
    ];
    let agent = Exporter::start("agent", &inside, &flags, folder)?;
    let first = weigh::child(agent.pid())?;
    agent.text("/metrics/processes")?;
    let log = agent.log();
    let before = handles(first)?;

    let mut command = Command::new("nsenter");
    command.args([&format!("--target={first}"), "--pid", "--mount", "--"]).arg(&churning);
    command.args(["churn", "--per-second", &PER_SECOND.to_string(), "--seconds", &SECONDS.to_string()]);
    for program in [&one, &two] {
        command.arg("--program").arg(program);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start nsenter")?;
    let (mut scrapes, mut seen, mut slowest) = (0, 0.0, 0.0f64);
    let mut counted = 0.0;
    while child.try_wait()?.is_none() {
        let start = std::time::Instant::now();
        let text = agent.text("/metrics/processes")?;
        slowest = slowest.max(start.elapsed().as_secs_f64());
        let said = Exposition::parse(&text)?;
        scrapes += 1;
        for sample in said.select(PROCESSES, &[]) {
            let group = sample.label("groupname");
            ensure!(GROUPS.contains(&group), "{} processes are `{group}`", sample.value);
            seen += sample.value;
        }
        let faults = said.select(FAULTS, &[("groupname", "churning")]);
        let faults = faults.first().map_or(counted, |sample| sample.value);
        ensure!(faults >= counted, "a counter went back from {counted} to {faults}");
        counted = faults;
    }
    let started = child.wait_with_output()?;
    ensure!(started.status.success(), "the churn ended with {}", started.status);
    let started: u32 = String::from_utf8(started.stdout)?.trim().parse().context("it says no number")?;
    ensure!(started > 2 * NUMBERS, "only {started} processes were started: no number was used again");
    ensure!(seen > 0.0, "none of them was seen");
    let own = agent.text("/metrics/agent")?;
    let errors = own.lines().find(|line| line.starts_with("exporter_agent_collector_errors_total{"));
    ensure!(errors.is_none(), "{errors:?}");
    ensure!(agent.log() == log, "it logged\n{}", agent.log());
    let after = handles(first)?;
    ensure!(after <= before + 2, "{before} handles became {after}");
    let rest = agent.text("/metrics/processes")?;
    ensure!(!rest.contains(PROCESSES), "groups of processes that have ended are there:\n{rest}");
    Ok(format!(
        "churn: {started} starts in {SECONDS} s with {NUMBERS} numbers, {scrapes} scrapes of at most {:.0} ms",
        slowest * 1e3
    ))
}

fn handles(pid: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
