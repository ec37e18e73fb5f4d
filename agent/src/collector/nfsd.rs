//! Requests that this machine answers as a server of NFS.

use super::nfs::{MOST, V2, V3, numbers};
use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{label, lines, whole_lines, words};

/// `nfsd`
pub(super) const COLLECTOR: Collector = Collector {
    name: "nfsd",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| Box::new(Nfsd(NodeFile::whole(paths.net("rpc/nfsd")))),
        can_block: false,
    },
};

families! {
    Connections Counter "node_nfsd_connections_total" "Total number of NFSd TCP connections.";
    BytesRead Counter "node_nfsd_disk_bytes_read_total" "Total NFSd bytes read.";
    BytesWritten Counter "node_nfsd_disk_bytes_written_total" "Total NFSd bytes written.";
    StaleHandles Counter "node_nfsd_file_handles_stale_total" "Total number of NFSd stale file handles.";
    Packets Counter "node_nfsd_packets_total" "Total NFSd network packets (sent+received) by protocol type.";
    CacheNotFound Counter "node_nfsd_read_ahead_cache_not_found_total" "Total number of NFSd read ahead cache not found.";
    CacheSize Gauge "node_nfsd_read_ahead_cache_size_blocks" "How large the read ahead cache is in blocks.";
    ReplyHits Counter "node_nfsd_reply_cache_hits_total" "Total number of NFSd Reply Cache hits (client lost server response).";
    ReplyMisses Counter "node_nfsd_reply_cache_misses_total" "Total number of NFSd Reply Cache an operation that requires caching (idempotent).";
    ReplyNocache Counter "node_nfsd_reply_cache_nocache_total" "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/…).";
    Requests Counter "node_nfsd_requests_total" "Total number NFSd Requests by method and protocol.";
    Errors Counter "node_nfsd_rpc_errors_total" "Total number of NFSd RPC errors by error type.";
    Rpcs Counter "node_nfsd_server_rpcs_total" "Total number of NFSd RPCs.";
    Threads Gauge "node_nfsd_server_threads" "Total number of NFSd kernel threads that are running.";
}

/// What a line gives: the families of its numbers, with a label where several share one.
struct Line {
    key: &'static [u8],
    /// How many numbers it has; of threads there may follow a histogram that is none any more.
    count: usize,
    series: &'static [Series],
}

/// A family, the label where it has one, and the number's place.
type Series = (F, Option<(&'static str, &'static str)>, usize);

/// fs/nfsd/stats.c, nfsd_show, and net/sunrpc/stats.c, svc_seq_show. A line that is not there counts as one of zeros: the
/// read ahead cache went with Linux 5.4.
const LINES: [Line; 7] = [
    Line {
        key: b"rc",
        count: 3,
        series: &[(F::ReplyHits, None, 0), (F::ReplyMisses, None, 1), (F::ReplyNocache, None, 2)],
    },
    Line { key: b"fh", count: 5, series: &[(F::StaleHandles, None, 0)] },
    Line { key: b"io", count: 2, series: &[(F::BytesRead, None, 0), (F::BytesWritten, None, 1)] },
    Line { key: b"th", count: 2, series: &[(F::Threads, None, 0)] },
    Line { key: b"ra", count: 12, series: &[(F::CacheSize, None, 0), (F::CacheNotFound, None, 11)] },
    Line {
        key: b"net",
        count: 4,
        series: &[
            (F::Packets, Some(("proto", "udp")), 1),
            (F::Packets, Some(("proto", "tcp")), 2),
            (F::Connections, None, 3),
        ],
    },
    Line {
        key: b"rpc",
        count: 5,
        series: &[
            (F::Rpcs, None, 0),
            (F::Errors, Some(("error", "fmt")), 2),
            (F::Errors, Some(("error", "auth")), 3),
            (F::Errors, Some(("error", "cInt")), 4),
        ],
    },
];

/// Lines of requests: the version, its procedures in the kernel's order, and of how many of the first nothing is said.
/// Those of version 4 are the operations of RFC 7530; later ones are passed over, an unnamed one node_exporter leaves out.
const VERSIONS: [(&[u8], &str, &[&str], usize); 3] = [
    (b"proc2", "2", V2, 1),
    (b"proc3", "3", V3, 1),
    (
        b"proc4ops",
        "4",
        &[
            "Op0Unused",
            "Op1Unused",
            "Op2Future",
            "Access",
            "Close",
            "Commit",
            "Create",
            "DelegPurge",
            "DelegReturn",
            "GetAttr",
            "GetFH",
            "Link",
            "Lock",
            "Lockt",
            "Locku",
            "Lookup",
            "LookupRoot",
            "Nverify",
            "Open",
            "OpenAttr",
            "OpenConfirm",
            "OpenDgrd",
            "PutFH",
            "",
            "",
            "Read",
            "ReadDir",
            "ReadLink",
            "Remove",
            "Rename",
            "Renew",
            "RestoreFH",
            "SaveFH",
            "SecInfo",
            "SetAttr",
            "SetClientID",
            "SetClientIDConfirm",
            "Verify",
            "Write",
            "RelLockOwner",
        ],
        3,
    ),
];

