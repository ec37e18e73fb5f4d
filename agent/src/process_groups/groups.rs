//! The groups, and what they have counted: the only thing of them that outlives a scrape.

use super::counts::{Count, Counts, add};
use super::fold::{Candidate, Limits};
use super::owners::{NOBODY, Owners};
use super::tracked::{Thread, Tracked};
use crate::metric::push_label;
use crate::source::process::{Comm, comm};

/// The processes of one owner under one name.
#[derive(Debug)]
pub struct Group {
    pub(super) owner: u32,
    name: Box<str>,
    /// Its labels, escaped.
    pub labels: Box<[u8]>,
    /// What it has counted; it never goes back.
    total: Counts,
    grown: Counts,
    /// What it is now.
    pub now: Gauges,
    /// Its threads by their names, where they are asked for.
    pub threads: Vec<Threads>,
    /// How many threads wait in which function of the kernel, by its number.
    pub wchans: Vec<(u16, u32)>,
    is_whole: bool,
    /// Whether it is what others of its pod are folded into.
    pub is_fold: bool,
}

/// The state of a process, as process-exporter counts them.
pub const STATES: [&str; 5] = ["Running", "Sleeping", "Waiting", "Zombie", "Other"];

/// The place of a state in [`STATES`], by its letter.
pub(super) fn state(letter: u8) -> usize {
    match letter {
        b'R' => 0,
        b'S' => 1,
        b'D' => 2,
        b'Z' => 3,
        _ => 4,
    }
}

/// What the processes of a group are at one time: sums, but for the oldest start and the worst ratio.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// How many there are.
    pub processes: u64,
    /// Their threads.
    pub threads: u64,
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// What is swapped out, in bytes.
    pub swapped: u64,
    /// Resident memory of which shared pages count in parts.
    pub proportional: u64,
    /// The same of what is swapped out.
    pub proportional_swapped: u64,
    /// Open files.
    pub open_files: u64,
    /// Open files in proportion to how many may be, of the process that is nearest to its limit.
    pub worst_ratio: f64,
    /// When the oldest began, in ticks since boot.
    pub oldest: Option<u64>,
    /// Processes and threads in each of [`STATES`].
    pub states: [u64; 5],
    /// CPU time that its processes have had since they began, in ticks.
    cpu: u64,
}

impl Gauges {
    fn merge(&mut self, other: &Gauges) {
        for (to, from) in [
            (&mut self.processes, other.processes),
            (&mut self.threads, other.threads),
            (&mut self.resident, other.resident),
            (&mut self.virtual_bytes, other.virtual_bytes),
            (&mut self.swapped, other.swapped),
            (&mut self.proportional, other.proportional),
            (&mut self.proportional_swapped, other.proportional_swapped),
            (&mut self.open_files, other.open_files),
            (&mut self.cpu, other.cpu),
        ] {
            *to = to.saturating_add(from);
        }
        self.states.iter_mut().zip(other.states).for_each(|(to, from)| *to += from);
        self.worst_ratio = self.worst_ratio.max(other.worst_ratio);
        self.oldest = self.oldest.into_iter().chain(other.oldest).min();
    }
}

/// The threads of a group that have one name.
#[derive(Debug)]
pub struct Threads {
    name: Comm,
    /// Their labels, escaped: those of the group and the name.
    pub labels: Box<[u8]>,
    /// How many there are.
    pub now: u64,
    total: Counts,
    grown: Counts,
}

/// More names of threads than this in one group are one more, [`OTHER`].
const MOST_THREAD_NAMES: usize = 100;
/// The name for what has no series of its own.
pub(super) const OTHER: &str = "_other";
/// More empty groups than this are not kept.
const MOST_EMPTY: usize = 10_000;

/// All groups, each in a slot that stays its own while it lives.
#[derive(Debug, Default)]
pub(super) struct Groups {
    slots: Vec<Option<Group>>,
    free: Vec<u32>,
    candidates: Vec<Candidate>,
    folded: usize,
}

impl Groups {
    /// The group of an owner with this name.
    pub(super) fn of(&mut self, owners: &mut Owners, owner: u32, name: &str) -> Option<u32> {
        let of = owners.get_mut(owner)?;
        if let Some(group) = of.groups.get(name) {
            return Some(*group);
        }
        // What is called like the fold would have the same labels: it is in it.
        let is_fold = name == OTHER && of.pod == owner;
        let group = Group {
            owner,
            name: name.into(),
            labels: labels(&of.labels, "groupname", name),
            total: Counts::default(),
            grown: Counts::default(),
            now: Gauges::default(),
            threads: Vec::new(),
            wchans: Vec::new(),
            is_whole: false,
            is_fold,
        };
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[at as usize] = Some(group);
        of.groups.insert(name.into(), at);
        Some(at)
    }

    /// Writes the labels of all groups anew.
    pub(super) fn relabel(&mut self, owners: &Owners) {
        for group in self.slots.iter_mut().flatten() {
            if let Some(owner) = owners.get(group.owner) {
                group.labels = labels(&owner.labels, "groupname", &group.name);
                for threads in &mut group.threads {
                    threads.labels = thread_labels(&group.labels, &threads.name);
                }
            }
        }
    }

    /// Before the processes are added that there are now.
    pub(super) fn begin(&mut self) {
        for group in self.slots.iter_mut().flatten() {
            (group.now, group.grown) = (Gauges::default(), Counts::default());
            group.wchans.clear();
            for threads in &mut group.threads {
                (threads.now, threads.grown) = (0, Counts::default());
            }
        }
    }

