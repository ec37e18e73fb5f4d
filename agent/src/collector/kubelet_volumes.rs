//! Persistent volume claims that pods of the node use, as the kubelet's own `/metrics` names them.

use super::{Collector, Run};
use crate::metric::{Writer, families};
use crate::scrape::Part;
use crate::storage::Storage;

/// `kubelet_volumes`
pub(super) const COLLECTOR: Collector = Collector {
    name: "kubelet_volumes",
    // Most keep the kubelet's own, and both together would count twice.
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Storage { part: Part::Volumes, collect },
};

families! {
    Capacity Gauge "kubelet_volume_stats_capacity_bytes" "Capacity in bytes of the volume.";
    Available Gauge "kubelet_volume_stats_available_bytes" "Number of available bytes in the volume.";
    Used Gauge "kubelet_volume_stats_used_bytes" "Number of used bytes in the volume.";
    Inodes Gauge "kubelet_volume_stats_inodes" "Maximum number of inodes in the volume.";
    InodesFree Gauge "kubelet_volume_stats_inodes_free" "Number of free inodes in the volume.";
    InodesUsed Gauge "kubelet_volume_stats_inodes_used" "Number of used inodes in the volume.";
    Abnormal Gauge "kubelet_volume_stats_health_status_abnormal" "Whether the volume is abnormal (1), where its driver says.";
}

fn collect(storage: &Storage, out: &mut Writer<'_>) {
    for claim in storage.claims() {
        let labels = out.escaped(&claim.labels);
        let size = &claim.size;
        for (family, value) in [
            (F::Capacity, size.capacity_bytes),
            (F::Available, size.available_bytes),
            (F::Used, size.used_bytes),
            (F::Inodes, size.inodes),
            (F::InodesFree, size.inodes_free),
            (F::InodesUsed, size.inodes_used),
            (F::Abnormal, claim.is_abnormal.map(u64::from)),
        ] {
            if let Some(value) = value {
                out.node(family, labels, value as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::metric::Samples;
    use crate::source::kubelet::StatsSummary;

    #[test]
    fn a_claim_that_two_pods_have_is_given_once_with_the_kubelets_labels() {
        let pod = |uid: &str| {
            format!(
                r#"{{"podRef":{{"uid":"{uid}"}},"volume":[{{"name":"{uid}","capacityBytes":9,"inodesFree":4,
                    "pvcRef":{{"namespace":"shop","name":"db"}},"volumeHealthStats":{{"abnormal":false}}}}]}}"#
            )
        };
        let json = format!(r#"{{"pods":[{},{}]}}"#, pod("u"), pod("v"));
        let mut storage = Storage::default();
        storage.set(StatsSummary::parse(json.as_bytes()).unwrap(), Instant::now());
        let mut samples = Samples::new(FAMILIES.len());
        collect(&storage, &mut samples.writer(0, &[true; FAMILIES.len()]));
        let labels = br#"namespace="shop",persistentvolumeclaim="db""#;
        let found: Vec<_> = FAMILIES
            .iter()
            .enumerate()
            .flat_map(|(i, family)| samples.family(i).iter().map(move |sample| (family.name, sample)))
            .map(|(name, sample)| {
                assert_eq!(samples.labels(sample.labels), labels);
                (name.trim_start_matches("kubelet_volume_stats_"), sample.value)
            })
            .collect();
        assert_eq!(found, [("capacity_bytes", 9.0), ("inodes_free", 4.0), ("health_status_abnormal", 0.0)]);
    }
}
