//! The tree follows what comes and goes below it.

use super::follow::TOLD_AFTER_END;
use super::*;

struct Node(PathBuf);

impl Node {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("cgroup-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("fs/cgroup/kubepods/besteffort")).unwrap();
        fs::write(root.join("fs/cgroup/cgroup.controllers"), "cpu").unwrap();
        Node(root)
    }

    fn tree(&self) -> CgroupTree {
        let paths = Paths { sysfs: self.0.clone(), ..Paths::default() };
        let mut tree = CgroupTree::new(&paths, HandleBudget::new(100));
        tree.refresh().unwrap();
        tree
    }

    fn add(&self, cgroup: &str) {
        fs::create_dir_all(self.0.join("fs/cgroup/kubepods").join(cgroup)).unwrap();
        fs::write(self.0.join("fs/cgroup/kubepods").join(cgroup).join("memory.current"), "1\n").unwrap();
    }

    fn remove(&self, cgroup: &str) {
        fs::remove_dir_all(self.0.join("fs/cgroup/kubepods").join(cgroup)).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn paths(tree: &CgroupTree) -> Vec<String> {
    let mut paths: Vec<_> = tree.iter().map(|(_, c)| c.path.clone()).collect();
    paths.sort();
    paths
}

fn container(n: u8) -> String {
    format!("{n:064x}")
}

#[test]
fn pods_and_containers_come_and_go_with_and_without_watches() {
    for watched in [true, false] {
        let node = Node::new(if watched { "watched" } else { "walked" });
        let mut tree = node.tree();
        let refresh = |tree: &mut CgroupTree| {
            tree.watcher.incomplete = !watched;
            tree.refresh().unwrap();
        };
        assert_eq!(paths(&tree), ["/", "/kubepods", "/kubepods/besteffort"]);
        let one = format!("besteffort/poda/{}", container(1));
        node.add("besteffort/poda");
        node.add(&one);
        refresh(&mut tree);
        assert_eq!(paths(&tree).len(), 5);
        let two = format!("besteffort/poda/{}", container(2));
        node.add(&two);
        node.remove(&one);
        refresh(&mut tree);
        assert_eq!(paths(&tree).last().unwrap(), &format!("/kubepods/{two}"));
        assert_eq!(paths(&tree).len(), 5);
        node.remove("besteffort/poda");
        node.add("podb");
        refresh(&mut tree);
        assert_eq!(paths(&tree), ["/", "/kubepods", "/kubepods/besteffort", "/kubepods/podb"]);
    }
}

#[test]
fn when_there_is_room_for_watches_again_the_kernel_tells_what_changes() {
    let node = Node::new("room");
    let mut tree = node.tree();
    // As if one had been refused.
    tree.watcher.incomplete = true;
    assert!(!tree.is_watched());
    node.add("poda");
    tree.refresh().unwrap();
    assert!(tree.is_watched());
    node.add(&format!("poda/{}", container(1)));
    tree.refresh().unwrap();
    assert_eq!(paths(&tree).len(), 5);
}

#[test]
fn a_cgroup_did_not_start_when_something_last_came_or_went_below_it() {
    let node = Node::new("started");
    node.add("poda");
    let pod = node.0.join("fs/cgroup/kubepods/poda");
    fs::write(pod.join("cgroup.events"), "populated 1\n").unwrap();
    let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let later = begun + Duration::from_secs(10);
    for (directory, events) in [(later, begun), (begun, later)] {
        fs::File::open(pod.join("cgroup.events")).unwrap().set_modified(events).unwrap();
        fs::File::open(&pod).unwrap().set_modified(directory).unwrap();
        let tree = node.tree();
        let started = tree.iter().find(|(_, c)| c.path == "/kubepods/poda").unwrap().1.started;
        assert_eq!(started, begun);
    }
}

#[test]
fn a_directory_of_the_same_name_is_another_cgroup() {
    let node = Node::new("again");
    node.add("poda");
    let mut tree = node.tree();
    let before = tree.iter().find(|(_, c)| c.path == "/kubepods/poda").unwrap().1.inode;
    // Held open, so that the file system cannot give the number out again.
    let _held = fs::File::open(node.0.join("fs/cgroup/kubepods/poda")).unwrap();
    node.remove("poda");
    node.add("poda");
    tree.refresh().unwrap();
    let after = tree.iter().find(|(_, c)| c.path == "/kubepods/poda").unwrap().1.inode;
    assert_ne!(before, after);
}

#[test]
fn handles_are_given_back_when_a_cgroup_goes() {
    let node = Node::new("handles");
    node.add("poda");
    let mut tree = node.tree();
    let slot = tree.iter().find(|(_, c)| c.path == "/kubepods/poda").unwrap().0;
    let mut buffer = Vec::new();
    tree.read(slot, CgroupFile::MemoryCurrent, &mut buffer).unwrap();
    assert_eq!((buffer.as_slice(), tree.budget().open()), (&b"1\n"[..], 1));
    assert_eq!(tree.read(slot, CgroupFile::MemoryPeak, &mut buffer), Err(ReadError::Absent));
    node.remove("poda");
    assert_eq!(tree.read(slot, CgroupFile::MemoryMax, &mut buffer), Err(ReadError::Gone));
    tree.refresh().unwrap();
    assert_eq!(tree.budget().open(), 0);
    assert_eq!(tree.read(slot, CgroupFile::MemoryCurrent, &mut buffer), Err(ReadError::Gone));
}

/// The kernel's list of the watches of an inotify instance (proc_pid_fdinfo(5)).
fn watches(inotify: Option<OwnedFd>) -> usize {
    let inotify = inotify.unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&inotify);
    let list = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    list.lines().filter(|line| line.starts_with("inotify ")).count()
}

#[test]
fn no_watch_is_left_of_a_cgroup_that_has_gone_though_the_kernel_keeps_it() {
    let node = Node::new("watches");
    let mut tree = node.tree();
    let none = watches(tree.changes());
    let cgroup = format!("poda/{}", container(1));
    node.add(&cgroup);
    let folder = node.0.join("fs/cgroup/kubepods").join(&cgroup);
    fs::write(folder.join("cgroup.events"), "populated 1\n").unwrap();
    tree.refresh().unwrap();
    assert_eq!((watches(tree.changes()), watches(tree.ends.handle())), (none + 1, 1));
    // What is open stays with its watch, as each of the kernel's cgroups does.
    let pod = fs::File::open(node.0.join("fs/cgroup/kubepods/poda")).unwrap();
    let events = fs::File::open(folder.join("cgroup.events")).unwrap();
    node.remove("poda");
    tree.refresh().unwrap();
    assert_eq!((watches(tree.changes()), watches(tree.ends.handle())), (none, 0));
    drop((pod, events));
}

#[test]
fn where_handles_are_few_none_is_kept_for_what_is_read_once_a_minute() {
    let node = Node::new("few");
    node.add("poda");
    fs::write(node.0.join("fs/cgroup/kubepods/poda/memory.max"), "max\n").unwrap();
    let mut tree = node.tree();
    let slot = tree.iter().find(|(_, c)| c.path == "/kubepods/poda").unwrap().0;
    // Five cgroups may have all their files open, six may not.
    tree.budget = HandleBudget::new(FILES * 5);
    let mut open = || {
        tree.refresh().unwrap();
        let before = tree.budget().open();
        for file in [CgroupFile::MemoryMax, CgroupFile::MemoryCurrent] {
            tree.begin(Instant::now());
            tree.read(slot, file, &mut Vec::new()).unwrap();
        }
        (before, tree.budget().open())
    };
    node.add("podb");
    assert_eq!(open(), (0, 2));
    node.add("podc");
    assert_eq!(open(), (1, 1));
    node.remove("podc");
    assert_eq!(open(), (1, 2));
}

#[test]
fn the_kubelets_tree_may_come_later_and_below_another_cgroup() {
    let node = Node::new("below");
    let paths = Paths { sysfs: node.0.clone(), cgroup_root: Some("/mine/".into()), ..Paths::default() };
    let mut tree = CgroupTree::new(&paths, HandleBudget::new(100));
    assert_eq!(tree.refresh(), Err(Errno::NOENT), "a wrong flag must show");
    assert!(tree.folder().ends_with("mine"));
    assert_eq!(super::tests::paths(&tree), ["/"]);
    fs::create_dir_all(node.0.join("fs/cgroup/mine/kubepods/poda")).unwrap();
    tree.refresh().unwrap();
    assert_eq!(super::tests::paths(&tree), ["/", "/mine/kubepods", "/mine/kubepods/poda"]);
}

#[test]
fn a_slot_that_is_another_pods_by_now_is_not_taken_from_it() {
    for rounds in 0..20 {
        let node = Node::new(&format!("reused-{rounds}"));
        fs::create_dir_all(node.0.join("fs/cgroup/kubepods/burstable")).unwrap();
        node.add("poda");
        let mut tree = node.tree();
        node.remove("poda");
        node.add("burstable/podb");
        node.add(&format!("burstable/podb/{}", container(1)));
        tree.refresh().unwrap();
        let b = paths(&tree).into_iter().filter(|p| p.contains("podb")).count();
        assert_eq!(b, 2, "{:?}", paths(&tree));
    }
}

#[test]
fn a_file_that_comes_later_is_found_while_the_cgroup_is_young() {
    let node = Node::new("later");
    node.add("poda");
    let mut tree = node.tree();
    let slot = tree.iter().find(|(_, c)| c.path == "/kubepods/poda").unwrap().0;
    let mut buffer = Vec::new();
    assert_eq!(tree.read(slot, CgroupFile::CpuStat, &mut buffer), Err(ReadError::Absent));
    fs::write(node.0.join("fs/cgroup/kubepods/poda/cpu.stat"), "usage_usec 1\n").unwrap();
    assert_eq!(tree.read(slot, CgroupFile::CpuStat, &mut buffer), Ok(()));
}

#[test]
fn what_a_container_counted_to_its_end_is_told_for_a_while() {
    let node = Node::new("ended");
    let cgroup = format!("poda/{}", container(1));
    node.add(&cgroup);
    let folder = node.0.join("fs/cgroup/kubepods").join(&cgroup);
    fs::write(folder.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    fs::write(folder.join("cpu.stat"), "usage_usec 7\n").unwrap();
    let mut tree = node.tree();
    let slot = tree.iter().find(|(_, c)| c.path.contains(&cgroup)).unwrap().0;
    fs::write(folder.join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
    while !tree.has_read_end(slot) {
        std::thread::yield_now();
    }
    // Together with its pod, as when that is deleted.
    node.remove("poda");
    tree.refresh().unwrap();
    let ended: Vec<_> = tree.iter().filter_map(|(slot, c)| Some((slot, c.ended_in()?.to_owned()))).collect();
    assert_eq!(ended, [(slot, "a".to_owned())]);
    assert_eq!((tree.has_pod("a"), tree.has_container(&container(1)), tree.missed_ends()), (true, true, 0));
    let mut buffer = Vec::new();
    tree.read(slot, CgroupFile::CpuStat, &mut buffer).unwrap();
    assert_eq!(buffer, b"usage_usec 7\n");
    assert_eq!(tree.read(slot, CgroupFile::MemoryCurrent, &mut buffer), Err(ReadError::Gone));

    tree.forget_ended(Instant::now() + TOLD_AFTER_END);
    assert_eq!(
        (tree.ended(), paths(&tree)),
        (0, vec!["/".to_owned(), "/kubepods".to_owned(), "/kubepods/besteffort".to_owned()])
    );
    assert!(!tree.has_pod("a"));
}

#[test]
fn a_container_whose_end_nobody_saw_is_counted_as_missed() {
    let node = Node::new("missed");
    let cgroup = format!("poda/{}", container(1));
    node.add(&cgroup);
    let mut tree = node.tree();
    node.remove(&cgroup);
    tree.refresh().unwrap();
    assert_eq!((tree.ended(), tree.missed_ends()), (0, 1));
}

#[test]
fn no_more_cgroups_are_taken_up_than_may_be_until_there_is_room() {
    let node = Node::new("most");
    for pod in ["poda", "podb", "podc"] {
        node.add(&format!("{pod}/{}", container(1)));
    }
    let mut tree = node.tree();
    assert_eq!((tree.iter().count(), tree.truncated()), (9, 0));
    node.add("besteffort/podd");
    node.add("besteffort/pode");
    tree.most = 10;
    tree.refresh().unwrap();
    assert_eq!((tree.iter().count(), tree.truncated()), (10, 1));
    node.remove("poda");
    tree.refresh().unwrap();
    tree.refresh().unwrap();
    assert_eq!((tree.iter().count(), tree.truncated()), (9, 0));
}

#[test]
fn five_thousand_cgroups_come_and_go_and_leave_no_handle() {
    let node = Node::new("thousands");
    let mut tree = node.tree();
    for round in 0..2 {
        for pod in 0..1250 {
            for n in 0..3 {
                node.add(&format!("pod{round}-{pod}/{}", container(n)));
            }
        }
        tree.refresh().unwrap();
        assert_eq!((tree.iter().count(), tree.truncated()), (5003, 0));
        let slots: Vec<_> = tree.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let _ = tree.read(slot, CgroupFile::MemoryCurrent, &mut Vec::new());
        }
        // Past the budget files are opened for each read.
        assert_eq!(tree.budget().open(), 100);
        for pod in 0..1250 {
            node.remove(&format!("pod{round}-{pod}"));
        }
        tree.refresh().unwrap();
        assert_eq!((tree.iter().count(), tree.budget().open(), tree.slots().len()), (3, 0, 5003));
    }
}

#[test]
fn what_is_fixed_is_looked_at_within_a_minute_and_of_a_new_cgroup_each_time() {
    let node = Node::new("fixed");
    let tree = node.tree();
    let (slot, cgroup) = tree.iter().last().unwrap();
    let mut fixed = Fixed::default();
    fixed.set(slot, cgroup, cgroup.seen, 1);
    assert_eq!(fixed.get(slot, cgroup, cgroup.seen), None, "its limits may not be written yet");
    let made = cgroup.seen + BEING_MADE;
    fixed.set(slot, cgroup, made, 2);
    assert_eq!(fixed.get(slot, cgroup, made), Some(2));
    let minute = made + Duration::from_secs(60);
    assert_eq!(fixed.get(slot, cgroup, minute), None);
    fixed.set(slot, cgroup, minute, 3);
    assert_eq!(fixed.get(slot, cgroup, minute + Duration::from_secs(54)), Some(3));
    assert_eq!(fixed.get(slot, cgroup, minute + Duration::from_secs(60)), None);
    let (_, other) = tree.iter().next().unwrap();
    assert_eq!(fixed.get(slot, other, minute), None, "another cgroup has this slot now");
}

/// A pod whose files are written to as the test goes on, or one with a container.
struct StillPod {
    node: Node,
    tree: CgroupTree,
    slot: usize,
    began: Instant,
    /// The cgroup that is written to.
    written: String,
}

/// What of the pod is written to; by its controller and name on v1, and its name on v2.
type What = ((&'static str, &'static str), &'static str);
const CPU: What = (("cpuacct", "cpuacct.usage"), "cpu.stat");
const USAGE: What = (("memory", "memory.usage_in_bytes"), "memory.current");
const MEMORY: What = (("memory", "memory.stat"), "memory.stat");
const THREADS: What = (("pids", "pids.current"), "pids.current");

impl StillPod {
    fn new(name: &str, version: Version) -> Self {
        Self::with(name, version, "poda")
    }

    /// Reads and writes the cgroup at this path.
    fn with(name: &str, version: Version, cgroup: &str) -> Self {
        let node = Node::new(&format!("{name}-{version:?}"));
        if version == Version::V1 {
            fs::remove_file(node.0.join("fs/cgroup/cgroup.controllers")).unwrap();
            for controller in ["cpuacct", "memory", "pids"] {
                let folder = node.0.join("fs/cgroup").join(controller).join("kubepods").join(cgroup);
                fs::create_dir_all(folder).unwrap();
            }
            fs::write(node.0.join("fs/cgroup/memory/memory.use_hierarchy"), "1\n").unwrap();
        } else {
            node.add(cgroup);
        }
        let tree = node.tree();
        assert_eq!(tree.version(), version);
        let slot = tree.iter().find(|(_, c)| c.path == format!("/kubepods/{cgroup}")).unwrap().0;
        let mut it = StillPod { node, tree, slot, began: Instant::now(), written: cgroup.to_owned() };
        [CPU, USAGE, MEMORY, THREADS].into_iter().for_each(|what| it.write(what, 1));
        it
    }

    /// Writes to its pod.
    fn write_pod(&mut self, what: What, n: u64) {
        let own = std::mem::replace(&mut self.written, "poda".to_owned());
        self.write(what, n);
        self.written = own;
    }

    fn path(&self, ((controller, v1), v2): What) -> PathBuf {
        let mount = self.node.0.join("fs/cgroup");
        match self.tree.version() {
            Version::V1 => mount.join(controller).join("kubepods").join(&self.written).join(v1),
            Version::V2 => mount.join("kubepods").join(&self.written).join(v2),
        }
    }

    fn write(&mut self, what: What, n: u64) {
        fs::write(self.path(what), format!("{n}\n")).unwrap();
    }

    /// Memory and threads as they are given so many seconds after the beginning.
    fn at(&mut self, second: u64) -> [u64; 2] {
        self.tree.begin(self.began + Duration::from_secs(second));
        [CgroupFile::MemoryStat, CgroupFile::PidsCurrent].map(|file| {
            let mut buffer = Vec::new();
            self.tree.read(self.slot, file, &mut buffer).unwrap();
            String::from_utf8(buffer).unwrap().trim_end().parse().unwrap()
        })
    }
}

#[test]
fn a_cgroup_without_cpu_time_is_not_read_again_until_it_has_some_or_a_minute_has_passed() {
    for version in [Version::V1, Version::V2] {
        let mut pod = StillPod::new("still", version);
        assert_eq!([pod.at(0), pod.at(1)], [[1, 1]; 2]);
        let write = |pod: &mut StillPod, n| [MEMORY, THREADS].into_iter().for_each(|what| pod.write(what, n));
        write(&mut pod, 2);
        assert_eq!(pod.at(5), [2, 2], "until it has settled");
        write(&mut pod, 3);
        assert_eq!(pod.at(6), [2, 2]);
        pod.write(CPU, 2);
        assert_eq!(pod.at(7), [3, 3]);
        write(&mut pod, 4);
        assert_eq!(pod.at(11), [4, 4], "until it has settled");
        assert_eq!(pod.at(12), [4, 4]);
        write(&mut pod, 5);
        assert_eq!(pod.at(13), [4, 4]);
        assert_eq!(pod.at(72), [5, 5], "a minute has passed");
    }
}

#[test]
fn memory_that_others_take_from_a_cgroup_shows_at_once() {
    for version in [Version::V1, Version::V2] {
        let mut pod = StillPod::new("reclaimed", version);
        let _ = (pod.at(0), pod.at(5));
        pod.write(MEMORY, 2);
        pod.write(THREADS, 2);
        assert_eq!(pod.at(6), [1, 1]);
        pod.write(USAGE, 2);
        assert_eq!(pod.at(7), [2, 1]);
    }
}

#[test]
fn pages_that_are_yet_to_be_written_back_are_looked_at_each_time() {
    for (version, key) in [(Version::V1, "total_dirty"), (Version::V2, "file_writeback")] {
        let mut pod = StillPod::new("dirty", version);
        let write = |pod: &StillPod, n| fs::write(pod.path(MEMORY), format!("{key} {n}\n")).unwrap();
        let is = |pod: &mut StillPod, second| {
            let mut buffer = Vec::new();
            pod.tree.begin(pod.began + Duration::from_secs(second));
            pod.tree.read(pod.slot, CgroupFile::MemoryStat, &mut buffer).unwrap();
            String::from_utf8(buffer).unwrap()
        };
        write(&pod, 8192);
        let _ = (is(&mut pod, 0), is(&mut pod, 6));
        write(&pod, 4096);
        assert_eq!(is(&mut pod, 7), format!("{key} 4096\n"));
        write(&pod, 0);
        assert_eq!(is(&mut pod, 8), format!("{key} 0\n"));
        write(&pod, 4096);
        assert_eq!(is(&mut pod, 9), format!("{key} 0\n"), "nothing tells of it");
    }
}

#[test]
fn what_tells_of_a_container_is_not_read_while_its_pod_stands_still_and_a_minute_has_not_passed() {
    for version in [Version::V1, Version::V2] {
        let mut of = StillPod::with("nested", version, &format!("poda/{}", container(1)));
        [CPU, USAGE].into_iter().for_each(|what| of.write_pod(what, 1));
        let _ = (of.at(0), of.at(6), of.at(12));
        // Which no kernel does: the pod's would move as well.
        [CPU, USAGE, MEMORY, THREADS].into_iter().for_each(|what| of.write(what, 2));
        assert_eq!(of.at(13), [1, 1]);
        of.write_pod(USAGE, 2);
        assert_eq!(of.at(14), [2, 1], "its memory has moved");
        of.write_pod(CPU, 2);
        assert_eq!(of.at(15), [2, 2], "it has used CPU time");
        let _ = (of.at(21), of.at(27));
        [CPU, USAGE, MEMORY, THREADS].into_iter().for_each(|what| of.write(what, 3));
        assert_eq!(of.at(28), [2, 2]);
        assert_eq!(of.at(88), [3, 3], "a minute has passed");
    }
}

#[test]
fn where_memory_of_a_container_is_not_its_pods_its_own_is_looked_at() {
    let mut of = StillPod::with("flat", Version::V1, &format!("poda/{}", container(1)));
    fs::remove_file(of.node.0.join("fs/cgroup/memory/memory.use_hierarchy")).unwrap();
    of.tree = of.node.tree();
    [CPU, USAGE].into_iter().for_each(|what| of.write_pod(what, 1));
    let _ = (of.at(0), of.at(6), of.at(12));
    [USAGE, MEMORY].into_iter().for_each(|what| of.write(what, 2));
    assert_eq!(of.at(13), [2, 1]);
}

#[test]
fn a_cgroup_of_which_cpu_time_is_not_known_is_always_read() {
    for version in [Version::V1, Version::V2] {
        let mut pod = StillPod::new("unknown", version);
        fs::remove_file(pod.path(CPU)).unwrap();
        for n in 1..5 {
            pod.write(MEMORY, n);
            assert_eq!(pod.at(n * 10)[0], n);
        }
    }
}
