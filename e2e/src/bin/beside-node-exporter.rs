//! What a scrape of the machine costs beside node_exporter, both on the same files: `beside-node-exporter [SCRAPES]`.
//!
//! Once on this machine, once on the files of a large one. Both programs run with their defaults and are asked in turn, as
//! Prometheus asks; the floor is bare reads of the files that the agent keeps open.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::big_machine::BigMachine;
use e2e::exporter::Exporter;
use e2e::interrupt;
use e2e::measured::Measured;
use e2e::parts::NODE_EXPORTER;
use e2e::programs::{AGENT, build};
use e2e::weigh::of_pass;

/// As in the issue that set the targets.
const LARGE: BigMachine = BigMachine { cpus: 192, disks: 400, interfaces: 300 };

fn main() -> Result<()> {
    let scrapes: u32 =
        std::env::args().nth(1).map_or(Ok(200), |n| n.parse()).context("SCRAPES is a number")?;
    interrupt::watch_with_parent()?;
    let programs = Programs {
        agent: build(&[AGENT])?.pop().context("nothing was built")?,
        node_exporter: NODE_EXPORTER.program("node_exporter")?,
        folder: std::env::temp_dir().join(format!("beside-node-exporter-{}", std::process::id())),
    };
    let large = programs.folder.join("large");
    let result = LARGE
        .write(&large)
        .and_then(|()| programs.compare("this machine", Path::new("/"), scrapes))
        .and_then(|()| programs.compare("192 CPUs, 400 disks, 300 interfaces", &large, scrapes.div_ceil(4)));
    std::fs::remove_dir_all(&programs.folder).context("cannot remove the working folder")?;
    result
}

struct Programs {
    agent: PathBuf,
    node_exporter: PathBuf,
    folder: PathBuf,
}

impl Programs {
    fn compare(&self, what: &str, root: &Path, scrapes: u32) -> Result<()> {
        let flags: Vec<String> =
            ["proc", "sys"].map(|part| format!("--path.{part}fs={}", root.join(part).display())).into();
        let start = |name, program: &Path| Exporter::start(name, program, &flags, &self.folder);
        let agent = start("agent", &self.agent)?;
        let node_exporter = start("node_exporter", &self.node_exporter)?;
        let mut runs =
            [Measured::new(&agent, "/metrics/node", 10)?, Measured::new(&node_exporter, "/metrics", 10)?];
        for _ in 0..scrapes {
            for run in &mut runs {
                run.scrape()?;
            }
        }
        let [ours, theirs] = [runs[0].figures()?, runs[1].figures()?];
        // With the containers as well, since one agent has both.
        agent.scrape("/metrics")?;
        let (resident, floor) = (agent.resident()?, floor(&agent, root, scrapes)?);
        println!("\n{what}: {scrapes} scrapes of each");
        println!("| | agent | node_exporter | agent / node_exporter |\n|---|---|---|---|");
        let row = |name: &str, unit: &str, ours: f64, theirs: f64| {
            println!("| {name} | {ours:.3} {unit} | {theirs:.3} {unit} | 1/{:.1} |", theirs / ours);
        };
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        println!("| series | {} | {} | |", series(&ours.text), series(&theirs.text));
        row("processor time of a scrape", "ms", millis(ours.cpu), millis(theirs.cpu));
        row("latency, median", "ms", millis(ours.latency), millis(theirs.latency));
        row("answer", "kB", ours.text.len() as f64 / 1e3, theirs.text.len() as f64 / 1e3);
        row("answer, packed", "kB", ours.packed as f64 / 1e3, theirs.packed as f64 / 1e3);
        row("resident memory", "MB", ours.resident as f64 / 1e6, theirs.resident as f64 / 1e6);
        println!("resident memory of the agent after its containers, too: {:.1} MB", resident as f64 / 1e6);
        let (files, floor) = floor;
        println!(
            "floor: {:.3} ms for {files} files; agent / floor = {:.2}",
            millis(floor),
            ours.cpu.as_secs_f64() / floor.as_secs_f64()
        );
        Ok(())
    }
}

/// Bare reads of the files that it keeps open: how many there are, and what one pass costs.
fn floor(agent: &Exporter, root: &Path, passes: u32) -> Result<(usize, Duration)> {
    let mut files = Vec::new();
    for part in ["proc", "sys"] {
        for file in agent.open_files(&root.join(part))? {
            // Its cgroups belong to the containers.
            if !file.starts_with(root.join("sys/fs/cgroup")) {
                files.push(File::open(&file).with_context(|| format!("cannot read {}", file.display()))?);
            }
        }
    }
    let mut buffer = vec![0; 1 << 20];
    let pass = || {
        for file in &files {
            // As the agent does: to the end.
            let mut offset = 0;
            while let Ok(read @ 1..) = file.read_at(&mut buffer, offset) {
                offset += read as u64;
            }
        }
    };
    let cost = of_pass(passes, pass);
    Ok((files.len(), cost))
}
