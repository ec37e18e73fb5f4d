//! Builds the Debian package of the agent: `deb [--out DIR]`.

#![expect(clippy::print_stdout, reason = "it says what it made")]

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use e2e::debian::{build, file_name};
use e2e::programs::revision;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => PathBuf::from("target/debian"),
        ["--out", folder] => PathBuf::from(folder),
        _ => bail!("usage: deb [--out DIR]"),
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let revision = revision()?;
    let package = folder.join(file_name());
    build(&revision, &package)?;
    let size = std::fs::metadata(&package)?.len() as f64 / 1e6;
    println!("{}: revision {revision}, {size:.1} MB", package.display());
    Ok(())
}
