//! The package judged by Debian's own tools, installed below a folder, and its program asked what it measures.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{NAME, build, file_name};
use crate::exposition::Exposition;
use crate::http;
use crate::process::{Component, output};
use crate::programs::NO_REVISION;
use crate::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(60);

/// Builds the package and looks at it from all sides; says what it has seen and what it could not look at.
pub fn check() -> Result<String> {
    if Command::new("dpkg").arg("--version").output().is_err() {
        return Ok("left out: there is no dpkg on this machine".to_owned());
    }
    let folder = Folder::create()?;
    let package = folder.0.join(file_name());
    build(NO_REVISION, &package)?;
    let mut seen = vec![judge(&package)?];
    if !rustix::process::geteuid().is_root() {
        let root = folder.0.join("root");
        output(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&root))?;
        seen.push(answers(&root, &folder.0)?);
        seen.push("installing it is left out: only root can".to_owned());
        return Ok(seen.join("; "));
    }
    let root = Root::create(folder.0.join("root"))?;
    // Settings that were there before it stay, as the migration page has it.
    let own = "ARGS=\"--web.listen-address=127.0.0.1:9101\"\n";
    let settings = root.0.join("etc/default").join(NAME);
    fs::create_dir_all(root.0.join("etc/default"))?;
    fs::write(&settings, own)?;
    root.dpkg(&["--force-confold", "--install"], &package)?;
    ensure!(fs::read_to_string(&settings)? == own, "installing it took the settings that were there");
    root.dpkg(&["--purge"], Path::new(NAME))?;
    root.dpkg(&["--install"], &package)?;
    seen.push(root.look()?);
    seen.push(answers(&root.0, &folder.0)?);
    // What its owner has changed stays when it is removed, and goes when it is purged.
    root.dpkg(&["--remove"], Path::new(NAME))?;
    let program = root.0.join("usr/bin").join(NAME);
    ensure!(!program.exists() && settings.exists(), "removing it took the settings or left the program");
    root.dpkg(&["--purge"], Path::new(NAME))?;
    ensure!(!settings.exists(), "purging it left the settings");
    seen.push("removed and purged".to_owned());
    Ok(seen.join("; "))
}

/// What dpkg-deb reads of it.
fn judge(package: &Path) -> Result<String> {
    let about = output(Command::new("dpkg-deb").arg("--info").arg(package))?;
    for field in ["Package: exporter-agent", "Architecture: ", "Installed-Size: ", "conffiles", "postinst"] {
        ensure!(about.contains(field), "`{field}` is not in\n{about}");
    }
    for field in ["Depends:", "Conflicts:"] {
        ensure!(!about.contains(field), "it neither needs nor hinders another package, but has\n{about}");
    }
    let contents = output(Command::new("dpkg-deb").arg("--contents").arg(package))?;
    for file in ["-rwxr-xr-x 0/0", "./usr/bin/exporter-agent", "./etc/default/exporter-agent"] {
        let file = file.trim_start_matches("./");
        ensure!(contents.contains(file), "`{file}` is not in\n{contents}");
    }
    let size = fs::metadata(package)?.len() as f64 / f64::from(1 << 20);
    Ok(format!("{} of {size:.1} MiB with {} files", file_name(), contents.lines().count()))
}

/// Starts the program as the service would and asks it for everything.
fn answers(root: &Path, folder: &Path) -> Result<String> {
    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/exporter-agent.service"))?;
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).context(key.to_owned());
    let settings = root.join(value("EnvironmentFile=-/")?);
    let start = value("ExecStart=/")?;
    let text = fs::read_to_string(&settings)?;
    ensure!(text.contains("\nARGS=\"\"\n"), "{} sets flags by itself:\n{text}", settings.display());
    fs::write(&settings, text.replace("ARGS=\"\"", "ARGS=\"--web.listen-address=127.0.0.1:0\""))?;
    // As systemd does it: the settings are read, and the words of $ARGS become arguments.
    let script = format!(". '{}'; exec '{}'/{start}", settings.display(), root.display());
    let log = folder.join("log");
    let mut agent = Component::start(NAME, Command::new("sh").args(["-c", &script]), log.clone())?;
    let address: SocketAddr = wait_for("the agent's address", PATIENCE, || {
        agent.check()?;
        let text = fs::read_to_string(&log)?;
        let address = text.split("serving on http://").nth(1).and_then(|rest| rest.split('/').next());
        Ok(address.map(str::parse).transpose()?)
    })?;
    let answer = http::get(address, "/metrics", &[])?;
    let text = answer.text()?;
    let exposition = Exposition::parse(text)?;
    exposition.one("node_load1", &[])?;
    exposition.one("node_scrape_collector_success", &[("collector", "filesystem")])?;
    let old = folder.join("old.prom");
    fs::write(&old, text)?;
    let new = format!("http://{address}/metrics");
    let compare = Command::new(root.join("usr/bin").join(NAME)).arg("compare").arg(&old).arg(new).output()?;
    let said = String::from_utf8_lossy(&compare.stdout);
    // The agent's own metrics grow between the two, and nothing else.
    ensure!(compare.status.success(), "the agent differs from itself:\n{said}");
    Ok(format!("the installed program gives {} series", exposition.samples().len()))
}

/// A folder that stands for a machine, with a database of packages of its own.
struct Root(PathBuf);

impl Root {
    fn create(path: PathBuf) -> Result<Self> {
        for folder in ["var/lib/dpkg/updates", "var/lib/dpkg/info", "var/log"] {
            fs::create_dir_all(path.join(folder))?;
        }
        fs::write(path.join("var/lib/dpkg/status"), "")?;
        Ok(Root(path))
    }

    /// Runs dpkg; the package's scripts run here with DPKG_ROOT, since there is no shell below the folder.
    fn dpkg(&self, arguments: &[&str], package: &Path) -> Result<()> {
        let mut root = std::ffi::OsString::from("--root=");
        root.push(&self.0);
        let log = format!("--log={}", self.0.join("var/log/dpkg.log").display());
        let mut command = Command::new("dpkg");
        command.arg(root).arg(log).arg("--force-script-chrootless").args(arguments).arg(package);
        output(&mut command).map(drop)
    }

    /// What installing has made.
    fn look(&self) -> Result<String> {
        if Command::new("systemd-sysusers").arg("--version").output().is_err() {
            return Ok("installed (no systemd here: neither the user nor the unit is looked at)".to_owned());
        }
        let users = fs::read_to_string(self.0.join("etc/passwd"))?;
        ensure!(users.contains("exporter-agent:"), "no user exporter-agent in\n{users}");
        let mut root = std::ffi::OsString::from("--root=");
        root.push(&self.0);
        let mut verify = Command::new("systemd-analyze");
        verify.arg(root).args(["--man=no", "--recursive-errors=no", "verify", "exporter-agent.service"]);
        output(&mut verify)?;
        Ok("installed with its user, and systemd takes the unit".to_owned())
    }
}

/// A folder of this check, removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("exporter-debian-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
