//! What the files of a process say (proc_pid(5)).

use crate::source::text::{hexadecimal, lines, number, words};

/// Of `stat`: times in ticks of 10 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The name, whatever its bytes are; what follows it is zeros.
    pub comm: Comm,
    /// The state as a letter.
    pub state: u8,
    /// The parent's number; 0 where there is none.
    pub parent: u32,
    /// Page faults without input.
    pub minor_faults: u64,
    /// Page faults that read from a disk.
    pub major_faults: u64,
    /// CPU time in user mode, also of threads that have ended.
    pub user: u64,
    /// The same in kernel mode.
    pub system: u64,
    /// How many threads there are.
    pub threads: u64,
    /// When it began, since boot.
    pub start: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Resident memory, in pages.
    pub resident_pages: u64,
}

/// The name of a process or thread: at most 15 bytes, and of a thread of the kernel the first 16.
pub type Comm = [u8; 16];

/// The first bytes of a name.
pub fn comm(name: &[u8]) -> Comm {
    let mut comm = Comm::default();
    let len = name.len().min(comm.len());
    comm[..len].copy_from_slice(&name[..len]);
    comm
}

/// Reads `stat`: `1 (a) b) S 0 …`, where the name in parentheses may hold anything.
pub fn stat(text: &[u8]) -> Option<Stat> {
    let (start, end) = (text.iter().position(|b| *b == b'(')?, text.iter().rposition(|b| *b == b')')?);
    let comm = comm(text.get(start + 1..end)?);
    let mut columns = words(&text[end + 1..]);
    let state = *columns.next()?.first()?;
    let parent = u32::try_from(number(columns.next()?)?).ok()?;
    let mut next = |skip: usize| number(columns.nth(skip)?);
    Some(Stat {
        comm,
        state,
        parent,
        minor_faults: next(5)?,
        major_faults: next(1)?,
        user: next(1)?,
        system: next(0)?,
        threads: next(4)?,
        start: next(1)?,
        virtual_bytes: next(0)?,
        resident_pages: next(0)?,
    })
}

/// Of `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The effective user.
    pub user: u32,
    /// What is swapped out, in bytes.
    pub swapped: u64,
    /// How often it gave up the CPU.
    pub voluntary: u64,
    /// How often the CPU was taken from it.
    pub nonvoluntary: u64,
}

/// Reads `status`; a kernel thread has no memory and so nothing swapped out.
pub fn status(text: &[u8]) -> Option<Status> {
    let mut status = Status::default();
    let (mut has_user, mut has_switches) = (false, 0);
    for line in lines(text) {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let mut values = words(&line[colon + 1..]);
        match &line[..colon] {
            b"Uid" => {
                status.user = u32::try_from(number(values.nth(1)?)?).ok()?;
                has_user = true;
            }
            b"VmSwap" => status.swapped = kilobytes(values.next()?)?,
            b"voluntary_ctxt_switches" => {
                status.voluntary = number(values.next()?)?;
                has_switches += 1;
            }
            b"nonvoluntary_ctxt_switches" => {
                status.nonvoluntary = number(values.next()?)?;
                has_switches += 1;
            }
            _ => {}
        }
    }
    (has_user && has_switches == 2).then_some(status)
}

fn kilobytes(word: &[u8]) -> Option<u64> {
    number(word)?.checked_mul(1024)
}

/// The effective capabilities in `status`, as bits (capabilities(7)).
pub fn effective_capabilities(status: &[u8]) -> Option<u64> {
    let line = lines(status).find_map(|line| line.strip_prefix(b"CapEff:"))?;
    hexadecimal(words(line).next()?)
}

/// Of `io`: what went to and came from disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

/// Reads `io`.
pub fn io(text: &[u8]) -> Option<Io> {
    let find = |key: &[u8]| number(words(lines(text).find_map(|line| line.strip_prefix(key))?).next()?);
    Some(Io { read: find(b"read_bytes:")?, written: find(b"write_bytes:")? })
}

/// The soft limit of open files in `limits`; the largest number where there is none.
pub fn open_files_limit(text: &[u8]) -> Option<u64> {
    let line = lines(text).find_map(|line| line.strip_prefix(b"Max open files"))?;
    match words(line).next()? {
        b"unlimited" => Some(u64::MAX),
        word => number(word),
    }
}

/// Of `smaps_rollup`: memory of which shared pages count in parts, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmapsRollup {
    /// Resident.
    pub resident: u64,
    /// Swapped out.
    pub swapped: u64,
}

/// Reads `smaps_rollup`.
pub fn smaps_rollup(text: &[u8]) -> Option<SmapsRollup> {
    let find = |key: &[u8]| kilobytes(words(lines(text).find_map(|line| line.strip_prefix(key))?).next()?);
    Some(SmapsRollup { resident: find(b"Pss:")?, swapped: find(b"SwapPss:")? })
}

