//! What is not read again for a while of a cgroup that stands still: it used no CPU time, so that its processes have changed
//! nothing. Of the containers of a pod that stands still, not even that is read.

use std::time::{Duration, Instant};

use super::{Cgroup, CgroupFile, CgroupKind, CgroupTree, ReadError};
use crate::source::recent::due;

/// For so long after the last CPU time was used something may still change: a period of a quota ends (at most a second,
/// Documentation/scheduler/sched-bwc.rst), a parent takes note that its child has ended, memory is given back, and small
/// changes of memory are added up every two seconds at the latest (mm/memcontrol.c, FLUSH_TIME).
const SETTLES_IN: Duration = Duration::from_secs(5);

/// What was last read of one cgroup.
#[derive(Debug, Default)]
pub(super) struct Still {
    signs: Vec<Sign>,
    kept: Vec<Kept>,
}

/// A file that tells whether others may have changed.
#[derive(Debug)]
struct Sign {
    file: CgroupFile,
    text: Vec<u8>,
    /// When it was last read or known to be as it was, and since when it has been so.
    read: Instant,
    since: Instant,
    /// When it is to be read whatever the pod tells.
    due: Instant,
}

/// A file that was read while its signs stood still.
#[derive(Debug)]
struct Kept {
    file: CgroupFile,
    text: Vec<u8>,
    read: Instant,
    due: Instant,
}

impl Still {
    /// A sign, where it was read at this time.
    fn sign(&self, file: CgroupFile, now: Instant) -> Option<&Sign> {
        self.signs.iter().find(|sign| sign.file == file && sign.read == now)
    }

    /// Takes up a sign as it was just read.
    fn note(&mut self, slot: usize, file: CgroupFile, now: Instant, text: &[u8]) {
        let Some(sign) = self.signs.iter_mut().find(|sign| sign.file == file) else {
            let due = due(now, slot, true);
            self.signs.push(Sign { file, text: text.to_vec(), read: now, since: now, due });
            return;
        };
        (sign.read, sign.due) = (now, due(now, slot, false));
        if sign.text != text {
            sign.since = now;
            sign.text.clear();
            sign.text.extend_from_slice(text);
        }
    }

    /// From when on what the signs tell of has been as it is; nothing where one of them could not be read now.
    fn settled(&self, signs: &[CgroupFile], now: Instant) -> Option<Instant> {
        let mut settled = None;
        for file in signs {
            settled = settled.max(Some(self.sign(*file, now)?.since + SETTLES_IN));
        }
        settled
    }

    /// Takes a sign for what it was, where all that could move it has been as it is from some time on before it was read;
    /// tells whether that is so.
    fn keep_sign(&mut self, file: CgroupFile, settled: Instant, now: Instant) -> bool {
        let sign = self.signs.iter_mut().find(|sign| sign.file == file);
        let sign = sign.filter(|sign| sign.read >= settled && now < sign.due);
        sign.map(|sign| sign.read = now).is_some()
    }

    /// The text of a file, where nothing tells that it has changed.
    fn get(&self, file: CgroupFile, settled: Instant, now: Instant) -> Option<&Vec<u8>> {
        let kept = self.kept.iter().find(|kept| kept.file == file)?;
        (kept.read >= settled && (now < kept.due || file.is_cpu_time())).then_some(&kept.text)
    }

    /// Keeps what was just read.
    fn keep(&mut self, slot: usize, file: CgroupFile, now: Instant, text: &[u8]) {
        let Some(kept) = self.kept.iter_mut().find(|kept| kept.file == file) else {
            self.kept.push(Kept { file, text: text.to_vec(), read: now, due: due(now, slot, true) });
            return;
        };
        (kept.read, kept.due) = (now, due(now, slot, false));
        kept.text.clear();
        kept.text.extend_from_slice(text);
    }
}

impl CgroupTree {
    /// Begins to read at this time: what tells of change is read once until the next time.
    pub fn begin(&mut self, now: Instant) {
        self.now = now;
    }

    /// Reads a file of the cgroup in a slot into the buffer, unless nothing tells that it has changed since it was read.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&mut self, slot: usize, file: CgroupFile, buffer: &mut Vec<u8>) -> Result<(), ReadError> {
        let (signs, now) = (file.signs(self.version), self.now);
        if signs.is_empty() || self.cgroup(slot)?.ended_in().is_some() {
            return self.read_now(slot, file, buffer);
        }
        for sign in signs {
            let is_known = self.cgroup(slot)?.still.sign(*sign, now).is_some();
            if is_known || self.is_as_its_pod(slot, *sign, buffer) {
                continue;
            }
            match self.read_sign(slot, *sign, buffer) {
                Ok(()) => {}
                Err(error) if *sign == file || error == ReadError::Gone => return Err(error),
                // Then nothing tells whether the file has changed.
                Err(_) => {}
            }
        }
        let still = &self.cgroup(slot)?.still;
        let settled = still.settled(signs, now);
        let known = match still.sign(file, now) {
            Some(sign) => Some(&sign.text),
            None => settled.and_then(|settled| still.get(file, settled, now)),
        };
        if let Some(text) = known {
            buffer.clear();
            buffer.extend_from_slice(text);
            return Ok(());
        }
        self.read_now(slot, file, buffer)?;
        if settled.is_some_and(|settled| settled <= now) && !file.is_on_its_way(buffer) {
            self.cgroup(slot)?.still.keep(slot, file, now, buffer);
        }
        Ok(())
    }

    /// Reads a sign, unless that was done at this time.
    fn read_sign(&mut self, slot: usize, sign: CgroupFile, buffer: &mut Vec<u8>) -> Result<(), ReadError> {
        let now = self.now;
        if self.cgroup(slot)?.still.sign(sign, now).is_some() {
            return Ok(());
        }
        self.read_now(slot, sign, buffer)?;
        self.cgroup(slot)?.still.note(slot, sign, now, buffer);
        Ok(())
    }

    /// Whether a sign of a container need not be read, since those of its pod, which are read first, have not moved: a pod
    /// counts what its containers count. One of them cannot take the memory that another gives without CPU time.
    ///
    /// Of a pod whose signs last moved at 0 s and have settled at 5 s, what was read of the container at 6 s is still so at
    /// 20 s; what was read at 4 s need not be. Of CPU time the pod's own is the one sign, which it also is where memory of a
    /// container is not its pod's.
    fn is_as_its_pod(&mut self, slot: usize, sign: CgroupFile, buffer: &mut Vec<u8>) -> bool {
        let Ok(Cgroup { kind: CgroupKind::Container { pod, .. }, .. }) = self.cgroup(slot) else {
            return false;
        };
        let (pod, now, signs) = (*pod, self.now, sign.signs_of_pod(self.version));
        let is_counted = !signs.is_empty() && (self.is_memory_nested || signs == [sign]);
        if !is_counted || signs.iter().any(|sign| self.read_sign(pod, *sign, buffer).is_err()) {
            return false;
        }
        let settled = self.cgroup(pod).ok().and_then(|pod| pod.still.settled(signs, now));
        let Some((settled, own)) = settled.zip(self.cgroup(slot).ok()) else { return false };
        own.still.keep_sign(sign, settled, now)
    }

    fn cgroup(&mut self, slot: usize) -> Result<&mut Cgroup, ReadError> {
        self.slots.get_mut(slot).and_then(Option::as_mut).ok_or(ReadError::Gone)
    }
}
