//! Twenty thousand processes, a tenth of which are others at each scrape.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Machine, PROCS, SECONDS, Told};
use crate::expose::text::Format;
use crate::scrape::Part;

#[test]
fn of_twenty_thousand_processes_two_thousand_are_others_with_the_same_numbers_and_none_is_mistaken() {
    const ALL: u32 = 20_000;
    const PODS: u32 = 100;
    let config = ("config", "process_names: [{name: '{{.Comm}}', comm: [even, odd]}]");
    // What is in files that this tree does not have.
    let of_status = ["namedprocess_namegroup_memory_bytes", "namedprocess_namegroup_.*switches_total"];
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let mut machine = Machine::below(&parent, &[config], &of_status);
    let id = |pod: u32| format!("{pod:064x}");
    let (uids, names): (Vec<_>, Vec<_>) = (0..PODS).map(|pod| (format!("u{pod}"), format!("p{pod}"))).unzip();
    let ids: Vec<_> = (0..PODS).map(id).collect();
    ids.iter().zip(&uids).for_each(|(id, uid)| machine.cgroup(uid, id));
    let containers: Vec<_> = ids.iter().map(|id| [(id.as_str(), "main")]).collect();
    let told = uids.iter().zip(&names).zip(&containers);
    let told: Vec<Told<'_>> = told.map(|((uid, name), of)| (uid.as_str(), name.as_str(), &of[..])).collect();
    let write = |machine: &Machine, pid: u32, pod: u32, start: u64| {
        let comm = if pod.is_multiple_of(2) { "even" } else { "odd" };
        let stat = format!("{pid} ({comm}) S 1 0 0 0 -1 0 0 0 0 0 5 0 0 0 20 0 1 0 {start} 4096 1 0\n");
        let cgroup = format!("0::/kubepods/pod{}/{}\n", uids[pod as usize], ids[pod as usize]);
        let root = machine.tree.path().join(format!("proc/{pid}"));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("stat"), stat).unwrap();
        std::fs::write(root.join("cgroup"), cgroup).unwrap();
    };
    for pid in 2..2 + ALL {
        write(&machine, pid, pid % PODS, 100);
    }
    machine.tell(&told);
    let label = |pod: u32| {
        let comm = if pod.is_multiple_of(2) { "even" } else { "odd" };
        format!(r#"container="main",namespace="shop",pod="p{pod}",groupname="{comm}""#)
    };
    let mut expected: BTreeMap<String, f64> = (0..PODS).map(|pod| (label(pod), 200.0)).collect();
    assert_eq!(machine.values(PROCS), expected);
    let handles = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = handles();
    for round in 1..=2 {
        for pid in (2..2 + ALL).step_by(10) {
            let (was, is) = ((pid + round - 1) % PODS, (pid + round) % PODS);
            write(&machine, pid, is, 100 + u64::from(round));
            *expected.entry(label(was)).or_default() -= 1.0;
            *expected.entry(label(is)).or_default() += 1.0;
        }
        expected.retain(|_, processes| *processes > 0.0);
        // Not as equal, whose message would be a page of them.
        assert!(machine.values(PROCS) == expected, "round {round}");
    }
    let began: f64 = machine.values(SECONDS).values().sum();
    // Each of them began while it was watched, with five hundredths of a second.
    assert!((began - 2.0 * 2000.0 * 0.05).abs() < 1e-6, "{began}");
    let mut out = Vec::new();
    machine.scraper.scrape(Part::Agent, Format::Text, &mut out);
    assert!(!String::from_utf8(out).unwrap().contains("exporter_agent_collector_errors_total{"));
    // Tests beside this one open files, too, but not a tenth of the processes.
    assert!(handles() < before + 500, "{before} handles became {}", handles());
}
