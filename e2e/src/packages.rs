//! Makes sure that the programs are there which a node takes from Debian packages.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::progress::Step;

/// A program, and the package that has it. runc comes from here because a plain build of it lacks seccomp, and then
/// no pod starts.
const PROGRAMS: [(&str, &str); 10] = [
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("iptables-restore", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("socat", "socat"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
];
const NETWORK_PLUGINS: (&str, &str) = ("ptp", "containernetworking-plugins");

/// Installs what is missing, and returns the folder of the network plugins.
pub fn ensure() -> Result<PathBuf> {
    let missing = missing();
    if !missing.is_empty() {
        install(&missing)?;
    }
    network_plugins().context("the network plugins are not where they are usually installed")
}

/// `PATH` with the folders of system programs, which a user's shell may lack.
pub fn path() -> String {
    let inherited = std::env::var("PATH").unwrap_or_default();
    format!("{inherited}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}

fn missing() -> Vec<&'static str> {
    let path = path();
    let there = |program| path.split(':').any(|folder| Path::new(folder).join(program).is_file());
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !there(program)).map(|&(_, package)| package).collect();
    if network_plugins().is_none() {
        missing.push(NETWORK_PLUGINS.1);
    }
    missing.dedup();
    missing
}

fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let by_hand = format!("install them yourself: {list}");
    let step = Step::start(format!("installing {list}"));
    for arguments in [vec!["update"], [&["install", "-y", "--no-install-recommends"], packages].concat()] {
        let output = Command::new("apt-get")
            .args(&arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("packages are missing and there is no apt-get; {by_hand}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "`apt-get {}` ended with {}; {by_hand}\n{}",
                arguments.join(" "),
                output.status,
                said.trim()
            );
        }
    }
    step.done();
    Ok(())
}

fn network_plugins() -> Option<PathBuf> {
    let usual = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
    usual.iter().map(PathBuf::from).find(|folder| folder.join(NETWORK_PLUGINS.0).is_file())
}
