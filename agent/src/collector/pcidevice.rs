//! What is on the PCI bus: identity, link, power state and virtual functions of each device.

mod ids;

use std::path::PathBuf;

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::metric::{Labels, Writer, families, push_label};
use crate::source::folder::Folder;
use crate::source::text::{float, label, only_number};
use ids::{Ids, Names};

/// `pcidevice`
pub(super) const COLLECTOR: Collector = Collector {
    name: "pcidevice",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new(
            "idsfile",
            OptionKind::Text,
            "",
            "The file pci.ids that names are taken from; without it the node's own.",
        ),
        OptionDesc::new(
            "names",
            OptionKind::Bool,
            "false",
            "Whether to give names of vendors, devices and classes.",
        ),
    ],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            let names = options.flag(&COLLECTOR, "names");
            Box::new(PciDevice {
                devices: Folder::sysfs(paths.sysfs.join("bus/pci/devices"), &FILES, &paths.handles),
                names: names.then(|| Names::new(&paths.rootfs, options.set("idsfile"))),
                known: Vec::new(),
            })
        },
        // The speed of a link is asked of the device.
        can_block: true,
    },
};

families! {
    Info Gauge "node_pcidevice_info" "Non-numeric data from /sys/bus/pci/devices/<location>, value is always 1.";
    MaxSpeed Gauge "node_pcidevice_max_link_transfers_per_second" "Value of maximum link's transfers per second (T/s).";
    MaxWidth Gauge "node_pcidevice_max_link_width" "Value of maximum link's width (number of lanes).";
    Speed Gauge "node_pcidevice_current_link_transfers_per_second" "Value of current link's transfers per second (T/s).";
    Width Gauge "node_pcidevice_current_link_width" "Value of current link's width (number of lanes).";
    Power Gauge "node_pcidevice_power_state" "PCIe device power state, one of: D0, D1, D2, D3hot, D3cold, unknown or error.";
    D3cold Gauge "node_pcidevice_d3cold_allowed" "Whether the PCIe device supports D3cold power state (0/1).";
    Autoprobe Gauge "node_pcidevice_sriov_drivers_autoprobe" "Whether SR-IOV drivers autoprobe is enabled for the device (0/1).";
    Numvfs Gauge "node_pcidevice_sriov_numvfs" "Number of Virtual Functions (VFs) currently enabled for SR-IOV.";
    Totalvfs Gauge "node_pcidevice_sriov_totalvfs" "Total number of Virtual Functions (VFs) supported by the device.";
    TotalMsix Gauge "node_pcidevice_sriov_vf_total_msix" "Total number of MSI-X vectors for Virtual Functions.";
    Numa Gauge "node_pcidevice_numa_node" "NUMA node number for the PCI device. -1 indicates unknown or not available.";
}

/// Documentation/PCI/sysfs-pci.rst, Documentation/ABI/testing/sysfs-bus-pci
const FILES: [&str; 17] = [
    "class",
    "vendor",
    "device",
    "subsystem_vendor",
    "subsystem_device",
    "revision",
    "max_link_speed",
    "current_link_speed",
    "max_link_width",
    "current_link_width",
    "d3cold_allowed",
    "sriov_drivers_autoprobe",
    "sriov_numvfs",
    "sriov_totalvfs",
    "sriov_vf_total_msix",
    "numa_node",
    "power_state",
];
const IDS: [usize; 6] = [0, 1, 2, 3, 4, 5];
const POWER_STATE: usize = 16;

/// What stands for a file that a device has not, as for a conventional one without a link; node_exporter has the same.
#[derive(Clone, Copy)]
enum Missing {
    MinusOne,
    Zero,
    NoSeries,
}

const VALUES: [(usize, F, Missing); 10] = [
    (6, F::MaxSpeed, Missing::MinusOne),
    (7, F::Speed, Missing::MinusOne),
    (8, F::MaxWidth, Missing::MinusOne),
    (9, F::Width, Missing::MinusOne),
    (10, F::D3cold, Missing::Zero),
    (11, F::Autoprobe, Missing::Zero),
    (12, F::Numvfs, Missing::Zero),
    (13, F::Totalvfs, Missing::Zero),
    (14, F::TotalMsix, Missing::Zero),
    (15, F::Numa, Missing::NoSeries),
];

