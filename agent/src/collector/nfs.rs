//! Requests of this machine as a client of NFS.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{label, lines, number, whole_lines, words};

/// `nfs`
pub(super) const COLLECTOR: Collector = Collector {
    name: "nfs",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| Box::new(Nfs(NodeFile::whole(paths.net("rpc/nfs")))),
        can_block: false,
    },
};

families! {
    Connections Counter "node_nfs_connections_total" "Total number of NFSd TCP connections.";
    Packets Counter "node_nfs_packets_total" "Total NFSd network packets (sent+received) by protocol type.";
    Requests Counter "node_nfs_requests_total" "Number of NFS procedures invoked.";
    Refreshes Counter "node_nfs_rpc_authentication_refreshes_total" "Number of RPC authentication refreshes performed.";
    Retransmissions Counter "node_nfs_rpc_retransmissions_total" "Number of RPC transmissions performed.";
    Rpcs Counter "node_nfs_rpcs_total" "Total number of RPCs performed.";
}

/// The procedures of each version in the kernel's order (fs/nfs/nfs2xdr.c, nfs3xdr.c, nfs4xdr.c) and node_exporter's
/// spelling; later ones are passed over.
const VERSIONS: [(&[u8], &str, &[&str]); 3] = [
    (b"proc2", "2", V2),
    (b"proc3", "3", V3),
    (
        b"proc4",
        "4",
        &[
            "Null",
            "Read",
            "Write",
            "Commit",
            "Open",
            "OpenConfirm",
            "OpenNoattr",
            "OpenDowngrade",
            "Close",
            "Setattr",
            "FsInfo",
            "Renew",
            "SetClientID",
            "SetClientIDConfirm",
            "Lock",
            "Lockt",
            "Locku",
            "Access",
            "Getattr",
            "Lookup",
            "LookupRoot",
            "Remove",
            "Rename",
            "Link",
            "Symlink",
            "Create",
            "Pathconf",
            "StatFs",
            "ReadLink",
            "ReadDir",
            "ServerCaps",
            "DelegReturn",
            "GetACL",
            "SetACL",
            "FsLocations",
            "ReleaseLockowner",
            "Secinfo",
            "FsidPresent",
            "ExchangeID",
            "CreateSession",
            "DestroySession",
            "Sequence",
            "GetLeaseTime",
            "ReclaimComplete",
            "GetDeviceInfo",
            "LayoutGet",
            "LayoutCommit",
            "LayoutReturn",
            "SecinfoNoName",
            "TestStateID",
            "FreeStateID",
            "GetDeviceList",
            "BindConnToSession",
            "DestroyClientID",
            "Seek",
            "Allocate",
            "DeAllocate",
            "LayoutStats",
            "Clone",
        ],
    ),
];

/// Procedures of version 2 (RFC 1094), which client and server count alike.
pub(super) const V2: &[&str] = &[
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create",
    "Remove", "Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];
/// Procedures of version 3 (RFC 1813), which client and server count alike.
pub(super) const V3: &[&str] = &[
    "Null",
    "GetAttr",
    "SetAttr",
    "Lookup",
    "Access",
    "ReadLink",
    "Read",
    "Write",
    "Create",
    "MkDir",
    "SymLink",
    "MkNod",
    "Remove",
    "RmDir",
    "Rename",
    "Link",
    "ReadDir",
    "ReadDirPlus",
    "FsStat",
    "FsInfo",
    "PathConf",
    "Commit",
];

/// A line holds fewer than this many numbers, in any kernel yet.
pub(super) const MOST: usize = 96;

/// The numbers of a line, and how many there are; beyond [`MOST`] they are not looked at.
pub(super) fn numbers<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<([u64; MOST], usize)> {
    let (mut values, mut count) = ([0; MOST], 0);
    for (value, word) in values.iter_mut().zip(words) {
        *value = number(word)?;
        count += 1;
    }
    Some((values, count))
}

struct Nfs(NodeFile);

impl NodeCollector for Nfs {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let text = self.0.read()?;
        write(text, out).map_err(|what| CollectError::parse(self.0.path(), what))
    }
}

