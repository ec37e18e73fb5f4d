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
    networks: HashMap<usize, String>,
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
        let before = std::mem::take(&mut self.networks);
        self.views = vec![NODE_VIEW];
        self.withheld = 0;
        let now = Instant::now();
        // Of a pod of CRI-O one of its containers, the same as long as it is there; nothing where it has a sandbox, or may
        // have one.
        let mut without_sandbox: HashMap<usize, Option<String>> = HashMap::new();
        for (slot, cgroup) in tree.slots().iter().enumerate() {
            let Some(cgroup) = cgroup else {
                self.rows.push(Row::Vacant);
                continue;
            };
            let has_ended = cgroup.ended_in().is_some();
            let owner = pods.owner(tree, slot, image);
            if let (CgroupKind::Container { pod, id }, false) = (&cgroup.kind, has_ended)
                && cgroup.may_lack_sandbox()
            {
                match &owner {
                    Owner::Pod(owned) | Owner::Unknown(owned) if owned.is_sandbox => {
                        without_sandbox.insert(*pod, None);
                    }
                    Owner::Pod(owned) if owned.told.is_some_and(|pod| !pod.host_network) => {
                        let chosen = without_sandbox.entry(*pod).or_insert_with(|| Some(id.clone()));
                        if chosen.is_some() && before.get(pod) == Some(id) {
                            *chosen = Some(id.clone());
                        }
                    }
                    _ => {}
                }
            }
            let owned = match owner {
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
                self.networks.insert(slot, "/".to_owned());
            } else if owned.is_sandbox && owned.told.is_some_and(|pod| !pod.host_network) {
                self.networks.insert(slot, owned.id.to_owned());
            }
            let labels = enrich::labels(&cgroup.path, &owned, &plan.view(view).labels, plan.facts());
            self.rows.push(Row::Shown { view, labels, has_ended });
        }
        self.networks.extend(without_sandbox.into_iter().filter_map(|(pod, id)| Some((pod, id?))));
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

    /// The slots whose network is asked for, each with the id of a container that is in it: sandboxes, and pods that have
    /// none; `/` is the machine.
    pub fn networks(&self) -> &HashMap<usize, String> {
        &self.networks
    }

    /// How many rows are withheld.
    pub fn withheld(&self) -> usize {
        self.withheld
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metric::shown::Tree;
    use crate::plan::Overlay;
    use crate::source::file::HandleBudget;
    use crate::source::kubelet::{Pod, PodContainer};

    /// Of which slots the network is asked for, as path and container, on a node with these cgroups of one pod.
    fn networks(cgroups: &[&str], told: &[&str], host_network: bool) -> BTreeSet<(String, String)> {
        let tree = Tree::new(&[("sys/fs/cgroup/cgroup.controllers", "")]);
        for cgroup in cgroups {
            tree.write(&format!("sys/fs/cgroup/kubepods/podu/{cgroup}/memory.current"), b"1\n");
        }
        let mut cgroups = CgroupTree::new(&tree.paths(), HandleBudget::new(100));
        cgroups.refresh().unwrap();
        let mut pods = PodIndex::default();
        let container = |id: &&str| PodContainer { id: (*id).to_owned(), ..PodContainer::default() };
        let containers = told.iter().map(container).collect();
        pods.set_pods(
            vec![Pod { uid: "u".to_owned(), host_network, containers, ..Pod::default() }],
            &cgroups,
        );
        let mut rows = Rows::default();
        let mut plan = Plan::new(Vec::new(), Default::default(), &Overlay::default());
        rows.update(&cgroups, &pods, &mut plan, 1, "pause:1");
        let of = |(slot, id): (&usize, &String)| {
            (cgroups.slots()[*slot].as_ref().unwrap().path.clone(), id.clone())
        };
        rows.networks().iter().map(of).filter(|(path, _)| path != "/").collect()
    }

    #[test]
    fn a_pods_network_is_its_sandboxes_or_where_it_has_none_the_pods_own() {
        let [one, other] = [1, 2].map(|n| format!("{n:064x}"));
        let expected =
            |path: &str, id: &str| BTreeSet::from([(format!("/kubepods/podu{path}"), id.to_owned())]);
        assert_eq!(networks(&[&one, &other], &[&other], false), expected(&format!("/{one}"), &one));
        assert_eq!(networks(&[&one, &other], &[&other], true), BTreeSet::new());
        let [crio_one, crio_other] = [&one, &other].map(|id| format!("crio-{id}"));
        assert_eq!(networks(&[&crio_one], &[&one], false), expected("", &one));
        assert_eq!(networks(&[&crio_one], &[&one], true), BTreeSet::new());
        assert_eq!(networks(&[&crio_one], &[], false), BTreeSet::new(), "it may be a sandbox");
        let both = networks(&[&crio_one, &crio_other], &[&one, &other], false);
        assert!(both == expected("", &one) || both == expected("", &other));
    }
}
