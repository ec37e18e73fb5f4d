//! Processes in groups: each is read once in a scrape, and what it has counted stays with its group when it ends.
//!
//! A process is told from a later one of its number by when it began. What is counted of a group is the sum of what its
//! members grew by while they were in it, so that it goes back neither when one ends nor when one changes its group.

mod boot;
mod counts;
mod faults;
mod fold;
mod groups;
mod names;
mod owners;
mod redact;
mod template;
mod tracked;
mod users;

use std::time::Duration;

use jiff::Timestamp;

use crate::collector::CollectError;
use crate::source::Paths;
use crate::source::pid::own_cgroup;
use crate::source::process::{ProcessFiles, Task, TaskFile, Unread, stat, status};
use boot::{booted, ticks_since_boot};
pub use counts::Count;
use faults::Faults;
pub use fold::Limits;
use groups::Groups;
pub use groups::{Group, STATES};
pub use names::{Names, Process};
use owners::Owners;
pub use owners::Whose;
pub use redact::Redaction;
pub use tracked::Wanted;
use tracked::{Meter, Tracked, Wchans};
use users::Users;

/// The kernel tells times of processes in hundredths of a second, whatever its own clock (USER_HZ).
pub const TICKS: u64 = 100;

/// What is set of the groups.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which processes belong together.
    pub names: Names,
    /// Whether a process without a group is in that of its parent.
    pub children: bool,
    /// Whether what had no group when it began is looked at again.
    pub recheck: bool,
    /// For how long, from when it began.
    pub recheck_limit: Option<Duration>,
    /// Whether a group that has no processes any more is kept.
    pub keeps_empty: bool,
    /// What is taken out of command lines.
    pub redaction: Redaction,
    /// Which groups stay whole.
    pub limits: Limits,
}

/// The processes of the machine and their groups.
#[derive(Debug)]
pub struct ProcessGroups {
    files: ProcessFiles,
    users: Users,
    settings: Settings,
    stat: std::path::PathBuf,
    is_recorded: bool,
    page: u64,
    /// When the machine was started, in seconds.
    booted: i64,
    tracked: Vec<Tracked>,
    next: Vec<Tracked>,
    pids: Vec<u32>,
    tids: Vec<u32>,
    /// Those that had no group before they were looked at, by their places.
    unnamed: Vec<usize>,
    owners: Owners,
    groups: Groups,
    wchans: Wchans,
    faults: Faults,
    scrapes: u64,
    /// When all processes were listed last, in ticks since boot; what began later began while we watched.
    watched_since: Option<u64>,
    name: String,
}

/// Every so many scrapes it is looked again at what hardly ever changes: limits, and the cgroup of a process that has
/// been there for a while. A part of the processes at each, so that no scrape takes longer than the others.
const LOOK_AGAIN: u64 = 16;
/// By then a runtime has put a process where it belongs.
const SETTLED: u64 = 10 * TICKS;

impl ProcessGroups {
    /// Nothing is read before the first [`Self::update`].
    pub fn new(paths: &Paths, settings: Settings) -> Self {
        let is_recorded = paths.is_recorded();
        ProcessGroups {
            files: ProcessFiles::new(&paths.procfs),
            users: Users::new(&paths.rootfs),
            settings,
            stat: paths.procfs.join("stat"),
            is_recorded,
            page: rustix::param::page_size() as u64,
            booted: 0,
            tracked: Vec::new(),
            next: Vec::new(),
            pids: Vec::new(),
            tids: Vec::new(),
            unnamed: Vec::new(),
            owners: Owners::new(if is_recorded { None } else { own_cgroup() }),
            groups: Groups::default(),
            wchans: Wchans::default(),
            faults: Faults::default(),
            scrapes: 0,
            watched_since: None,
            name: String::new(),
        }
    }

