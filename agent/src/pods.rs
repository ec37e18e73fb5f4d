//! Who a cgroup belongs to: namespace, pod and container, from what kubelet and log links say.

mod workload;

use std::collections::HashMap;

use crate::source::cgroup::{Cgroup, CgroupKind, CgroupTree};
use crate::source::kubelet::Pod;
use crate::source::links::LinkedContainer;
pub use workload::{Workload, workload};

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
    /// A pod or container that nobody has told of yet; what is known of it, should nobody ever.
    Unknown(Owned<'a>),
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
    /// The pod, where the kubelet has told of it.
    pub told: Option<&'a Pod>,
}

impl<'a> Owned<'a> {
    /// The pod as a whole.
    pub fn of(pod: &'a Pod) -> Self {
        Owned { namespace: &pod.namespace, pod: &pod.name, told: Some(pod), ..Owned::default() }
    }
}

impl PodIndex {
    /// Takes up the kubelet's list; an equal one changes nothing.
    ///
    /// What it no longer tells of a pod or container whose cgroup lives on stays known: a kubelet that has just
    /// started begins with an empty list, and a pod that is deleted by force leaves it before its processes end.
    pub fn set_pods(&mut self, mut pods: Vec<Pod>, tree: &CgroupTree) {
        for known in &self.pods {
            match pods.iter_mut().find(|p| p.uid == known.uid) {
                Some(pod) => {
                    let forgotten = known.containers.iter().filter(|c| !pod.containers.contains(c));
                    let told_anew = |id: &str| pod.containers.iter().any(|c| c.id == id);
                    let living = forgotten.filter(|c| !told_anew(&c.id) && tree.has_container(&c.id));
                    let living: Vec<_> = living.cloned().collect();
                    pod.containers.extend(living);
                }
                None if tree.has_pod(&known.uid) => pods.push(known.clone()),
                None => {}
            }
        }
        // The kubelet lists them in another order each time: that of a Go map (pkg/kubelet/pod/pod_manager.go).
        pods.sort_unstable_by(|one, other| one.uid.cmp(&other.uid));
        if pods == self.pods {
            return;
        }
        self.by_uid = pods.iter().enumerate().map(|(i, pod)| (pod.uid.clone(), i)).collect();
        let containers = pods.iter().enumerate().flat_map(|(i, pod)| {
            pod.containers.iter().enumerate().map(move |(j, container)| (container.id.clone(), (i, j)))
        });
        self.by_container = containers.collect();
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

    /// The pods, each once.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// Changes whenever an answer may have changed.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Who the cgroup in a slot belongs to; `sandbox_image` is what only the runtime's configuration tells.
    pub fn owner<'a>(&'a self, tree: &'a CgroupTree, slot: usize, sandbox_image: &'a str) -> Owner<'a> {
        let Some(cgroup) = &tree.slots()[slot] else { return Owner::Unknown(Owned::default()) };
        if let (Some(uid), CgroupKind::Container { id, .. }) = (cgroup.ended_in(), &cgroup.kind) {
            return self.ended(uid, id);
        }
        match &cgroup.kind {
            CgroupKind::Root | CgroupKind::Slice => Owner::Nobody,
            CgroupKind::Pod { uid } => match self.pod(tree, slot, uid) {
                Some(pod) => Owner::Pod(pod),
                None => Owner::Unknown(Owned::default()),
            },
            CgroupKind::Container { pod, id } => self.container(tree, *pod, cgroup, id, sandbox_image),
        }
    }

    /// A pod by its UID, or by the log link of one of its containers.
    fn pod<'a>(&'a self, tree: &'a CgroupTree, slot: usize, uid: &str) -> Option<Owned<'a>> {
        if let Some(pod) = self.by_uid.get(uid).map(|i| &self.pods[*i]) {
            return Some(Owned::of(pod));
        }
        let link = containers_of(tree, slot).find_map(|(_, id)| self.links.get(id))?;
        Some(Owned { namespace: &link.namespace, pod: &link.pod, ..Owned::default() })
    }

    /// A container that is over, if the kubelet has told of it: of sandboxes it does not.
    fn ended<'a>(&'a self, uid: &str, id: &'a str) -> Owner<'a> {
        let pod = self.by_uid.get(uid).map(|i| &self.pods[*i]);
        let container = pod.and_then(|pod| Some((pod, pod.containers.iter().find(|c| c.id == id)?)));
        match container {
            Some((pod, container)) => Owner::Pod(Owned {
                container: &container.name,
                image: &container.image,
                id,
                ..Owned::of(pod)
            }),
            None => Owner::Unknown(Owned { id, ..Owned::default() }),
        }
    }

    fn container<'a>(
        &'a self,
        tree: &'a CgroupTree,
        pod_slot: usize,
        cgroup: &Cgroup,
        id: &'a str,
        sandbox_image: &'a str,
    ) -> Owner<'a> {
        let nobody = Owned { id, ..Owned::default() };
        let Some(CgroupKind::Pod { uid }) = tree.slots()[pod_slot].as_ref().map(|p| &p.kind) else {
            return Owner::Unknown(nobody);
        };
        let Some(pod) = self.pod(tree, pod_slot, uid) else { return Owner::Unknown(nobody) };
        if let Some((i, j)) = self.by_container.get(id) {
            let container = &self.pods[*i].containers[*j];
            return Owner::Pod(Owned { container: &container.name, image: &container.image, id, ..pod });
        }
        if let Some(link) = self.links.get(id) {
            return Owner::Pod(Owned { container: &link.container, id, ..pod });
        }
        // Nobody tells of sandboxes. Of the containers that nobody tells of, the sandbox is the one that was made first
        // (inode numbers of kernfs grow). While no container of the pod is known, not even one that has ended, it may as
        // well be a container; with CRI-O always, where a pod need not have a sandbox.
        let told = |id: &str| self.by_container.contains_key(id) || self.links.contains_key(id);
        let (known, unknown): (Vec<_>, Vec<_>) = containers_of(tree, pod_slot).partition(|(_, id)| told(id));
        let has_ended = self.by_uid.get(uid).is_some_and(|i| !self.pods[*i].containers.is_empty());
        let is_first = unknown.iter().all(|(other, _)| other.inode >= cgroup.inode);
        let is_first = is_first
            && !(cgroup.may_lack_sandbox() && known.iter().any(|(other, _)| other.inode < cgroup.inode));
        match (is_first, cgroup.may_lack_sandbox() || (known.is_empty() && !has_ended)) {
            (true, false) => Owner::Pod(Owned { image: sandbox_image, id, is_sandbox: true, ..pod }),
            (true, true) => Owner::Unknown(Owned { image: sandbox_image, id, is_sandbox: true, ..pod }),
            (false, _) => Owner::Unknown(Owned { id, ..pod }),
        }
    }
}

fn containers_of(tree: &CgroupTree, pod_slot: usize) -> impl Iterator<Item = (&Cgroup, &str)> {
    tree.children(pod_slot).filter_map(|cgroup| match &cgroup.kind {
        CgroupKind::Container { id, .. } => Some((cgroup, id.as_str())),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
