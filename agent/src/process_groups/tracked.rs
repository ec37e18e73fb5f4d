//! One process while it lives: what tells it from a later one of its number, its group, and what it had counted.

use super::counts::{Count, Counts, Last};
use super::faults::Faults;
use super::owners::OUTSIDE;
use crate::source::process::{
    Comm, Io, ProcessFiles, Stat, Status, Task, TaskFile, Unread, io, open_files_limit, smaps_rollup, stat,
    status,
};

/// What is asked for, which decides what is read of each process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What is swapped out.
    pub swapped: bool,
    /// Context switches.
    pub switches: bool,
    /// What went to and came from disks.
    pub io: bool,
    /// How many files are open.
    pub open_files: bool,
    /// How many may be.
    pub limits: bool,
    /// Memory of which shared pages count in parts.
    pub smaps: bool,
    /// Where in the kernel threads wait.
    pub wchan: bool,
    /// Each thread by itself.
    pub threads: bool,
}

/// A process, told from a later one of its number by when it began.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) pid: u32,
    /// When it began, in ticks since boot.
    pub(super) start: u64,
    /// What its `stat` said last.
    pub(super) stat: Stat,
    /// The name of its group; nothing while it is in none.
    pub(super) name: Option<Box<str>>,
    /// Whether it has been asked for.
    pub(super) is_named: bool,
    /// Its place among the containers.
    pub(super) place: u32,
    /// Whether that will hardly change: a runtime moves a process into its container right after it has begun.
    pub(super) is_settled: bool,
    /// Whose it was last, and which group that came to.
    pub(super) group: Option<(u32, u32)>,
    pub(super) reading: Reading,
    pub(super) threads: Vec<Thread>,
    last: Last,
    began_watched: bool,
    knows_threads: bool,
    /// Whether it has been in no group since then; what it counts before it has a name is nobody's.
    pub(super) was_nameless: bool,
    limit: Option<u64>,
    /// Whether it is in this scrape: it has been read and nobody withholds it.
    pub(super) is_read: bool,
}

/// What was read of a process this time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    pub(super) state: u8,
    pub(super) threads: u64,
    pub(super) resident: u64,
    pub(super) virtual_bytes: u64,
    pub(super) swapped: u64,
    pub(super) proportional: u64,
    pub(super) proportional_swapped: u64,
    pub(super) open_files: u64,
    pub(super) fd_ratio: f64,
    pub(super) cpu: u64,
    pub(super) wchan: u16,
    pub(super) grown: Counts,
}

/// A thread of a process that has several.
#[derive(Debug, Default)]
pub(super) struct Thread {
    tid: u32,
    start: u64,
    pub(super) comm: Comm,
    pub(super) state: u8,
    pub(super) wchan: u16,
    pub(super) grown: Counts,
    last: Last,
    began_watched: bool,
}

/// Reads processes and remembers what they had counted.
pub(super) struct Meter<'a> {
    pub(super) files: &'a mut ProcessFiles,
    pub(super) page: u64,
    pub(super) wanted: Wanted,
    pub(super) wchans: &'a mut Wchans,
    pub(super) tids: &'a mut Vec<u32>,
    /// Whether this process's limits are looked up again.
    pub(super) looks_again: bool,
    /// What went wrong.
    pub(super) faults: &'a mut Faults,
}

impl Tracked {
    pub(super) fn new(pid: u32, stat: &Stat, began_watched: bool) -> Self {
        Tracked {
            pid,
            start: stat.start,
            stat: *stat,
            name: None,
            is_named: false,
            place: OUTSIDE,
            is_settled: false,
            group: None,
            reading: Reading::default(),
            threads: Vec::new(),
            last: Last::default(),
            began_watched,
            knows_threads: false,
            was_nameless: false,
            limit: None,
            is_read: false,
        }
    }

    /// The same, of which nothing was read this time.
    pub(super) fn unread(self) -> Self {
        Tracked { is_read: false, ..self }
    }

