//! A scrape of a container that is over.

use std::path::Path;

use super::*;
use crate::metric::shown::Tree;
use crate::source::kubelet::PodContainer;
use protocol::Facts;

#[test]
fn of_a_container_that_is_over_its_counters_are_told_and_nothing_else() {
    let id = "1".repeat(64);
    let folder = format!("fs/cgroup/kubepods/poda/{id}");
    let file = |name: &str| format!("{folder}/{name}");
    let tree = Tree::new(&[
        ("fs/cgroup/cgroup.controllers", "cpu memory\n"),
        (&file("cgroup.events"), "populated 1\n"),
        (&file("cpu.stat"), "usage_usec 7000000\nuser_usec 5000000\nsystem_usec 2000000\n"),
        (&file("memory.current"), "4096\n"),
        (&file("memory.stat"), "anon 4096\nfile 0\ninactive_file 0\npgfault 3\npgmajfault 1\n"),
    ]);
    let paths = Paths { sysfs: tree.path().to_owned(), procfs: tree.path().to_owned(), ..Paths::default() };
    let plan = Plan::new(Vec::new(), Facts::default(), &Default::default());
    let mut scraper = Scraper::new(paths, String::new(), 100, plan, Arc::new(Telemetry::new().unwrap()));
    scraper.refresh();
    let container = PodContainer { id: id.clone(), name: "main".to_owned(), ..Default::default() };
    scraper.set_pods(vec![Pod {
        uid: "a".to_owned(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        containers: vec![container],
        ..Pod::default()
    }]);
    let scrape = |scraper: &mut Scraper| {
        let mut out = Vec::new();
        scraper.scrape(Part::Cadvisor, Format::Text, &mut out);
        let text = String::from_utf8(out).unwrap();
        let of_container = text.lines().filter(|line| line.contains(r#"container="main""#));
        of_container.map(|line| line.split('{').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let living = scrape(&mut scraper);
    assert!(living.iter().any(|family| family == "container_memory_working_set_bytes"), "{living:?}");

    std::fs::write(tree.path().join(file("cgroup.events")), "populated 0\n").unwrap();
    let slot = scraper.tree.iter().find(|(_, c)| c.path.ends_with(&id)).unwrap().0;
    while !scraper.tree.has_read_end(slot) {
        std::thread::yield_now();
    }
    std::fs::remove_dir_all(tree.path().join("fs/cgroup/kubepods/poda")).unwrap();
    let over = scrape(&mut scraper);
    let families = [
        "container_cpu_user_seconds_total",
        "container_cpu_system_seconds_total",
        "container_cpu_usage_seconds_total",
    ];
    assert_eq!(
        over,
        [&families[..], &["container_memory_failures_total"; 4], &["container_oom_events_total"]].concat()
    );
}

/// How often this thread has called the kernel to read.
fn reads() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
}

#[test]
fn five_thousand_cgroups_that_come_and_go_cost_a_read_of_each_file_and_leave_no_handle() {
    const PODS: usize = 1250;
    const CGROUPS: u64 = 5 * 1000;
    let files = ["cpu.stat", "memory.current", "memory.stat", "pids.current"];
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let controllers = ("fs/cgroup/cgroup.controllers", "cpu memory pids\n");
    let node = Tree::below(&parent, &[controllers, ("fs/cgroup/kubepods/none", "")]);
    let paths = Paths { sysfs: node.path().to_owned(), procfs: node.path().to_owned(), ..Paths::default() };
    let plan = Plan::new(Vec::new(), Facts::default(), &Default::default());
    // Of these the cgroups get seven sixteenths, so that most files are opened for each read.
    let mut scraper = Scraper::new(paths, String::new(), 400, plan, Arc::new(Telemetry::new().unwrap()));
    let scrape = |scraper: &mut Scraper| {
        let (before, mut out) = (reads(), Vec::new());
        scraper.scrape(Part::Cadvisor, Format::Text, &mut out);
        reads() - before
    };
    for round in 0..2 {
        for pod in 0..PODS {
            for container in ["", "/1", "/2", "/3"] {
                let id = container.trim_start_matches('/').repeat(64);
                for file in files {
                    let path = format!("fs/cgroup/kubepods/pod{round}-{pod}/{id}/{file}");
                    node.write(&path, b"usage_usec 1\n");
                }
            }
        }
        for _ in 0..2 {
            let reads = scrape(&mut scraper);
            let most = CGROUPS * files.len() as u64 + 100;
            assert!(reads <= most, "{reads} reads for {CGROUPS} cgroups with {} files each", files.len());
            assert_eq!((scraper.tree.iter().count() as u64, scraper.tree.truncated()), (2 + CGROUPS, 0));
            assert_eq!(scraper.tree.budget().open(), scraper.tree.budget().most());
        }
        for pod in 0..PODS {
            let folder = format!("fs/cgroup/kubepods/pod{round}-{pod}");
            std::fs::remove_dir_all(node.path().join(folder)).unwrap();
        }
        scrape(&mut scraper);
        assert_eq!((scraper.tree.iter().count(), scraper.tree.budget().open()), (2, 0));
    }
}
