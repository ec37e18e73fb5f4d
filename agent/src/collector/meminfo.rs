//! What the memory of the machine is used for.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{FamilyDesc, Kind, Labels, Writer};
use crate::source::file::NodeFile;
use crate::source::text::{label, lines, number, whole_lines, words};

/// `meminfo`
pub(super) const COLLECTOR: Collector = Collector {
    name: "meminfo",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| Box::new(Meminfo(NodeFile::whole(paths.procfs.join("meminfo")))),
        can_block: false,
    },
};

/// Declares a family for each key, which is named for it without parentheses.
macro_rules! keys {
    ($($key:literal $name:literal;)*) => {
        const KEYS: &[&str] = &[$($key),*];

        const FAMILIES: &[FamilyDesc] = &[$(FamilyDesc {
            name: concat!("node_memory_", $name),
            kind: Kind::Gauge,
            help: concat!("Memory information field ", $name, "."),
        }),*];
    };
}

// All that fs/proc/meminfo.c, mm/hugetlb.c and the architectures (`arch_report_meminfo`) have written since Linux 4.18,
// in the kernel's order, which makes the next line's family the next one here.
keys! {
    "MemTotal" "MemTotal_bytes";
    "MemFree" "MemFree_bytes";
    "MemAvailable" "MemAvailable_bytes";
    "Buffers" "Buffers_bytes";
    "Cached" "Cached_bytes";
    "SwapCached" "SwapCached_bytes";
    "Active" "Active_bytes";
    "Inactive" "Inactive_bytes";
    "Active(anon)" "Active_anon_bytes";
    "Inactive(anon)" "Inactive_anon_bytes";
    "Active(file)" "Active_file_bytes";
    "Inactive(file)" "Inactive_file_bytes";
    "Unevictable" "Unevictable_bytes";
    "Mlocked" "Mlocked_bytes";
    "HighTotal" "HighTotal_bytes";
    "HighFree" "HighFree_bytes";
    "LowTotal" "LowTotal_bytes";
    "LowFree" "LowFree_bytes";
    "MmapCopy" "MmapCopy_bytes";
    "SwapTotal" "SwapTotal_bytes";
    "SwapFree" "SwapFree_bytes";
    "Zswap" "Zswap_bytes";
    "Zswapped" "Zswapped_bytes";
    "Dirty" "Dirty_bytes";
    "Writeback" "Writeback_bytes";
    "AnonPages" "AnonPages_bytes";
    "Mapped" "Mapped_bytes";
    "Shmem" "Shmem_bytes";
    "KReclaimable" "KReclaimable_bytes";
    "Slab" "Slab_bytes";
    "SReclaimable" "SReclaimable_bytes";
    "SUnreclaim" "SUnreclaim_bytes";
    "KernelStack" "KernelStack_bytes";
    "ShadowCallStack" "ShadowCallStack_bytes";
    "PageTables" "PageTables_bytes";
    "SecPageTables" "SecPageTables_bytes";
    "Quicklists" "Quicklists_bytes";
    "NFS_Unstable" "NFS_Unstable_bytes";
    "Bounce" "Bounce_bytes";
    "WritebackTmp" "WritebackTmp_bytes";
    "CommitLimit" "CommitLimit_bytes";
    "Committed_AS" "Committed_AS_bytes";
    "VmallocTotal" "VmallocTotal_bytes";
    "VmallocUsed" "VmallocUsed_bytes";
    "VmallocChunk" "VmallocChunk_bytes";
    "Percpu" "Percpu_bytes";
    "EarlyMemtestBad" "EarlyMemtestBad_bytes";
    "HardwareCorrupted" "HardwareCorrupted_bytes";
    "AnonHugePages" "AnonHugePages_bytes";
    "ShmemHugePages" "ShmemHugePages_bytes";
    "ShmemPmdMapped" "ShmemPmdMapped_bytes";
    "FileHugePages" "FileHugePages_bytes";
    "FilePmdMapped" "FilePmdMapped_bytes";
    "CmaTotal" "CmaTotal_bytes";
    "CmaFree" "CmaFree_bytes";
    "Unaccepted" "Unaccepted_bytes";
    "Balloon" "Balloon_bytes";
    "GPUActive" "GPUActive_bytes";
    "GPUReclaim" "GPUReclaim_bytes";
    "HugePages_Total" "HugePages_Total";
    "HugePages_Free" "HugePages_Free";
    "HugePages_Rsvd" "HugePages_Rsvd";
    "HugePages_Surp" "HugePages_Surp";
    "Hugepagesize" "Hugepagesize_bytes";
    "Hugetlb" "Hugetlb_bytes";
    "DirectMap4k" "DirectMap4k_bytes";
    "DirectMap64k" "DirectMap64k_bytes";
    "DirectMap1M" "DirectMap1M_bytes";
    "DirectMap2M" "DirectMap2M_bytes";
    "DirectMap4M" "DirectMap4M_bytes";
    "DirectMap1G" "DirectMap1G_bytes";
    "DirectMap2G" "DirectMap2G_bytes";
}

