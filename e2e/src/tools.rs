//! Programs of others that look at the source, each in one version, installed by cargo once and kept beside the parts.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::parts;
use crate::progress::Step;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The crate, which is also its program.
    name: &'static str,
    version: &'static str,
}

/// Licences, sources, banned crates and advisories; `deny.toml` is written for this version.
pub const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2" };
/// Lists of what a program is built from.
pub const CARGO_CYCLONEDX: Tool = Tool { name: "cargo-cyclonedx", version: "0.5.9" };

impl Tool {
    /// Its program, which is installed first if need be.
    ///
    /// # Errors
    /// When cargo cannot install it.
    pub fn ensure(&self) -> Result<PathBuf> {
        let Tool { name, version } = self;
        let folder = parts::cache()?.join("..").join("tools").join(format!("{name}-{version}"));
        let program = folder.join("bin").join(name);
        if !program.is_file() {
            let step = Step::start(format!("installing {name} {version} (about 5 min the first time)"));
            // The one that runs this, so that the toolchain is the same.
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut install = Command::new(cargo);
            install
                .args(["install", name, "--version", version, "--locked", "--quiet", "--root"])
                .arg(&folder);
            ensure!(install.status().context("cannot start cargo")?.success(), "{name} cannot be installed");
            step.done();
        }
        Ok(program)
    }
}