const POWER_STATES: [&str; 7] = ["D0", "D1", "D2", "D3hot", "D3cold", "unknown", "error"];

struct PciDevice {
    devices: Folder,
    names: Option<Names>,
    /// By the places of the devices.
    known: Vec<Known>,
}

/// What was made of what a device last said of itself; it is made anew only where that is not what it says now.
#[derive(Default)]
struct Known {
    link: Vec<u8>,
    location: Location,
    parent: Option<Location>,
    /// The labels of where it is.
    at: Vec<u8>,
    ids: Option<[u32; 6]>,
    /// The labels of all that it is.
    info: Vec<u8>,
}

/// Segment, bus, device and function, as labels.
type Location = [String; 4];

const LOCATION: [&str; 4] = ["segment", "bus", "device", "function"];

impl NodeCollector for PciDevice {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        self.devices.list().map_err(|source| CollectError::read(self.devices.path(), source))?;
        self.known.resize_with(self.devices.len(), Known::default);
        let mut result = Ok(());
        for device in 0..self.devices.len() {
            let collected = self.device(device, out);
            result = result.and(collected);
        }
        result
    }
}

impl PciDevice {
    fn device(&mut self, device: usize, out: &mut Writer<'_>) -> Result<(), CollectError> {
        self.locate(device)?;
        let mut result = self.info(device, out);
        let labels = out.escaped(&self.known[device].at);
        for (file, family, missing) in VALUES {
            let missing = match missing {
                Missing::MinusOne => Some(-1.0),
                Missing::Zero => Some(0.0),
                Missing::NoSeries => None,
            };
            match self.value(device, file) {
                Ok(value) => {
                    // A node of -1 is none (drivers/pci/pci-sysfs.c, numa_node_show).
                    let value = value.filter(|v| !matches!(family, F::Numa) || *v >= 0.0).or(missing);
                    value.into_iter().for_each(|value| out.node(family, labels, value));
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        result.and(self.power(device, labels, out))
    }

    /// Where it is, and the bridge that it is behind: the directory that the link leads to.
    fn locate(&mut self, device: usize) -> Result<(), CollectError> {
        let known = &mut self.known[device];
        let target = match self.devices.link(device) {
            Ok(target) if target == known.link => return Ok(()),
            Ok(target) => target.to_owned(),
            Err(source) => return Err(CollectError::read(self.path(device), source)),
        };
        *known = Known::default();
        let text = label(&target);
        let mut folders = text.rsplit('/');
        let (own, parent) = (folders.next().unwrap_or_default(), folders.next().unwrap_or_default());
        let wrong = |what: &str| {
            CollectError::parse(self.path(device), format!("`{what}` is not where a PCI device is"))
        };
        let place = location(own).ok_or_else(|| wrong(own))?;
        // `pci0000:00` is the host's own bridge.
        let bridge = match parent.starts_with("pci") {
            true => None,
            false => Some(location(parent).ok_or_else(|| wrong(parent))?),
        };
        let mut at = Vec::new();
        push_labels(&mut at, LOCATION.into_iter().zip(&place));
        self.known[device] = Known { link: target, location: place, parent: bridge, at, ..Known::default() };
        Ok(())
    }

    fn path(&self, device: usize) -> PathBuf {
        self.devices.path().join(self.devices.name(device))
    }

    fn info(&mut self, device: usize, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let mut ids = [0; 6];
        for (id, file) in ids.iter_mut().zip(IDS) {
            *id = self.id(device, file)?;
        }
        let known = &mut self.known[device];
        if known.ids != Some(ids) {
            known.ids = Some(ids);
            known.info.clear();
            push_info(&mut known.info, &known.location, known.parent.as_ref(), ids, self.names.as_mut());
        }
        let labels = out.escaped(&known.info);
        out.node(F::Info, labels, 1.0);
        Ok(())
    }

    /// `0x8086`
    fn id(&mut self, device: usize, file: usize) -> Result<u32, CollectError> {
        let text = match self.devices.read(device, file) {
            Ok(text) => std::str::from_utf8(text).ok(),
            Err(source) => return Err(CollectError::read(self.devices.file_path(device, file), source)),
        };
        let digits = text.and_then(|text| text.strip_prefix("0x"));
        let id = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        id.ok_or_else(|| self.wrong(device, file, "is not an id"))
    }

    /// A number; nothing where the device has no such file or does not know.
    fn value(&mut self, device: usize, file: usize) -> Result<Option<f64>, CollectError> {
        match self.devices.read(device, file).map(value) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(())) => Err(self.wrong(device, file, "is not a number, or of another unit")),
            Err(Errno::NOENT) => Ok(None),
            Err(source) => Err(CollectError::read(self.devices.file_path(device, file), source)),
        }
    }

    /// What was read last is not what it should be.
    fn wrong(&self, device: usize, file: usize, what: &str) -> CollectError {
        let text = label(self.devices.last());
        CollectError::parse(self.devices.file_path(device, file), format!("`{text}` {what}"))
    }

    fn power(&mut self, device: usize, at: Labels, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let state = match self.devices.read(device, POWER_STATE) {
            Ok(b"") | Err(Errno::NOENT) => return Ok(()),
            Ok(text) => text,
            Err(source) => {
                return Err(CollectError::read(self.devices.file_path(device, POWER_STATE), source));
            }
        };
        for of in POWER_STATES {
            let labels = out.with(at, "state", of);
            out.node(F::Power, labels, f64::from(of.as_bytes() == state));
        }
        Ok(())
    }
}

fn push_info(
    text: &mut Vec<u8>,
    location: &Location,
    parent: Option<&Location>,
    ids: [u32; 6],
    names: Option<&mut Names>,
) {
    let [class, vendor, device, subsystem_vendor, subsystem_device, revision] = ids;
    let texts = [
        format!("0x{class:06x}"),
        format!("0x{vendor:04x}"),
        format!("0x{device:04x}"),
        format!("0x{subsystem_vendor:04x}"),
        format!("0x{subsystem_device:04x}"),
        format!("0x{revision:02x}"),
    ];
    let none = [const { String::new() }; 4].map(|_| "*".to_owned());
    push_labels(text, LOCATION.into_iter().zip(location));
    let parent_names = ["parent_segment", "parent_bus", "parent_device", "parent_function"];
    push_labels(text, parent_names.into_iter().zip(parent.unwrap_or(&none)));
    let of_ids =
        ["class_id", "vendor_id", "device_id", "subsystem_vendor_id", "subsystem_device_id", "revision"];
    push_labels(text, of_ids.into_iter().zip(&texts));
    if let Some(names) = names {
        let found = names.of(Ids { class, vendor, device, subsystem_vendor, subsystem_device });
        let of_names =
            ["vendor_name", "device_name", "subsystem_vendor_name", "subsystem_device_name", "class_name"];
        push_labels(text, of_names.into_iter().zip(found));
    }
}

fn push_labels<'a>(text: &mut Vec<u8>, labels: impl Iterator<Item = (&'static str, &'a String)>) {
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(b',');
        }
        push_label(text, name, value);
    }
}

