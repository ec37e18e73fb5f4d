//! How full the table of tracked connections is, and what happened to it.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::Paths;
use crate::source::file::NodeFile;
use crate::source::text::{hexadecimal, label, lines, only_number, whole_lines, words};

/// `conntrack`
pub(super) const COLLECTOR: Collector = Collector {
    name: "conntrack",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node { start: |paths, _| Box::new(Conntrack::new(paths)), can_block: false },
};

families! {
    Entries Gauge "node_nf_conntrack_entries" "Number of currently allocated flow entries for connection tracking.";
    Limit Gauge "node_nf_conntrack_entries_limit" "Maximum size of connection tracking table.";
    Found Gauge "node_nf_conntrack_stat_found" "Number of searched entries which were successful.";
    Invalid Gauge "node_nf_conntrack_stat_invalid" "Number of packets seen which can not be tracked.";
    Ignore Gauge "node_nf_conntrack_stat_ignore" "Number of packets seen which are already connected to a conntrack entry.";
    Insert Gauge "node_nf_conntrack_stat_insert" "Number of entries inserted into the list.";
    InsertFailed Gauge "node_nf_conntrack_stat_insert_failed" "Number of entries for which list insertion was attempted but failed.";
    Drop Gauge "node_nf_conntrack_stat_drop" "Number of packets dropped due to conntrack failure.";
    EarlyDrop Gauge "node_nf_conntrack_stat_early_drop" "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached.";
    SearchRestart Gauge "node_nf_conntrack_stat_search_restart" "Number of conntrack table lookups which had to be restarted due to hashtable resizes.";
}

/// Which columns are summed over the CPUs (net/netfilter/nf_conntrack_standalone.c, ct_cpu_seq_show).
const SUMS: [(F, usize); 8] = [
    (F::Found, 2),
    (F::Invalid, 4),
    (F::Ignore, 5),
    (F::Insert, 8),
    (F::InsertFailed, 9),
    (F::Drop, 10),
    (F::EarlyDrop, 11),
    (F::SearchRestart, 16),
];
const COLUMNS: usize = 17;
/// The last one came with Linux 2.6.35.
const FEWEST: usize = 16;

struct Conntrack {
    /// `/proc/sys/net` is that of who reads it: nothing where that is not the machine's own.
    count: Option<NodeFile>,
    /// One limit for all network namespaces (nf_conntrack_max is a global).
    limit: NodeFile,
    stat: NodeFile,
}

impl Conntrack {
    fn new(paths: &Paths) -> Self {
        let sys = |file: &str| NodeFile::whole(paths.procfs.join("sys/net/netfilter").join(file));
        let is_own = paths.is_own_network() || paths.is_recorded();
        Conntrack {
            count: is_own.then(|| sys("nf_conntrack_count")),
            limit: sys("nf_conntrack_max"),
            stat: NodeFile::in_short_records(paths.net("stat/nf_conntrack")),
        }
    }
}

impl NodeCollector for Conntrack {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if let Some(count) = &mut self.count {
            out.node(F::Entries, Labels::NONE, number(count)?);
        }
        out.node(F::Limit, Labels::NONE, number(&mut self.limit)?);
        if !out.wants_any(SUMS.map(|(family, _)| family)) && (self.count.is_some() || !out.wants(F::Entries))
        {
            return Ok(());
        }
        let sums = parse(self.stat.read()?).map_err(|what| CollectError::parse(self.stat.path(), what))?;
        if self.count.is_none() {
            out.node(F::Entries, Labels::NONE, sums.entries as f64);
        }
        for (family, column) in SUMS {
            out.node(family, Labels::NONE, sums.columns[column] as f64);
        }
        Ok(())
    }
}

fn number(file: &mut NodeFile) -> Result<f64, CollectError> {
    let number = only_number(file.read()?);
    number.map(|n| n as f64).ok_or_else(|| CollectError::parse(file.path(), "not a number"))
}

#[derive(Debug, Default, PartialEq)]
struct Sums {
    /// Each CPU's line has the number of the namespace.
    entries: u64,
    columns: [u64; COLUMNS],
}

/// A heading, then hexadecimal columns for each CPU. A sum without one of the CPUs would go back, so a bad line costs all.
fn parse(text: &[u8]) -> Result<Sums, String> {
    let (text, is_whole) = whole_lines(text);
    if !is_whole {
        return Err("ends in the middle".to_owned());
    }
    let mut sums = Sums::default();
    for line in lines(text).skip(1) {
        let mut count = 0;
        // What a later kernel adds is passed over.
        for (sum, word) in sums.columns.iter_mut().zip(words(line)) {
            let value =
                hexadecimal(word).ok_or_else(|| format!("`{}` is not the counters of a CPU", label(line)))?;
            *sum = sum.wrapping_add(value);
            if count == 0 {
                sums.entries = value;
            }
            count += 1;
        }
        if count < FEWEST {
            return Err(format!("`{}` has too few columns", label(line)));
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const HEADING: &str = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop \
                           early_drop icmp_error  expect_new expect_create expect_delete search_restart\n";

    #[test]
    fn columns_are_summed_over_cpus_and_entries_are_not() {
        let line = |n: &str| format!("0000000a{}\n", format!("  {n}").repeat(16));
        let text = [HEADING, &line("00000001"), &line("000000ff")].concat();
        let sums = parse(text.as_bytes()).unwrap();
        assert_eq!((sums.entries, sums.columns[2], sums.columns[16]), (10, 256, 256));
        let short = [HEADING, "0000000a", &" 1".repeat(15), "\n"].concat();
        assert_eq!(parse(short.as_bytes()).unwrap().columns[16], 0, "an old kernel");
    }

    #[test]
    fn what_is_cut_is_no_sum() {
        for bad in
            ["0000000a 1 2\n", "0000000a 1 2 3 4 5 6 7 8 9 a b c d e f x\n", "0000000a 1 2 3 4 5 6 7 8 9"]
        {
            parse([HEADING, bad].concat().as_bytes()).unwrap_err();
        }
        parse(b"").unwrap_err();
    }

    #[test]
    fn without_the_statistics_entries_and_limit_are_given() {
        let files = [
            ("proc/sys/net/netfilter/nf_conntrack_count", "123\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "65536\n"),
        ];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        assert_eq!(lines, ["node_nf_conntrack_entries 123", "node_nf_conntrack_entries_limit 65536"]);
        assert!(matches!(result, Err(CollectError::Absent(_))));
    }
}
