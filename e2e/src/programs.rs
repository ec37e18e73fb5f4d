//! Builds our own programs as static binaries, and the images that hold them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::image::Image;
use crate::process::output;

/// A program of this workspace that runs in pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    package: &'static str,
    name: &'static str,
    /// The reference of its image.
    pub image: &'static str,
    arguments: &'static [&'static str],
}

/// The operator.
pub const OPERATOR: Program = Program {
    package: "operator",
    name: "exporter-operator",
    image: "local/exporter-operator:dev",
    arguments: &[],
};
/// The agent.
pub const AGENT: Program =
    Program { package: "agent", name: "exporter-agent", image: "local/exporter-agent:dev", arguments: &[] };
/// What sample pods do. Without arguments it waits, so that it serves as the sandbox of every pod too.
pub const WORKLOAD: Program =
    Program { package: "workload", name: "workload", image: "local/workload:dev", arguments: &["pause"] };
/// What measures a scrape where the files of a node are.
pub const ON_NODE: Program =
    Program { package: "benches", name: "on-node", image: "local/on-node:dev", arguments: &[] };

/// Builds programs and returns their paths, in the order given. Cargo says on standard error what it does.
pub fn build(programs: &[Program]) -> Result<Vec<PathBuf>> {
    let target = host_target()?;
    // A folder of its own: other flags would make cargo build everything anew each time the two alternate.
    let folder = target_folder().join("static");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace())
        .args(["build", "--release", "--target", &target, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // It would win over RUSTFLAGS.
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    // What cargo told this very process about its own package would make build scripts run anew, now with, now without.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|own| name.starts_with(own))
        {
            command.env_remove(&*name);
        }
    }
    for program in programs {
        command.args(["-p", program.package, "--bin", program.name]);
    }
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("cargo could not build our programs; its messages are above");
    }
    Ok(programs.iter().map(|program| folder.join(&target).join("release").join(program.name)).collect())
}

/// Builds programs and writes an image of each as a tar file into a folder; returns the tar files.
pub fn images(programs: &[Program], folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let built = build(programs)?;
    let mut tars = Vec::new();
    for (program, path) in programs.iter().zip(&built) {
        let tar = folder.join(format!("{}.tar", program.name));
        Image { reference: program.image, program: path, folder: "/", arguments: program.arguments }
            .write(&tar)?;
        tars.push(tar);
    }
    Ok(tars)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

fn host_target() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not name its host")
}
