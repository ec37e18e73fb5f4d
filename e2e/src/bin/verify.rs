//! The README's test command: every tier in order, each with its time, and what could not run with its reason.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

/// A tier: its name on the command line, and what it does.
type Tier = (&'static str, fn() -> Result<()>);

/// From the cheapest to the dearest.
const TIERS: &[Tier] = &[
    ("format", format),
    ("lint", lint),
    ("unit", unit),
    ("promtool", promtool),
    ("flags", flags),
    ("differential", differential),
    ("processes", processes),
    ("chart", chart),
    ("debian", debian),
    ("power-cut", power_cut),
    ("seccomp", seccomp),
    ("deny", deny),
    ("sbom", sbom),
    ("e2e", e2e),
];

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = asked.iter().find(|a| !TIERS.iter().any(|(name, _)| name == a)) {
        let names: Vec<_> = TIERS.iter().map(|(name, _)| *name).collect();
        println!("no tier `{unknown}`; there are {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let start = Instant::now();
    for (name, run) in TIERS.iter().filter(|(name, _)| asked.is_empty() || asked.iter().any(|a| a == name)) {
        println!("\n=== {name}");
        let tier = Instant::now();
        if let Err(error) = run() {
            println!("=== {name} failed: {error:#}");
            return ExitCode::FAILURE;
        }
        println!("=== {name}: {:.0} s", tier.elapsed().as_secs_f64());
    }
    println!("\nall of it: {:.0} s", start.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

fn format() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])
}

fn lint() -> Result<()> {
    cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])
}

fn unit() -> Result<()> {
    cargo(&["test", "--workspace", "--exclude", "e2e"])?;
    cargo(&["test", "-p", "e2e", "--lib", "--bins"])
}

fn e2e() -> Result<()> {
    cargo(&["test", "-p", "e2e", "--test", "e2e"])
}

/// Every golden exposition, judged by the program that will read it. What it finds in the replaced exporters' own
/// output too is kept in a file, since their names are kept.
fn promtool() -> Result<()> {
    let promtool = e2e::parts::PROMETHEUS.program("promtool")?;
    let agent = root().join("agent");
    let accepted = std::fs::read_to_string(agent.join("promtool-accepted.txt"))?;
    let accepted: Vec<&str> = accepted.lines().filter(|l| !l.starts_with('#')).collect();
    let mut judged = 0;
    for golden in goldens(&agent.join("fixtures"))? {
        let exposition = std::fs::File::open(&golden)?;
        let output = Command::new(&promtool).args(["check", "metrics"]).stdin(exposition).output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let new: Vec<_> = said.lines().filter(|l| !l.is_empty() && !accepted.contains(l)).collect();
        ensure!(new.is_empty(), "{}:\n{}", golden.display(), new.join("\n"));
        judged += 1;
    }
    ensure!(judged > 0, "no golden exposition to judge");
    println!("{judged} golden expositions: nothing beyond agent/promtool-accepted.txt");
    Ok(())
}

/// The command line of the exporter that is replaced, as its released program has it.
fn flags() -> Result<()> {
    println!("{}", e2e::node_exporter_flags::check()?);
    Ok(())
}

/// The machine as node_exporter exposes it, beside ours.
fn differential() -> Result<()> {
    println!("{}", e2e::differential::check()?);
    Ok(())
}

/// Processes as process-exporter exposes them, beside ours.
fn processes() -> Result<()> {
    println!("{}", e2e::differential::processes::check()?);
    Ok(())
}

/// What people install, rendered by both majors of Helm.
fn chart() -> Result<()> {
    println!("{}", e2e::chart::check()?);
    Ok(())
}

/// What people install on machines without Kubernetes.
fn debian() -> Result<()> {
    println!("{}", e2e::debian::check()?);
    Ok(())
}

/// What the agent measures under the profile of system calls.
fn seccomp() -> Result<()> {
    println!("{}", e2e::seccomp::check()?);
    Ok(())
}

/// What a loss of power leaves of the last good configuration; `power-cut` alone cuts more often.
fn power_cut() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        println!("not run: it mounts and cuts a file system, which root alone may do");
        return Ok(());
    }
    println!("{}", e2e::power_cut::check(100)?);
    Ok(())
}

/// Licences, sources and banned crates; and advisories, where their database can be reached.
fn deny() -> Result<()> {
    let program = e2e::tools::CARGO_DENY.ensure()?;
    run(Command::new(&program).args(["--log-level", "error", "check", "bans", "licenses", "sources"]))?;
    let fetched = Command::new(&program).current_dir(root()).args(["fetch", "db"]).output()?;
    if fetched.status.success() {
        return run(Command::new(program).args(["--log-level", "error", "check", "advisories"]));
    }
    let said = String::from_utf8_lossy(&fetched.stderr).trim().replace('\n', "\n    ");
    println!(
        "ADVISORIES NOT CHECKED: their database, https://github.com/rustsec/advisory-db, cannot be fetched:\n    {said}"
    );
    println!("set ADVISORIES_REQUIRED where it can be, so that this fails");
    ensure!(std::env::var_os("ADVISORIES_REQUIRED").is_none(), "the advisories were not checked");
    Ok(())
}

/// What both programs are built from, as lists for whoever has to look for a crate in them.
fn sbom() -> Result<()> {
    println!("{}", e2e::sbom::check()?);
    Ok(())
}

fn goldens(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for node in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let expected = node?.path().join("expected");
        for file in std::fs::read_dir(&expected).into_iter().flatten() {
            found.push(file?.path());
        }
    }
    found.sort();
    Ok(found)
}

fn cargo(arguments: &[&str]) -> Result<()> {
    // The one that runs this, so that the toolchain is the same.
    run(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(arguments))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.current_dir(root()).status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
