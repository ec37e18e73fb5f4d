//! Between collecting and exposing: each row of the tree gets its view (select) and its labels (enrich).

mod enrich;

pub(crate) use enrich::{labels, labels_of_group};

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::plan::{NODE_VIEW, Plan};
use crate::pods::{Owned, Owner, PodIndex};
use crate::source::cgroup::{CgroupKind, CgroupTree};

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

/// What is exposed of one cgroup.
#[derive(Debug)]
pub enum Row {
    /// Nothing: the slot is free, or nobody has told of a container that is over.
    Vacant,
    /// Nothing yet: nobody has told whose it is.
    Withheld,
    /// The families of a view, with these labels.
    Shown {
        /// Which families.
        view: usize,
        /// The labels, escaped, without braces.
        labels: Box<[u8]>,
        /// Of these only the counters: the container is over.
        has_ended: bool,
    },
}

/// The rows by slot, made again only when something that they depend on has changed.
#[derive(Debug, Default)]
pub struct Rows {
    rows: Vec<Row>,
    sandboxes: HashMap<usize, String>,
    views: Vec<usize>,
    made_of: Option<(u64, u64, u64)>,
    number: u64,
    withheld: usize,
}

impl Rows {
    /// How long a row is withheld while nobody tells whose it is.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// Makes the rows again, if anything changed.
    pub fn update(
        &mut self,
        tree: &CgroupTree,
        pods: &PodIndex,
        plan: &mut Plan,
        plan_number: u64,
        image: &str,
    ) {
        let of = (tree.generation(), pods.generation(), plan_number);
        if self.made_of == Some(of) && self.withheld == 0 {
            return;
        }
        self.made_of = Some(of);
        self.number += 1;
        self.rows.clear();
        self.sandboxes.clear();
        self.views = vec![NODE_VIEW];
        self.withheld = 0;
        let now = Instant::now();
        for (slot, cgroup) in tree.slots().iter().enumerate() {
            let Some(cgroup) = cgroup else {
                self.rows.push(Row::Vacant);
                continue;
            };
            let has_ended = cgroup.ended_in().is_some();
            let owned = match pods.owner(tree, slot, image) {
                Owner::Unknown(_) if has_ended => {
                    self.rows.push(Row::Vacant);
                    continue;
                }
                Owner::Nobody => Owned::default(),
                Owner::Pod(owned) => owned,
                Owner::Unknown(_) if now.duration_since(cgroup.seen) < Self::PATIENCE => {
                    self.withheld += 1;
                    self.rows.push(Row::Withheld);
                    continue;
                }
                Owner::Unknown(owned) => owned,
            };
            // Of a pod that only a log link names the labels are not known, but its namespace is.
            let view = match (owned.namespace, owned.told) {
                ("", None) => NODE_VIEW,
                (namespace, told) => plan.view_of_pod(namespace, told.map_or(&NO_LABELS, |pod| &pod.labels)),
            };
            if !self.views.contains(&view) {
                self.views.push(view);
            }
            if cgroup.kind == CgroupKind::Root {
                self.sandboxes.insert(slot, "/".to_owned());
            } else if owned.is_sandbox && owned.told.is_some_and(|pod| !pod.host_network) {
                self.sandboxes.insert(slot, owned.id.to_owned());
            }
            let labels = enrich::labels(&cgroup.path, &owned, &plan.view(view).labels, plan.facts());
            self.rows.push(Row::Shown { view, labels, has_ended });
        }
    }

    /// The row of a slot.
    pub fn get(&self, slot: usize) -> &Row {
        self.rows.get(slot).unwrap_or(&Row::Vacant)
    }

    /// Another one whenever the rows were made again.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether any row shows this family: what none shows need not be read.
    pub fn wants(&self, plan: &Plan, family: usize) -> bool {
        self.views.iter().any(|view| plan.view(*view).exposes[family])
    }

    /// The slots of the sandboxes whose network is asked for, with their ids; `/` is the machine.
    pub fn sandboxes(&self) -> &HashMap<usize, String> {
        &self.sandboxes
    }

    /// How many rows are withheld.
    pub fn withheld(&self) -> usize {
        self.withheld
    }
}
