//! The machine's clock, its time zone and what the clock is made of.

use std::path::PathBuf;
use std::time::Instant;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::Paths;
use crate::source::file::read_in_root;
use crate::source::folder::Folder;
use crate::source::recent::Recent;
use crate::source::text::{label, words};

/// `time`
pub(super) const COLLECTOR: Collector = Collector {
    name: "time",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node { start: |paths, _| Box::new(Time::new(paths)), can_block: false },
};

families! {
    Available Gauge "node_time_clocksource_available_info" "Available clocksources read from '/sys/devices/system/clocksource'.";
    Current Gauge "node_time_clocksource_current_info" "Current clocksource read from '/sys/devices/system/clocksource'.";
    Seconds Gauge "node_time_seconds" "System time in seconds since epoch (1970).";
    ZoneOffset Gauge "node_time_zone_offset_seconds" "System time zone offset in seconds.";
}

const AVAILABLE: usize = 0;
const CURRENT: usize = 1;

struct Time {
    clocksources: Folder,
    rootfs: PathBuf,
    text: Vec<u8>,
    zone: Zone,
    recent: Recent,
}

/// What a text says, made anew when it has changed.
struct Zone {
    text: Vec<u8>,
    zone: TimeZone,
}

impl NodeCollector for Time {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let now = Timestamp::now();
        out.node(F::Seconds, Labels::NONE, now.as_nanosecond() as f64 / 1e9);
        let zone = if out.wants(F::ZoneOffset) { self.zone(now, out) } else { Ok(()) };
        self.clocksources(out)?;
        zone
    }
}

impl Time {
    fn new(paths: &Paths) -> Self {
        Time {
            clocksources: Folder::sysfs(
                paths.sysfs.join("devices/system/clocksource"),
                &["available_clocksource", "current_clocksource"],
                &paths.handles,
            ),
            rootfs: paths.rootfs.clone(),
            text: Vec::new(),
            zone: Zone { text: Vec::new(), zone: TimeZone::UTC },
            recent: Recent::default(),
        }
    }

    /// A machine without the file is in UTC (localtime(5)).
    fn zone(&mut self, now: Timestamp, out: &mut Writer<'_>) -> Result<(), CollectError> {
        const FILE: &str = "/etc/localtime";
        let asked = Instant::now();
        if !self.recent.holds(asked) {
            match read_in_root(&self.rootfs, FILE, &mut self.text) {
                Ok(()) => {}
                Err(Errno::NOENT) => self.text.clear(),
                Err(source) => return Err(CollectError::read(FILE, source)),
            }
            self.recent.set(true, asked);
        }
        if self.text != self.zone.text {
            let zone = match self.text.is_empty() {
                true => TimeZone::UTC,
                false => TimeZone::tzif("machine", &self.text)
                    .map_err(|error| CollectError::parse(FILE, error.to_string()))?,
            };
            self.zone = Zone { text: self.text.clone(), zone };
        }
        let info = self.zone.zone.to_offset_info(now);
        let labels = out.labels(&[("time_zone", info.abbreviation())]);
        out.node(F::ZoneOffset, labels, f64::from(info.offset().seconds()));
        Ok(())
    }

    fn clocksources(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants_any([F::Available, F::Current]) || self.clocksources.list().is_err() {
            return Ok(());
        }
        for entry in 0..self.clocksources.len() {
            // `clocksource0`, of which there is one (kernel/time/clocksource.c, device_clocksource).
            let name = self.clocksources.name(entry);
            let Some(number) = name.strip_prefix("clocksource").and_then(|n| n.parse::<u32>().ok()) else {
                continue;
            };
            let mut buffer = itoa::Buffer::new();
            let device = ("device", buffer.format(number));
            for (file, family) in [(AVAILABLE, F::Available), (CURRENT, F::Current)] {
                let text = match self.clocksources.read(entry, file) {
                    Ok(text) => text,
                    Err(error) => {
                        return Err(CollectError::read(self.clocksources.file_path(entry, file), error));
                    }
                };
                for clocksource in words(text) {
                    let labels = out.labels(&[("clocksource", &label(clocksource)), device]);
                    out.node(family, labels, 1.0);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::{Tree, scrape};

    const FOLDER: &str = "sys/devices/system/clocksource/clocksource0/";

    /// A file of RFC 9636 without transitions: all of the time is what its footer says.
    fn zone(footer: &str) -> Vec<u8> {
        let header = |counts: [u32; 6]| {
            let counts = counts.map(u32::to_be_bytes).concat();
            [&b"TZif2"[..], &[0; 15], &counts].concat()
        };
        let kind = [&0i32.to_be_bytes()[..], &[0, 0], b"UTC\0"].concat();
        let counts = [0, 0, 0, 0, 1, 4];
        [header(counts), kind.clone(), header(counts), kind, format!("\n{footer}\n").into_bytes()].concat()
    }

    #[test]
    fn the_zone_is_that_of_the_machine_and_follows_it_within_a_minute() {
        let tree = Tree::new(&[("etc/localtime", "-> /usr/share/zoneinfo/Here")]);
        let mut time = Time::new(&tree.paths());
        let mut check = |expected: &str| {
            // As if a minute had passed.
            time.recent = Recent::default();
            let (lines, result) = scrape(&COLLECTOR, &mut time);
            result.unwrap();
            assert!(lines.contains(&format!("node_time_zone_offset_seconds{expected}")), "{lines:?}");
        };
        check(r#"{time_zone="UTC"} 0"#);
        tree.write("usr/share/zoneinfo/Here", &zone("<+0530>-5:30"));
        check(r#"{time_zone="+0530"} 19800"#);
        tree.write("usr/share/zoneinfo/Here", &zone("EST5"));
        check(r#"{time_zone="EST"} -18000"#);
    }

    #[test]
    fn a_zone_that_cannot_be_read_costs_only_itself() {
        let tree = Tree::new(&[("etc/localtime", "TZif2 but not much of it")]);
        tree.write(&format!("{FOLDER}available_clocksource"), b"tsc hpet acpi_pm \n");
        tree.write(&format!("{FOLDER}current_clocksource"), b"tsc\n");
        let (lines, result) = scrape(&COLLECTOR, tree.start(&COLLECTOR, &[]).as_mut());
        assert!(result.unwrap_err().to_string().contains("/etc/localtime"));
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[1], r#"node_time_clocksource_available_info{clocksource="hpet",device="0"} 1"#);
        assert_eq!(lines[3], r#"node_time_clocksource_current_info{clocksource="tsc",device="0"} 1"#);
    }

    #[test]
    fn a_clocksource_without_its_files_is_an_error_as_with_node_exporter() {
        let tree = Tree::new(&[(&format!("{FOLDER}current_clocksource"), "tsc\n")]);
        let (_, result) = scrape(&COLLECTOR, tree.start(&COLLECTOR, &[]).as_mut());
        assert!(matches!(result, Err(CollectError::Absent(_))));
    }
}
