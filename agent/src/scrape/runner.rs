//! How a collector runs that the plan has.

use super::Part;
use super::blocking::Blocking;
use crate::collector::{CgroupCollector, CollectError, NodeCollector, ProcessCollector};
use crate::metric::Writer;
use crate::oom_kills::OomKills;
use crate::storage::Storage;

/// A collector that runs, with what it keeps.
pub(super) enum Runner {
    Node(Box<dyn NodeCollector>),
    Blocking(Box<Blocking>),
    Cgroups(Box<dyn CgroupCollector>),
    OomKills(fn(&mut OomKills, &mut Writer<'_>)),
    Processes(Box<dyn ProcessCollector>),
    Storage { part: Part, collect: fn(&Storage, &mut Writer<'_>) },
}

impl Runner {
    /// Whether its series are in this part.
    pub(super) fn is_of(&self, part: Part) -> bool {
        match self {
            Runner::Cgroups(_) | Runner::OomKills(_) => part.has_cgroups(),
            Runner::Processes(_) => part.has(Part::Processes),
            Runner::Storage { part: own, .. } => part.has(*own),
            Runner::Node(_) | Runner::Blocking(_) => part.has_node(),
        }
    }

    /// Whether it tells of pods and not of the machine.
    pub(super) fn is_of_pods(&self) -> bool {
        !matches!(self, Runner::Node(_) | Runner::Blocking(_))
    }

    /// Whether its series are those of rows of the tree.
    pub(super) fn has_rows(&self) -> bool {
        matches!(self, Runner::Processes(_)) || (self.is_of_pods() && self.is_of(Part::Cadvisor))
    }
}

/// A collector that panics must not take the others' output with it.
pub(super) fn caught(collect: impl FnOnce() -> Result<(), CollectError>) -> Result<(), CollectError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(collect)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(CollectError::Panic(text.or(panic.downcast_ref().copied()).unwrap_or("no message").to_owned()))
    })
}
