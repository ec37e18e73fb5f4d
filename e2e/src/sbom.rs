//! What both programs are built from, as CycloneDX (ECMA-424) in JSON: each crate with version, licence and checksum.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::output;
use crate::tools::CARGO_CYCLONEDX;

/// The crates of the programs, in folders of these names.
const PROGRAMS: [&str; 2] = ["operator", "agent"];

/// Writes one list for each program into this folder, and returns their paths.
///
/// # Errors
/// When the tool is not there and cannot be installed, or refuses.
pub fn write(folder: &Path) -> Result<Vec<PathBuf>> {
    let tool = CARGO_CYCLONEDX.ensure()?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut written = Vec::new();
    for program in PROGRAMS {
        let (manifest, name) = (root().join(program).join("Cargo.toml"), format!("exporter-{program}.cdx"));
        let mut command = Command::new(&tool);
        command.current_dir(root()).args(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--all"]);
        // Without what only tests and build scripts need, and for one machine, so that every machine writes the same.
        command.args([
            "--no-build-deps",
            "--target",
            "x86_64-unknown-linux-gnu",
            "--override-filename",
            &name,
        ]);
        output(command.arg("--manifest-path").arg(manifest))?;
        // It writes one beside the manifest of every crate of the workspace.
        for other in fs::read_dir(root())?.flatten().chain(fs::read_dir(root().join("e2e"))?.flatten()) {
            let found = other.path().join(format!("{name}.json"));
            if other.file_name() == program && found.is_file() {
                let to = folder.join(format!("{name}.json"));
                fs::copy(&found, &to)?;
                written.push(to);
            }
            let _ = fs::remove_file(found);
        }
    }
    ensure!(written.len() == PROGRAMS.len(), "there is no list of every program: {written:?}");
    Ok(written)
}

/// Whether each list has the crates that the lock file says, no other, and of each its checksum's package.
///
/// # Errors
/// When one has a crate that is not locked, or lacks one that the program is built from.
pub fn check() -> Result<String> {
    let folder = std::env::temp_dir().join(format!("sbom-{}", std::process::id()));
    let result = write(&folder).and_then(|lists| compare(&lists));
    let _ = fs::remove_dir_all(&folder);
    result
}

fn compare(lists: &[PathBuf]) -> Result<String> {
    let lock = fs::read_to_string(root().join("Cargo.lock"))?;
    let locked = locked(&lock);
    let mut said = Vec::new();
    for (list, program) in lists.iter().zip(PROGRAMS) {
        let listed = listed(&fs::read_to_string(list)?)?;
        let unknown: Vec<_> = listed.difference(&locked).collect();
        ensure!(unknown.is_empty(), "{}: not in Cargo.lock: {unknown:?}", list.display());
        let tree = tree(program)?;
        let missing: Vec<_> = tree.difference(&listed).collect();
        ensure!(missing.is_empty(), "{}: built from these too: {missing:?}", list.display());
        said.push(format!(
            "exporter-{program}: {} crates, all that it is built from and all locked",
            listed.len()
        ));
    }
    Ok(said.join("\n"))
}

/// Name and version of every crate in the lock file.
fn locked(text: &str) -> BTreeSet<(String, String)> {
    let value = |line: &str, key: &str| Some(line.strip_prefix(key)?.trim_matches('"').to_owned());
    let packages = text.split("[[package]]").skip(1);
    let pair = |package: &str| {
        let name = package.lines().find_map(|line| value(line, "name = "))?;
        Some((name, package.lines().find_map(|line| value(line, "version = "))?))
    };
    packages.filter_map(pair).collect()
}

/// The same of a list.
fn listed(text: &str) -> Result<BTreeSet<(String, String)>> {
    let list: Value = serde_json::from_str(text)?;
    let components = list["components"].as_array().context("no components")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(components.iter().map(|it| (text(&it["name"]), text(&it["version"]))).collect())
}

/// What cargo says that a program is built from, without itself.
fn tree(program: &str) -> Result<BTreeSet<(String, String)>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root()).args(["tree", "--package", program, "--prefix", "none", "--format", "{p}"]);
    let said =
        output(command.args(["--edges", "normal,no-proc-macro", "--target", "x86_64-unknown-linux-gnu"]))?;
    let pair = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        Some((name.to_owned(), rest.split_whitespace().next()?.to_owned()))
    };
    Ok(said.lines().filter_map(pair).filter(|(name, _)| name != program).collect())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_are_found_in_a_lock_file_and_in_a_list() {
        let expected = BTreeSet::from([("a".to_owned(), "1.0.0".to_owned())]);
        assert_eq!(locked("version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n"), expected);
        assert_eq!(listed(r#"{"components": [{"name": "a", "version": "1.0.0"}]}"#).unwrap(), expected);
        assert!(tree("agent").unwrap().iter().any(|(name, _)| name == "rustls"));
    }
}
