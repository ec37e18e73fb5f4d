//! The cost of a scrape of the container families on a real node, beside the floor: bare reads of all files that the
//! figures are in. Cgroups that stand still are not read whole by the scrape.
//!
//! Run it where the node's files are, with a list of pods as the kubelet answers it: `on-node PODS.json [ROUNDS]`.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use agent::expose::text::Format;
use agent::scrape::{Part, Scraper};
use agent::source::Paths;
use agent::source::file::HandleBudget;
use agent::source::kubelet;
use agent::telemetry::Telemetry;
use anyhow::{Context as _, Result};
use benches::measure::{alone, pair, settle, text};
use benches::synthetic::everything;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let pods = arguments.next().context("usage: on-node PODS.json [ROUNDS]")?;
    let rounds = arguments.next().map_or(Ok(200), |n| n.parse()).context("ROUNDS is a number")?;
    let pods = kubelet::parse(&std::fs::read(&pods).context(pods)?)?;
    let paths = Paths::default();
    let budget = HandleBudget::from_limits().most() / 2;
    let mut scraper =
        Scraper::new(paths, "pause".to_owned(), budget, everything(), Arc::new(Telemetry::new()?));
    scraper.set_pods(pods.clone());
    let mut out = Vec::new();
    scraper.scrape(Part::Cadvisor, Format::Text, &mut out);
    let files =
        scraper.files().into_iter().filter_map(|(file, each_time)| each_time.then(|| File::open(file)));
    let files: Vec<File> = files.collect::<Result<_, _>>()?;
    println!(
        "{} pods, {} series, {} bytes, {} files",
        pods.len(),
        out.iter().filter(|b| **b == b'\n').count(),
        out.len(),
        files.len()
    );
    let mut buffer = vec![0; 64 << 10];
    let floor = || {
        for file in &files {
            // What ends meanwhile is not part of the floor either.
            let _ = file.read_at(&mut buffer, 0);
        }
    };
    let mut scrape = || {
        out.clear();
        scraper.scrape(Part::Cadvisor, Format::Text, &mut out);
    };
    settle(&mut scrape);
    let (scrape, floor, ratio) = pair(rounds, scrape, floor);
    println!("scrape {} of processor time, {} in all", text(scrape.cpu), text(scrape.wall));
    println!("floor  {} of processor time, {} in all", text(floor.cpu), text(floor.wall));
    println!("scrape / floor = {ratio:.2}");
    let gather = alone(rounds, || scraper.gather(Part::Cadvisor));
    let expose = alone(rounds, || {
        out.clear();
        scraper.expose(Format::Text, &mut out);
    });
    println!("of it: gather {}, expose {}", text(gather.cpu), text(expose.cpu));
    Ok(())
}
