//! What the kubelet last said of storage, and the cgroups that it is about.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::pods::{Owner, PodIndex};
use crate::source::cgroup::{CgroupKind, CgroupTree};
use crate::source::kubelet::{ContainerStorage, Pod, PodStorage, StatsSummary, VolumeStats};

/// How long an answer is shown while no other comes.
pub const GONE_AFTER: Duration = Duration::from_secs(5 * 60);

/// Whether anybody scrapes what the kubelet is asked for, since it is expensive for the kubelet.
#[derive(Debug, Default)]
pub struct Demand {
    last: Mutex<Option<Instant>>,
    raised: Notify,
}

impl Demand {
    /// How long a scrape counts.
    const LASTS: Duration = Duration::from_secs(120);

    /// Somebody scrapes it.
    pub fn raise(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.raised.notify_one();
    }

    /// Whether somebody has scraped it lately.
    pub fn is_raised(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() < Self::LASTS)
    }

    /// Waits until somebody scrapes it.
    pub async fn wait(&self) {
        while !self.is_raised() {
            self.raised.notified().await;
        }
    }
}

/// The last answer, by the rows of the tree.
#[derive(Debug, Default)]
pub struct Storage {
    summary: StatsSummary,
    came: Option<Instant>,
    number: u64,
    rows: Vec<StorageRow>,
    made_of: Option<(u64, u64, u64)>,
    demand: Arc<Demand>,
}

/// One cgroup of which something is known.
#[derive(Debug)]
struct StorageRow {
    slot: usize,
    limit: Option<u64>,
    found: Found,
}

/// What the answer has of it, by places in the answer.
#[derive(Debug)]
enum Found {
    Nothing,
    Pod { pod: usize, volumes: Vec<usize> },
    Container { pod: usize, container: usize },
}

/// What is known of the storage of one cgroup.
pub enum Reading<'a> {
    /// Nothing beyond the limit.
    Nothing,
    /// A pod, and of its volumes those that hold data of its own: emptyDirs and claims.
    Pod(&'a PodStorage, &'a [usize]),
    /// A container.
    Container(&'a ContainerStorage),
}

impl Storage {
    /// Takes up an answer.
    pub fn set(&mut self, summary: StatsSummary, now: Instant) {
        self.summary = summary;
        self.came = Some(now);
        self.number += 1;
    }

    /// To be raised when somebody scrapes it.
    pub fn demand(&self) -> &Arc<Demand> {
        &self.demand
    }

    /// Finds the cgroups again if anything changed, and forgets an answer that is too old.
    pub fn update(&mut self, tree: &CgroupTree, pods: &PodIndex, now: Instant) {
        if self.came.is_some_and(|came| now.duration_since(came) >= GONE_AFTER) {
            self.summary = StatsSummary::default();
            self.came = None;
            self.number += 1;
        }
        let of = (tree.generation(), pods.generation(), self.number);
        if self.made_of == Some(of) {
            return;
        }
        self.made_of = Some(of);
        self.rows.clear();
        // Of two containers of one name the kubelet speaks of the newer one, whose directory has the higher number.
        let mut newest = HashMap::<(&str, &str), (u64, StorageRow)>::new();
        for (slot, cgroup) in tree.iter() {
            let Owner::Pod(owned) = pods.owner(tree, slot, "") else { continue };
            let Some(pod) = owned.told else { continue };
            match &cgroup.kind {
                CgroupKind::Pod { .. } => {
                    self.rows.push(StorageRow { slot, limit: pod.storage_limit, found: self.found(pod) });
                }
                CgroupKind::Container { .. } if !owned.container.is_empty() => {
                    let limit = pod.storage_limits.get(owned.container).copied();
                    let row = StorageRow { slot, limit, found: self.found_container(pod, owned.container) };
                    let key = (pod.uid.as_str(), owned.container);
                    if newest.get(&key).is_none_or(|(inode, _)| *inode < cgroup.inode) {
                        newest.insert(key, (cgroup.inode, row));
                    }
                }
                _ => {}
            }
        }
        self.rows.extend(newest.into_values().map(|(_, row)| row));
        self.rows.sort_unstable_by_key(|row| row.slot);
    }

    /// The slots of cgroups of which something is known, with their limits.
    pub fn rows(&self) -> impl Iterator<Item = (usize, Option<u64>, Reading<'_>)> {
        self.rows.iter().map(|row| {
            let reading = match &row.found {
                Found::Nothing => Reading::Nothing,
                Found::Pod { pod, volumes } => Reading::Pod(self.summary.pod(*pod), volumes),
                Found::Container { pod, container } => {
                    Reading::Container(&self.summary.pod(*pod).containers[*container])
                }
            };
            (row.slot, row.limit, reading)
        })
    }

    /// The claims.
    pub fn claims(&self) -> &[VolumeStats] {
        self.summary.claims()
    }

    fn found(&self, pod: &Pod) -> Found {
        let Some(index) = self.summary.find(&pod.uid) else { return Found::Nothing };
        let is_own = |v: &VolumeStats| v.has_claim || pod.empty_dirs.contains(&v.name);
        let volumes = self.summary.pod(index).volumes.iter().enumerate();
        let volumes = volumes.filter(|(_, volume)| is_own(volume)).map(|(i, _)| i).collect();
        Found::Pod { pod: index, volumes }
    }

    fn found_container(&self, pod: &Pod, name: &str) -> Found {
        let found = self.summary.find(&pod.uid).and_then(|index| {
            let containers = &self.summary.pod(index).containers;
            let container = containers.iter().position(|c| c.name == name)?;
            Some(Found::Container { pod: index, container })
        });
        found.unwrap_or(Found::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Paths;
    use crate::source::file::HandleBudget;

    #[test]
    fn an_answer_is_shown_for_five_minutes_and_the_next_one_in_its_place() {
        let json = br#"{"pods":[{"podRef":{"uid":"u"},"volume":[{"name":"data","usedBytes":1,
            "pvcRef":{"namespace":"shop","name":"db"}}]}]}"#;
        let tree = CgroupTree::new(&Paths::default(), HandleBudget::new(1));
        let mut storage = Storage::default();
        let claims_after = |storage: &mut Storage, from: Instant, seconds| {
            storage.update(&tree, &PodIndex::default(), from + Duration::from_secs(seconds));
            storage.claims().len()
        };
        let now = Instant::now();
        assert_eq!(claims_after(&mut storage, now, 0), 0);
        storage.set(StatsSummary::parse(json).unwrap(), now);
        assert_eq!([0, 299, 300, 301].map(|after| claims_after(&mut storage, now, after)), [1, 1, 0, 0]);
        let later = now + Duration::from_secs(600);
        storage.set(StatsSummary::parse(json).unwrap(), later);
        assert_eq!(claims_after(&mut storage, later, 0), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_asks_before_somebody_scrapes() {
        let demand = Demand::default();
        let waited = tokio::time::timeout(Duration::from_secs(3600), demand.wait()).await;
        assert!(waited.is_err() && !demand.is_raised());
        demand.raise();
        demand.wait().await;
        assert!(demand.is_raised());
    }
}
