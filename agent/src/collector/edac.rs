//! Memory errors that were corrected and that were not, of each memory controller, row and channel.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::devices::{Below, Devices};
use crate::metric::{Labels, Writer, families};

/// `edac`
pub(super) const COLLECTOR: Collector = Collector {
    name: "edac",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let folder = paths.sysfs.join("devices/system/edac/mc");
            Box::new(Edac {
                controllers: Devices::new(folder, CONTROLLER, &paths.handles)
                    .only(|name| number_after("mc", name).is_some()),
                rows: Below::new("", ROW, |name| number_after("csrow", name).is_some(), &paths.handles),
                label: String::new(),
            })
        },
        can_block: false,
    },
};

families! {
    ChannelCorrectable Counter "node_edac_channel_correctable_errors_total" "Total correctable memory errors for this channel.";
    ChannelUncorrectable Counter "node_edac_channel_uncorrectable_errors_total" "Total uncorrectable memory errors for this channel.";
    Correctable Counter "node_edac_correctable_errors_total" "Total correctable memory errors.";
    RowCorrectable Counter "node_edac_csrow_correctable_errors_total" "Total correctable memory errors for this csrow.";
    RowUncorrectable Counter "node_edac_csrow_uncorrectable_errors_total" "Total uncorrectable memory errors for this csrow.";
    Uncorrectable Counter "node_edac_uncorrectable_errors_total" "Total uncorrectable memory errors.";
}

/// Documentation/ABI/testing/sysfs-devices-edac
const CONTROLLER: &[&str] = &["ce_count", "ue_count", "ce_noinfo_count", "ue_noinfo_count"];

macro_rules! row {
    ($($channel:literal)*) => {
        const CHANNELS: &[&str] = &[$(stringify!($channel)),*];
        const ROW: &[&str] = &["ce_count", "ue_count", $(
            concat!("ch", $channel, "_ce_count"),
            concat!("ch", $channel, "_ue_count"),
            concat!("ch", $channel, "_dimm_label"),
        )*];
    };
}

// A channel without memory has no files (drivers/edac/edac_mc_sysfs.c, csrow_dev_is_visible), which has up to 12.
row! { 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 }

const CE_COUNT: usize = 0;
const UE_COUNT: usize = 1;
const CE_NOINFO_COUNT: usize = 2;
const UE_NOINFO_COUNT: usize = 3;

struct Edac {
    controllers: Devices,
    rows: Below,
    label: String,
}

impl NodeCollector for Edac {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Edac { controllers, rows, label } = self;
        controllers.list_if_there()?;
        let result = rows.list(controllers);
        for i in 0..controllers.len() {
            let Some(number) = number_after("mc", controllers.name(i)) else { continue };
            let controller = out.labels(&[("controller", number)]);
            let unknown = out.with(controller, "csrow", "unknown");
            for (file, family, labels) in [
                (CE_COUNT, F::Correctable, controller),
                (CE_NOINFO_COUNT, F::RowCorrectable, unknown),
                (UE_COUNT, F::Uncorrectable, controller),
                (UE_NOINFO_COUNT, F::RowUncorrectable, unknown),
            ] {
                count(controllers, i, file, family, labels, out);
            }
            let rows = rows.of(i);
            for row in 0..rows.len() {
                let Some(number) = number_after("csrow", rows.name(row)) else { continue };
                let labels = out.with(controller, "csrow", number);
                count(rows, row, CE_COUNT, F::RowCorrectable, labels, out);
                count(rows, row, UE_COUNT, F::RowUncorrectable, labels, out);
                for (channel, file) in CHANNELS.iter().zip((2..).step_by(3)) {
                    let Some(errors) = rows.number(row, file) else { continue };
                    label.clear();
                    match rows.text(row, file + 2) {
                        Some(text) => push_label(label, &text),
                        None => label.push_str("unknown"),
                    }
                    let labels = out.with(labels, "channel", channel);
                    let labels = out.with(labels, "dimm_label", label);
                    out.node(F::ChannelCorrectable, labels, errors as f64);
                    count(rows, row, file + 1, F::ChannelUncorrectable, labels, out);
                }
            }
        }
        result.and(controllers.result()).and(rows.result())
    }
}

fn count(devices: &mut Devices, device: usize, file: usize, family: F, labels: Labels, out: &mut Writer<'_>) {
    if let Some(errors) = devices.number(device, file) {
        out.node(family, labels, errors as f64);
    }
}

/// `mc0_csrow1_channel2` of `mc#0csrow#1channel#2`.
fn push_label(label: &mut String, text: &str) {
    for part in text.split('#') {
        let mut rest = part;
        while let Some(at) = ["csrow", "channel"].iter().filter_map(|word| rest.find(word)).min() {
            label.push_str(&rest[..at]);
            label.push('_');
            // Both begin with it, so that what is found is not found again.
            label.push('c');
            rest = &rest[at + 1..];
        }
        label.push_str(rest);
    }
}

fn number_after<'a>(what: &str, name: &'a str) -> Option<&'a str> {
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    name.strip_prefix(what).filter(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_memory_are_told_apart_by_underscores() {
        let found =
            ["mc#0csrow#1channel#2", "CPU_SrcID#0_MC#1_Chan#0_DIMM#0", "csrowchannel", ""].map(|text| {
                let mut label = String::new();
                push_label(&mut label, text);
                label
            });
        assert_eq!(found, ["mc0_csrow1_channel2", "CPU_SrcID0_MC1_Chan0_DIMM0", "_csrow_channel", ""]);
    }
}
