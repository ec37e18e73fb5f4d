//! The machine in PromQL, beside a real node_exporter on the same node.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::exposition::Exposition;
use e2e::http;
use e2e::parts::NODE_EXPORTER;
use e2e::process::Component;
use e2e::wait::wait_for;

use crate::installed::PATIENCE;
use crate::monitoring::monitored;

const STOCK: &str = include_str!("node-mixin.txt");
const PORT: u16 = 19100;

pub(crate) fn every_family_of_stock_dashboards_that_node_exporter_has_there_answers_in_promql(
    cluster: &Cluster,
) -> Result<()> {
    let prometheus = monitored(cluster)?;
    let stock: BTreeSet<&str> = STOCK.lines().filter(|line| !line.starts_with('#')).collect();
    let theirs = beside(cluster)?;
    let theirs: BTreeSet<&str> = stock.iter().copied().filter(|family| theirs.has(family)).collect();
    ensure!(theirs.len() > 30, "node_exporter has only {theirs:?}");
    let all = stock.iter().copied().collect::<Vec<_>>().join("|");
    wait_for("the same families in PromQL", PATIENCE, || {
        let query =
            format!(r#"count by (__name__) ({{job="node-exporter", instance="node1", __name__=~"{all}"}})"#);
        let rows = prometheus.query(&query)?;
        let ours: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        let missing: Vec<_> = theirs.iter().filter(|family| !ours.contains(**family)).collect();
        ensure!(missing.is_empty(), "missing: {missing:?}");
        Ok(Some(()))
    })
}

/// What node_exporter exposes in the namespaces of the first node.
fn beside(cluster: &Cluster) -> Result<Exposition> {
    let machine = cluster.machine()?;
    let node = machine.nodes.first().context("no node")?;
    let program = NODE_EXPORTER.program("node_exporter")?;
    let mut command = node.command("setpriv")?;
    // With `nsenter`, which is all that ends otherwise.
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).arg(format!("--web.listen-address=:{PORT}"));
    let log = machine.instance.folder().join("node_exporter.log");
    let mut running = Component::start("node_exporter", &command, log)?;
    let address = SocketAddr::new(node.address.parse()?, PORT);
    wait_for("node_exporter to answer", PATIENCE, || {
        running.check()?;
        let answer = machine.plane.netns.inside(|| http::get(address, "/metrics", &[]))??;
        Exposition::parse(answer.text()?).map(Some)
    })
}
