//! How busy each AMD graphics card is, and how full its memory.

use std::path::PathBuf;

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::folder::Folder;
use crate::source::text::{label, number, only_number};

/// `drm`
pub(super) const COLLECTOR: Collector = Collector {
    name: "drm",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| Box::new(Drm(Folder::sysfs(paths.sysfs.join("class/drm"), &FILES, &paths.handles))),
        // The card is asked, and a sleeping one is woken.
        can_block: true,
    },
};

families! {
    CardInfo Gauge "node_drm_card_info" "Card information.";
    Busy Gauge "node_drm_gpu_busy_percent" "How busy the GPU is as a percentage.";
    GttSize Gauge "node_drm_memory_gtt_size_bytes" "The size of the graphics translation table (GTT) block in bytes.";
    GttUsed Gauge "node_drm_memory_gtt_used_bytes" "The used amount of the graphics translation table (GTT) block in bytes.";
    VisibleSize Gauge "node_drm_memory_vis_vram_size_bytes" "The size of visible VRAM in bytes.";
    VisibleUsed Gauge "node_drm_memory_vis_vram_used_bytes" "The used amount of visible VRAM in bytes.";
    VramSize Gauge "node_drm_memory_vram_size_bytes" "The size of VRAM in bytes.";
    VramUsed Gauge "node_drm_memory_vram_used_bytes" "The used amount of VRAM in bytes.";
}

/// Documentation/gpu/amdgpu
const FILES: [&str; 11] = [
    "device/uevent",
    "device/mem_info_vram_vendor",
    "device/power_dpm_force_performance_level",
    "device/unique_id",
    "device/gpu_busy_percent",
    "device/mem_info_gtt_total",
    "device/mem_info_gtt_used",
    "device/mem_info_vis_vram_total",
    "device/mem_info_vis_vram_used",
    "device/mem_info_vram_total",
    "device/mem_info_vram_used",
];
const LABELS: [usize; 3] = [1, 2, 3];
const VALUES: [(usize, F); 7] = [
    (4, F::Busy),
    (5, F::GttSize),
    (6, F::GttUsed),
    (7, F::VisibleSize),
    (8, F::VisibleUsed),
    (9, F::VramSize),
    (10, F::VramUsed),
];

struct Drm(Folder);

impl NodeCollector for Drm {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let mut result = match self.0.list() {
            // A machine without graphics has no such folder.
            Err(Errno::NOENT) => return Ok(()),
            listed => listed.map_err(|source| CollectError::read(self.0.path(), source)),
        };
        for card in 0..self.0.len() {
            // `card0-DP-1` is a connector.
            let is_card =
                self.0.name(card).strip_prefix("card").is_some_and(|n| number(n.as_bytes()).is_some());
            if is_card {
                let collected = self.card(card, out);
                result = result.and(collected);
            }
        }
        result
    }
}

impl Drm {
    fn card(&mut self, card: usize, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let is_amd = |uevent: &[u8]| uevent.split(|b| *b == b'\n').any(|line| line == b"DRIVER=amdgpu");
        match self.0.read(card, 0).map(is_amd) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(source) => return Err(CollectError::read(self.0.file_path(card, 0), source)),
        }
        let name = self.0.name(card).to_owned();
        // Not each card has each file.
        let [memory_vendor, level, unique_id] = LABELS
            .map(|file| self.0.read(card, file).map(|text| label(text).into_owned()).unwrap_or_default());
        let labels = out.labels(&[
            ("card", &name),
            ("memory_vendor", &memory_vendor),
            ("power_performance_level", &level),
            ("unique_id", &unique_id),
            ("vendor", "amd"),
        ]);
        out.node(F::CardInfo, labels, 1.0);
        let labels = out.labels(&[("card", &name)]);
        let mut fault: Option<(PathBuf, String)> = None;
        for (file, family) in VALUES {
            match self
                .0
                .read(card, file)
                .map(|text| only_number(text).ok_or_else(|| label(text).into_owned()))
            {
                Ok(Ok(value)) => out.node(family, labels, value as f64),
                Ok(Err(text)) => {
                    fault = Some((self.0.file_path(card, file), format!("`{text}` is not a number")));
                }
                Err(_) => {}
            }
        }
        fault.map_or(Ok(()), |(path, what)| Err(CollectError::parse(path, what)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    #[test]
    fn what_a_card_does_not_tell_is_not_a_zero() {
        let files = [
            ("sys/class/drm/card0/device/uevent", "DRIVER=amdgpu\nPCI_CLASS=30000\n"),
            ("sys/class/drm/card0/device/gpu_busy_percent", "4\n"),
            ("sys/class/drm/card0/device/mem_info_vram_used", "x\n"),
            ("sys/class/drm/card0/device/unique_id", "0123456789abcdef\n"),
            ("sys/class/drm/card1/device/uevent", "DRIVER=i915\n"),
            ("sys/class/drm/card0-DP-1/status", "connected\n"),
            ("sys/class/drm/version", "drm 1.1.0 20060810\n"),
        ];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        let expected = [
            r#"node_drm_card_info{card="card0",memory_vendor="",power_performance_level="",unique_id="0123456789abcdef",vendor="amd"} 1"#,
            r#"node_drm_gpu_busy_percent{card="card0"} 4"#,
        ];
        assert_eq!(lines, expected);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }
}
