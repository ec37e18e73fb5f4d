//! A Prometheus beside a cluster of our own, told by us what to scrape: for measuring, without its operator and pods.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::monitoring::Prometheus;
use crate::parts::PROMETHEUS;
use crate::process::Component;
use crate::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(60);
/// In the control plane's own network namespace, from which nodes and pods are reached.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// A running Prometheus; it ends when this is dropped.
#[derive(Debug)]
pub struct Scraper<'a> {
    prometheus: Prometheus<'a>,
    component: Component,
    configuration: PathBuf,
    interval: Duration,
}

/// What is scraped.
#[derive(Clone, Debug)]
pub struct Job {
    /// The `job` label.
    pub name: &'static str,
    /// Host and port.
    pub target: String,
    /// The path.
    pub path: &'static str,
    /// Where the target wants TLS: the files of authority, certificate and key.
    pub tls: Option<[String; 3]>,
}

impl<'a> Scraper<'a> {
    /// Starts it without anything to scrape; its files go to a folder of the cluster.
    pub fn start(cluster: &'a Cluster, interval: Duration) -> Result<Self> {
        let machine = cluster.machine()?;
        let folder = machine.instance.folder().join("scraper");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let configuration = folder.join("prometheus.yaml");
        write(&configuration, interval, &[])?;
        let mut command = machine.plane.netns.command(PROMETHEUS.program("prometheus")?);
        command
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .arg("--enable-feature=extra-scrape-metrics");
        let mut component = Component::start("prometheus", &command, folder.join("prometheus.log"))?;
        let prometheus = Prometheus::at(cluster, ADDRESS);
        wait_for("Prometheus to answer", PATIENCE, || {
            component.check()?;
            prometheus.targets().map(Some)
        })?;
        Ok(Self { prometheus, component, configuration, interval })
    }

    /// Scrapes this and nothing else from now on; returns once each has been scraped well.
    pub fn scrape(&mut self, jobs: &[Job]) -> Result<()> {
        write(&self.configuration, self.interval, jobs)?;
        self.component.send(Signal::HUP)?;
        let wanted: Vec<&str> = jobs.iter().map(|job| job.name).collect();
        wait_for("Prometheus to scrape what it is told", PATIENCE + self.interval, || {
            self.component.check()?;
            let targets = self.prometheus.targets()?;
            let mut found: Vec<_> = targets.iter().filter_map(|it| it["labels"]["job"].as_str()).collect();
            found.sort_by_key(|job| wanted.iter().position(|it| it == job));
            let ill: Vec<_> = targets.iter().filter(|it| it["health"] != "up").collect();
            ensure!(ill.is_empty(), "not scraped: {ill:?}");
            Ok((found == wanted).then_some(()))
        })
    }

    /// The value of an expression that has one.
    pub fn value(&self, expression: &str) -> Result<f64> {
        self.prometheus.one(expression).map(|sample| sample.value)
    }
}

fn write(file: &Path, interval: Duration, jobs: &[Job]) -> Result<()> {
    let jobs: Vec<Value> = jobs.iter().map(Job::configuration).collect();
    let interval = format!("{}s", interval.as_secs());
    // JSON is YAML.
    let text =
        json!({"global": {"scrape_interval": interval, "scrape_timeout": interval}, "scrape_configs": jobs});
    std::fs::write(file, format!("{text:#}\n")).with_context(|| format!("cannot write {}", file.display()))
}

impl Job {
    fn configuration(&self) -> Value {
        let mut text = json!({
            "job_name": self.name,
            "metrics_path": self.path,
            "static_configs": [{"targets": [self.target]}],
        });
        if let Some([authority, certificate, key]) = &self.tls {
            text["scheme"] = json!("https");
            text["tls_config"] = json!({"ca_file": authority, "cert_file": certificate, "key_file": key});
        }
        text
    }
}
