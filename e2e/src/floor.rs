//! The floor of a scrape: bare reads of the files that a running program keeps open.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::weigh::of_pass;

/// Longer than any of these files.
const BUFFER: usize = 64 << 10;

/// How many of the files that a process has open are among these, and what one read of each costs, in passes one after
/// the other. Each is opened once more, which reaches also what only the process itself could name.
pub fn of_open_files(pid: u32, passes: u32, is_read: impl Fn(&Path) -> bool) -> Result<(usize, Duration)> {
    let mut files = Vec::new();
    for handle in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        if fs::read_link(handle.path()).is_ok_and(|file| is_read(&file)) {
            files.push(File::open(handle.path())?);
        }
    }
    let mut buffer = vec![0; BUFFER];
    let cost = of_pass(passes, || {
        for file in &files {
            // What ends meanwhile is no part of the floor.
            let _ = file.read_at(&mut buffer, 0);
        }
    });
    Ok((files.len(), cost))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_process_are_found_by_their_names() {
        let path = std::env::temp_dir().join(format!("floor-{}", std::process::id()));
        fs::write(&path, "1\n").unwrap();
        let kept = [File::open(&path).unwrap(), File::open(&path).unwrap()];
        let (files, cost) = of_open_files(std::process::id(), 10, |file| file == path).unwrap();
        assert_eq!(files, kept.len());
        assert!(!cost.is_zero());
        fs::remove_file(&path).unwrap();
    }
}
