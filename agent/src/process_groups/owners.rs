//! Whose a process is: the container that its cgroup names, or nobody's.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::plan::{NODE_VIEW, Plan};
use crate::pods::{Owned, Owner as Told, PodIndex};
use crate::source::cgroup::{Cgroup, CgroupKind, CgroupTree};
use crate::source::process::{containers_in, is_below_own_root};
use crate::transform;

/// What tells whose processes are, and who sees what of them.
pub struct Whose<'a> {
    /// The cgroups of the kubelet.
    pub tree: &'a CgroupTree,
    /// Who they belong to.
    pub pods: &'a PodIndex,
    /// What policies say of those.
    pub plan: &'a mut Plan,
    /// Which plan it is.
    pub plan_number: u64,
}

/// The container of a name of a pod, or a pod as a whole, or nobody: what groups are told apart by. A container that
/// restarts is the same owner, and a pod of the same name with another UID is another one.
#[derive(Debug)]
pub(super) struct Owner {
    /// The owner that stands for the pod as a whole; [`NOBODY`] where it is no pod's.
    pub(super) pod: u32,
    /// Who sees what.
    pub(super) view: usize,
    /// Its labels, escaped.
    pub(super) labels: Box<[u8]>,
    /// Whether a later pod of the same name has come, whose series would be the same.
    is_superseded: bool,
    /// Its groups, by their names.
    pub(super) groups: HashMap<Box<str>, u32>,
    key: (Box<str>, Box<str>),
    made_in: u64,
}

/// The owner of what is no pod's.
pub(super) const NOBODY: u32 = 0;
/// The place of what is in no container.
pub(super) const OUTSIDE: u32 = u32::MAX;
/// What stands for the agent's own container in the name of a place.
const OWN: &str = ".";
/// How long a process is withheld while nobody tells whose its container is.
const PATIENCE: Duration = Duration::from_secs(2);

/// The containers that processes are in, and whose these are.
#[derive(Debug, Default)]
pub(super) struct Owners {
    owners: Vec<Option<Owner>>,
    by_key: HashMap<(Box<str>, Box<str>), u32>,
    places: Vec<Option<Place>>,
    by_name: HashMap<Box<str>, u32>,
    /// The inode of the agent's own cgroup.
    own: Option<u64>,
    /// The name of the place that is looked for.
    name: String,
    made_of: Option<(u64, u64, u64)>,
    withheld: usize,
    generation: u64,
    used: Vec<bool>,
}

/// What the processes have in common whose cgroup's path names the same containers.
#[derive(Debug)]
struct Place {
    /// These containers, the outermost first, with slashes between them; before them [`OWN`] where the path is below the
    /// agent's own cgroup, which then is not in it.
    name: Box<str>,
    seen: Instant,
    /// Nothing as long as nobody has told and it is not long ago that the place was first seen.
    owner: Option<u32>,
    processes: usize,
}

impl Owners {
    /// None yet, for an agent whose own cgroup has this inode.
    pub(super) fn new(own: Option<u64>) -> Self {
        Owners { own, ..Owners::default() }
    }

    /// Finds out anew whose each container is, if anything that tells has changed; answers whether it has.
    pub(super) fn update(&mut self, whose: &mut Whose<'_>) -> bool {
        let of = (whose.tree.generation(), whose.pods.generation(), whose.plan_number);
        if self.made_of == Some(of) && self.withheld == 0 {
            return false;
        }
        self.made_of = Some(of);
        self.generation += 1;
        self.owner(("", ""), &Owned::default(), NOBODY, whose);
        let (tree, own) = (whose.tree, self.own);
        let containers = || tree.iter().filter_map(|(slot, cgroup)| Some((container(cgroup)?, slot, cgroup)));
        let slots: HashMap<&str, usize> = containers()
            .flat_map(|(id, slot, cgroup)| {
                [Some((id, slot)), (own == Some(cgroup.inode)).then_some((OWN, slot))]
            })
            .flatten()
            .collect();
        self.withheld = 0;
        for place in 0..self.places.len() {
            let Some(Place { name, seen, .. }) = &self.places[place] else { continue };
            let slot = name.split('/').find_map(|part| slots.get(part).copied());
            let is_young = seen.elapsed() < PATIENCE && is_awaited(name, slot);
            let owner = self.told(slot, is_young, whose);
            self.withheld += usize::from(owner.is_none());
            if let Some(place) = &mut self.places[place] {
                place.owner = owner;
            }
        }
        // Nobody's place now; its view is one of another plan.
        for owner in self.owners.iter_mut().flatten().filter(|owner| owner.made_in != self.generation) {
            owner.view = NODE_VIEW;
        }
        true
    }

