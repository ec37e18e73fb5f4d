//! What holds of the cost of groups of processes, however many there are: how many allocations a scrape makes.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::plan::{Overlay, Plan};
use agent::scrape::{Part, Scraper};
use agent::source::Paths;
use agent::telemetry::Telemetry;
use benches::measure;
use protocol::Facts;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const STATUS: &str =
    "Uid:\t0\t0\t0\t0\nVmSwap:\t0 kB\nvoluntary_ctxt_switches:\t1\nnonvoluntary_ctxt_switches:\t1\n";

/// A machine with so many processes of two threads each, of which three have one name.
fn machine(count: usize) -> PathBuf {
    let root = std::env::temp_dir().join(format!("processes-{}-{count}", std::process::id()));
    let write = |path: String, text: &str| {
        let path = root.join("proc").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("stat".to_owned(), "btime 1000\n");
    for pid in 2..2 + count {
        let stat = format!("{pid} (web-{}) S 1 0 0 0 -1 0 1 0 1 0 1 1 0 0 20 0 2 0 100 4096 1 0\n", pid / 3);
        for task in [String::new(), format!("/task/{pid}"), format!("/task/{}", pid + 100_000)] {
            write(format!("{pid}{task}/stat"), &stat);
            write(format!("{pid}{task}/status"), STATUS);
            write(format!("{pid}{task}/io"), "read_bytes: 1\nwrite_bytes: 1\n");
            write(format!("{pid}{task}/wchan"), "ep_poll");
        }
        write(format!("{pid}/cmdline"), "/bin/web\0");
        write(format!("{pid}/cgroup"), "0::/system.slice/web.service\n");
        write(format!("{pid}/fd/0"), "");
        write(
            format!("{pid}/limits"),
            "Max open files            1024                 4096                 files\n",
        );
    }
    root
}

/// The fewest allocations of one scrape in steady state, and how many lines it gives.
fn allocations(root: &Path) -> (u64, usize) {
    let paths = Paths {
        procfs: root.join("proc"),
        sysfs: root.join("sys"),
        rootfs: root.to_owned(),
        ..Paths::default()
    };
    let flags = Overlay {
        disable_defaults: true,
        enabled: [("process_groups".to_owned(), true)].into(),
        ..Overlay::default()
    };
    let plan = Plan::new(Vec::new(), Facts::default(), &flags);
    let mut scraper = Scraper::new(paths, String::new(), 1000, plan, Arc::new(Telemetry::new().unwrap()));
    // Every sixteenth looks again at what hardly ever changes.
    let allocated = || dhat::HeapStats::get().total_blocks;
    let (blocks, lines, _) = measure::allocations(&mut scraper, Part::Processes, 20, allocated);
    (blocks, lines)
}

#[test]
fn a_scrape_of_processes_allocates_nothing_per_process_in_steady_state() {
    let machines = [30, 600].map(machine);
    let _profiler = dhat::Profiler::builder().testing().build();
    let [(few, small), (many, large)] = [&machines[0], &machines[1]].map(|root| allocations(root));
    machines.iter().for_each(|root| std::fs::remove_dir_all(root).unwrap());
    assert!(large > small + 5000, "{small} lines, {large} lines");
    assert_eq!(few, many, "twenty times the processes take more allocations");
}
