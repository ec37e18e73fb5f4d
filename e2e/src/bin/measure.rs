//! What a scrape costs on a real node with many pods, beside the floor: `measure [PODS]`, 90 when not given.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::interrupt;
use e2e::many_pods::{self, Work};
use e2e::process::output;
use e2e::programs::{ON_NODE, build};

fn main() -> Result<()> {
    let pods: u32 = std::env::args().nth(1).map_or(Ok(90), |n| n.parse()).context("PODS is a number")?;
    interrupt::watch_with_parent()?;
    let program = build(&[ON_NODE])?.pop().context("nothing was built")?;
    let cluster = Cluster::own(1)?;
    let machine = cluster.machine()?;
    let node = machine.nodes.first().context("no node")?;
    many_pods::start(&cluster, pods, Work::None)?;
    let list = cluster.kubectl.raw(&format!("/api/v1/nodes/{}/proxy/pods", node.name))?;
    let file = machine.instance.folder().join("pods.json");
    std::fs::write(&file, list)?;
    let figures = output(node.command(&program.to_string_lossy())?.arg(&file))?;
    ensure!(figures.contains("scrape / floor"), "no ratio in what it says:\n{figures}");
    print!("{figures}");
    Ok(())
}