    fn told(&mut self, slot: Option<usize>, is_young: bool, whose: &mut Whose<'_>) -> Option<u32> {
        let (pods, tree) = (whose.pods, whose.tree);
        let told = slot.map(|slot| (slot, pods.owner(tree, slot, "")));
        let (slot, owned) = match told {
            Some((slot, Told::Pod(owned))) => (slot, owned),
            Some((_, Told::Unknown(_))) | None if is_young => return None,
            // Of a pod that nobody tells of there is no name to tell it by.
            Some((slot, Told::Unknown(owned))) if !owned.namespace.is_empty() => (slot, owned),
            _ => return Some(NOBODY),
        };
        let uid = match tree.slots()[slot].as_ref().map(|cgroup| &cgroup.kind) {
            Some(CgroupKind::Container { pod, .. }) => match tree.slots()[*pod].as_ref().map(|p| &p.kind) {
                Some(CgroupKind::Pod { uid }) => uid.as_str(),
                _ => return Some(NOBODY),
            },
            _ => return Some(NOBODY),
        };
        let pod = Owned { container: "", image: "", id: "", ..owned };
        let whole = self.owner((uid, ""), &pod, NOBODY, whose);
        Some(match owned.container {
            "" => whole,
            container => self.owner((uid, container), &owned, whole, whose),
        })
    }

    /// The owner of this key with these labels; `pod` is the one that stands for its pod.
    fn owner(&mut self, key: (&str, &str), owned: &Owned<'_>, pod: u32, whose: &mut Whose<'_>) -> u32 {
        let key: (Box<str>, Box<str>) = (key.0.into(), key.1.into());
        let known = self.by_key.get(&key).copied();
        if let Some(known) = known
            && self.get(known).is_some_and(|owner| owner.made_in == self.generation)
        {
            return known;
        }
        let view = match (owned.namespace, owned.told) {
            ("", None) => NODE_VIEW,
            (namespace, Some(told)) => whose.plan.view_of_pod(namespace, &told.labels),
            (namespace, None) => whose.plan.view_of_pod(namespace, &Default::default()),
        };
        let plan = &*whose.plan;
        let labels = transform::labels_of_group(owned, &plan.view(view).labels, plan.facts());
        let at = known.map_or_else(
            || {
                // What came later is what is there.
                let same = self.owners.iter_mut().flatten().filter(|owner| owner.labels == labels);
                same.for_each(|owner| owner.is_superseded = true);
                let free = self.owners.iter().position(Option::is_none);
                free.unwrap_or_else(|| {
                    self.owners.push(None);
                    self.owners.len() - 1
                })
            },
            |known| known as usize,
        );
        let before = self.owners[at].take();
        let pod = if key.1.is_empty() && !key.0.is_empty() { at as u32 } else { pod };
        let (groups, is_superseded) = before.map_or_else(Default::default, |o| (o.groups, o.is_superseded));
        self.by_key.insert(key.clone(), at as u32);
        self.owners[at] =
            Some(Owner { pod, view, labels, is_superseded, groups, key, made_in: self.generation });
        at as u32
    }

