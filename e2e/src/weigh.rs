//! What the kernel says of a running process: its processor time and its memory.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};

/// Processor time of all of its threads so far, also of those that have ended; to two hundredths of a second, for user
/// and system are told apart (`proc_pid_stat(5)`).
pub fn processor_time(pid: u32) -> Result<Duration> {
    let stat = read(pid, "stat")?;
    // The name, in parentheses, may hold anything.
    let after_name = stat.rsplit_once(')').context("not the figures of a process")?.1;
    let ticks = |field: usize| -> Result<u64> {
        let text = after_name.split_ascii_whitespace().nth(field - 3).context("too few fields")?;
        text.parse().context("not a number")
    };
    let [user, system] = [14, 15].map(ticks);
    Ok(Duration::from_secs_f64((user? + system?) as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Resident memory, in bytes.
pub fn resident(pid: u32) -> Result<u64> {
    let status = read(pid, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kilobytes.context("no VmRSS")? * 1024)
}

/// The only process that it has started: of `nsenter`, the program that runs inside.
pub fn child(pid: u32) -> Result<u32> {
    let children = read(pid, &format!("task/{pid}/children"))?;
    children.trim().parse().with_context(|| format!("process {pid} has not one child but `{children}`"))
}

/// Processor time of this thread for one pass, after one to warm up.
pub fn of_pass(passes: u32, mut pass: impl FnMut()) -> Duration {
    pass();
    let before = clock_gettime(ClockId::ThreadCPUTime);
    (0..passes).for_each(|_| pass());
    let after = clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds = (after.tv_sec - before.tv_sec) * 1_000_000_000 + (after.tv_nsec - before.tv_nsec);
    Duration::from_nanos(nanoseconds.unsigned_abs()) / passes
}

fn read(pid: u32, file: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("process {pid} has ended"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_process_has_used_some_time_and_memory() {
        let pid = std::process::id();
        // Until the first tick has passed.
        while processor_time(pid).unwrap().is_zero() {}
        assert!(resident(pid).unwrap() > 1 << 20);
    }
}
