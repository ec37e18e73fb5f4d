//! Whose a cgroup is: what kubelet and links say, what they no longer say, and what nobody ever says.

use std::path::PathBuf;

use super::*;
use crate::source::Paths;
use crate::source::file::HandleBudget;
use crate::source::kubelet::PodContainer;

/// A node's tree of ordinary folders; gone when dropped.
struct Node {
    root: PathBuf,
    tree: CgroupTree,
}

impl Node {
    /// With a cgroup for each of these paths below `kubepods`, in the order in which they were made.
    fn new(name: &str, cgroups: &[&str]) -> Self {
        let root = std::env::temp_dir().join(format!("pods-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("fs/cgroup/kubepods")).unwrap();
        std::fs::write(root.join("fs/cgroup/cgroup.controllers"), "").unwrap();
        let paths = Paths { sysfs: root.clone(), ..Paths::default() };
        let mut node = Node { root, tree: CgroupTree::new(&paths, HandleBudget::new(10)) };
        node.add(cgroups);
        node
    }

    fn add(&mut self, cgroups: &[&str]) {
        for cgroup in cgroups {
            std::fs::create_dir_all(self.root.join("fs/cgroup/kubepods").join(cgroup)).unwrap();
        }
        self.tree.refresh().unwrap();
    }

    fn remove(&mut self, cgroup: &str) {
        std::fs::remove_dir_all(self.root.join("fs/cgroup/kubepods").join(cgroup)).unwrap();
        self.tree.refresh().unwrap();
    }

    fn owner<'a>(&'a self, index: &'a PodIndex, cgroup: &str) -> Owner<'a> {
        let path = format!("/kubepods/{cgroup}");
        let slot = self.tree.iter().find(|(_, c)| c.path == path).unwrap().0;
        index.owner(&self.tree, slot, "pause:1")
    }

    /// Of these containers, the one that was made first by the file system's own numbers.
    fn first<'a>(&self, ids: &[&'a str]) -> &'a str {
        let inode = |id: &&&str| self.tree.iter().find(|(_, c)| c.path.ends_with(**id)).unwrap().1.inode;
        ids.iter().min_by_key(inode).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn id(n: u8) -> String {
    format!("{n:064x}")
}

fn pod(uid: &str, containers: &[(&str, &str)]) -> Pod {
    let container = |(id, name): &(&str, &str)| PodContainer {
        id: (*id).to_owned(),
        name: (*name).to_owned(),
        image: "app:1".to_owned(),
        ..PodContainer::default()
    };
    Pod {
        uid: uid.to_owned(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        containers: containers.iter().map(container).collect(),
        ..Pod::default()
    }
}

fn owned(owner: Owner<'_>) -> (&str, &str, bool) {
    match owner {
        Owner::Pod(owned) => (owned.pod, owned.container, owned.is_sandbox),
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_the_containers_that_nobody_tells_of_the_first_is_the_sandbox_once_another_is_known() {
    let ids = [id(1), id(2), id(3)];
    let [a, b, main] = ids.each_ref().map(|id| format!("podu/{id}"));
    let node = Node::new("sandbox", &[&a, &b, &main]);
    let mut index = PodIndex::default();
    assert!(matches!(node.owner(&index, "podu"), Owner::Unknown(_)));
    index.set_pods(vec![pod("u", &[])], &node.tree);
    assert_eq!(owned(node.owner(&index, "podu")), ("web", "", false));
    assert!(matches!(node.owner(&index, &a), Owner::Unknown(_)), "it may as well be a container");
    index.set_pods(vec![pod("u", &[(&ids[2], "main")])], &node.tree);
    assert_eq!(owned(node.owner(&index, &main)), ("web", "main", false));
    let first = node.first(&[&ids[0], &ids[1]]);
    for (cgroup, id) in [(&a, &ids[0]), (&b, &ids[1])] {
        match node.owner(&index, cgroup) {
            Owner::Pod(owned) => assert!(owned.is_sandbox && id == first && owned.image == "pause:1"),
            owner => assert!(matches!(owner, Owner::Unknown(_)) && id != first, "{owner:?}"),
        }
    }
}

#[test]
fn the_sandbox_of_a_pod_whose_containers_have_all_ended_is_known() {
    let id = id(1);
    let sandbox = format!("podu/{id}");
    let node = Node::new("ended", &[&sandbox]);
    let mut index = PodIndex::default();
    index.set_pods(vec![pod("u", &[("ended", "main")])], &node.tree);
    assert_eq!(owned(node.owner(&index, &sandbox)), ("web", "", true));
}

#[test]
fn what_a_kubelet_no_longer_tells_of_stays_known_while_its_cgroup_lives() {
    let ids = [id(1), id(2)];
    let [main, other] = ids.each_ref().map(|id| format!("podu/{id}"));
    let mut node = Node::new("stays", &[&main, &other]);
    let mut index = PodIndex::default();
    index.set_pods(vec![pod("u", &[(&ids[0], "main"), (&ids[1], "other")])], &node.tree);
    index.set_pods(vec![pod("u", &[(&ids[1], "other")])], &node.tree);
    assert_eq!(owned(node.owner(&index, &main)), ("web", "main", false));
    index.set_pods(Vec::new(), &node.tree);
    assert_eq!(owned(node.owner(&index, &main)), ("web", "main", false));
    node.remove("podu");
    index.set_pods(Vec::new(), &node.tree);
    node.add(&["podu"]);
    assert!(matches!(node.owner(&index, "podu"), Owner::Unknown(_)));
}

#[test]
fn the_same_pods_in_another_order_are_nothing_new() {
    let node = Node::new("order", &["poda", "podb"]);
    let mut index = PodIndex::default();
    let pods = ["a", "b", "c"].map(|uid| pod(uid, &[(&id(1), "app")]));
    let mut index_after = |order: [usize; 3]| {
        index.set_pods(order.map(|i| pods[i].clone()).to_vec(), &node.tree);
        index.generation()
    };
    let first = index_after([0, 1, 2]);
    assert_eq!(index_after([2, 0, 1]), first);
}

#[test]
fn log_links_name_what_the_kubelet_does_not() {
    let ids = [id(1), id(2)];
    let [main, sandbox] = ids.each_ref().map(|id| format!("podu/{id}"));
    let node = Node::new("links", &[&main, &sandbox]);
    let mut index = PodIndex::default();
    index.set_links(vec![LinkedContainer {
        id: ids[0].clone(),
        pod: "web".to_owned(),
        namespace: "shop".to_owned(),
        container: "main".to_owned(),
    }]);
    assert_eq!(owned(node.owner(&index, "podu")), ("web", "", false));
    assert_eq!(owned(node.owner(&index, &main)), ("web", "main", false));
    let Owner::Pod(sandbox) = node.owner(&index, &sandbox) else { panic!("not known") };
    assert!(sandbox.is_sandbox);
    assert_eq!(sandbox.told, None, "a link does not tell whose network it is");
}

#[test]
fn with_cri_o_who_is_not_told_of_is_a_container_where_another_was_there_before_and_else_may_be_a_sandbox() {
    let ids = [id(1), id(2)];
    let paths = ids.each_ref().map(|id| format!("podu/crio-{id}"));
    let node = Node::new("crio", &paths.each_ref().map(String::as_str));
    let first = node.first(&ids.each_ref().map(String::as_str)) == ids[1];
    let [first, second] = if first { [1, 0] } else { [0, 1] };
    for (told, other, may_be_sandbox) in [(first, second, false), (second, first, true)] {
        let mut index = PodIndex::default();
        index.set_pods(vec![pod("u", &[(&ids[told], "main")])], &node.tree);
        match node.owner(&index, &paths[other]) {
            Owner::Unknown(owned) => assert_eq!((owned.is_sandbox, owned.pod), (may_be_sandbox, "web")),
            other => panic!("{other:?}"),
        }
    }
}
