//! What pods and containers take of the node's disk and of their volumes, from the kubelet's `/stats/summary`.

use super::{Collector, Run};
use crate::metric::{Labels, Subject, Writer, families};
use crate::scrape::Part;
use crate::source::kubelet::Usage;
use crate::storage::{Reading, Storage};

/// `container_storage`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_storage",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Storage { part: Part::Cadvisor, collect },
};

families! {
    Ephemeral Gauge "container_ephemeral_storage_usage_bytes" "Bytes that count against the limit of ephemeral storage: of a container its writable layer and logs, of a pod its emptyDirs on disk too.";
    EphemeralInodes Gauge "container_ephemeral_storage_inodes" "Files and folders of the same.";
    Limit Gauge "container_spec_ephemeral_storage_limit_bytes" "Limit of ephemeral storage; a pod or container without one has no series.";
    Root Gauge "container_rootfs_usage_bytes" "Bytes that the container has written to its root file system.";
    RootInodes Gauge "container_rootfs_inodes" "Files and folders that the container has written to its root file system.";
    Logs Gauge "container_logs_usage_bytes" "Bytes of the container's logs on the node.";
    LogsInodes Gauge "container_logs_inodes" "Files and folders of the container's logs on the node.";
    Volume Gauge "container_volume_usage_bytes" "Bytes used of an emptyDir or a claim of the pod.";
    VolumeCapacity Gauge "container_volume_capacity_bytes" "Bytes that the file system of the volume has; of an emptyDir on disk that is the node's.";
    VolumeAvailable Gauge "container_volume_available_bytes" "Bytes that are free on the file system of the volume.";
    VolumeInodes Gauge "container_volume_inodes" "Files and folders of the volume.";
}

fn collect(storage: &Storage, out: &mut Writer<'_>) {
    for (slot, limit, reading) in storage.rows() {
        let subject = Subject::cgroup(slot);
        let mut push = |family, value: Option<u64>| {
            if let Some(value) = value {
                out.push(family, subject, Labels::NONE, value as f64);
            }
        };
        push(F::Limit, limit);
        match reading {
            Reading::Nothing => {}
            Reading::Container(container) => {
                let both = sum(container.root, container.logs);
                push(F::Ephemeral, both.used_bytes);
                push(F::EphemeralInodes, both.inodes_used);
                push(F::Root, container.root.used_bytes);
                push(F::RootInodes, container.root.inodes_used);
                push(F::Logs, container.logs.used_bytes);
                push(F::LogsInodes, container.logs.inodes_used);
            }
            Reading::Pod(pod, volumes) => {
                push(F::Ephemeral, pod.ephemeral.used_bytes);
                push(F::EphemeralInodes, pod.ephemeral.inodes_used);
                for volume in volumes.iter().map(|volume| &pod.volumes[*volume]) {
                    let labels = out.escaped(&volume.labels);
                    for (family, value) in [
                        (F::Volume, volume.size.used_bytes),
                        (F::VolumeCapacity, volume.size.capacity_bytes),
                        (F::VolumeAvailable, volume.size.available_bytes),
                        (F::VolumeInodes, volume.size.inodes_used),
                    ] {
                        if let Some(value) = value {
                            out.push(family, subject, labels, value as f64);
                        }
                    }
                }
            }
        }
    }
}

/// Of both what is known of any.
fn sum(a: Usage, b: Usage) -> Usage {
    let add = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
    };
    Usage { used_bytes: add(a.used_bytes, b.used_bytes), inodes_used: add(a.inodes_used, b.inodes_used) }
}
