//! OOM kills by pod and container, counted on after the container that was hit is gone.
//!
//! The cgroup of a container counts kills as long as it is there, also those of processes whose end the container
//! outlives. With the first process the cgroup goes, and only the kubelet still tells. Both speak of one container by
//! its id, so that no kill counts twice.
//!
//! A counter whose first sample is 1 has no increase, and a container may be killed before anybody scrapes it for the
//! first time. So the row of a pod that began under the agent's eyes is given from 0, as it did begin, long enough for
//! every scraper to see it. A pod that was there before the agent was may have been given before: its row goes on.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::metric::{Labels, Subject, Writer};
use crate::plan::Plan;
use crate::pods::{Owned, PodIndex};
use crate::source::cgroup::{CgroupFile, CgroupKind, CgroupTree, Version};
use crate::source::kubelet::Pod;
use crate::source::text::pairs;
use crate::transform::labels;

/// The kills of every pod that the kubelet tells of; with the pod they are forgotten.
#[derive(Debug)]
pub struct OomKills {
    /// When the agent began.
    began: Timestamp,
    pods: Vec<PodKills>,
    /// The cgroups to read.
    cgroups: Vec<Counting>,
    made_of: Option<(u64, u64, u64)>,
}

/// Where a cgroup's count belongs, by places in [`OomKills::pods`].
#[derive(Debug)]
struct Counting {
    slot: usize,
    pod: usize,
    /// Nothing for the pod's own cgroup.
    container: Option<(usize, String)>,
}

#[derive(Debug, Default)]
struct PodKills {
    uid: String,
    /// The pod's cgroup, as it was last seen.
    path: String,
    /// What the pod's cgroup counts: on v2 all that was killed in any of its containers.
    counted: Option<u64>,
    containers: Vec<ContainerKills>,
    /// There is no other container that could have been hit.
    has_one_container: bool,
    /// Began after the agent did.
    is_new: bool,
    /// Of the pod as a whole.
    row: Row,
}

/// One row that is given.
#[derive(Debug, Default)]
struct Row {
    /// Nothing where no policy shows it.
    labels: Option<Box<[u8]>>,
    /// When it was first given.
    since: Option<Instant>,
}

/// The kills of all containers that a pod had under one name.
#[derive(Debug, Default)]
struct ContainerKills {
    name: String,
    ids: VecDeque<IdKills>,
    /// Of ids that are remembered no more.
    before: u64,
    /// What its pod counts, where it is the only one: also the time before the agent, and what nobody told of.
    at_least: u64,
    row: Row,
}

#[derive(Debug, Default)]
struct IdKills {
    id: String,
    counted: u64,
    is_told: bool,
}

/// The kubelet tells of two ids of a name; one that has restarted may tell of one again that it had forgotten.
const REMEMBERED: usize = 8;
/// Who scrapes at all does so once a minute.
const FROM_ZERO: Duration = Duration::from_secs(60);

impl Row {
    /// How many of so many kills are given at this time.
    fn given(&mut self, kills: u64, is_new: bool, now: Instant) -> u64 {
        let since = *self.since.get_or_insert(now);
        if is_new && now.duration_since(since) < FROM_ZERO { 0 } else { kills }
    }
}

impl ContainerKills {
    fn kills(&self) -> u64 {
        self.known().max(self.at_least)
    }

    /// Those of which it is known in which of its containers.
    fn known(&self) -> u64 {
        self.before + self.ids.iter().map(IdKills::kills).sum::<u64>()
    }

    fn id(&mut self, id: &str) -> &mut IdKills {
        let at = self.ids.iter().position(|known| known.id == id).unwrap_or_else(|| {
            if self.ids.len() == REMEMBERED {
                self.before += self.ids.pop_front().map_or(0, |oldest| oldest.kills());
            }
            self.ids.push_back(IdKills { id: id.to_owned(), ..IdKills::default() });
            self.ids.len() - 1
        });
        &mut self.ids[at]
    }
}

impl IdKills {
    /// The kubelet's word is one of the kills that the cgroup counted, if it was read after.
    fn kills(&self) -> u64 {
        self.counted.max(u64::from(self.is_told))
    }
}

impl PodKills {
    /// Takes up what the kubelet tells.
    fn told(&mut self, pod: &Pod, began: Timestamp) {
        self.uid.clone_from(&pod.uid);
        self.has_one_container = pod.has_one_container;
        // Whole seconds are told: one in which both began is before.
        self.is_new = pod.started.is_some_and(|started| started > began);
        // Of a name the container that runs now comes first.
        for told in pod.containers.iter().rev() {
            let known = self.containers.iter().position(|c| c.name == told.name);
            let at = known.unwrap_or_else(|| {
                self.containers.push(ContainerKills { name: told.name.clone(), ..Default::default() });
                self.containers.len() - 1
            });
            self.containers[at].id(&told.id).is_told |= told.was_oom_killed;
        }
    }

    /// Takes up what a cgroup counts.
    fn counted(&mut self, container: Option<(usize, &str)>, kills: u64) {
        match container {
            None => self.counted = self.counted.max(Some(kills)),
            Some((container, id)) => {
                let counted = &mut self.containers[container].id(id).counted;
                *counted = (*counted).max(kills);
            }
        }
    }

    /// What the pod's cgroup counts can only be its one container's. It is the same kills that are known otherwise, so
    /// that the two are not added, until another container comes.
    fn share(&mut self) {
        match (&mut self.containers[..], self.counted) {
            ([only], Some(counted)) if self.has_one_container => {
                only.at_least = only.at_least.max(counted);
            }
            (containers, _) if !self.has_one_container => {
                for container in containers {
                    container.before += container.at_least.saturating_sub(container.known());
                    container.at_least = 0;
                }
            }
            _ => {}
        }
    }

