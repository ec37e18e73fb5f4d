//! Which of several clusters on this machine this one is: its number, and the names and addresses that follow from it.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{cgroup, netns};

/// More clusters than this do not fit beside each other on any machine that builds this.
const MOST: u8 = 16;

/// A number that no other running cluster of this machine has, and a folder for the working data.
#[derive(Debug)]
pub struct Instance {
    number: u8,
    folder: PathBuf,
    // The kernel forgets an abstract socket when its process ends, however it ends; a lock file would stay.
    _claim: UnixListener,
}

impl Instance {
    /// Takes the lowest free number, and removes what an earlier run with that number may have left.
    pub fn claim() -> Result<Self> {
        for number in 0..MOST {
            let address = SocketAddr::from_abstract_name(stem(number))?;
            let Ok(claim) = UnixListener::bind_addr(&address) else { continue };
            sweep(number)
                .with_context(|| format!("cannot remove what an earlier run left of {}", stem(number)))?;
            let folder = folder(number);
            fs::DirBuilder::new()
                .mode(0o755)
                .create(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
            return Ok(Self { number, folder, _claim: claim });
        }
        bail!("{MOST} clusters of this kind are running already")
    }

    /// What the names of everything that belongs to it begin with.
    pub fn stem(&self) -> String {
        stem(self.number)
    }

    /// The folder for its working data and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The address of the API server, on the bridge that joins the nodes.
    pub fn server_address(&self) -> String {
        format!("10.{}.0.1", self.octet())
    }

    /// The address of a node, counted from 1.
    pub fn node_address(&self, node: u8) -> String {
        format!("10.{}.0.{}", self.octet(), 10 + node)
    }

    /// The addresses of the pods of a node, counted from 1.
    pub fn pod_range(&self, node: u8) -> String {
        format!("10.{}.{node}.0/24", self.octet())
    }

    /// Everything of this number that is on the machine now, one line each.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        leftovers(self.number)
    }

    /// As [`Instance::leftovers`], as a function that outlives the instance, for a look after its end.
    pub fn leftovers_later(&self) -> impl Fn() -> Result<Vec<String>> + use<> {
        let number = self.number;
        move || leftovers(number)
    }

    fn octet(&self) -> u8 {
        220 + self.number
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The last field standing: what used the folder has ended. A failure is found by the check for leftovers.
        if std::env::var_os("E2E_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn stem(number: u8) -> String {
    format!("exporter-e2e-{number}")
}

fn folder(number: u8) -> PathBuf {
    std::env::temp_dir().join(stem(number))
}

fn sweep(number: u8) -> Result<()> {
    let stem = stem(number);
    for name in netns::named(&stem) {
        netns::delete(&name)?;
    }
    for path in cgroup::named(&stem)? {
        if let Some(name) = path.file_name() {
            cgroup::remove(&name.to_string_lossy())?;
        }
    }
    let folder = folder(number);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn leftovers(number: u8) -> Result<Vec<String>> {
    let stem = stem(number);
    let mut found: Vec<String> =
        netns::named(&stem).iter().map(|name| format!("network namespace {name}")).collect();
    found.extend(cgroup::named(&stem)?.iter().map(|path| format!("cgroup {}", path.display())));
    let folder = folder(number);
    if folder.exists() {
        found.push(format!("folder {}", folder.display()));
    }
    // A process of the cluster has the folder in its arguments, or runs in a cgroup of the cluster.
    let of_folder = format!("{}/", folder.display());
    let of_cgroup = format!("/{stem}-");
    for entry in fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
        let text = |file| {
            String::from_utf8_lossy(&fs::read(entry.path().join(file)).unwrap_or_default()).into_owned()
        };
        if text("cmdline").contains(&of_folder) || text("cgroup").contains(&of_cgroup) {
            found.push(format!("process {}", text("stat").trim_end()));
        }
    }
    Ok(found)
}
