//! The energy that each zone of the processor has used (RAPL, Running Average Power Limit).

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::devices::Devices;
use crate::metric::{Kind, NamedDesc, Suffix, Writer, families};
use crate::source::text::push_name;

/// `rapl`
pub(super) const COLLECTOR: Collector = Collector {
    name: "rapl",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[NamedDesc {
        prefix: "node_rapl_",
        help: "The `energy_uj` of a zone below /sys/class/powercap in joules, as `node_rapl_ZONE_joules_total`.",
    }],
    options: &[OptionDesc::new(
        "enableZoneLabel",
        OptionKind::Bool,
        "false",
        "Whether to give one family with the zone as a label instead of one family for each zone.",
    )],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            let folder = paths.sysfs.join("class/powercap");
            Box::new(Rapl {
                path: folder.to_string_lossy().into_owned(),
                devices: Devices::new(folder, FILES, &paths.handles),
                has_zone_label: options.flag(&COLLECTOR, "enableZoneLabel"),
                sorted: Vec::new(),
                zones: Vec::new(),
                family: String::new(),
                help: String::new(),
            })
        },
        can_block: false,
    },
};

families! {
    Joules Counter "node_rapl_joules_total" "Current RAPL value in joules.";
}

/// Documentation/power/powercap/powercap.rst; only root may read the energy.
const FILES: &[&str] = &["name", "energy_uj"];
const NAME: usize = 0;
const ENERGY: usize = 1;

struct Rapl {
    path: String,
    devices: Devices,
    has_zone_label: bool,
    sorted: Vec<usize>,
    /// The zones of this scrape, in buffers that stay.
    zones: Vec<Zone>,
    family: String,
    help: String,
}

#[derive(Default)]
struct Zone {
    name: String,
    index: i64,
}

impl NodeCollector for Rapl {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        self.devices.list()?;
        // Zones of the same name are numbered in the order of their folders.
        self.sorted.clear();
        self.sorted.extend(0..self.devices.len());
        self.sorted.sort_unstable_by(|one, other| self.devices.name(*one).cmp(self.devices.name(*other)));
        let mut count = 0;
        let mut is_readable = true;
        for place in 0..self.sorted.len() {
            let device = self.sorted[place];
            // The control types have none, and are no zones.
            let Some(text) = self.devices.text(device, NAME) else { continue };
            if self.zones.len() == count {
                self.zones.push(Zone::default());
            }
            let (before, rest) = self.zones.split_at_mut(count);
            let (name, index) = split(&text, before);
            rest[0].name.clear();
            rest[0].name.push_str(name);
            rest[0].index = index;
            count += 1;
            match self.devices.number(device, ENERGY) {
                Some(microjoules) => self.write(device, count - 1, microjoules as f64 / 1e6, out),
                None => is_readable = false,
            }
        }
        self.devices.result()?;
        match is_readable {
            true => Ok(()),
            false => {
                Err(CollectError::Absent(format!("{}/*/energy_uj, which only root may read", self.path)))
            }
        }
    }
}

impl Rapl {
    fn write(&mut self, device: usize, zone: usize, joules: f64, out: &mut Writer<'_>) {
        use std::fmt::Write as _;
        let Rapl { devices, zones, family, help, .. } = self;
        let Zone { name, index } = &zones[zone];
        // In the buffers, since neither number nor path is text yet.
        help.clear();
        let _ = write!(help, "{index}");
        family.clear();
        let _ = write!(family, "{}/{}", self.path, devices.name(device));
        let labels = out.labels(&[("index", help), ("path", family)]);
        if self.has_zone_label {
            let labels = out.with(labels, "rapl_zone", name);
            out.node(F::Joules, labels, joules);
            return;
        }
        help.clear();
        let _ = write!(help, "Current RAPL {name} value in joules.");
        family.clear();
        family.push_str("node_rapl_");
        push_name(family, name);
        family.push_str("_joules_total");
        let family = out.named(family, Kind::Counter, help);
        out.add(family, labels, Suffix::None, joules);
    }
}

/// A zone's name and number: `package-1` is package 1; one without a number follows those of its name before it.
fn split<'a>(name: &'a str, before: &[Zone]) -> (&'a str, i64) {
    if let Some((name, index)) = name.split_once('-')
        && let Ok(index) = index.parse()
    {
        return (name, index);
    }
    (name, before.iter().rev().find(|zone| zone.name == name).map_or(0, |zone| zone.index.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_of_one_name_are_numbered() {
        let mut zones: Vec<Zone> = Vec::new();
        for name in ["package-0", "core", "package-1", "core", "dram-x", "package", "a-b-1", "psys"] {
            let (name, index) = split(name, &zones);
            zones.push(Zone { name: name.to_owned(), index });
        }
        let found: Vec<_> = zones.iter().map(|zone| (zone.name.as_str(), zone.index)).collect();
        let expected = [
            ("package", 0),
            ("core", 0),
            ("package", 1),
            ("core", 1),
            ("dram-x", 0),
            ("package", 2),
            ("a-b-1", 0),
            ("psys", 0),
        ];
        assert_eq!(found, expected);
    }
}