struct Meminfo(NodeFile);

impl NodeCollector for Meminfo {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants_any(0..FAMILIES.len() as u16) {
            return Ok(());
        }
        let text = self.0.read()?;
        parse(text, |family, value| out.node(family, Labels::NONE, value))
            .map_err(|what| CollectError::parse(self.0.path(), what))
    }
}

/// `MemTotal:       24684084 kB` or, in pieces, `HugePages_Total:       0` (Documentation/filesystems/proc.rst, meminfo).
fn parse(text: &[u8], mut found: impl FnMut(u16, f64)) -> Result<(), String> {
    let (text, is_whole) = whole_lines(text);
    let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
    let mut next = 0;
    for line in lines(text) {
        match value(line) {
            Some((key, value)) => {
                let from_next = (next..KEYS.len()).chain(0..next);
                if let Some(family) = from_next.into_iter().find(|i| KEYS[*i].as_bytes() == key) {
                    found(family as u16, value);
                    next = family + 1;
                }
            }
            None => result = Err(format!("`{}` is not a key with a value", label(line))),
        }
    }
    result
}

fn value(line: &[u8]) -> Option<(&[u8], f64)> {
    let colon = line.iter().position(|b| *b == b':')?;
    let mut words = words(&line[colon + 1..]);
    let value = number(words.next()?)? as f64;
    match words.next() {
        None => Some((&line[..colon], value)),
        Some(b"kB") => Some((&line[..colon], value * 1024.0)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, f64)]) -> Result<(), String> {
        let mut found = Vec::new();
        let result =
            parse(text.as_bytes(), |family, value| found.push((FAMILIES[usize::from(family)].name, value)));
        assert_eq!(found, expected);
        result
    }

    #[test]
    fn names_lose_parentheses_and_only_sizes_are_in_bytes() {
        let text = "Active(anon):       1516 kB\nHugePages_Total:      12\nVmallocTotal:   34359738367 kB\n";
        let expected = [
            ("node_memory_Active_anon_bytes", 1516.0 * 1024.0),
            ("node_memory_HugePages_Total", 12.0),
            ("node_memory_VmallocTotal_bytes", 35_184_372_087_808.0),
        ];
        check(text, &expected).unwrap();
    }

    #[test]
    fn keys_of_a_later_kernel_and_another_order_are_no_fault() {
        let expected = [("node_memory_Dirty_bytes", 2048.0), ("node_memory_MemTotal_bytes", 1024.0)];
        check("Dirty: 2 kB\nSomethingNew: 5 kB\nMemTotal: 1 kB\n", &expected).unwrap();
    }

    #[test]
    fn a_truncated_file_gives_no_cut_number() {
        check(
            "MemTotal:       24684084 kB\nMemFree:        195",
            &[("node_memory_MemTotal_bytes", 24684084.0 * 1024.0)],
        )
        .unwrap_err();
        check("", &[]).unwrap_err();
        check("MemTotal: x kB\nMemFree: 1 kB\n", &[("node_memory_MemFree_bytes", 1024.0)]).unwrap_err();
        check("MemTotal: 1 MB\n", &[]).unwrap_err();
    }
}
