//! When the machine was started, and how long ago.

use std::path::Path;

use super::TICKS;
use crate::source::file::read_once;
use crate::source::text::{lines, number, words};

/// What the kernel would say of a process that began now.
pub(super) fn ticks_since_boot() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * TICKS + now.tv_nsec as u64 / (1_000_000_000 / TICKS)
}

/// When the machine was started, by `/proc/stat`.
pub(super) fn booted(stat: &Path) -> Option<i64> {
    let mut text = Vec::new();
    read_once(stat, &mut text).ok()?;
    let line = lines(&text).find_map(|line| line.strip_prefix(b"btime "))?;
    number(words(line).next()?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::process::{ProcessFiles, Task, TaskFile, stat};

    #[test]
    fn a_process_that_begins_now_began_when_the_kernel_says_it_did() {
        let mut files = ProcessFiles::new(Path::new("/proc"));
        files.processes(&mut Vec::new()).unwrap();
        let before = ticks_since_boot();
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let after = ticks_since_boot();
        let read = files.parsed(Task::Process(child.id()), TaskFile::Stat, stat);
        drop(child.stdin.take());
        child.wait().unwrap();
        let start = read.unwrap().start;
        assert!((before..=after).contains(&start), "{start} is not in {before}..={after}");
    }
}