struct Nfsd(NodeFile);

impl NodeCollector for Nfsd {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let text = self.0.read()?;
        write(text, out).map_err(|what| CollectError::parse(self.0.path(), what))
    }
}

fn write(text: &[u8], out: &mut Writer<'_>) -> Result<(), String> {
    let (text, is_whole) = whole_lines(text);
    let mut fault = (!is_whole).then(|| "ends in the middle".to_owned());
    let find = |key: &[u8]| lines(text).find(|line| words(line).next() == Some(key));
    let mut numbers_of = |key: &[u8], is_right: &dyn Fn(&[u64; MOST], usize) -> bool| match find(key) {
        Some(line) => {
            // What follows the threads has fractions.
            let most = if key == b"th" { 2 } else { MOST };
            let found =
                numbers(words(line).skip(1).take(most)).filter(|(values, count)| is_right(values, *count));
            if found.is_none() {
                fault = Some(format!("`{}` is not the numbers of `{}`", label(line), label(key)));
            }
            found.map(|(values, _)| values)
        }
        None => is_whole.then_some([0; MOST]),
    };
    for Line { key, count, series } in LINES {
        let Some(values) = numbers_of(key, &|_, found| found == count) else { continue };
        for (family, label, column) in series {
            let labels = match label {
                Some(label) => out.labels(&[*label]),
                None => Labels::NONE,
            };
            out.node(*family, labels, values[*column] as f64);
        }
    }
    for (key, protocol, methods, unsaid) in VERSIONS {
        // The line tells first how many follow.
        let Some(values) = numbers_of(key, &|values, count| values[0] as usize == count.wrapping_sub(1))
        else {
            continue;
        };
        for (method, value) in
            methods.iter().zip(&values[1..]).skip(unsaid).filter(|(method, _)| !method.is_empty())
        {
            request(protocol, method, *value, out);
        }
    }
    // Since Linux 6.6.
    if let Some(values) = numbers_of(b"wdeleg_getattr", &|_, count| count >= 1) {
        request("4", "WdelegGetattr", values[0], out);
    }
    fault.map_or(Ok(()), Err)
}

fn request(protocol: &str, method: &str, value: u64, out: &mut Writer<'_>) {
    let labels = out.labels(&[("method", method), ("proto", protocol)]);
    out.node(F::Requests, labels, value as f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const TEXT: &str = "rc 0 6 18622\nfh 7 0 0 0 0\nio 157286400 72864\nth 8 0 0.000 1.5 0.000\nra 32 0 0 0 0 0 0 0 0 0 0 9\n\
                        net 18628 0 18628 6\nrpc 18628 3 1 2 0\nproc3 22 2 112 0 2719 111 0 0 0 0 0 0 0 0 0 0 0 27 216 0 2 1 22\n\
                        proc4 2 2 10853\nproc4ops 41 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 \
                        29 30 31 32 33 34 35 36 37 38 39 40 41\nnew 1\n";

    #[test]
    fn requests_have_the_name_of_their_operation() {
        let (lines, result) = gives(&COLLECTOR, &[("proc/net/rpc/nfsd", TEXT)], &[]);
        result.unwrap();
        let has = |line: &str| assert!(lines.iter().any(|l| l == line), "{line} is not in {lines:#?}");
        has("node_nfsd_server_threads 8");
        has("node_nfsd_read_ahead_cache_not_found_total 9");
        has(r#"node_nfsd_rpc_errors_total{error="auth"} 2"#);
        has(r#"node_nfsd_requests_total{method="Commit",proto="3"} 22"#);
        has(r#"node_nfsd_requests_total{method="Access",proto="4"} 4"#);
        has(r#"node_nfsd_requests_total{method="Read",proto="4"} 26"#);
        has(r#"node_nfsd_requests_total{method="RelLockOwner",proto="4"} 40"#);
        has(r#"node_nfsd_requests_total{method="WdelegGetattr",proto="4"} 0"#);
        has(r#"node_nfsd_requests_total{method="FsStat",proto="2"} 0"#);
        let requests = lines.iter().filter(|line| line.starts_with("node_nfsd_requests_total")).count();
        assert_eq!(requests, 17 + 21 + 35 + 1);
    }

    #[test]
    fn a_bad_line_costs_itself_and_of_a_cut_file_nothing_is_taken_for_zero() {
        for bad in ["rc 0 6\n", "rc 0 x 1\n", "proc3 22 1 2\n", "th 8\n", "proc4ops 9999 1\n"] {
            let text = [bad, "net 18628 0 18628 6\n"].concat();
            let (lines, result) = gives(&COLLECTOR, &[("proc/net/rpc/nfsd", &text)], &[]);
            assert!(matches!(result, Err(CollectError::Parse { .. })), "{bad}");
            assert!(lines.contains(&"node_nfsd_connections_total 6".to_owned()), "{bad}");
        }
        let (lines, result) = gives(&COLLECTOR, &[("proc/net/rpc/nfsd", "rc 0 6 18622\nfh 1")], &[]);
        assert!(result.is_err() && lines.len() == 3);
    }
}