fn write(text: &[u8], out: &mut Writer<'_>) -> Result<(), String> {
    let (text, is_whole) = whole_lines(text);
    let mut fault = (!is_whole).then(|| "ends in the middle".to_owned());
    let mut is_there = [false; VERSIONS.len()];
    for line in lines(text) {
        let mut words = words(line);
        let key = words.next().unwrap_or_default();
        let numbers = numbers(words);
        let understood = match (key, &numbers) {
            (b"net", Some(([_, udp, tcp, connections, ..], 4))) => {
                for (protocol, packets) in [("udp", udp), ("tcp", tcp)] {
                    let labels = out.labels(&[("protocol", protocol)]);
                    out.node(F::Packets, labels, *packets as f64);
                }
                out.node(F::Connections, Labels::NONE, *connections as f64);
                true
            }
            (b"rpc", Some(([rpcs, retransmissions, refreshes, ..], 3))) => {
                out.node(F::Rpcs, Labels::NONE, *rpcs as f64);
                out.node(F::Retransmissions, Labels::NONE, *retransmissions as f64);
                out.node(F::Refreshes, Labels::NONE, *refreshes as f64);
                true
            }
            _ => match (VERSIONS.iter().position(|(known, ..)| *known == key), &numbers) {
                (Some(version), Some((values, count))) if values[0] as usize == count.wrapping_sub(1) => {
                    let (_, protocol, methods) = VERSIONS[version];
                    requests(protocol, methods, &values[1..], out);
                    is_there[version] = true;
                    true
                }
                (Some(version), _) => {
                    is_there[version] = true;
                    false
                }
                (None, _) => !matches!(key, b"net" | b"rpc"),
            },
        };
        if !understood {
            fault = Some(format!("`{}` is not the numbers of `{}`", label(line), label(key)));
        }
    }
    // A kernel that was built without a version has no line for it.
    for (_, protocol, methods) in
        VERSIONS.iter().zip(is_there).filter(|(_, there)| !there && is_whole).map(|(v, _)| v)
    {
        requests(protocol, methods, &[0; MOST], out);
    }
    fault.map_or(Ok(()), Err)
}

/// Of a kernel with fewer methods the others are 0.
fn requests(protocol: &str, methods: &[&str], values: &[u64], out: &mut Writer<'_>) {
    for (method, value) in methods.iter().zip(values) {
        let labels = out.labels(&[("method", method), ("proto", protocol)]);
        out.node(F::Requests, labels, *value as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const HEAD: &str = "net 70 0 69 45\nrpc 1218785755 374636 1218815394\nproc3 22 0 1061909262 48906 4077635 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22\n";

    #[test]
    fn requests_have_the_name_of_their_procedure() {
        let text = [HEAD, "proc4 5 1 2 3 4 5\nnew 7\n"].concat();
        let (lines, result) = gives(&COLLECTOR, &[("proc/net/rpc/nfs", &text)], &[]);
        result.unwrap();
        let has = |line: &str| assert!(lines.iter().any(|l| l == line), "{line} is not in {lines:#?}");
        has("node_nfs_connections_total 45");
        has(r#"node_nfs_packets_total{protocol="tcp"} 69"#);
        has("node_nfs_rpc_retransmissions_total 374636");
        has(r#"node_nfs_requests_total{method="GetAttr",proto="3"} 1061909262"#);
        has(r#"node_nfs_requests_total{method="Commit",proto="3"} 22"#);
        has(r#"node_nfs_requests_total{method="Commit",proto="4"} 4"#);
        has(r#"node_nfs_requests_total{method="Clone",proto="4"} 0"#);
        has(r#"node_nfs_requests_total{method="FsStat",proto="2"} 0"#);
        assert_eq!(lines.len(), 6 + 18 + 22 + 59);
    }

    #[test]
    fn a_line_with_other_than_its_number_of_numbers_costs_itself() {
        for bad in ["proc4 9 1 2\n", "net 1 2\n", "rpc 1 2 x\n", "proc3 22 1 2 3", "proc2\n"] {
            let text = ["net 70 0 69 45\n", bad].concat();
            let (lines, result) = gives(&COLLECTOR, &[("proc/net/rpc/nfs", &text)], &[]);
            assert!(matches!(result, Err(CollectError::Parse { .. })), "{bad}");
            assert!(lines.contains(&"node_nfs_connections_total 45".to_owned()), "{bad}");
            assert!(!lines.iter().any(|line| line.ends_with(" 1")), "{bad}");
        }
    }
}
