//! What NFS mounts do: bytes, events, operations and transports of each.

mod nfs;

use std::collections::HashMap;

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::Paths;
use crate::source::file::{FileError, NodeFile};
use crate::source::text::{label, whole_lines};
use nfs::{Mount, Nfs, address, blocks};

/// `mountstats`
pub(super) const COLLECTOR: Collector = Collector {
    name: "mountstats",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node { start: |paths, _| Box::new(Mountstats::new(paths)), can_block: false },
};

families! {
    AgeSeconds Counter "node_mountstats_nfs_age_seconds_total" "The age of the NFS mount in seconds.";
    MountpointInfo Gauge "node_mountstats_nfs_mountpoint_info" "Info metric for an NFS mountpoint.";
    ReadBytes Counter "node_mountstats_nfs_read_bytes_total" "Number of bytes read using the read() syscall.";
    WriteBytes Counter "node_mountstats_nfs_write_bytes_total" "Number of bytes written using the write() syscall.";
    DirectReadBytes Counter "node_mountstats_nfs_direct_read_bytes_total" "Number of bytes read using the read() syscall in O_DIRECT mode.";
    DirectWriteBytes Counter "node_mountstats_nfs_direct_write_bytes_total" "Number of bytes written using the write() syscall in O_DIRECT mode.";
    TotalReadBytes Counter "node_mountstats_nfs_total_read_bytes_total" "Number of bytes read from the NFS server, in total.";
    TotalWriteBytes Counter "node_mountstats_nfs_total_write_bytes_total" "Number of bytes written to the NFS server, in total.";
    ReadPages Counter "node_mountstats_nfs_read_pages_total" "Number of pages read directly via mmap()'d files.";
    WritePages Counter "node_mountstats_nfs_write_pages_total" "Number of pages written directly via mmap()'d files.";
    TransportBind Counter "node_mountstats_nfs_transport_bind_total" "Number of times the client has had to establish a connection from scratch to the NFS server.";
    TransportConnect Counter "node_mountstats_nfs_transport_connect_total" "Number of times the client has made a TCP connection to the NFS server.";
    TransportIdleTimeSeconds Gauge "node_mountstats_nfs_transport_idle_time_seconds" "Duration since the NFS mount last saw any RPC traffic, in seconds.";
    TransportSends Counter "node_mountstats_nfs_transport_sends_total" "Number of RPC requests for this mount sent to the NFS server.";
    TransportReceives Counter "node_mountstats_nfs_transport_receives_total" "Number of RPC responses for this mount received from the NFS server.";
    TransportBadTransactionIDs Counter "node_mountstats_nfs_transport_bad_transaction_ids_total" "Number of times the NFS server sent a response with a transaction ID unknown to this client.";
    TransportBacklogQueue Counter "node_mountstats_nfs_transport_backlog_queue_total" "Total number of items added to the RPC backlog queue.";
    TransportMaximumRPCSlots Gauge "node_mountstats_nfs_transport_maximum_rpc_slots" "Maximum number of simultaneously active RPC requests ever used.";
    TransportSendingQueue Counter "node_mountstats_nfs_transport_sending_queue_total" "Total number of items added to the RPC transmission sending queue.";
    TransportPendingQueue Counter "node_mountstats_nfs_transport_pending_queue_total" "Total number of items added to the RPC transmission pending queue.";
    OperationsRequests Counter "node_mountstats_nfs_operations_requests_total" "Number of requests performed for a given operation.";
    OperationsTransmissions Counter "node_mountstats_nfs_operations_transmissions_total" "Number of times an actual RPC request has been transmitted for a given operation.";
    OperationsMajorTimeouts Counter "node_mountstats_nfs_operations_major_timeouts_total" "Number of times a request has had a major timeout for a given operation.";
    OperationsSentBytes Counter "node_mountstats_nfs_operations_sent_bytes_total" "Number of bytes sent for a given operation, including RPC headers and payload.";
    OperationsReceivedBytes Counter "node_mountstats_nfs_operations_received_bytes_total" "Number of bytes received for a given operation, including RPC headers and payload.";
    OperationsQueueTimeSeconds Counter "node_mountstats_nfs_operations_queue_time_seconds_total" "Duration all requests spent queued for transmission for a given operation before they were sent, in seconds.";
    OperationsResponseTimeSeconds Counter "node_mountstats_nfs_operations_response_time_seconds_total" "Duration all requests took to get a reply back after a request for a given operation was transmitted, in seconds.";
    OperationsRequestTimeSeconds Counter "node_mountstats_nfs_operations_request_time_seconds_total" "Duration all requests took from when a request was enqueued to when it was completely handled for a given operation, in seconds.";
    EventInodeRevalidate Counter "node_mountstats_nfs_event_inode_revalidate_total" "Number of times cached inode attributes are re-validated from the server.";
    EventDnodeRevalidate Counter "node_mountstats_nfs_event_dnode_revalidate_total" "Number of times cached dentry nodes are re-validated from the server.";
    EventDataInvalidate Counter "node_mountstats_nfs_event_data_invalidate_total" "Number of times an inode cache is cleared.";
    EventAttributeInvalidate Counter "node_mountstats_nfs_event_attribute_invalidate_total" "Number of times cached inode attributes are invalidated.";
    EventVFSOpen Counter "node_mountstats_nfs_event_vfs_open_total" "Number of times files or directories have been open()'d.";
    EventVFSLookup Counter "node_mountstats_nfs_event_vfs_lookup_total" "Number of times a directory lookup has occurred.";
    EventVFSAccess Counter "node_mountstats_nfs_event_vfs_access_total" "Number of times permissions have been checked.";
    EventVFSUpdatePage Counter "node_mountstats_nfs_event_vfs_update_page_total" "Number of updates (and potential writes) to pages.";
    EventVFSReadPage Counter "node_mountstats_nfs_event_vfs_read_page_total" "Number of pages read directly via mmap()'d files.";
    EventVFSReadPages Counter "node_mountstats_nfs_event_vfs_read_pages_total" "Number of times a group of pages have been read.";
    EventVFSWritePage Counter "node_mountstats_nfs_event_vfs_write_page_total" "Number of pages written directly via mmap()'d files.";
    EventVFSWritePages Counter "node_mountstats_nfs_event_vfs_write_pages_total" "Number of times a group of pages have been written.";
    EventVFSGetdents Counter "node_mountstats_nfs_event_vfs_getdents_total" "Number of times directory entries have been read with getdents().";
    EventVFSSetattr Counter "node_mountstats_nfs_event_vfs_setattr_total" "Number of times attributes have been set on inodes.";
    EventVFSFlush Counter "node_mountstats_nfs_event_vfs_flush_total" "Number of pending writes that have been forcefully flushed to the server.";
    EventVFSFsync Counter "node_mountstats_nfs_event_vfs_fsync_total" "Number of times fsync() has been called on directories and files.";
    EventVFSLock Counter "node_mountstats_nfs_event_vfs_lock_total" "Number of times locking has been attempted on a file.";
    EventVFSFileRelease Counter "node_mountstats_nfs_event_vfs_file_release_total" "Number of times files have been closed and released.";
    EventTruncation Counter "node_mountstats_nfs_event_truncation_total" "Number of times files have been truncated.";
    EventWriteExtension Counter "node_mountstats_nfs_event_write_extension_total" "Number of times a file has been grown due to writes beyond its existing end.";
    EventSillyRename Counter "node_mountstats_nfs_event_silly_rename_total" "Number of times a file was removed while still open by another process.";
    EventShortRead Counter "node_mountstats_nfs_event_short_read_total" "Number of times the NFS server gave less data than expected while reading.";
    EventShortWrite Counter "node_mountstats_nfs_event_short_write_total" "Number of times the NFS server wrote less data than expected while writing.";
    EventJukeboxDelay Counter "node_mountstats_nfs_event_jukebox_delay_total" "Number of times the NFS server indicated EJUKEBOX; retrieving data from offline storage.";
    EventPNFSRead Counter "node_mountstats_nfs_event_pnfs_read_total" "Number of NFS v4.1+ pNFS reads.";
    EventPNFSWrite Counter "node_mountstats_nfs_event_pnfs_write_total" "Number of NFS v4.1+ pNFS writes.";
}

