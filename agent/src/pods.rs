//! Who a cgroup belongs to: namespace, pod and container, from what kubelet and log links say.

use std::collections::{BTreeMap, HashMap};

use crate::source::cgroup::{Cgroup, CgroupKind, CgroupTree};
use crate::source::kubelet::Pod;
use crate::source::links::LinkedContainer;

/// The pods of the node, found by UID and by container id.
#[derive(Debug, Default)]
pub struct PodIndex {
    pods: Vec<Pod>,
    by_uid: HashMap<String, usize>,
    by_container: HashMap<String, (usize, usize)>,
    links: HashMap<String, LinkedContainer>,
    generation: u64,
}

/// Who a cgroup belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// Nobody: the root or a slice.
    Nobody,
    /// A pod as a whole, or its sandbox, or one of its containers.
    Pod(Owned<'a>),
    /// A pod or container that nobody has told of yet.
    Unknown,
}

/// What a row is labelled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owned<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// The container's name; empty for the pod as a whole and for its sandbox.
    pub container: &'a str,
    /// The container's image; empty where nobody tells.
    pub image: &'a str,
    /// The runtime's id; empty for the pod as a whole.
    pub id: &'a str,
    /// Whether it is the sandbox, which has the pod's network.
    pub is_sandbox: bool,
    /// Whether the pod is in the machine's network namespace.
    pub host_network: bool,
    /// The pod's labels, where the kubelet has told of it.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

impl PodIndex {
    /// Takes up the kubelet's list; an equal one changes nothing.
    pub fn set_pods(&mut self, pods: Vec<Pod>) {
        if pods == self.pods {
            return;
        }
        self.by_uid.clear();
        self.by_container.clear();
        for (i, pod) in pods.iter().enumerate() {
            self.by_uid.insert(pod.uid.clone(), i);
            // The cgroup of a static pod is named for the hash of its file (pkg/kubelet/config/common.go).
            if let Some(hash) = &pod.config_hash {
                self.by_uid.insert(hash.clone(), i);
            }
            for (j, container) in pod.containers.iter().enumerate() {
                self.by_container.insert(container.id.clone(), (i, j));
            }
        }
        self.pods = pods;
        self.generation += 1;
    }

    /// Takes up what the log links say.
    pub fn set_links(&mut self, links: Vec<LinkedContainer>) {
        let links: HashMap<_, _> = links.into_iter().map(|l| (l.id.clone(), l)).collect();
        if links != self.links {
            self.links = links;
            self.generation += 1;
        }
    }

    /// Changes whenever an answer may have changed.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many pods the kubelet has told of.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether the kubelet has told of none.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Who the cgroup in a slot belongs to; `sandbox_image` is what only the runtime's configuration tells.
    pub fn owner<'a>(&'a self, tree: &'a CgroupTree, slot: usize, sandbox_image: &'a str) -> Owner<'a> {
        let Some(cgroup) = &tree.slots()[slot] else { return Owner::Unknown };
        match &cgroup.kind {
            CgroupKind::Root | CgroupKind::Slice => Owner::Nobody,
            CgroupKind::Pod { uid } => self.pod(tree, slot, uid).map_or(Owner::Unknown, Owner::Pod),
            CgroupKind::Container { pod, id } => self.container(tree, *pod, cgroup, id, sandbox_image),
        }
    }

    /// A pod by its UID, or by the log link of one of its containers.
    fn pod<'a>(&'a self, tree: &'a CgroupTree, slot: usize, uid: &str) -> Option<Owned<'a>> {
        if let Some(pod) = self.by_uid.get(uid).map(|i| &self.pods[*i]) {
            return Some(Owned {
                namespace: &pod.namespace,
                pod: &pod.name,
                host_network: pod.host_network,
                labels: Some(&pod.labels),
                ..Owned::default()
            });
        }
        let link = containers_of(tree, slot).find_map(|(_, id)| self.links.get(id))?;
        Some(Owned { namespace: &link.namespace, pod: &link.pod, ..Owned::default() })
    }

    fn container<'a>(
        &'a self,
        tree: &'a CgroupTree,
        pod_slot: usize,
        cgroup: &Cgroup,
        id: &'a str,
        sandbox_image: &'a str,
    ) -> Owner<'a> {
        let Some(CgroupKind::Pod { uid }) = tree.slots()[pod_slot].as_ref().map(|p| &p.kind) else {
            return Owner::Unknown;
        };
        let Some(pod) = self.pod(tree, pod_slot, uid) else { return Owner::Unknown };
        let known = |id: &str| self.by_container.contains_key(id) || self.links.contains_key(id);
        if let Some((i, j)) = self.by_container.get(id) {
            let container = &self.pods[*i].containers[*j];
            Owner::Pod(Owned { container: &container.name, image: &container.image, id, ..pod })
        } else if let Some(link) = self.links.get(id) {
            Owner::Pod(Owned { container: &link.container, id, ..pod })
        } else {
            // Nobody tells of sandboxes. Of the containers that nobody tells of, the sandbox is the one that was made
            // first; inode numbers of kernfs grow.
            let first =
                containers_of(tree, pod_slot).filter(|(_, id)| !known(id)).map(|(c, _)| c.inode).min();
            if first == Some(cgroup.inode) {
                Owner::Pod(Owned { image: sandbox_image, id, is_sandbox: true, ..pod })
            } else {
                Owner::Unknown
            }
        }
    }
}

fn containers_of(tree: &CgroupTree, pod_slot: usize) -> impl Iterator<Item = (&Cgroup, &str)> {
    tree.children(pod_slot).filter_map(|cgroup| match &cgroup.kind {
        CgroupKind::Container { id, .. } => Some((cgroup, id.as_str())),
        _ => None,
    })
}