    /// From now on other settings hold; groups that have the same name go on.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
        self.tracked.iter_mut().for_each(|tracked| tracked.is_named = false);
    }

    /// Goes through all processes once.
    ///
    /// What is not in the list has ended.
    ///
    /// # Errors
    /// Something that went wrong, in the same words while it goes on; the other processes are read. That processes end
    /// meanwhile is no error. What could not be read or listed is in no group this time, and goes on from what it had
    /// counted when it is read again.
    pub fn update(&mut self, whose: &mut Whose<'_>, wanted: Wanted) -> Result<(), CollectError> {
        if self.owners.update(whose) {
            self.groups.relabel(&self.owners);
        }
        if self.scrapes.is_multiple_of(LOOK_AGAIN) {
            self.booted = booted(&self.stat).unwrap_or(self.booted);
            self.users.forget();
        }
        // Of a recorded tree nothing tells the time.
        let now = if self.is_recorded { 0 } else { ticks_since_boot() };
        let listed = self.files.processes(&mut self.pids).map_err(|unread| self.faults.note(unread));
        let is_listed = listed.is_ok();
        self.read(is_listed, whose, wanted);
        if is_listed {
            self.watched_since = Some(now);
        }
        if self.settings.children {
            self.inherit(wanted);
        }
        self.add();
        self.groups.fold(&mut self.owners, &self.settings.limits);
        self.groups.end(&mut self.owners, self.settings.keeps_empty);
        self.scrapes += 1;
        self.faults.end().map_or(Ok(()), |unread| Err(unread.into()))
    }

    /// Reads every process there is; what was known and is not there any more is forgotten.
    fn read(&mut self, is_listed: bool, whose: &mut Whose<'_>, wanted: Wanted) {
        self.unnamed.clear();
        let pids = std::mem::take(&mut self.pids);
        let mut before = std::mem::take(&mut self.tracked);
        let mut known = before.drain(..).peekable();
        let mut next = std::mem::take(&mut self.next);
        for pid in &pids {
            while let Some(unlisted) = known.next_if(|tracked| tracked.pid < *pid) {
                next.extend((!is_listed).then_some(unlisted.unread()));
            }
            let mut tracked = known.next_if(|tracked| tracked.pid == *pid);
            match self.process(*pid, &mut tracked, whose, wanted) {
                Ok(is_named_anew) => {
                    if is_named_anew && tracked.as_ref().is_some_and(|tracked| tracked.name.is_none()) {
                        self.unnamed.push(next.len());
                    }
                    next.extend(tracked);
                }
                Err(Unread::Gone) => {}
                Err(unread) => {
                    self.faults.note(unread);
                    next.extend(tracked.map(Tracked::unread));
                }
            }
        }
        if !is_listed {
            next.extend(known.by_ref().map(Tracked::unread));
        }
        drop(known);
        (self.pids, self.tracked, self.next) = (pids, next, before);
    }

    /// Reads a process; answers whether it was asked anew in which group it is. Where it cannot be read, what was known
    /// of it stays.
    fn process(
        &mut self,
        pid: u32,
        known: &mut Option<Tracked>,
        whose: &mut Whose<'_>,
        wanted: Wanted,
    ) -> Result<bool, Unread> {
        let task = Task::Process(pid);
        let stat = self.files.parsed(task, TaskFile::Stat, stat)?;
        known.take_if(|tracked| tracked.start != stat.start);
        let is_new = known.is_none();
        let began_watched = self.watched_since.is_some_and(|since| stat.start >= since);
        let tracked = known.get_or_insert_with(|| Tracked::new(pid, &stat, began_watched));
        // A thread of the kernel is called after what it does; it has no memory.
        let is_renamed = tracked.stat.comm != stat.comm && stat.virtual_bytes > 0;
        tracked.stat = stat;
        tracked.is_named &= !is_renamed;
        let looks_again = (self.scrapes + u64::from(pid)).is_multiple_of(LOOK_AGAIN);
        if is_new || is_renamed || !tracked.is_settled || looks_again {
            self.look_up(tracked, whose)?;
        }
        let is_named_anew = !tracked.is_named || (tracked.name.is_none() && self.rechecks(tracked));
        if is_named_anew {
            self.name(tracked)?;
        }
        // The number may be another process's since it was first read, and then these files were.
        if is_new && self.files.parsed(task, TaskFile::Stat, self::stat)?.start != tracked.start {
            return Err(Unread::Gone);
        }
        tracked.is_read = tracked.name.is_some() && self.owners.of(tracked.place).is_some();
        if tracked.is_read {
            self.meter(wanted, looks_again).measure(tracked);
        }
        Ok(is_named_anew)
    }

    fn meter(&mut self, wanted: Wanted, looks_again: bool) -> Meter<'_> {
        let (files, wchans, tids) = (&mut self.files, &mut self.wchans, &mut self.tids);
        Meter { files, page: self.page, wanted, wchans, tids, looks_again, faults: &mut self.faults }
    }

    /// Finds out in which container a process is.
    fn look_up(&mut self, tracked: &mut Tracked, whose: &mut Whose<'_>) -> Result<(), Unread> {
        let text = match self.files.read(Task::Process(tracked.pid), TaskFile::Cgroup) {
            // A kernel without cgroups, or a tree without this file.
            Err(Unread::Gone) if self.is_recorded => &[],
            text => text?,
        };
        tracked.place = self.owners.place(text, whose);
        tracked.is_settled = self.is_recorded || self.age(tracked) > SETTLED;
        Ok(())
    }

    /// Finds out in which group it is by itself.
    fn name(&mut self, tracked: &mut Tracked) -> Result<(), Unread> {
        let (names, task) = (&self.settings.names, Task::Process(tracked.pid));
        let (exe, arguments) = match names.has_command_line() {
            true => match self.files.read(task, TaskFile::Cmdline) {
                Err(Unread::Gone) if self.is_recorded => Default::default(),
                text => self.settings.redaction.apply(text?),
            },
            false => Default::default(),
        };
        let cgroups = match names.has_cgroups() {
            true => String::from_utf8_lossy(self.files.read(task, TaskFile::Cgroup)?).into_owned(),
            false => String::new(),
        };
        let user = match names.has_user() {
            true => self.users.name(self.files.parsed(task, TaskFile::Status, status)?.user),
            false => "",
        };
        let started =
            self.booted.saturating_mul(1000).saturating_add((tracked.start * (1000 / TICKS)) as i64);
        let comm = tracked.stat.comm.split(|b| *b == 0).next().unwrap_or_default();
        let process = Process {
            comm: &String::from_utf8_lossy(comm),
            arguments: &arguments,
            exe: &exe,
            user,
            pid: tracked.pid,
            started: Timestamp::from_millisecond(started).unwrap_or_default(),
            cgroups: &cgroups,
        };
        let name = names.name(&process, &mut self.name).then_some(self.name.as_str());
        tracked.is_named = true;
        if tracked.name.as_deref() != name {
            (tracked.name, tracked.group) = (name.map(Into::into), None);
        }
        Ok(())
    }

    fn rechecks(&self, tracked: &Tracked) -> bool {
        let limit = self.settings.recheck_limit.map(|limit| limit.as_millis() as u64 * TICKS / 1000);
        self.settings.recheck && limit.is_none_or(|limit| self.age(tracked) < limit)
    }

    /// How long ago it began, in ticks.
    fn age(&self, tracked: &Tracked) -> u64 {
        ticks_since_boot().saturating_sub(tracked.start)
    }

    /// Gives those without a group that of the nearest ancestor that has one.
    fn inherit(&mut self, wanted: Wanted) {
        for at in &self.unnamed {
            let mut ancestor = self.tracked[*at].stat.parent;
            // No deeper than processes can be nested, should a tree have a ring in it.
            let mut left = self.tracked.len();
            let name = loop {
                let Ok(parent) = self.tracked.binary_search_by_key(&ancestor, |tracked| tracked.pid) else {
                    break None;
                };
                let parent = &self.tracked[parent];
                left -= 1;
                if parent.name.is_some() || left == 0 {
                    break parent.name.clone();
                }
                ancestor = parent.stat.parent;
            };
            let tracked = &mut self.tracked[*at];
            tracked.is_read = name.is_some() && self.owners.of(tracked.place).is_some();
            tracked.name = name;
            if tracked.is_read {
                let (files, wchans, tids) = (&mut self.files, &mut self.wchans, &mut self.tids);
                let (page, faults) = (self.page, &mut self.faults);
                Meter { files, page, wanted, wchans, tids, looks_again: false, faults }.measure(tracked);
            }
        }
    }

    /// Adds what was read of each process to its group.
    fn add(&mut self) {
        self.groups.begin();
        for tracked in &mut self.tracked {
            self.owners.count(tracked.place);
            tracked.was_nameless |= tracked.is_named && tracked.name.is_none();
            if !tracked.is_read {
                tracked.group = None;
                continue;
            }
            let (Some(owner), Some(name)) = (self.owners.of(tracked.place), &tracked.name) else { continue };
            let group = match tracked.group {
                Some((of, group)) if of == owner => Some(group),
                _ => self.groups.of(&mut self.owners, owner, name),
            };
            if let Some(group) = group {
                tracked.group = Some((owner, group));
                self.groups.add(group, tracked);
            }
        }
    }

    /// The groups to expose, and what tells who sees them: the number of a view.
    pub fn shown(&self) -> impl Iterator<Item = (&Group, usize)> {
        self.groups.shown().filter_map(|group| {
            let owner = self.owners.shown(group.owner)?;
            Some((group, owner.view))
        })
    }

    /// The function of the kernel that a number in [`Group::wchans`] stands for.
    pub fn wchan(&self, number: u16) -> &str {
        self.wchans.name(number)
    }

    /// When a process began, in seconds since 1970.
    pub fn began(&self, start: u64) -> f64 {
        (self.booted + (start / TICKS) as i64) as f64
    }

    /// How many processes are known, how many groups there are, and how many of these are folded.
    pub fn counts(&self) -> (usize, usize, usize) {
        let (groups, folded) = self.groups.count();
        (self.tracked.len(), groups, folded)
    }
}

#[cfg(test)]
mod tests;