// In the order of the columns.
const BYTES: [F; nfs::BYTES] = [
    F::ReadBytes,
    F::WriteBytes,
    F::DirectReadBytes,
    F::DirectWriteBytes,
    F::TotalReadBytes,
    F::TotalWriteBytes,
    F::ReadPages,
    F::WritePages,
];
const EVENTS: [Option<F>; nfs::EVENTS] = [
    Some(F::EventInodeRevalidate),
    Some(F::EventDnodeRevalidate),
    Some(F::EventDataInvalidate),
    Some(F::EventAttributeInvalidate),
    Some(F::EventVFSOpen),
    Some(F::EventVFSLookup),
    Some(F::EventVFSAccess),
    Some(F::EventVFSUpdatePage),
    Some(F::EventVFSReadPage),
    Some(F::EventVFSReadPages),
    Some(F::EventVFSWritePage),
    Some(F::EventVFSWritePages),
    Some(F::EventVFSGetdents),
    Some(F::EventVFSSetattr),
    Some(F::EventVFSFlush),
    Some(F::EventVFSFsync),
    Some(F::EventVFSLock),
    Some(F::EventVFSFileRelease),
    // Congestion waits, which the kernel no longer counts.
    None,
    Some(F::EventTruncation),
    Some(F::EventWriteExtension),
    Some(F::EventSillyRename),
    Some(F::EventShortRead),
    Some(F::EventShortWrite),
    Some(F::EventJukeboxDelay),
    Some(F::EventPNFSRead),
    Some(F::EventPNFSWrite),
];
const OPERATIONS: [F; nfs::OPERATIONS] = [
    F::OperationsRequests,
    F::OperationsTransmissions,
    F::OperationsMajorTimeouts,
    F::OperationsSentBytes,
    F::OperationsReceivedBytes,
    F::OperationsQueueTimeSeconds,
    F::OperationsResponseTimeSeconds,
    F::OperationsRequestTimeSeconds,
];
const TRANSPORT: [Option<F>; nfs::TRANSPORT] = [
    // The port, and how long connecting took in ticks of unknown length.
    None,
    Some(F::TransportBind),
    Some(F::TransportConnect),
    None,
    Some(F::TransportIdleTimeSeconds),
    Some(F::TransportSends),
    Some(F::TransportReceives),
    Some(F::TransportBadTransactionIDs),
    None,
    Some(F::TransportBacklogQueue),
    Some(F::TransportMaximumRPCSlots),
    Some(F::TransportSendingQueue),
    Some(F::TransportPendingQueue),
];