    /// Adds a process.
    pub(super) fn add(&mut self, group: u32, tracked: &Tracked) {
        let reading = &tracked.reading;
        let Some(Some(group)) = self.slots.get_mut(group as usize) else { return };
        add(&mut group.grown, &reading.grown);
        let mut own = Gauges {
            processes: 1,
            threads: reading.threads,
            resident: reading.resident,
            virtual_bytes: reading.virtual_bytes,
            swapped: reading.swapped,
            proportional: reading.proportional,
            proportional_swapped: reading.proportional_swapped,
            open_files: reading.open_files,
            worst_ratio: reading.fd_ratio,
            oldest: Some(tracked.start),
            states: [0; 5],
            cpu: reading.cpu,
        };
        own.states[state(reading.state)] += 1;
        group.wait(reading.wchan);
        for thread in &tracked.threads {
            own.states[state(thread.state)] += 1;
            group.wait(thread.wchan);
            group.thread(thread);
        }
        group.now.merge(&own);
    }

    /// Decides which groups stay whole and folds the others into one of their pod.
    pub(super) fn fold(&mut self, owners: &mut Owners, limits: &Limits) {
        self.candidates.clear();
        for (at, group) in (0..).zip(&mut self.slots) {
            let Some(group) = group else { continue };
            if group.is_fold {
                // Of processes that are called so themselves.
                let grown = group.grown;
                add(&mut group.total, &grown);
                continue;
            }
            let pod = owners.get(group.owner).map_or(NOBODY, |owner| owner.pod);
            let (memory, cpu) = (group.now.resident, group.now.cpu);
            self.candidates.push(Candidate { pod, group: at, memory, cpu, is_whole: group.is_whole });
        }
        let mut candidates = std::mem::take(&mut self.candidates);
        self.folded = 0;
        limits.choose(&mut candidates, |group, is_whole| {
            self.folded += usize::from(!is_whole);
            if let Some(Some(group)) = self.slots.get_mut(group as usize) {
                if is_whole && !group.is_whole {
                    group.total = Counts::default();
                    group.threads.iter_mut().for_each(|threads| threads.total = Counts::default());
                }
                group.is_whole = is_whole;
            }
        });
        for candidate in &candidates {
            let Some(Some(group)) = self.slots.get_mut(candidate.group as usize) else { continue };
            let (grown, now) = (group.grown, group.now);
            if group.is_whole {
                add(&mut group.total, &grown);
                group.threads.iter_mut().for_each(|threads| add(&mut threads.total, &threads.grown));
                continue;
            }
            let fold = self.of(owners, candidate.pod, OTHER);
            if let Some(Some(fold)) = fold.and_then(|fold| self.slots.get_mut(fold as usize)) {
                add(&mut fold.total, &grown);
                fold.now.merge(&now);
            }
        }
        self.candidates = candidates;
    }

    /// Ends the groups without processes, or of those only the most recent that are too many to keep.
    pub(super) fn end(&mut self, owners: &mut Owners, keeps_empty: bool) {
        let mut empty = 0;
        for at in 0..self.slots.len() {
            let Some(group) = &self.slots[at] else { continue };
            if group.now.processes > 0 {
                continue;
            }
            empty += 1;
            if keeps_empty && empty <= MOST_EMPTY {
                continue;
            }
            if let Some(owner) = owners.get_mut(group.owner) {
                owner.groups.remove(&group.name);
            }
            self.remove(at as u32);
        }
        for group in self.slots.iter_mut().flatten() {
            group.threads.retain(|threads| threads.now > 0);
        }
        owners.end(|group| self.remove(group));
    }

    fn remove(&mut self, group: u32) {
        if self.slots[group as usize].take().is_some() {
            self.free.push(group);
        }
    }

    /// The groups that are exposed.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Group> {
        self.slots.iter().flatten().filter(|group| group.is_whole || group.is_fold)
    }

    /// How many there are, and how many of these are folded.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.slots.iter().flatten().count(), self.folded)
    }
}

impl Threads {
    /// What they have counted of this.
    pub fn counted(&self, count: Count) -> u64 {
        self.total[count as usize]
    }
}

impl Group {
    fn wait(&mut self, wchan: u16) {
        if wchan == 0 {
            return;
        }
        match self.wchans.iter_mut().find(|(known, _)| *known == wchan) {
            Some((_, threads)) => *threads += 1,
            None => self.wchans.push((wchan, 1)),
        }
    }

    fn thread(&mut self, thread: &Thread) {
        let known = self.threads.iter().position(|threads| threads.name == thread.comm);
        let at = known.unwrap_or_else(|| {
            let name =
                if self.threads.len() < MOST_THREAD_NAMES { thread.comm } else { comm(OTHER.as_bytes()) };
            self.threads.iter().position(|threads| threads.name == name).unwrap_or_else(|| {
                let labels = thread_labels(&self.labels, &name);
                let (total, grown) = Default::default();
                self.threads.push(Threads { name, labels, now: 0, total, grown });
                self.threads.len() - 1
            })
        });
        let threads = &mut self.threads[at];
        threads.now += 1;
        add(&mut threads.grown, &thread.grown);
    }

    /// What it has counted of this.
    pub fn counted(&self, count: Count) -> u64 {
        self.total[count as usize]
    }
}

fn thread_labels(group: &[u8], name: &Comm) -> Box<[u8]> {
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    labels(group, "threadname", &String::from_utf8_lossy(name))
}

fn labels(before: &[u8], name: &str, value: &str) -> Box<[u8]> {
    let mut text = before.to_vec();
    text.push(b',');
    push_label(&mut text, name, value);
    text.into_boxed_slice()
}
