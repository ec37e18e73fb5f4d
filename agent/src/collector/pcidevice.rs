//! What is on the PCI bus: identity, link, power state and virtual functions of each device.

mod ids;

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::metric::{Labels, Writer, families};
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
                devices: Folder::new(paths.sysfs.join("bus/pci/devices"), &FILES, &paths.handles),
                names: names.then(|| Names::new(&paths.rootfs, options.set("idsfile"))),
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
}

/// Segment, bus, device and function, as labels.
type Location = [String; 4];

impl NodeCollector for PciDevice {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        self.devices.list().map_err(|source| CollectError::read(self.devices.path(), source))?;
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
        let (location, parent) = self.location(device)?;
        let at = location_labels(&location, ["segment", "bus", "device", "function"]);
        let mut result = self.info(device, &location, parent.as_ref(), out);
        let labels = out.labels(&at);
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
        result.and(self.power(device, &at, out))
    }

    /// Where it is, and the bridge that it is behind: the directory that the link leads to.
    fn location(&self, device: usize) -> Result<(Location, Option<Location>), CollectError> {
        let path = self.devices.path().join(self.devices.name(device));
        let target =
            rustix::fs::readlink(&path, Vec::new()).map_err(|source| CollectError::read(&path, source))?;
        let target = label(target.as_bytes());
        let mut folders = target.rsplit('/');
        let (own, parent) = (folders.next().unwrap_or_default(), folders.next().unwrap_or_default());
        let wrong = |what: &str| CollectError::parse(&path, format!("`{what}` is not where a PCI device is"));
        let own = location(own).ok_or_else(|| wrong(own))?;
        // `pci0000:00` is the host's own bridge.
        match parent.starts_with("pci") {
            true => Ok((own, None)),
            false => Ok((own, Some(location(parent).ok_or_else(|| wrong(parent))?))),
        }
    }

    fn info(
        &mut self,
        device: usize,
        location: &Location,
        parent: Option<&Location>,
        out: &mut Writer<'_>,
    ) -> Result<(), CollectError> {
        let mut ids = [0; 6];
        for (id, file) in ids.iter_mut().zip(IDS) {
            *id = self.id(device, file)?;
        }
        let [class, vendor, model, subsystem_vendor, subsystem, revision] = ids;
        let texts = [
            format!("0x{class:06x}"),
            format!("0x{vendor:04x}"),
            format!("0x{model:04x}"),
            format!("0x{subsystem_vendor:04x}"),
            format!("0x{subsystem:04x}"),
            format!("0x{revision:02x}"),
        ];
        let none = [const { String::new() }; 4].map(|_| "*".to_owned());
        let mut labels = location_labels(location, ["segment", "bus", "device", "function"]).to_vec();
        let parent_names = ["parent_segment", "parent_bus", "parent_device", "parent_function"];
        labels.extend(location_labels(parent.unwrap_or(&none), parent_names));
        let names =
            ["class_id", "vendor_id", "device_id", "subsystem_vendor_id", "subsystem_device_id", "revision"];
        labels.extend(names.into_iter().zip(texts.iter().map(String::as_str)));
        let found;
        if let Some(names) = &mut self.names {
            found =
                names.of(Ids { class, vendor, device: model, subsystem_vendor, subsystem_device: subsystem });
            let labels_of_names = [
                "vendor_name",
                "device_name",
                "subsystem_vendor_name",
                "subsystem_device_name",
                "class_name",
            ];
            labels.extend(labels_of_names.into_iter().zip(found.iter().map(String::as_str)));
        }
        let labels = out.labels(&labels);
        out.node(F::Info, labels, 1.0);
        Ok(())
    }

    /// `0x8086`
    fn id(&mut self, device: usize, file: usize) -> Result<u32, CollectError> {
        let text = self.devices.read(device, file);
        let text = text.map(|text| label(text).into_owned());
        let path = || self.devices.file_path(device, file);
        let text = text.map_err(|source| CollectError::read(path(), source))?;
        let id = text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
        id.ok_or_else(|| CollectError::parse(path(), format!("`{text}` is not an id")))
    }

    /// A number; nothing where the device has no such file or does not know.
    fn value(&mut self, device: usize, file: usize) -> Result<Option<f64>, CollectError> {
        match self.devices.read(device, file).map(|text| (value(text), label(text).into_owned())) {
            Ok((Ok(value), _)) => Ok(value),
            Ok((Err(()), text)) => {
                let path = self.devices.file_path(device, file);
                Err(CollectError::parse(path, format!("`{text}` is not a number, or of another unit")))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(source) => Err(CollectError::read(self.devices.file_path(device, file), source)),
        }
    }

    fn power(
        &mut self,
        device: usize,
        at: &[(&str, &str)],
        out: &mut Writer<'_>,
    ) -> Result<(), CollectError> {
        let state = match self.devices.read(device, POWER_STATE) {
            Ok(b"") | Err(Errno::NOENT) => return Ok(()),
            Ok(text) => label(text).into_owned(),
            Err(source) => {
                return Err(CollectError::read(self.devices.file_path(device, POWER_STATE), source));
            }
        };
        for of in POWER_STATES {
            let labels: Labels = out.labels(&[at, &[("state", of)]].concat());
            out.node(F::Power, labels, f64::from(of == state));
        }
        Ok(())
    }
}

fn location_labels<'a>(location: &'a Location, names: [&'static str; 4]) -> [(&'static str, &'a str); 4] {
    let [segment, bus, device, function] = location;
    let [a, b, c, d] = names;
    [(a, segment), (b, bus), (c, device), (d, function)]
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
    use crate::metric::shown::gives;

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
}