    /// The place of a process whose file `cgroup` says this.
    ///
    /// It is in the outermost of the containers that the kubelet has: further in are those that a container runs by
    /// itself, further out the node where that is one.
    pub(super) fn place(&mut self, cgroup: &[u8], whose: &mut Whose<'_>) -> u32 {
        self.name.clear();
        if is_below_own_root(cgroup) && self.own.is_some() {
            self.name.push_str(OWN);
        }
        for id in containers_in(cgroup) {
            // On cgroup v1 there is a line for each hierarchy.
            if !self.name.contains(id) {
                self.name.push_str(if self.name.is_empty() { "" } else { "/" });
                self.name.push_str(id);
            }
        }
        if self.name.is_empty() {
            return OUTSIDE;
        }
        if let Some(place) = self.by_name.get(self.name.as_str()) {
            return *place;
        }
        let (tree, own) = (whose.tree, self.own);
        let slot = self.name.split('/').find_map(|part| {
            let is_it = |cgroup: &Cgroup| match container(cgroup) {
                Some(id) => id == part || (part == OWN && own == Some(cgroup.inode)),
                None => false,
            };
            tree.iter().find_map(|(slot, cgroup)| is_it(cgroup).then_some(slot))
        });
        let name: Box<str> = self.name.as_str().into();
        let owner = self.told(slot, is_awaited(&name, slot), whose);
        self.withheld += usize::from(owner.is_none());
        let place = Place { name: name.clone(), seen: Instant::now(), owner, processes: 0 };
        let free = self.places.iter().position(Option::is_none).unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.by_name.insert(name, free as u32);
        self.places[free] = Some(place);
        free as u32
    }

    /// Whose a place is; nothing while it is withheld.
    pub(super) fn of(&self, place: u32) -> Option<u32> {
        match place {
            OUTSIDE => Some(NOBODY),
            place => self.places.get(place as usize)?.as_ref()?.owner,
        }
    }

    /// A process is in this place.
    pub(super) fn count(&mut self, place: u32) {
        if let Some(Some(place)) = self.places.get_mut(place as usize) {
            place.processes += 1;
        }
    }

    /// Forgets places without processes, and owners without places, whose groups it shows; begins to count again.
    pub(super) fn end(&mut self, mut over: impl FnMut(u32)) {
        self.used.clear();
        self.used.resize(self.owners.len(), false);
        for slot in &mut self.places {
            let Some(place) = slot else { continue };
            if place.processes == 0 {
                self.by_name.remove(&place.name);
                *slot = None;
                continue;
            }
            place.processes = 0;
            if let Some(owner) = place.owner {
                self.used[owner as usize] = true;
                let pod = self.owners[owner as usize].as_ref().map_or(NOBODY, |owner| owner.pod);
                self.used[pod as usize] = true;
            }
        }
        for (at, slot) in self.owners.iter_mut().enumerate() {
            let is_over = at != NOBODY as usize && !self.used[at];
            if let Some(gone) = slot.take_if(|_| is_over) {
                self.by_key.remove(&gone.key);
                gone.groups.into_values().for_each(&mut over);
            }
        }
    }

    /// An owner whose groups are exposed: it has a place, and no later pod has its name.
    pub(super) fn shown(&self, owner: u32) -> Option<&Owner> {
        self.get(owner).filter(|owner| !owner.is_superseded && owner.made_in == self.generation)
    }

    /// An owner by its number.
    pub(super) fn get(&self, owner: u32) -> Option<&Owner> {
        self.owners.get(owner as usize)?.as_ref()
    }

    /// The same, to give it groups.
    pub(super) fn get_mut(&mut self, owner: u32) -> Option<&mut Owner> {
        self.owners.get_mut(owner as usize)?.as_mut()
    }
}

/// Whether somebody may still tell whose the processes are: our own container is there before we are, so that without
/// one we are in none.
fn is_awaited(name: &str, slot: Option<usize>) -> bool {
    slot.is_some() || name != OWN
}

/// The id of a container that is not over.
fn container(cgroup: &Cgroup) -> Option<&str> {
    match &cgroup.kind {
        CgroupKind::Container { id, .. } if cgroup.ended_in().is_none() => Some(id),
        _ => None,
    }
}
