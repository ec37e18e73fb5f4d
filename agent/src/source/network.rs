//! The interfaces of each pod's network namespace, read through a process that is in it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::file::{HandleBudget, KeptFile, Made};
use super::{Paths, pid};

/// One handle on `/proc/PID/net/dev` for each sandbox, and one for the machine.
///
/// An open handle keeps its network namespace alive, so it is closed as soon as the sandbox has gone.
#[derive(Debug)]
pub struct Networks {
    procfs: PathBuf,
    machine: PathBuf,
    budget: HandleBudget,
    sandboxes: HashMap<usize, Sandbox>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Sandbox {
    container: String,
    pid: Option<u32>,
    path: Option<PathBuf>,
    file: KeptFile,
    /// When to look for a process again; a runtime in a virtual machine never shows one.
    look_again: Instant,
    looked: u32,
}

/// The slot that stands for the machine: the root of the tree.
const MACHINE: &str = "/";

impl Networks {
    /// None yet.
    pub fn new(paths: &Paths, budget: HandleBudget) -> Self {
        Networks {
            procfs: paths.procfs.clone(),
            machine: paths.net("dev"),
            budget,
            sandboxes: HashMap::new(),
            scratch: Vec::new(),
        }
    }

    /// Takes up which sandboxes there are, by slot and container id; `/` is the machine.
    pub fn set(&mut self, wanted: &HashMap<usize, String>) {
        let budget = &self.budget;
        self.sandboxes.retain(|slot, sandbox| {
            let stays = wanted.get(slot) == Some(&sandbox.container);
            if !stays {
                sandbox.file.close(budget);
            }
            stays
        });
        let now = Instant::now();
        for (slot, container) in wanted {
            self.sandboxes.entry(*slot).or_insert_with(|| Sandbox {
                container: container.clone(),
                pid: None,
                path: (container == MACHINE).then(|| self.machine.clone()),
                file: KeptFile::Closed,
                look_again: now,
                looked: 0,
            });
        }
        self.find_processes(now);
    }

    /// Reads the interfaces of the namespace of a slot; `false` where there is none, or no process was found in it.
    pub fn read(&mut self, slot: usize, buffer: &mut Vec<u8>) -> bool {
        let Some(sandbox) = self.sandboxes.get_mut(&slot) else { return false };
        let Some(path) = &sandbox.path else { return false };
        match sandbox.file.read(&self.budget, || path.clone(), buffer, Made::InShortRecords) {
            // Without a handle of its own the number may be another process's by now.
            Ok(()) if matches!(sandbox.file, KeptFile::Open(_)) || sandbox.container == MACHINE => true,
            Ok(()) => {
                let own = sandbox.pid.and_then(|pid| pid::container_of(&self.procfs, pid, &mut self.scratch));
                let same = own.as_ref() == Some(&sandbox.container);
                if !same {
                    sandbox.path = None;
                }
                same
            }
            Err(_) => {
                // The process ended before a handle was kept, or its number is another's by now.
                if sandbox.container != MACHINE {
                    sandbox.path = None;
                }
                sandbox.file.close(&self.budget);
                false
            }
        }
    }

    /// The files that are kept open.
    pub fn open_files(&self) -> impl Iterator<Item = PathBuf> {
        self.sandboxes.values().filter(|s| matches!(s.file, KeptFile::Open(_))).filter_map(|s| s.path.clone())
    }

    /// Handles that are kept.
    pub fn open(&self) -> usize {
        self.budget.open()
    }

    fn find_processes(&mut self, now: Instant) {
        let wanted: HashMap<String, usize> = self
            .sandboxes
            .iter()
            .filter(|(_, s)| s.path.is_none() && s.look_again <= now)
            .map(|(slot, s)| (s.container.clone(), *slot))
            .collect();
        if wanted.is_empty() {
            return;
        }
        let found: HashMap<usize, u32> = pid::find(&self.procfs, &wanted).into_iter().collect();
        let mut buffer = Vec::new();
        for (id, slot) in &wanted {
            let Some(sandbox) = self.sandboxes.get_mut(slot) else { continue };
            if let Some(pid) = found.get(slot) {
                let path = self.procfs.join(pid.to_string()).join("net/dev");
                let opened =
                    sandbox.file.read(&self.budget, || path.clone(), &mut buffer, Made::InShortRecords);
                // The number may have gone to another process between looking and opening.
                let same = pid::container_of(&self.procfs, *pid, &mut buffer).as_ref() == Some(id);
                if opened.is_ok() && same {
                    sandbox.pid = Some(*pid);
                    sandbox.path = Some(path);
                    continue;
                }
                sandbox.file.close(&self.budget);
            }
            sandbox.looked += 1;
            // 2, 4 … 64 s: the walk over all processes is not for every scrape.
            sandbox.look_again = now + Duration::from_secs(1 << sandbox.looked.min(6));
        }
    }
}
