//! The agent under the seccomp profile that nodes can be given: it measures what it does without, and can do little else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use agent::collector::COLLECTORS;
use anyhow::{Context as _, Result, ensure};
use seccompiler::{BpfProgram, TargetArch, apply_filter, compile_from_json};
use serde_json::{Value, json};

use crate::exporter::Exporter;
use crate::process::output;

/// The profile, for a node's folder `seccomp` below that of its kubelet.
pub const PROFILE: &str = include_str!("../../packaging/seccomp.json");

/// What must never be among the system calls that it lets through: ways to other processes, to the kernel's memory, to
/// other namespaces and file systems. `execve` has to be, since the runtime starts the agent under the profile; then
/// Landlock lets it start nothing.
const NEVER: &[&str] = &[
    "add_key",
    "bpf",
    "chroot",
    "delete_module",
    "execveat",
    "finit_module",
    "fork",
    "fsopen",
    "init_module",
    "io_uring_setup",
    "kcmp",
    "kexec_load",
    "keyctl",
    "kill",
    "mknod",
    "mount",
    "move_mount",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "personality",
    "pidfd_getfd",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "reboot",
    "request_key",
    "setns",
    "swapon",
    "symlink",
    "umount2",
    "unshare",
    "userfaultfd",
];

/// Starts the agent twice with every collector, without the profile and under it, and compares what they give.
///
/// # Errors
/// When the profile lets too much through, and when a family or the success of a collector differs.
pub fn check() -> Result<String> {
    let names = names()?;
    let too_much: Vec<_> = NEVER.iter().filter(|name| names.contains(**name)).collect();
    ensure!(too_much.is_empty(), "the profile lets through: {too_much:?}");
    let [agent, launcher] = [("agent", "exporter-agent"), ("e2e", "under-seccomp")]
        .map(|(package, program)| built(package, program));
    let (agent, launcher) = (agent?, launcher?);
    let logs = std::env::temp_dir().join(format!("seccomp-{}", std::process::id()));
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let mut flags: Vec<String> = COLLECTORS.iter().map(|it| flag(it.name)).collect();
    let free = Exporter::start("free", &agent, &flags, &logs)?;
    flags.push(format!("--program={}", agent.display()));
    let bound = Exporter::start("bound", &launcher, &flags, &logs)?;
    let status = fs::read_to_string(format!("/proc/{}/status", bound.pid()))?;
    ensure!(status.contains("Seccomp:\t2"), "the agent runs without a filter:\n{status}");
    // Twice, since some collectors look at the machine at their first scrape and read it at the next one.
    let scrape = |exporter: &Exporter| {
        exporter.text("/metrics")?;
        exporter.text("/metrics").map(|text| told(&text))
    };
    let (expected, found) = (scrape(&free)?, scrape(&bound)?);
    let differ: Vec<_> = expected.iter().filter(|(key, value)| found.get(*key) != Some(value)).collect();
    ensure!(differ.is_empty(), "under the profile these differ: {differ:?}\n{}", bound.log());
    let said = format!(
        "{} families and collectors as without the profile, which has {} system calls",
        expected.len(),
        names.len()
    );
    drop((free, bound));
    fs::remove_dir_all(&logs)?;
    Ok(said)
}

/// Puts this process, and what it becomes, under the profile.
///
/// # Errors
/// When the profile names what this machine does not have, or the kernel takes no filter.
pub fn apply() -> Result<()> {
    let filter: Vec<_> = names()?.into_iter().map(|name| json!({"syscall": name})).collect();
    let profile =
        json!({"agent": {"mismatch_action": {"errno": 1}, "match_action": "allow", "filter": filter}});
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let programs = compile_from_json(profile.to_string().as_bytes(), arch)?;
    let program: &BpfProgram = programs.get("agent").context("no filter")?;
    Ok(apply_filter(program)?)
}

/// The system calls that it lets through.
fn names() -> Result<BTreeSet<String>> {
    let profile: Value = serde_json::from_str(PROFILE)?;
    ensure!(profile["defaultAction"] == "SCMP_ACT_ERRNO", "it lets through what it does not name");
    let groups = profile["syscalls"].as_array().context("no syscalls")?.iter();
    let names =
        groups.filter(|group| group["action"] == "SCMP_ACT_ALLOW").filter_map(|it| it["names"].as_array());
    Ok(names.flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect())
}

/// Of an exposition: the types of families, and which collector has done its work.
pub fn told(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let is_told = line.starts_with("# TYPE ") || line.contains("_collector_success{");
        let (key, value) = line.rsplit_once(' ').filter(|_| is_told)?;
        Some((key.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

fn flag(collector: &str) -> String {
    format!("--collector.{collector}")
}

fn built(package: &str, program: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let said =
        output(command.args(["build", "--quiet", "-p", package, "--bin", program, "--message-format=json"]))?;
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let path = messages.filter_map(|message| Some(message["executable"].as_str()?.to_owned())).next_back();
    path.map(PathBuf::from).with_context(|| format!("cargo built no {program}"))
}