    fn kills(&self) -> u64 {
        let containers = self.containers.iter().map(ContainerKills::kills).sum();
        self.counted.unwrap_or(0).max(containers)
    }
}

impl OomKills {
    /// Of an agent that begins now.
    pub fn new(began: Timestamp) -> Self {
        OomKills { began, pods: Vec::new(), cgroups: Vec::new(), made_of: None }
    }

    /// Takes up what the kubelet tells, and finds cgroups and labels again if anything changed.
    pub fn update(
        &mut self,
        tree: &CgroupTree,
        pods: &PodIndex,
        plan: &mut Plan,
        plan_number: u64,
        family: usize,
    ) {
        let of = (tree.generation(), pods.generation(), plan_number);
        if self.made_of == Some(of) {
            return;
        }
        self.made_of = Some(of);
        self.take_up(pods.pods());
        self.find_cgroups(tree);
        for (kills, pod) in self.pods.iter_mut().zip(pods.pods()) {
            let view = plan.view_of_pod(&pod.namespace, &pod.labels);
            let (view, facts) = (plan.view(view), plan.facts());
            let path = &kills.path;
            let row = |container: &str, image: &str| {
                let owned = Owned { container, image, ..Owned::of(pod) };
                view.exposes[family].then(|| labels(path, &owned, &view.labels, facts))
            };
            kills.row.labels = row("", "");
            for container in &mut kills.containers {
                let image = pod.containers.iter().find(|c| c.name == container.name);
                container.row.labels = row(&container.name, image.map_or("", |c| &c.image));
            }
        }
    }

    fn take_up(&mut self, pods: &[Pod]) {
        let mut before: HashMap<String, PodKills> =
            self.pods.drain(..).map(|kills| (kills.uid.clone(), kills)).collect();
        for pod in pods {
            let mut kills = before.remove(&pod.uid).unwrap_or_default();
            kills.told(pod, self.began);
            self.pods.push(kills);
        }
    }

    fn find_cgroups(&mut self, tree: &CgroupTree) {
        self.cgroups.clear();
        let by_uid: HashMap<String, usize> =
            self.pods.iter().enumerate().map(|(i, pod)| (pod.uid.clone(), i)).collect();
        for (slot, cgroup) in tree.iter() {
            match &cgroup.kind {
                CgroupKind::Pod { uid } => {
                    if let Some(pod) = by_uid.get(uid).copied() {
                        self.pods[pod].path.clone_from(&cgroup.path);
                        self.cgroups.push(Counting { slot, pod, container: None });
                    }
                }
                CgroupKind::Container { pod, id } => {
                    let uid = match (cgroup.ended_in(), tree.slots()[*pod].as_ref().map(|pod| &pod.kind)) {
                        (Some(uid), _) => uid,
                        (None, Some(CgroupKind::Pod { uid })) => uid,
                        _ => continue,
                    };
                    let Some(pod) = by_uid.get(uid).copied() else { continue };
                    let has = |c: &ContainerKills| c.ids.iter().any(|known| known.id == *id);
                    if let Some(container) = self.pods[pod].containers.iter().position(has) {
                        self.cgroups.push(Counting { slot, pod, container: Some((container, id.clone())) });
                    }
                }
                CgroupKind::Root | CgroupKind::Slice => {}
            }
        }
    }

    /// Reads what cgroups count.
    ///
    /// On v1 a kill is counted in the cgroup of the process alone (`memcg_memory_event` in
    /// include/linux/memcontrol.h), so that the pod's own says nothing; on v2 also in those above
    /// (Documentation/admin-guide/cgroup-v2.rst, `memory.events`).
    pub fn read(&mut self, tree: &mut CgroupTree, buffer: &mut Vec<u8>) {
        let file = match tree.version() {
            Version::V1 => CgroupFile::MemoryOomControl,
            Version::V2 => CgroupFile::MemoryEvents,
        };
        for Counting { slot, pod, container } in &self.cgroups {
            if tree.version() == Version::V1 && container.is_none() {
                continue;
            }
            // What cannot be read is gone, or the collector of memory says so.
            if tree.read(*slot, file, buffer).is_ok()
                && let Some(kills) = kills(buffer)
            {
                let container = container.as_ref().map(|(container, id)| (*container, id.as_str()));
                self.pods[*pod].counted(container, kills);
            }
        }
        self.pods.iter_mut().for_each(PodKills::share);
    }

    /// Writes one row for each container, under the cgroup of the pod: it goes on when the container restarts, whose own
    /// rows then begin anew.
    pub fn write(&mut self, family: impl Into<u16> + Copy, now: Instant, out: &mut Writer<'_>) {
        for pod in &mut self.pods {
            let (kills, is_new) = (pod.kills(), pod.is_new);
            let containers = pod.containers.iter_mut().map(|it| (it.kills(), &mut it.row));
            for (kills, row) in [(kills, &mut pod.row)].into_iter().chain(containers) {
                let Some(labels) = &row.labels else { continue };
                let labels: Labels = out.escaped(labels);
                out.push(family, Subject::NODE, labels, row.given(kills, is_new, now) as f64);
            }
        }
    }
}

/// How often something was killed. Where all processes of a cgroup end together (`memory.oom.group`, which kubelets set on
/// v2), that is once, though the kernel counts each of them, and the one that it chose twice.
fn kills(text: &[u8]) -> Option<u64> {
    let of = |name: &[u8]| pairs(text).find(|(key, _)| *key == name).map(|(_, times)| times);
    of(b"oom_group_kill").filter(|times| *times > 0).or_else(|| of(b"oom_kill"))
}

#[cfg(test)]
mod tests;
