//! Containers and volumes in PromQL, where nobody scrapes the kubelet.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::cluster::Cluster;
use e2e::exposition::Exposition;
use e2e::parts::HELM;
use e2e::product::Agent;
use e2e::wait::wait_for_every;

use crate::claim::{TOLD, VOLUMES_ON, claimed};
use crate::monitoring::{OPERATOR_ON_NODE2, SERVICE_MONITOR, monitored};
use crate::release::Release;

const STOCK: &str = include_str!("kubernetes-mixin.txt");
const VOLUMES: &str = "--set=monitoring.parts.volumes.enabled=true";
const INTERVAL: Duration = Duration::from_millis(500);

pub(crate) fn every_container_and_volume_family_of_stock_dashboards_answers_without_the_kubelet(
    cluster: &Cluster,
) -> Result<()> {
    let prometheus = monitored(cluster)?;
    claimed(cluster, &Agent::first(cluster)?)?;
    cluster.kubectl.apply(VOLUMES_ON)?;
    Release::there(cluster, HELM)?.upgrade(&[SERVICE_MONITOR, OPERATOR_ON_NODE2, VOLUMES])?;
    // What the kernel counts differs: on cgroup v1 it has no bytes of disks that have no limit.
    let kubelet = cluster.kubectl.raw("/api/v1/nodes/node1/proxy/metrics/cadvisor")?;
    let kubelet = Exposition::parse(&kubelet)?;
    let mut stock: BTreeSet<&str> = STOCK.lines().filter(|line| !line.starts_with('#')).collect();
    stock.retain(|family| family.starts_with("kubelet_") || kubelet.has(family));
    ensure!(stock.len() > 20, "the kubelet has only {stock:?}");
    let all = stock.iter().copied().collect::<Vec<_>>().join("|");
    wait_for_every(INTERVAL, "every family in PromQL", TOLD, || {
        prometheus.renew()?;
        // As dashboards select them: by job and path, whoever is scraped.
        let query = format!(
            r#"count by (__name__, metrics_path) ({{job="kubelet", node="node1", instance="node1", __name__=~"{all}",
               namespace!=""}} or {{job="kubelet", node="node1", metrics_path="/metrics/cadvisor", id="/", __name__=~"container_fs_.*"}})"#
        );
        let rows = prometheus.query(&query)?;
        let path =
            |family: &str| if family.starts_with("kubelet_") { "/metrics" } else { "/metrics/cadvisor" };
        let ours = rows.iter().filter(|row| row.label("metrics_path") == path(&row.name));
        let ours: BTreeSet<&str> = ours.map(|row| row.name.as_str()).collect();
        let missing: Vec<_> = stock.difference(&ours).collect();
        ensure!(missing.is_empty(), "missing: {missing:?}");
        Ok(Some(()))
    })?;
    let claim =
        r#"kubelet_volume_stats_used_bytes{job="kubelet", metrics_path="/metrics", namespace="claims"}"#;
    ensure!(prometheus.one(claim)?.label("persistentvolumeclaim") == "data", "another claim");
    for target in prometheus.targets()? {
        let url = target["scrapeUrl"].as_str().unwrap_or_default();
        ensure!(!url.contains(":10250"), "the kubelet itself is scraped: {url}");
    }
    cluster.kubectl.delete(VOLUMES_ON).map(drop)
}
