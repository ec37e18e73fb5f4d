//! What a scrape of processes costs beside process-exporter, both on the same ones: `beside-process-exporter [SCRAPES] [PROCESSES]`.
//!
//! Both name every process by its short name and read threads, what is open and what went to disks, but no proportional
//! memory. The floor is bare reads of the same files. It starts that many idle processes on this machine, every tenth with
//! four threads, and ends them.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::exporter::Exporter;
use e2e::interrupt;
use e2e::measured::Measured;
use e2e::process::Component;
use e2e::process_exporter;
use e2e::programs::{AGENT, WORKLOAD, build};
use e2e::tiny;
use e2e::wait::wait_for;
use e2e::weigh::of_pass;
use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::io::read;

const NAMES: &str = "process_names:\n- name: \"{{.Comm}}\"\n  cmdline:\n  - '.+'\n";

fn main() -> Result<()> {
    let number = |at: usize, default: u32| {
        std::env::args()
            .nth(at)
            .map_or(Ok(default), |n| n.parse())
            .context("SCRAPES and PROCESSES are numbers")
    };
    let (scrapes, processes) = (number(1, 30)?, number(2, 2000)?);
    interrupt::watch_with_parent()?;
    let folder = std::env::temp_dir().join(format!("beside-process-exporter-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = measure(&folder, scrapes, processes);
    std::fs::remove_dir_all(&folder).context("cannot remove the working folder")?;
    result
}

fn measure(folder: &Path, scrapes: u32, processes: u32) -> Result<()> {
    let programs = build(&[AGENT, WORKLOAD])?;
    let [agent, workload] = programs.as_slice() else { anyhow::bail!("not two programs were built") };
    let names = folder.join("names.yml");
    std::fs::write(&names, NAMES)?;
    let population = populate(folder, workload, processes)?;
    let ours = [
        "--collector.disable-defaults".to_owned(),
        "--collector.process_groups".to_owned(),
        format!("--collector.process_groups.config-path={}", names.display()),
    ];
    let theirs = [format!("--config.path={}", names.display()), "--gather-smaps=false".to_owned()];
    let ours = Exporter::start("agent", agent, &ours, folder)?;
    let theirs = Exporter::start("process-exporter", &process_exporter::program()?, &theirs, folder)?;
    let mut runs = [Measured::new(&ours, "/metrics/processes", 3)?, Measured::new(&theirs, "/metrics", 3)?];
    for _ in 0..scrapes {
        for run in &mut runs {
            run.scrape()?;
        }
    }
    let [mine, other] = [runs[0].figures()?, runs[1].figures()?];
    let (files, floor) = floor(scrapes)?;
    drop(population);
    println!("\n{processes} processes more than before: {scrapes} scrapes of each");
    println!("| | agent | process-exporter | agent / process-exporter |\n|---|---|---|---|");
    let row = |name: &str, unit: &str, ours: f64, theirs: f64| {
        println!("| {name} | {ours:.3} {unit} | {theirs:.3} {unit} | 1/{:.1} |", theirs / ours);
    };
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let series = |text: &str| text.lines().filter(|line| line.starts_with("namedprocess_")).count();
    println!("| series | {} | {} | |", series(&mine.text), series(&other.text));
    row("processor time of a scrape", "ms", millis(mine.cpu), millis(other.cpu));
    row("latency, median", "ms", millis(mine.latency), millis(other.latency));
    row("resident memory", "MB", mine.resident as f64 / 1e6, other.resident as f64 / 1e6);
    println!(
        "floor: {:.3} ms for {files} files; agent / floor = {:.2}",
        millis(floor),
        mine.cpu.as_secs_f64() / floor.as_secs_f64()
    );
    Ok(())
}

/// So many idle processes; each ends with this one.
fn populate(folder: &Path, workload: &Path, processes: u32) -> Result<Vec<Component>> {
    let log = |name: &str| -> PathBuf { folder.join(format!("{name}.log")) };
    let mut population = Vec::new();
    for number in 0..processes {
        interrupt::check()?;
        let name = format!("idle-{}", number % 100);
        let program = folder.join(&name);
        let mut command = Command::new(&program);
        let has_threads = number % 10 == 0;
        match has_threads {
            true => command.args(["threads", "--count", "4"]),
            // Twenty thousand that have a libc would take minutes to start.
            false => command.args(["quit", "--milliseconds", "86400000"]),
        };
        match has_threads {
            _ if program.exists() => {}
            true => std::fs::copy(workload, &program).map(drop)?,
            false => tiny::write(&program, Duration::from_secs(86_400), workload)?,
        }
        population.push(Component::start(&name, &command, log(&name))?);
    }
    wait_for("the last of them to begin", Duration::from_secs(30), || {
        let last = population.last().map(Component::pid).unwrap_or_default();
        let comm = std::fs::read_to_string(format!("/proc/{last}/comm"))?;
        Ok(comm.starts_with("idle-").then_some(()))
    })?;
    Ok(population)
}

/// Bare reads of what is read of each process: how many files, and what one pass costs.
fn floor(passes: u32) -> Result<(usize, Duration)> {
    // From here on every path is below it: the whole of one takes the kernel longer.
    let folder = File::open("/proc").context("cannot open /proc")?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.parse::<u32>().is_err() {
            continue;
        }
        files.push(format!("{name}/stat"));
        // Threads of the kernel have no command line and so no name.
        if std::fs::read(entry.path().join("cmdline")).is_ok_and(|cmdline| !cmdline.is_empty()) {
            files.extend(["status", "io", "wchan", "fd"].map(|file| format!("{name}/{file}")));
            let tasks: Vec<_> = std::fs::read_dir(entry.path().join("task"))?.flatten().collect();
            for task in tasks.iter().filter(|_| tasks.len() > 1) {
                let task = task.file_name().to_string_lossy().into_owned();
                files.extend(
                    ["stat", "status", "io", "wchan"].map(|file| format!("{name}/task/{task}/{file}")),
                );
            }
        }
    }
    let mut buffer = vec![0; 16 << 10];
    let pass = || {
        for path in &files {
            match path.ends_with("fd") {
                true => drop(statat(&folder, path, AtFlags::empty())),
                // Some end meanwhile.
                false => drop(
                    openat(&folder, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                        .and_then(|file| read(&file, &mut buffer)),
                ),
            }
        }
    };
    let cost = of_pass(passes, pass);
    Ok((files.len(), cost))
}
