//! An exporter on this machine's loopback: started with flags, asked over HTTP, weighed by what the kernel says of it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::http::{self, Response};
use crate::process::Component;
use crate::wait::wait_for;
use crate::weigh;

const PATIENCE: Duration = Duration::from_secs(30);

/// How Prometheus asks.
pub const AS_PROMETHEUS: [(&str, &str); 2] = [
    ("Accept", "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.2"),
    ("Accept-Encoding", "gzip"),
];

/// A running exporter; it ends when this is dropped.
#[derive(Debug)]
pub struct Exporter {
    component: Component,
    address: SocketAddr,
}

impl Exporter {
    /// Starts it on a free port of the loopback and waits until it answers; its log goes to this folder.
    pub fn start(name: &str, program: &Path, flags: &[String], logs: &Path) -> Result<Self> {
        // Free until somebody else takes it; then the program says so and ends.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = address.context("no free port on the loopback")?;
        let mut command = Command::new(program);
        command.arg(format!("--web.listen-address={address}")).args(flags);
        let mut component = Component::start(name, &command, logs.join(format!("{name}.log")))?;
        wait_for(&format!("{name} to answer"), PATIENCE, || {
            component.check()?;
            http::get(address, "/", &[])?.text().map(|_| Some(()))
        })?;
        Ok(Exporter { component, address })
    }

    /// What it exposes at this path, as text.
    pub fn text(&self, path: &str) -> Result<String> {
        Ok(http::get(self.address, path, &[])?.text()?.to_owned())
    }

    /// One scrape as Prometheus makes it.
    pub fn scrape(&self, path: &str) -> Result<Response> {
        http::get(self.address, path, &AS_PROMETHEUS)
    }

    /// Its processor time so far.
    pub fn processor_time(&self) -> Result<Duration> {
        weigh::processor_time(self.component.pid())
    }

    /// Its resident memory, in bytes.
    pub fn resident(&self) -> Result<u64> {
        weigh::resident(self.component.pid())
    }

    /// The files below a folder that it holds open.
    pub fn open_files(&self, below: &Path) -> Result<Vec<PathBuf>> {
        let handles = fs::read_dir(format!("/proc/{}/fd", self.component.pid()))?.flatten();
        let files = handles.filter_map(|handle| fs::read_link(handle.path()).ok());
        Ok(files.filter(|file| file.starts_with(below) && file.is_file()).collect())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.component.pid()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.component.tail(20)
    }
}