    /// Begins what is read of it this time, with what its `stat` says.
    fn begin(&mut self, stat: &Stat, page: u64) {
        let mut grown = Counts::default();
        let (last, began_watched) = (&mut self.last, self.began_watched);
        of_stat(stat, last, began_watched, &mut grown);
        self.reading = Reading {
            state: stat.state,
            threads: stat.threads,
            resident: stat.resident_pages.saturating_mul(page),
            virtual_bytes: stat.virtual_bytes,
            cpu: stat.user.saturating_add(stat.system),
            grown,
            ..Reading::default()
        };
    }
}

fn of_stat(stat: &Stat, last: &mut Last, began_watched: bool, grown: &mut Counts) {
    for (count, now) in [
        (Count::User, stat.user),
        (Count::System, stat.system),
        (Count::MinorFaults, stat.minor_faults),
        (Count::MajorFaults, stat.major_faults),
    ] {
        grown[count as usize] = last.grown(count, now, began_watched);
    }
}

fn of_status(status: &Status, last: &mut Last, began_watched: bool, grown: &mut Counts) {
    for (count, now) in [(Count::Voluntary, status.voluntary), (Count::Nonvoluntary, status.nonvoluntary)] {
        grown[count as usize] = last.grown(count, now, began_watched);
    }
}

fn of_io(io: Io, last: &mut Last, began_watched: bool, grown: &mut Counts) {
    for (count, now) in [(Count::Read, io.read), (Count::Written, io.written)] {
        grown[count as usize] = last.grown(count, now, began_watched);
    }
}

