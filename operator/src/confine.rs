//! What the program takes away from itself at its start: a core dump would hold keys and tokens.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Sees to it that no core dump is written, and that no other process of the same user looks into this one.
///
/// # Errors
/// What the kernel says.
pub fn no_core_dumps() -> Result<(), Errno> {
    // A byte, less than any dump has: a dump that goes to a program ignores a limit of 0 and heeds this one (fs/coredump.c).
    setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}
