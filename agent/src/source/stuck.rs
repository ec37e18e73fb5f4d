//! Threads that were left behind in a read which does not come back: whose they are, and where they wait.
//!
//! They outlive the collector that started them, and so does this knowledge: no second one is sent after them.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

/// All of them.
#[derive(Debug, Default)]
pub struct StuckThreads(Mutex<Vec<Stuck>>);

#[derive(Debug)]
struct Stuck {
    collector: &'static str,
    /// Nothing where the collector as a whole waits.
    place: Option<PathBuf>,
    /// There for as long as it waits.
    waits: Weak<dyn Any + Send + Sync>,
}

impl StuckThreads {
    /// Leaves a thread behind, which keeps something alive until its read comes back.
    pub fn add(&self, collector: &'static str, place: Option<&Path>, waits: Weak<impl Any + Send + Sync>) {
        self.left().push(Stuck { collector, place: place.map(Path::to_owned), waits });
    }

    /// Where a collector's threads still wait.
    pub fn places(&self, collector: &str) -> Vec<PathBuf> {
        self.left().iter().filter(|s| s.collector == collector).filter_map(|s| s.place.clone()).collect()
    }

    /// Whether a collector as a whole still waits.
    pub fn has(&self, collector: &str) -> bool {
        self.left().iter().any(|s| s.collector == collector && s.place.is_none())
    }

    /// How many threads of a collector still wait.
    pub fn count(&self, collector: &str) -> usize {
        self.left().iter().filter(|s| s.collector == collector).count()
    }

    /// Without those that have come back.
    fn left(&self) -> MutexGuard<'_, Vec<Stuck>> {
        let mut stuck = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.retain(|s| s.waits.strong_count() > 0);
        stuck
    }
}