impl Meter<'_> {
    /// Takes up what the `stat` of a process says, and reads what else is asked for of it.
    pub(super) fn measure(&mut self, it: &mut Tracked) {
        let stat = it.stat;
        if std::mem::take(&mut it.was_nameless) {
            (it.last, it.began_watched, it.knows_threads) = (Last::default(), false, false);
            it.threads.clear();
        }
        it.begin(&stat, self.page);
        let process = Task::Process(it.pid);
        // Of a process with several threads the kernel tells the switches of its first one only.
        if (self.wanted.swapped || self.wanted.switches)
            && let Some(status) = self.read(process, TaskFile::Status, status)
        {
            it.reading.swapped = status.swapped;
            of_status(&status, &mut it.last, it.began_watched, &mut it.reading.grown);
        }
        if self.wanted.io
            && let Some(io) = self.read(process, TaskFile::Io, io)
        {
            of_io(io, &mut it.last, it.began_watched, &mut it.reading.grown);
        }
        if self.wanted.open_files || self.wanted.limits {
            self.open_files(it);
        }
        if self.wanted.smaps
            && let Some(rollup) = self.read(process, TaskFile::SmapsRollup, smaps_rollup)
        {
            it.reading.proportional = rollup.resident;
            it.reading.proportional_swapped = rollup.swapped;
        }
        if self.wanted.wchan {
            it.reading.wchan = self.wchan(process);
        }
        match self.wanted.threads && it.reading.threads > 1 {
            true => self.threads(it),
            false => {
                it.threads.clear();
                it.knows_threads = self.wanted.threads;
            }
        }
        // What is asked for later was there before it was.
        it.began_watched = false;
    }

    fn open_files(&mut self, it: &mut Tracked) {
        let open = match self.files.open_files(it.pid) {
            Ok(open) => open,
            Err(unread) => return self.note(unread),
        };
        it.reading.open_files = open;
        if self.wanted.limits && (it.limit.is_none() || self.looks_again) {
            it.limit = self.read(Task::Process(it.pid), TaskFile::Limits, open_files_limit);
        }
        if let Some(limit @ 1..) = it.limit {
            it.reading.fd_ratio = open as f64 / limit as f64;
        }
    }

    fn threads(&mut self, it: &mut Tracked) {
        let mut tids = std::mem::take(self.tids);
        match self.files.threads(it.pid, &mut tids) {
            // In both lists they are in order, and seldom does one come or go.
            Ok(()) => {
                let mut at = 0;
                for tid in &tids {
                    let over = it.threads[at..].iter().take_while(|thread| thread.tid < *tid).count();
                    it.threads.drain(at..at + over);
                    at += usize::from(self.thread(it, *tid, at));
                }
                it.threads.truncate(at);
                it.knows_threads = true;
            }
            Err(Unread::Gone) => it.threads.clear(),
            // They go on from what they had counted.
            Err(unread) => {
                it.threads.iter_mut().for_each(|thread| thread.grown = Counts::default());
                self.note(unread);
            }
        }
        *self.tids = tids;
    }

    /// Reads a thread into this place of the list, to which it is added where it is not there; answers whether it is.
    fn thread(&mut self, it: &mut Tracked, tid: u32, at: usize) -> bool {
        let task = Task::Thread(it.pid, tid);
        let stat = match self.files.parsed(task, TaskFile::Stat, stat) {
            Ok(stat) => stat,
            Err(Unread::Gone) => return false,
            Err(unread) => {
                self.note(unread);
                let known = it.threads.get_mut(at).filter(|thread| thread.tid == tid);
                return known.map(|thread| thread.grown = Counts::default()).is_some();
            }
        };
        if it.threads.get(at).is_none_or(|thread| thread.tid != tid) {
            it.threads.insert(at, Thread { tid, ..Thread::default() });
        }
        let thread = &mut it.threads[at];
        if thread.start != stat.start {
            // Of a process whose threads were known, those that are new have begun since. The first one has not: it is
            // not known while it is the only one.
            let began_watched = it.began_watched || (it.knows_threads && tid != it.pid);
            *thread = Thread { tid, start: stat.start, began_watched, ..Thread::default() };
        }
        (thread.comm, thread.state, thread.grown) = (stat.comm, stat.state, Counts::default());
        of_stat(&stat, &mut thread.last, thread.began_watched, &mut thread.grown);
        if self.wanted.switches {
            if tid == it.pid {
                for count in [Count::Voluntary, Count::Nonvoluntary] {
                    thread.grown[count as usize] = it.reading.grown[count as usize];
                }
            } else if let Ok(status) = self.files.parsed(task, TaskFile::Status, status) {
                of_status(&status, &mut thread.last, thread.began_watched, &mut thread.grown);
                for count in [Count::Voluntary, Count::Nonvoluntary] {
                    it.reading.grown[count as usize] += thread.grown[count as usize];
                }
            }
        }
        if self.wanted.io
            && let Ok(io) = self.files.parsed(task, TaskFile::Io, io)
        {
            of_io(io, &mut thread.last, thread.began_watched, &mut thread.grown);
        }
        thread.began_watched = false;
        if self.wanted.wchan {
            let wchan = self.wchan(task);
            it.threads[at].wchan = wchan;
        }
        true
    }

    fn wchan(&mut self, task: Task) -> u16 {
        match self.files.read(task, TaskFile::Wchan) {
            Ok(name) => self.wchans.number(name),
            Err(_) => 0,
        }
    }

    fn read<T>(&mut self, task: Task, file: TaskFile, parse: fn(&[u8]) -> Option<T>) -> Option<T> {
        match self.files.parsed(task, file, parse) {
            Ok(parsed) => Some(parsed),
            Err(unread) => {
                self.note(unread);
                None
            }
        }
    }

    fn note(&mut self, unread: Unread) {
        // A process that has ended is nothing to speak of, nor is one that even root may not look into.
        if !matches!(unread, Unread::Gone | Unread::Denied) {
            self.faults.note(unread);
        }
    }
}

/// The functions of the kernel in which threads wait, by numbers; 0 for none.
#[derive(Debug, Default)]
pub(super) struct Wchans(Vec<Box<str>>);

impl Wchans {
    fn number(&mut self, name: &[u8]) -> u16 {
        if matches!(name, b"" | b"0") {
            return 0;
        }
        let at = self.0.iter().position(|known| known.as_bytes() == name);
        let at = at.unwrap_or_else(|| {
            self.0.push(String::from_utf8_lossy(name).into());
            self.0.len() - 1
        });
        at as u16 + 1
    }

    /// The function of a number.
    pub(super) fn name(&self, number: u16) -> &str {
        usize::from(number).checked_sub(1).and_then(|at| self.0.get(at)).map_or("", |name| name)
    }
}