struct Mountstats {
    stats: [NodeFile; 2],
    infos: [NodeFile; 2],
    /// Whether our own mounts are the machine's.
    is_own: bool,
    mounts: Mounts,
}

/// What is kept from one scrape to the next, so that none needs room of its own.
#[derive(Default)]
struct Mounts {
    /// What was given, and whether it was this time.
    given: HashMap<String, bool>,
    key: String,
    nfs: Nfs,
}

impl Mountstats {
    fn new(paths: &Paths) -> Self {
        let both =
            |file: &str| ["1", "self"].map(|process| NodeFile::new(paths.procfs.join(process).join(file)));
        let is_own = paths.procfs == std::path::Path::new("/proc");
        Mountstats { stats: both("mountstats"), infos: both("mountinfo"), is_own, mounts: Mounts::default() }
    }
}

impl NodeCollector for Mountstats {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let [first, own] = &mut self.stats;
        let place = match first.read().err() {
            // Only root reads those of process 1.
            Some(FileError { source: Errno::ACCESS, .. }) if self.is_own => 1,
            Some(error) => return Err(error.into()),
            None => 0,
        };
        let stats = if place == 1 { own } else { first };
        let info = self.infos[place].read()?;
        let text = stats.read()?;
        self.mounts.give(text, info, out).map_err(|what| CollectError::parse(stats.path(), what))
    }
}

impl Mounts {
    fn give(&mut self, text: &[u8], info: &[u8], out: &mut Writer<'_>) -> Result<(), String> {
        let (text, is_whole) = whole_lines(text);
        let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
        self.given.values_mut().for_each(|is_now| *is_now = false);
        for (place, block) in blocks(text).enumerate() {
            let Some(mount) = Mount::new(block) else { continue };
            if let Err(what) = self.nfs.parse(&mount, block) {
                result = Err(format!("{}: {what}", label(mount.point)));
                continue;
            }
            let address = label(address(info, place, mount.point));
            let (device, point) = (label(mount.device), label(mount.point));
            for transport in 0..self.nfs.transports.len() {
                let protocol = self.nfs.transports[transport].0;
                let common = [("export", &*device), ("protocol", protocol), ("mountaddr", &address)];
                let common_labels = out.labels(&common);
                let [export, protocol, address] = common.map(|(_, value)| value);
                if self.is_first([export, protocol, address, &point]) {
                    let labels = out.with(common_labels, "mountpoint", &point);
                    out.node(F::MountpointInfo, labels, 1.0);
                }
                // What is mounted in several places has its counters once.
                if !self.is_first([export, protocol, address, ""]) {
                    break;
                }
                series(&self.nfs, common_labels, out);
            }
        }
        self.given.retain(|_, is_now| *is_now);
        result
    }

    /// Whether this was not given yet this time; from now on it was.
    fn is_first(&mut self, parts: [&str; 4]) -> bool {
        self.key.clear();
        for part in parts {
            self.key.push_str(part);
            self.key.push('\n');
        }
        match self.given.get_mut(&self.key) {
            Some(is_now) => !std::mem::replace(is_now, true),
            None => self.given.insert(self.key.clone(), true).is_none(),
        }
    }
}

