//! Network namespaces with a name, as `ip netns` keeps them.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{kill_all, output};

const FOLDER: &str = "/run/netns";

/// A network namespace, deleted when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a new one with its loopback device up and forwarding on.
    pub fn create(name: &str) -> Result<Self> {
        output(Command::new("ip").args(["netns", "add", name]))?;
        let netns = Self { name: name.to_owned() };
        netns.ip("link set lo up")?;
        netns
            .inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?
            .context("cannot switch forwarding on")?;
        Ok(netns)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// A command that runs `program` in it.
    ///
    /// By nsenter, because `ip netns exec` mounts a new /sys and the cgroup hierarchies are then gone.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(self.nsenter_option()).arg("--").arg(program);
        command
    }

    /// The option by which `nsenter` enters it.
    pub fn nsenter_option(&self) -> String {
        format!("--net={}", self.path().display())
    }

    /// Runs `ip` with words separated by spaces in it.
    pub fn ip(&self, words: &str) -> Result<()> {
        output(Command::new("ip").args(["-n", &self.name]).args(words.split(' '))).map(drop)
    }

    /// Runs a closure in it, on a thread of its own; only a thread can enter without taking the whole process along.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.path();
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                        .with_context(|| format!("cannot enter {}", path.display()))?;
                    Ok(work())
                })
                .join()
                .map_err(|_| anyhow!("the work inside {} panicked", path.display()))?
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the check for leftovers finds it.
        let _ = delete(&self.name);
    }
}

/// Deletes the namespace with this name, after killing what runs in it.
pub fn delete(name: &str) -> Result<()> {
    kill_all(&format!("the network namespace {name}"), || processes(name))?;
    output(Command::new("ip").args(["netns", "delete", name])).map(drop)
}

/// The names of those whose name is `stem` or begins with `stem-`.
pub fn named(stem: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
        .collect()
}

fn processes(name: &str) -> Vec<Pid> {
    let listed = output(Command::new("ip").args(["netns", "pids", name])).unwrap_or_default();
    listed.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)).collect()
}
