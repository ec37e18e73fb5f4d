//! A scrape of a container that is over.

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