fn series(nfs: &Nfs, common: Labels, out: &mut Writer<'_>) {
    out.node(F::AgeSeconds, common, nfs.age);
    for (family, value) in BYTES.into_iter().zip(nfs.bytes) {
        out.node(family, common, value as f64);
    }
    for (family, value) in EVENTS.into_iter().zip(nfs.events) {
        family.into_iter().for_each(|family| out.node(family, common, value as f64));
    }
    for (i, (_, values)) in nfs.transports.iter().enumerate() {
        let labels = out.with(common, "transport", itoa::Buffer::new().format(i));
        for (family, value) in TRANSPORT.into_iter().zip(values) {
            family.into_iter().for_each(|family| out.node(family, labels, amount(family, *value)));
        }
    }
    for (operation, values) in nfs.operations() {
        let labels = out.with(common, "operation", operation);
        for (family, value) in OPERATIONS.into_iter().zip(values) {
            out.node(family, labels, amount(family, *value));
        }
    }
}

/// Times are counted in milliseconds; the kernel lets them, and the idle time, go below zero and so become huge.
fn amount(family: F, value: u64) -> f64 {
    const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
    match family {
        F::TransportIdleTimeSeconds => (value % EXACT) as f64,
        F::OperationsQueueTimeSeconds
        | F::OperationsResponseTimeSeconds
        | F::OperationsRequestTimeSeconds => (value % EXACT) as f64 / 1000.0,
        _ => value as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const INFO: &str = "20 1 0:19 / / rw - ext4 /dev/vda rw\n40 20 0:40 / /mnt rw shared:7 - nfs4 s:/a rw,addr=10.0.0.7,x\n\
        41 20 0:40 / /too rw - nfs4 s:/a rw,addr=10.0.0.7\n";

    fn nfs(point: &str, transport: &str) -> String {
        let numbers = |n: u32| (1..=n).map(|n| format!(" {n}")).collect::<String>();
        format!(
            "device s:/a mounted on {point} with fstype nfs4 statvers=1.1\n\topts:\trw,addr=9\n\tage:\t60\n\tevents:\t{}\n\tbytes:\t{}\n\
             \tRPC iostats version: 1.1  p/v: 100003/4 (nfs)\n{transport}\tper-op statistics\n\t        READ: 1 2 3 4 5 6000 7 18446744073709551615 9\n\n",
            numbers(27),
            numbers(8)
        )
    }

    fn check(stats: &str) -> (Vec<String>, Result<(), CollectError>) {
        let (lines, result) =
            gives(&COLLECTOR, &[("proc/1/mountstats", stats), ("proc/1/mountinfo", INFO)], &[]);
        let prefix = "node_mountstats_nfs_";
        (lines.into_iter().map(|line| line.strip_prefix(prefix).unwrap().to_owned()).collect(), result)
    }

    #[test]
    fn a_mount_in_two_places_has_its_counters_once() {
        let tcp = "\txprt:\ttcp 832 0 1 0 11 6428 6429 0 12154 0 24 26 5726\n";
        let device = "device /dev/vda mounted on / with fstype ext4\n";
        let (lines, result) = check(&format!("{device}{}{}", nfs("/mnt", tcp), nfs("/too", tcp)));
        result.unwrap();
        let common = r#"export="s:/a",protocol="tcp",mountaddr="10.0.0.7""#;
        for line in [
            format!("age_seconds_total{{{common}}} 60"),
            format!(r#"mountpoint_info{{{common},mountpoint="/mnt"}} 1"#),
            format!(r#"mountpoint_info{{{common},mountpoint="/too"}} 1"#),
            format!(r#"transport_receives_total{{{common},transport="0"}} 6429"#),
            format!(r#"operations_queue_time_seconds_total{{{common},operation="READ"}} 6"#),
            format!("event_truncation_total{{{common}}} 20"),
            format!("write_pages_total{{{common}}} 8"),
        ] {
            assert_eq!(lines.iter().filter(|found| **found == line).count(), 1, "{line} in {lines:#?}");
        }
    }

    #[test]
    fn a_mount_that_cannot_be_understood_costs_itself() {
        let tcp = "\txprt:\ttcp 832 0 1 0 11 6428 6429 0 12154 0 24 26 5726\n";
        let (lines, result) =
            check(&format!("{}{}device s:/a mou", nfs("/x", "\txprt:\ttcp 1 2\n"), nfs("/too", tcp)));
        assert!(matches!(result, Err(CollectError::Parse { .. })));
        assert_eq!(lines.iter().filter(|line| line.starts_with("mountpoint_info")).count(), 1);
    }
}