/// `0000:00:1f.2`: domain, bus, slot and function, in hexadecimal.
fn location(text: &str) -> Option<Location> {
    let mut parts = text.split([':', '.']);
    let mut part = || u32::from_str_radix(parts.next()?, 16).ok();
    let (segment, bus, device, function) = (part()?, part()?, part()?, part()?);
    let is_all = parts.next().is_none();
    is_all.then(|| {
        [format!("{segment:04x}"), format!("{bus:02x}"), format!("{device:02x}"), format!("{function:x}")]
    })
}

/// `8`, or a speed such as `8.0 GT/s PCIe`; `Unknown` is none (drivers/pci/probe.c, pci_speed_string).
fn value(text: &[u8]) -> Result<Option<f64>, ()> {
    if text.is_empty() || text.starts_with(b"Unknown") {
        return Ok(None);
    }
    let number = match text.strip_suffix(b" GT/s PCIe") {
        Some(speed) => float(speed).map(|speed| speed * 1e9),
        None => only_number(text).map(|n| n as f64).or((text == b"-1").then_some(-1.0)),
    };
    number.map(Some).ok_or(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::{Tree, gives, scrape};

    #[test]
    fn a_speed_has_its_unit_and_what_is_unknown_is_none() {
        assert_eq!(value(b"8.0 GT/s PCIe"), Ok(Some(8e9)));
        assert_eq!(value(b"2.5 GT/s PCIe"), Ok(Some(2.5e9)));
        assert_eq!([value(b"Unknown speed"), value(b"")], [Ok(None), Ok(None)]);
        assert_eq!([value(b"-1"), value(b"16")], [Ok(Some(-1.0)), Ok(Some(16.0))]);
        assert_eq!([value(b"66 MHz PCI-X"), value(b"x")], [Err(()), Err(())]);
    }

    #[test]
    fn a_place_has_four_parts() {
        let parts = |text| location(text).map(|parts| parts.join(" "));
        assert_eq!(parts("0000:0a:1F.7").as_deref(), Some("0000 0a 1f 7"));
        assert_eq!(parts("10000:e0:06.0").as_deref(), Some("10000 e0 06 0"));
        assert_eq!([parts("0000:00:02"), parts("0000:00:02.0.1"), parts("pci0000:00")], [None, None, None]);
    }

    #[test]
    fn a_device_without_identity_costs_its_information_only() {
        let mut files = vec![(
            "sys/bus/pci/devices/0000:01:00.0",
            "-> ../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0",
        )];
        files.push(("sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/numa_node", "1\n"));
        files.push(("sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/power_state", "D3hot\n"));
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        assert!(matches!(result, Err(CollectError::Absent(_))));
        assert!(!lines.iter().any(|line| line.contains("_info")));
        let labels = r#"segment="0000",bus="01",device="00",function="0""#;
        for line in [
            format!("max_link_width{{{labels}}} -1"),
            format!("sriov_numvfs{{{labels}}} 0"),
            format!("numa_node{{{labels}}} 1"),
            format!("power_state{{{labels},state=\"D3hot\"}} 1"),
        ] {
            assert!(lines.contains(&format!("node_pcidevice_{line}")), "{line} in {lines:#?}");
        }
    }

    #[test]
    fn another_device_in_the_same_place_has_its_own_identity() {
        let at = "sys/bus/pci/devices/0000:01:00.0";
        let tree = Tree::new(&[(at, "-> ../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0")]);
        let identify = |bridge: &str, vendor: &str| {
            let own = format!("sys/devices/pci0000:00/{bridge}/0000:01:00.0");
            IDS.iter().for_each(|file| tree.write(&format!("{own}/{}", FILES[*file]), b"0x1\n"));
            tree.write(&format!("{own}/vendor"), vendor.as_bytes());
        };
        let mut running = tree.start(&COLLECTOR, &[]);
        let mut check = |expected: &str| {
            let (lines, result) = scrape(&COLLECTOR, running.as_mut());
            result.unwrap();
            assert!(lines[0].contains(expected), "{expected} in {lines:#?}");
        };
        identify("0000:00:01.0", "0x8086\n");
        check(r#"parent_device="01",parent_function="0",class_id="0x000001",vendor_id="0x8086""#);
        identify("0000:00:01.0", "0x10de\n");
        check(r#"vendor_id="0x10de""#);
        identify("0000:00:02.0", "0x10de\n");
        std::fs::remove_file(tree.path().join(at)).unwrap();
        tree.write(at, b"-> ../../../devices/pci0000:00/0000:00:02.0/0000:01:00.0");
        check(r#"parent_device="02""#);
    }
}
