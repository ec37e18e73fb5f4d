//! How much memory an agent's scrape of containers has grown to with so many pods: each number in a process of its own.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::process::Command;

use agent::expose::Gzip;
use agent::expose::text::Format;
use agent::scrape::Part;
use anyhow::{Context as _, Result};
use benches::measure::settle;
use benches::synthetic::{Node, everything};

const PODS: [usize; 7] = [0, 10, 50, 100, 150, 200, 250];
/// Tells a child its number.
const OF: &str = "BENCH_MEMORY_PODS";

fn main() -> Result<()> {
    if let Ok(pods) = std::env::var(OF) {
        return child(pods.parse()?);
    }
    let mut none = 0.0;
    println!("| pods | resident | more than with none | each | |\n|---|---|---|---|---|");
    for pods in PODS {
        let output = Command::new(std::env::current_exe()?).env(OF, pods.to_string()).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let resident: f64 = said.trim().parse().with_context(|| format!("{pods} pods: {said}"))?;
        if pods == 0 {
            none = resident;
        }
        let (more, bar) = (resident - none, "#".repeat((2.0 * resident).round() as usize));
        let each = if pods == 0 { String::new() } else { format!("{:.0} kB", more * 1e3 / pods as f64) };
        println!("| {pods} | {resident:.1} MB | {more:.1} MB | {each} | `{bar}` |");
    }
    Ok(())
}

/// Scrapes as a Prometheus does that asks for packed answers, and says what it has grown to, in megabytes.
fn child(pods: usize) -> Result<()> {
    let node = Node::new(pods)?;
    let mut scraper = node.scraper(everything())?;
    let (mut gzip, mut out) = (Gzip::default(), Vec::new());
    settle(|| {
        out.clear();
        gzip.begin(std::mem::take(&mut out));
        scraper.scrape(Part::Cadvisor, Format::Text, &mut gzip);
        out = gzip.finish();
    });
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let kilobytes: f64 = kilobytes.context("no VmRSS")?.parse()?;
    println!("{}", kilobytes * 1024.0 / 1e6);
    Ok(())
}
