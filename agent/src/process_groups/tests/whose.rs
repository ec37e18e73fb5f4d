//! Whose processes are by their cgroup's path: in containers of containers, on nodes that are containers, and our own.

use std::os::unix::fs::MetadataExt as _;

use protocol::Facts;

use super::{IS, Is, Machine, PROCS};
use crate::metric::shown::Tree;
use crate::plan::Plan;
use crate::pods::PodIndex;
use crate::process_groups::owners::Owners;
use crate::process_groups::{Limits, Names, ProcessGroups, Redaction, Settings, Wanted, Whose};
use crate::source::cgroup::CgroupTree;
use crate::source::file::HandleBudget;
use crate::source::kubelet::{Pod, PodContainer};

#[test]
fn on_a_node_that_is_a_container_itself_a_process_is_in_that_of_its_pod() {
    let (node, one, inner) = ("d".repeat(64), "1".repeat(64), "f".repeat(64));
    let mut machine = Machine::new(&[]);
    machine.cgroup("a", &one);
    machine.tell(&[("a", "shop-1", &[(&one, "main")])]);
    let below = |path: &str| format!("0::/docker/{node}{path}\n");
    machine.set(2, Is { cgroup: &below(&format!("/kubelet/kubepods/poda/{one}/docker/{inner}")), ..IS });
    let of_pod = r#"container="main",namespace="shop",pod="shop-1",groupname="web""#;
    machine.check(PROCS, &[(of_pod, 1.0)]);
    // On cgroup v1, where each hierarchy has its line.
    let lines = [4, 3].map(|n| format!("{n}:cpu{n}:/docker/{node}/kubepods/poda/{one}\n")).concat();
    machine.set(2, Is { cgroup: &lines, start: 200, ..IS });
    machine.check(PROCS, &[(of_pod, 1.0)]);
}

/// What a kubelet has: a container of a pod.
struct Kubelet {
    files: Tree,
    tree: CgroupTree,
    pods: PodIndex,
    plan: Plan,
}

impl Kubelet {
    fn new(id: &str) -> Self {
        let files = Tree::new(&[
            ("sys/fs/cgroup/cgroup.controllers", "cpu\n"),
            (&format!("sys/fs/cgroup/kubepods/poda/{id}/cgroup.procs"), ""),
            ("proc/stat", "btime 1000\n"),
        ]);
        let mut tree = CgroupTree::new(&files.paths(), HandleBudget::new(100));
        tree.refresh().unwrap();
        let plan = Plan::new(Vec::new(), Facts::default(), &Default::default());
        Kubelet { files, tree, pods: PodIndex::default(), plan }
    }

    fn tell(&mut self, id: &str) {
        let container =
            PodContainer { id: id.to_owned(), name: "main".to_owned(), ..PodContainer::default() };
        let pod = Pod {
            uid: "a".to_owned(),
            namespace: "shop".to_owned(),
            name: "agent-1".to_owned(),
            containers: vec![container],
            ..Pod::default()
        };
        self.pods.set_pods(vec![pod], &self.tree);
    }

    fn whose(&mut self) -> Whose<'_> {
        Whose { tree: &self.tree, pods: &self.pods, plan: &mut self.plan, plan_number: 0 }
    }
}

#[test]
fn what_is_at_the_root_of_our_own_cgroup_namespace_is_in_our_own_container() {
    let id = "1".repeat(64);
    let mut kubelet = Kubelet::new(&id);
    let path = kubelet.files.path().join(format!("sys/fs/cgroup/kubepods/poda/{id}"));
    let own = std::fs::metadata(path).unwrap().ino();
    let labels = |owners: &Owners, place: u32| -> Option<String> {
        let owner = owners.get(owners.of(place)?)?;
        Some(String::from_utf8(owner.labels.to_vec()).unwrap())
    };
    let mut owners = Owners::new(Some(own));
    owners.update(&mut kubelet.whose());
    let [at_root, below, elsewhere] = ["0::/\n", "0::/init.scope\n", "0::/../..\n"]
        .map(|cgroup| owners.place(cgroup.as_bytes(), &mut kubelet.whose()));
    assert_eq!(labels(&owners, at_root), None, "withheld until its pod is told");
    kubelet.tell(&id);
    owners.update(&mut kubelet.whose());
    let nobody = r#"container="",namespace="",pod="""#.to_owned();
    let agent = r#"container="main",namespace="shop",pod="agent-1""#.to_owned();
    for (place, expected) in [(at_root, &agent), (below, &agent), (elsewhere, &nobody)] {
        assert_eq!(labels(&owners, place).as_ref(), Some(expected));
    }
    // On a machine without such a namespace the path is one from its root.
    let mut owners = Owners::new(Some(own + 1_000_000));
    owners.update(&mut kubelet.whose());
    let place = owners.place(b"0::/system.slice/a.service\n", &mut kubelet.whose());
    assert_eq!(labels(&owners, place), Some(nobody), "at once");
}

#[test]
fn while_one_process_after_another_cannot_be_read_the_same_is_told() {
    let mut kubelet = Kubelet::new(&"1".repeat(64));
    let settings = Settings {
        names: Names::parse(Names::DEFAULT).unwrap(),
        children: true,
        recheck: false,
        recheck_limit: None,
        keeps_empty: false,
        redaction: Redaction::default(),
        limits: Limits::default(),
    };
    let mut groups = ProcessGroups::new(&kubelet.files.paths(), settings);
    let mut told = |pid: Option<u32>| {
        let folder = pid.map(|pid| kubelet.files.path().join(format!("proc/{pid}")));
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("stat"), "nonsense").unwrap();
        }
        let updated = groups.update(&mut kubelet.whose(), Wanted::default());
        folder.iter().for_each(|folder| std::fs::remove_dir_all(folder).unwrap());
        updated.map_err(|error| error.to_string()).err()
    };
    let first = told(Some(7)).unwrap();
    assert!(first.contains("proc/7/stat"), "{first}");
    assert_eq!(told(Some(8)), Some(first));
    assert_eq!(told(None), None);
    assert!(told(Some(9)).unwrap().contains("proc/9/stat"));
}
