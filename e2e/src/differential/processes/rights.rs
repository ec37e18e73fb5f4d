//! What the agent tells of processes of other users: without privileges, and with the two capabilities of the chart's profile.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::exporter::Exporter;
use crate::exposition::Exposition;
use crate::process::Component;
use crate::programs::{WORKLOAD, build};
use crate::wait::wait_for;

/// Those that need to look into a process.
const PRIVILEGED: [&str; 6] = [
    "read_bytes_total",
    "write_bytes_total",
    "open_filedesc",
    "worst_fd_ratio",
    "threads_wchan",
    "thread_io_bytes_total",
];
/// Some of those that do not.
const OPEN: [&str; 5] =
    ["num_procs", "cpu_seconds_total", "memory_bytes", "context_switches_total", "num_threads"];
const NAME: &str = "rights-of";
/// How setpriv(1) makes of root an agent of the chart's, by default and with the profile.
const WITHOUT: &str = "--reuid=65532 --regid=65532 --clear-groups --bounding-set=-all";
const WITH: &str = "--bounding-set=-all,+sys_ptrace,+dac_read_search";
const WITH_ONE: [&str; 2] = ["--bounding-set=-all,+sys_ptrace", "--bounding-set=-all,+dac_read_search"];

/// Asks agents with different rights about a process of another user.
///
/// # Errors
/// When a family is there that should not be, or is not there that should be.
pub(super) fn check(folder: &Path) -> Result<String> {
    // The agent's user has to reach both programs.
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let workload = build(&[WORKLOAD])?.pop().context("nothing was built")?;
    let (program, agent) = (folder.join(NAME), folder.join("agent-copy"));
    std::fs::copy(workload, &program)?;
    std::fs::copy(super::agent()?, &agent)?;
    let mut other = Command::new("setpriv");
    other
        .args(["--reuid=12345", "--regid=12345", "--clear-groups"])
        .arg(&program)
        .args(["threads", "--count", "3"]);
    let other = Component::start(NAME, &other, folder.join("other.log"))?;
    wait_for("a process of another user to begin", super::PATIENCE, || {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", other.pid()))?;
        Ok((comm.trim() == NAME).then_some(()))
    })?;
    let open = std::fs::read_dir(format!("/proc/{}/fd", other.pid()))?.count();
    let told = |name: &str, rights: &str| families(folder, &agent, name, rights);

    let (without, log) = told("without", WITHOUT)?;
    for family in OPEN {
        ensure!(has(&without, family), "without privileges {family} is not there");
    }
    for (rights, said, log) in std::iter::once(Ok((WITHOUT, without, log)))
        .chain(WITH_ONE.map(|rights| told("with-one", rights).map(|(said, log)| (rights, said, log))))
        .collect::<Result<Vec<_>>>()?
    {
        for family in PRIVILEGED {
            ensure!(!has(&said, family), "with {rights} {family} is there");
        }
        ensure!(log.contains("CAP_SYS_PTRACE"), "with {rights} no reason is given:\n{log}");
    }
    let (with, log) = told("with", WITH)?;
    for family in OPEN.iter().chain(&PRIVILEGED) {
        ensure!(has(&with, family), "with {WITH} {family} is not there; the log ends with\n{log}");
    }
    let counted = with.one("namedprocess_namegroup_open_filedesc", &[("groupname", NAME)])?.value;
    ensure!(counted == open as f64, "{open} files are open, not {counted}");
    Ok(format!("rights: {} families only with both capabilities", PRIVILEGED.len()))
}

fn has(said: &Exposition, family: &str) -> bool {
    !said.select(&format!("namedprocess_namegroup_{family}"), &[("groupname", NAME)]).is_empty()
}

fn families(folder: &Path, agent: &Path, name: &str, rights: &str) -> Result<(Exposition, String)> {
    let inside = folder.join(format!("{name}.sh"));
    std::fs::write(&inside, format!("#!/bin/sh\nexec setpriv {rights} {} \"$@\"\n", agent.display()))?;
    std::fs::set_permissions(&inside, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let config = format!("process_names: [{{name: '{{{{.Comm}}}}', comm: [{NAME}]}}]");
    let flags = [
        "--collector.disable-defaults".to_owned(),
        "--collector.process_groups".to_owned(),
        format!("--collector.process_groups.config={config}"),
    ];
    let exporter = Exporter::start(name, &inside, &flags, folder)?;
    let said = Exposition::parse(&exporter.text("/metrics/processes")?)?;
    Ok((said, exporter.log()))
}
