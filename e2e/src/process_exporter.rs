//! The real process-exporter, from the Debian package, to compare with.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::parts::cache;
use crate::process::output;

const PACKAGE: &str = "prometheus-process-exporter";
const VERSION: &str = "0.7.10-3+b5";

/// The program, which is fetched first if need be. The package is taken apart and not installed, since that would start
/// it.
pub fn program() -> Result<PathBuf> {
    let folder = cache()?.join(format!("process-exporter-{VERSION}"));
    let program = folder.join("usr/bin").join(PACKAGE);
    if program.is_file() {
        return Ok(program);
    }
    let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
    std::fs::create_dir_all(&unfinished)
        .with_context(|| format!("cannot create {}", unfinished.display()))?;
    let wanted = format!("{PACKAGE}={VERSION}");
    output(Command::new("apt-get").current_dir(&unfinished).args(["download", "--quiet", &wanted]))
        .with_context(|| format!("cannot fetch {wanted}; `apt-cache policy {PACKAGE}` says what there is"))?;
    let packages: Vec<_> = std::fs::read_dir(&unfinished)?.flatten().map(|entry| entry.path()).collect();
    let [package] = packages.as_slice() else { anyhow::bail!("apt-get left {packages:?}") };
    output(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&unfinished))?;
    std::fs::remove_file(package)?;
    // Somebody else may have been quicker.
    if std::fs::rename(&unfinished, &folder).is_err() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    ensure!(program.is_file(), "{} has no {PACKAGE}", folder.display());
    Ok(program)
}