/// The ids of containers in `cgroup`, the outermost first. A container that runs containers of its own has theirs below
/// its own; a node that is a container itself has its own above those of its pods.
pub fn containers_in(text: &[u8]) -> impl Iterator<Item = &str> {
    let paths = lines(text).filter_map(|line| line.splitn(3, |b| *b == b':').nth(2));
    let names = paths.flat_map(|path| path.split(|b| *b == b'/'));
    names.filter_map(|name| container_id(std::str::from_utf8(name).ok()?))
}

/// The id of the container whose cgroup has this name: `<id>` and `crio-<id>` with the cgroupfs driver;
/// `cri-containerd-<id>.scope`, `crio-<id>.scope` and `docker-<id>.scope` with systemd's. CRI-O's monitor beside the
/// container, `crio-conmon-<id>`, is none.
pub fn container_id(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id =
        ["cri-containerd-", "crio-", "docker-"].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
    let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then_some(id)
}

/// Whether `cgroup` tells of a cgroup at or below the root of our cgroup namespace: whatever is elsewhere begins with
/// `/..` (cgroup_namespaces(7)). Only cgroup v2 is asked, where runtimes give containers a namespace of their own.
pub fn is_below_own_root(text: &[u8]) -> bool {
    let path = lines(text).find_map(|line| line.strip_prefix(b"0::"));
    path.is_some_and(|path| path.split(|b| *b == b'/').nth(1) != Some(b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_whatever_follows_it() {
        for name in ["init", "a) R 1", "x\ny", "(", "", "\u{fffd}"] {
            let text =
                format!("7 ({name}) S 1 7 7 0 -1 4194304 11 0 3 0 50 20 0 0 20 0 4 0 9000 4096 12 99\n");
            let expected = Stat {
                comm: comm(name.as_bytes()),
                state: b'S',
                parent: 1,
                minor_faults: 11,
                major_faults: 3,
                user: 50,
                system: 20,
                threads: 4,
                start: 9000,
                virtual_bytes: 4096,
                resident_pages: 12,
            };
            assert_eq!(stat(text.as_bytes()), Some(expected), "{name}");
        }
        for broken in
            ["", "7 (a", "7 (a) S", ") (", "7 (a) S 1 7 7 0 -1 4194304 11 0 3 0 50 20 0 0 20 0 4 0 9000"]
        {
            assert_eq!(stat(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn a_kernel_thread_has_no_memory() {
        let text = "Name:\tkthreadd\nUid:\t0\t7\t0\t0\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t6\n";
        let expected = Status { user: 7, swapped: 0, voluntary: 5, nonvoluntary: 6 };
        assert_eq!(status(text.as_bytes()), Some(expected));
        let swapped = text.replace("Uid", "VmSwap:\t    8 kB\nUid");
        assert_eq!(status(swapped.as_bytes()), Some(Status { swapped: 8192, ..expected }));
        assert_eq!(status(b"Name:\ta\nUid:\t0\t0\n"), None, "cut");
        assert_eq!(effective_capabilities(b"CapPrm:\t0\nCapEff:\t0000000000080004\n"), Some(0x80004));
    }

    #[test]
    fn what_needs_rights_is_read() {
        let text = b"rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: 4\ncancelled_write_bytes: 0\n";
        assert_eq!(io(text), Some(Io { read: 3, written: 4 }));
        let limits =
            "Limit    Soft Limit   Hard Limit  Units\nMax open files            1024   4096    files\n";
        assert_eq!(open_files_limit(limits.as_bytes()), Some(1024));
        assert_eq!(open_files_limit(b"Max open files  unlimited unlimited files"), Some(u64::MAX));
        let rollup = b"00400000-7ff ---p 00000000 00:00 0 [rollup]\nRss: 9 kB\nPss: 8 kB\nSwapPss: 1 kB\n";
        assert_eq!(smaps_rollup(rollup), Some(SmapsRollup { resident: 8192, swapped: 1024 }));
    }

    #[test]
    fn containers_are_found_from_the_outermost_on() {
        let (outer, inner) = ("0123456789abcdef".repeat(4), "f".repeat(64));
        let text = format!("0::/../../kubepods-podx.slice/cri-containerd-{outer}.scope/docker/{inner}\n");
        assert_eq!(containers_in(text.as_bytes()).collect::<Vec<_>>(), [outer.as_str(), &inner]);
        assert_eq!(containers_in(b"0::/system.slice/containerd.service\ngarbage").count(), 0);
        let monitor = format!("0::/kubepods.slice/kubepods-podx.slice/crio-conmon-{outer}.scope");
        assert_eq!(containers_in(monitor.as_bytes()).count(), 0, "of the runtime, not of the container");
    }

    #[test]
    fn what_is_not_below_the_own_root_begins_with_dots() {
        for (text, expected) in [
            ("0::/\n", true),
            ("0::/init.scope\n", true),
            ("4:memory:/a\n0::/..a\n", true),
            ("0::/..\n", false),
            ("0::/../../podx/id\n", false),
            ("4:memory:/\n", false),
            ("", false),
        ] {
            assert_eq!(is_below_own_root(text.as_bytes()), expected, "{text}");
        }
    }
}
