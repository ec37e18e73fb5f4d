//! Reads, writes and waiting of each SCSI tape drive.

use regex::Regex;

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::devices::Devices;
use crate::metric::{Writer, families};

/// `tapestats`
pub(super) const COLLECTOR: Collector = Collector {
    name: "tapestats",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[OptionDesc::new("ignoredDevices", OptionKind::Regex, "^$", "Drives to leave out.")],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            let folder = paths.sysfs.join("class/scsi_tape");
            Box::new(Tapestats {
                // Each drive is there several times, as `st0`, `nst0`, `st0l` and so on.
                drives: Devices::new(folder, FILES, &paths.handles).only(|name| {
                    name.strip_prefix("st").is_some_and(|number| {
                        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
                    })
                }),
                ignored: options.regex(&COLLECTOR, "ignoredDevices"),
            })
        },
        can_block: false,
    },
};

families! {
    IoNow Gauge "node_tape_io_now" "The number of I/Os currently outstanding to this device.";
    IoOthers Counter "node_tape_io_others_total" "The number of I/Os issued to the tape drive other than read or write commands.";
    IoTimeSeconds Counter "node_tape_io_time_seconds_total" "The amount of time spent waiting for all I/O to complete (including read and write), tape movement commands among them.";
    ReadBytes Counter "node_tape_read_bytes_total" "The number of bytes read from the tape drive.";
    ReadTimeSeconds Counter "node_tape_read_time_seconds_total" "The amount of time spent waiting for read requests to complete.";
    ReadsCompleted Counter "node_tape_reads_completed_total" "The number of read requests issued to the tape drive.";
    Residual Counter "node_tape_residual_total" "The number of times during a read or write we found the residual amount to be non-zero.";
    WriteTimeSeconds Counter "node_tape_write_time_seconds_total" "The amount of time spent waiting for write requests to complete.";
    WritesCompleted Counter "node_tape_writes_completed_total" "The number of write requests issued to the tape drive.";
    WrittenBytes Counter "node_tape_written_bytes_total" "The number of bytes written to the tape drive.";
}

/// Documentation/scsi/st.rst, "Sysfs and Statistics for Tape Devices"; in the order of [`FILES`].
const FAMILY: [F; 10] = [
    F::IoNow,
    F::IoOthers,
    F::IoTimeSeconds,
    F::ReadBytes,
    F::ReadTimeSeconds,
    F::ReadsCompleted,
    F::Residual,
    F::WriteTimeSeconds,
    F::WritesCompleted,
    F::WrittenBytes,
];
const FILES: &[&str] = &[
    "stats/in_flight",
    "stats/other_cnt",
    "stats/io_ns",
    "stats/read_byte_cnt",
    "stats/read_ns",
    "stats/read_cnt",
    "stats/resid_cnt",
    "stats/write_ns",
    "stats/write_cnt",
    "stats/write_byte_cnt",
];

struct Tapestats {
    drives: Devices,
    ignored: Option<Regex>,
}

impl NodeCollector for Tapestats {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Tapestats { drives, ignored } = self;
        drives.list()?;
        for i in 0..drives.len() {
            let name = drives.name(i);
            if ignored.as_ref().is_some_and(|ignored| ignored.is_match(name)) {
                continue;
            }
            let labels = out.labels(&[("device", name)]);
            for (file, family) in FAMILY.into_iter().enumerate() {
                if let Some(value) = drives.number(i, file) {
                    let unit = if FILES[file].ends_with("_ns") { 0.000_000_001 } else { 1.0 };
                    out.node(family, labels, value as f64 * unit);
                }
            }
        }
        drives.result()
    }
}
