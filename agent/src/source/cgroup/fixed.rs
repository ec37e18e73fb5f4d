//! What is fixed of a cgroup until somebody changes it: looked at once a minute. A pod's limits change when it is resized,
//! the shares of the slices above whenever a pod comes or goes.

use std::time::Instant;

use super::{BEING_MADE, Cgroup};
use crate::source::recent::due;

/// What was found of each cgroup, by slot.
#[derive(Debug)]
pub struct Fixed<T>(Vec<Option<Found<T>>>);

#[derive(Debug)]
struct Found<T> {
    inode: u64,
    due: Instant,
    what: T,
}

impl<T> Default for Fixed<T> {
    fn default() -> Self {
        Fixed(Vec::new())
    }
}

impl<T: Copy> Fixed<T> {
    /// What is known of the cgroup in a slot, where that need not be looked at now.
    pub fn get(&self, slot: usize, cgroup: &Cgroup, now: Instant) -> Option<T> {
        let found = self.0.get(slot)?.as_ref()?;
        (found.inode == cgroup.inode && now < found.due).then_some(found.what)
    }

    /// Remembers what was just read. A cgroup that is being made gets its limits after its files, and one that has just
    /// gone has none any more, but its last figures may be told.
    pub fn set(&mut self, slot: usize, cgroup: &Cgroup, now: Instant, what: T) {
        if cgroup.gone || now.duration_since(cgroup.seen) < BEING_MADE {
            return;
        }
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        let known = self.0[slot].take().filter(|known| known.inode == cgroup.inode);
        let due = due(now, slot, known.is_none());
        self.0[slot] = Some(Found { inode: cgroup.inode, due, what });
    }

    /// Forgets all, since something else is asked for.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
