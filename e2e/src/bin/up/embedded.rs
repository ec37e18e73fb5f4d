//! What runs without root: the agent alone, on this host, with a sample configuration.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// Becomes the agent; returns only if that fails.
pub(crate) fn run() -> Result<()> {
    println!(
        "A node needs root, so this runs the agent alone: http://127.0.0.1:9110/metrics once it is built."
    );
    let error = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["run", "--release", "-p", "agent", "--", "--web.listen-address=127.0.0.1:9110"])
        .arg("--config=agent/samples/local.yaml")
        .exec();
    Err(error).context("cannot start cargo")
}
