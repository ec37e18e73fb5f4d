//! Builds our own programs as static binaries, and the images that hold them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::image::{Image, architecture};
use crate::process::output;

/// A program of this workspace that runs in pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    package: &'static str,
    name: &'static str,
    /// The reference of its image.
    pub image: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [&'static str],
}

impl Program {
    const fn new(package: &'static str, name: &'static str, image: &'static str) -> Self {
        Program { package, name, image, arguments: &[], environment: &[] }
    }
}

/// The operator.
pub const OPERATOR: Program = Program::new("operator", "exporter-operator", "local/exporter-operator:dev");
/// The agent. Each of its few threads would have a heap of its own, and in each of them stays free what it once needed.
pub const AGENT: Program = Program {
    environment: &["MALLOC_ARENA_MAX=2"],
    ..Program::new("agent", "exporter-agent", "local/exporter-agent:dev")
};
/// What sample pods do. Without arguments it waits, so that it serves as the sandbox of every pod too.
pub const WORKLOAD: Program =
    Program { arguments: &["pause"], ..Program::new("workload", "workload", "local/workload:dev") };
/// What measures a scrape where the files of a node are.
pub const ON_NODE: Program = Program::new("benches", "on-node", "local/on-node:dev");

/// The version of everything here.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where no commit is said: what is tried out is of none.
pub const NO_REVISION: &str = "unknown";

/// Builds programs and returns their paths, in the order given. Cargo says on standard error what it does.
pub fn build(programs: &[Program]) -> Result<Vec<PathBuf>> {
    build_of(programs, NO_REVISION)
}

/// The same of this commit.
pub fn build_of(programs: &[Program], revision: &str) -> Result<Vec<PathBuf>> {
    let target = host_target()?;
    // A folder of its own: other flags would make cargo build everything anew each time the two alternate.
    let folder = target_folder().join("static");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace())
        .args(["build", "--release", "--target", &target, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("EXPORTER_REVISION", revision)
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
    let built = build(programs)?;
    let write = |(program, path): (&Program, &PathBuf)| {
        let tar = folder.join(format!("{}.tar", program.name));
        write(program, path, program.image, NO_REVISION, &tar).map(|()| tar)
    };
    programs.iter().zip(&built).map(write).collect()
}

/// An image for others to use.
#[derive(Debug)]
pub struct Released {
    /// The tar file.
    pub tar: PathBuf,
    /// Its reference, which is the chart's default one without a registry.
    pub reference: String,
}

/// As [`images`], of this commit, named as the chart has them.
pub fn release(programs: &[Program], revision: &str, folder: &Path) -> Result<Vec<Released>> {
    let built = build_of(programs, revision)?;
    let write = |(program, path): (&Program, &PathBuf)| {
        let tar = folder.join(format!("{}-{VERSION}-{}.tar", program.name, architecture()));
        let reference = format!("exporter-operator/{}:{VERSION}", program.name);
        write(program, path, &reference, revision, &tar).map(|()| Released { tar, reference })
    };
    programs.iter().zip(&built).map(write).collect()
}

/// Line numbers are four fifths of a program; whoever profiles one does it outside of an image.
fn write(program: &Program, path: &Path, reference: &str, revision: &str, to: &Path) -> Result<()> {
    let folder = to.with_extension("stripped");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let stripped = folder.join(program.name);
    // As the OCI image specification names them (annotations.md), and as registries and scanners read them.
    let labels = [
        ("org.opencontainers.image.title", program.name),
        ("org.opencontainers.image.version", VERSION),
        ("org.opencontainers.image.revision", revision),
        ("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE")),
    ];
    let Program { arguments, environment, .. } = *program;
    let image = Image { reference, program: &stripped, folder: "/", arguments, environment, labels: &labels };
    let written = strip(path, &stripped).and_then(|()| image.write(to));
    let _ = std::fs::remove_dir_all(&folder);
    written
}

/// Writes a program without its line numbers.
pub fn strip(program: &Path, to: &Path) -> Result<()> {
    // With the linker that made it, since cargo would build everything anew for another profile.
    output(Command::new("strip").arg("-o").arg(to).arg(program))
        .map(drop)
        .context("`strip` comes with the linker, in binutils")
}

/// The commit of the workspace. Where it is no repository, as in an archive of the sources, whoever builds says which
/// one it is.
pub fn revision() -> Result<String> {
    if let Some(given) = std::env::var("EXPORTER_REVISION").ok().filter(|given| !given.is_empty()) {
        return Ok(given);
    }
    let git = |arguments: &[&str]| output(Command::new("git").current_dir(workspace()).args(arguments));
    let commit = git(&["rev-parse", "HEAD"]).context("which commit is it? set EXPORTER_REVISION")?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let suffix = if changed.is_empty() { "" } else { "-dirty" };
    Ok(format!("{}{suffix}", commit.trim()))
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
