//! What the drivers of network interfaces say: who they are, what the link can do, and their own statistics.

mod modes;

use std::collections::HashMap;
use std::sync::LazyLock;

use ethtool::{Ethtool, Link, Statistics};
use regex::Regex;
use rustix::io::Errno;

use super::network_route::of_own_network;
use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Pattern, Run};
use crate::devices::Devices;
use crate::metric::{Kind, Labels, NamedDesc, Suffix, Writer, families};
use crate::source::text::{label, push_name};
use modes::{ASYMMETRIC_PAUSE, AUTONEGOTIATION, PAUSE, PORTS, SPEEDS};

/// `ethtool`
pub(super) const COLLECTOR: Collector = Collector {
    name: "ethtool",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[NamedDesc {
        prefix: "node_ethtool_",
        help: "A statistic of the driver, as `ethtool -S` names it.",
    }],
    options: &[
        OptionDesc::new("deviceInclude", OptionKind::Regex, "", "Interfaces to give, and no others."),
        OptionDesc::new("deviceExclude", OptionKind::Regex, "", "Interfaces to leave out."),
        OptionDesc::new("metricsInclude", OptionKind::Regex, ".*", "Statistics to give."),
    ],
    exclusive: &[("deviceInclude", "deviceExclude")],
    run: Run::Node {
        start: |paths, options| {
            Box::new(Collecting {
                is_own_network: paths.is_own_network(),
                interfaces: Devices::new(paths.sysfs.join("class/net"), &[], &paths.handles),
                devices: options.pattern(&COLLECTOR, "deviceInclude", "deviceExclude"),
                metrics: options.regex(&COLLECTOR, "metricsInclude"),
                kernel: None,
                known: HashMap::new(),
            })
        },
        // The driver asks its device, with the RTNL lock held.
        can_block: true,
    },
};

families! {
    Info Gauge "node_ethtool_info" "A metric with a constant '1' value labeled by bus_info, device, driver, expansion_rom_version, firmware_version, version.";
    SupportedPort Gauge "node_network_supported_port_info" "Type of ports or PHYs supported by network device.";
    SupportedSpeed Gauge "node_network_supported_speed_bytes" "Combination of speeds and features supported by network device.";
    SupportedAutonegotiate Gauge "node_network_autonegotiate_supported" "If this port device supports autonegotiate.";
    SupportedPause Gauge "node_network_pause_supported" "If this port device supports pause frames.";
    SupportedAsymmetricPause Gauge "node_network_asymmetricpause_supported" "If this port device supports asymmetric pause frames.";
    AdvertisedSpeed Gauge "node_network_advertised_speed_bytes" "Combination of speeds and features offered by network device.";
    AdvertisedAutonegotiate Gauge "node_network_autonegotiate_advertised" "If this port device offers autonegotiate.";
    AdvertisedPause Gauge "node_network_pause_advertised" "If this port device offers pause capability.";
    AdvertisedAsymmetricPause Gauge "node_network_asymmetricpause_advertised" "If this port device offers asymmetric pause capability.";
    Autonegotiate Gauge "node_network_autonegotiate" "If this port is using autonegotiate.";
}

/// Statistics that nearly every driver has, which node_exporter names like counters.
const COMMON: [(&str, &str, &str); 7] = [
    ("rx_bytes", "node_ethtool_received_bytes_total", "Network interface bytes received"),
    ("rx_dropped", "node_ethtool_received_dropped_total", "Number of received frames dropped"),
    ("rx_errors", "node_ethtool_received_errors_total", "Number of received frames with errors"),
    ("rx_packets", "node_ethtool_received_packets_total", "Network interface packets received"),
    ("tx_bytes", "node_ethtool_transmitted_bytes_total", "Network interface bytes sent"),
    ("tx_errors", "node_ethtool_transmitted_errors_total", "Number of sent frames with errors"),
    ("tx_packets", "node_ethtool_transmitted_packets_total", "Network interface packets sent"),
];

struct Collecting {
    is_own_network: bool,
    interfaces: Devices,
    devices: Pattern,
    metrics: Option<Regex>,
    kernel: Option<Ethtool>,
    /// By interface; made anew when its driver names its statistics otherwise.
    known: HashMap<String, Known>,
}

/// The statistics of one interface.
#[derive(Default)]
struct Known {
    /// As the driver gives them.
    names: Vec<u8>,
    /// In their order; nothing for those that are not given.
    families: Vec<Option<Family>>,
}

#[derive(Clone)]
struct Family {
    name: String,
    help: String,
}

impl NodeCollector for Collecting {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        of_own_network(self.is_own_network)?;
        self.interfaces.list()?;
        let kernel = match &mut self.kernel {
            Some(kernel) => kernel,
            none => none.insert(Ethtool::new().map_err(|source| CollectError::read("ethtool", source))?),
        };
        let (interfaces, known) = (&self.interfaces, &mut self.known);
        known.retain(|name, _| interfaces.find(name).is_some());
        let mut result = Ok(());
        for name in (0..interfaces.len()).map(|i| interfaces.name(i)) {
            if !self.devices.ignores(name)
                && let Err(source) = interface(kernel, name, self.metrics.as_ref(), known, out)
            {
                result = Err(CollectError::read(format!("ethtool {name}"), source));
            }
        }
        result
    }
}

fn interface(
    kernel: &mut Ethtool,
    name: &str,
    metrics: Option<&Regex>,
    known: &mut HashMap<String, Known>,
    out: &mut Writer<'_>,
) -> Result<(), Errno> {
    let device = out.labels(&[("device", name)]);
    if let Some(link) = said(kernel.link(name))? {
        give_link(link, device, out);
    }
    if out.wants(F::Info)
        && let Some(driver) = said(kernel.driver(name))?
    {
        let labels = out.labels(&[
            ("bus_info", &label(driver.bus)),
            ("device", name),
            ("driver", &label(driver.name)),
            ("expansion_rom_version", &label(driver.rom)),
            ("firmware_version", &label(driver.firmware)),
            ("version", &label(driver.version)),
        ]);
        out.node(F::Info, labels, 1.0);
    }
    if let Some(statistics) = said(kernel.statistics(name))? {
        if !known.contains_key(name) {
            known.insert(name.to_owned(), Known::default());
        }
        let Some(known) = known.get_mut(name) else { return Ok(()) };
        give_statistics(statistics, metrics, known, device, out);
    }
    Ok(())
}

/// Nothing where the driver does not say, or the interface goes.
fn said<T>(answer: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Errno::OPNOTSUPP | Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn give_link(link: Link, device: Labels, out: &mut Writer<'_>) {
    let is_set = |modes: u32, bit: u32| modes >> bit & 1 == 1;
    for (family, modes, bit) in [
        (F::SupportedAutonegotiate, link.supported, AUTONEGOTIATION),
        (F::SupportedPause, link.supported, PAUSE),
        (F::SupportedAsymmetricPause, link.supported, ASYMMETRIC_PAUSE),
        (F::AdvertisedAutonegotiate, link.advertised, AUTONEGOTIATION),
        (F::AdvertisedPause, link.advertised, PAUSE),
        (F::AdvertisedAsymmetricPause, link.advertised, ASYMMETRIC_PAUSE),
    ] {
        out.node(family, device, f64::from(is_set(modes, bit)));
    }
    out.node(F::Autonegotiate, device, f64::from(link.autonegotiates));
    for (_, port) in PORTS.into_iter().filter(|(bit, _)| is_set(link.supported, *bit)) {
        let labels = out.with(device, "type", port);
        out.node(F::SupportedPort, labels, 1.0);
    }
    for (family, modes) in [(F::SupportedSpeed, link.supported), (F::AdvertisedSpeed, link.advertised)] {
        for (_, megabits, duplex, mode) in SPEEDS.into_iter().filter(|(bit, ..)| is_set(modes, *bit)) {
            let labels = out.with(device, "duplex", duplex);
            let labels = out.with(labels, "mode", mode);
            out.node(family, labels, f64::from(megabits) * 1e6 / 8.0);
        }
    }
}

fn give_statistics(
    statistics: Statistics<'_>,
    metrics: Option<&Regex>,
    known: &mut Known,
    device: Labels,
    out: &mut Writer<'_>,
) {
    if known.names != statistics.names {
        known.names = statistics.names.to_vec();
        known.families = families_of(statistics.names(), metrics);
    }
    for (family, value) in known.families.iter().zip(statistics.values()) {
        if let Some(Family { name, help }) = family {
            let family = out.named(name, Kind::Untyped, help);
            out.add(family, device, Suffix::None, value as f64);
        }
    }
}

/// The family of each statistic. Of those whose names come to the same, none is given: nobody could tell which it is; but
/// of one that the driver names twice, the last.
fn families_of<'a>(names: impl Iterator<Item = &'a [u8]>, metrics: Option<&Regex>) -> Vec<Option<Family>> {
    let names: Vec<&[u8]> = names.collect();
    let last: HashMap<&[u8], usize> = names.iter().enumerate().map(|(i, name)| (*name, i)).collect();
    let is_last = |i: usize, name: &[u8]| !name.is_empty() && last.get(name) == Some(&i);
    let given = |(i, name): (usize, &&[u8])| is_last(i, name).then(|| family(name, metrics)).flatten();
    let mut families: Vec<Option<(String, Family)>> = names.iter().enumerate().map(given).collect();
    let mut times: HashMap<String, usize> = HashMap::new();
    for (full, _) in families.iter().flatten() {
        *times.entry(full.clone()).or_default() += 1;
    }
    let is_one = |(full, _): &(String, Family)| times.get(full) == Some(&1);
    families.iter_mut().map(|family| family.take().filter(is_one).map(|(_, family)| family)).collect()
}

/// The name by which equal ones are found, and the family.
fn family(name: &[u8], metrics: Option<&Regex>) -> Option<(String, Family)> {
    static DIRECTIONS: LazyLock<[Option<Regex>; 2]> =
        LazyLock::new(|| ["(^|_)rx(_|$)", "(^|_)tx(_|$)"].map(|pattern| Regex::new(pattern).ok()));
    let mut plain = String::new();
    push_name(&mut plain, &label(name));
    if metrics.is_some_and(|metrics| !metrics.is_match(&plain)) {
        return None;
    }
    let lower = plain.to_lowercase();
    let mut full = lower.trim_start_matches('_').to_owned();
    for (direction, word) in DIRECTIONS.iter().flatten().zip(["${1}received${2}", "${1}transmitted${2}"]) {
        full = direction.replace_all(&full, word).into_owned();
    }
    full.insert_str(0, "node_ethtool_");
    let common = COMMON.iter().find(|(common, ..)| *common == plain);
    let family = match common {
        Some((_, name, help)) => Family { name: (*name).to_owned(), help: (*help).to_owned() },
        None => Family { name: full.clone(), help: format!("Network interface {plain}") },
    };
    Some((full, family))
}

#[cfg(test)]
mod tests {
    use ethtool::NAME;

    use super::*;
    use crate::metric::Samples;
    use crate::metric::shown::lines;

    /// What is given of these statistics.
    fn given(known: &mut Known, statistics: &[(&str, u64)], metrics: Option<&str>) -> Vec<String> {
        let mut names = Vec::new();
        for (i, (name, _)) in statistics.iter().enumerate() {
            names.extend_from_slice(name.as_bytes());
            names.resize((i + 1) * NAME, 0);
        }
        let values: Vec<u8> = statistics.iter().flat_map(|(_, value)| value.to_ne_bytes()).collect();
        let statistics = Statistics { names: &names, values: &values };
        let metrics = metrics.map(|pattern| Regex::new(pattern).unwrap());
        let mut samples = Samples::new(FAMILIES.len());
        let mut out = samples.writer(0, &[true; FAMILIES.len()]);
        let device = out.labels(&[("device", "eth0")]);
        give_statistics(statistics, metrics.as_ref(), known, device, &mut out);
        lines(&COLLECTOR, &samples)
    }

    #[test]
    fn statistics_are_named_as_node_exporter_names_them() {
        let mut known = Known::default();
        let found = given(
            &mut known,
            &[
                ("rx_bytes", 1),
                ("Tx-Queue[0].Bytes", 2),
                ("port.rx_dropped", 3),
                ("_RX", 4),
                ("", 5),
                ("a", 6),
            ],
            None,
        );
        let expected = [
            "node_ethtool_received_bytes_total 1",
            "node_ethtool_transmitted_queue_0_bytes 2",
            "node_ethtool_port_received_dropped 3",
            "node_ethtool_received 4",
            "node_ethtool_a 6",
        ];
        let expected = expected.map(|line| line.replace(' ', "{device=\"eth0\"} "));
        assert_eq!(found, expected);
        let found = given(&mut known, &[("a", 7), ("rx_bytes", 8)], Some("^a$"));
        assert_eq!(found, ["node_ethtool_a{device=\"eth0\"} 7"], "they changed, and so did what is given");
    }

    #[test]
    fn of_names_that_come_to_the_same_none_is_given() {
        let statistics = [("a-b", 1), ("A_b", 2), ("c", 3), ("c", 4), ("A b", 5)];
        assert_eq!(given(&mut Known::default(), &statistics, None), ["node_ethtool_c{device=\"eth0\"} 4"]);
    }

    #[test]
    fn a_link_gives_each_of_its_modes() {
        let mut samples = Samples::new(FAMILIES.len());
        let mut out = samples.writer(0, &[true; FAMILIES.len()]);
        let device = out.labels(&[("device", "eth0")]);
        // 1000baseT/Full, autonegotiation, twisted pair, symmetric pause; 25000baseCR; of these the first is offered.
        let supported = 1 << 5 | 1 << AUTONEGOTIATION | 1 << 7 | 1 << PAUSE | 1 << 31;
        give_link(Link { supported, advertised: 1 << 5, autonegotiates: 1 }, device, &mut out);
        let expected = [
            "node_network_supported_port_info{device=\"eth0\",type=\"TP\"} 1",
            "node_network_supported_speed_bytes{device=\"eth0\",duplex=\"full\",mode=\"1000baseT\"} 125000000",
            "node_network_supported_speed_bytes{device=\"eth0\",duplex=\"full\",mode=\"25000baseCR\"} 3125000000",
            "node_network_autonegotiate_supported{device=\"eth0\"} 1",
            "node_network_pause_supported{device=\"eth0\"} 1",
            "node_network_asymmetricpause_supported{device=\"eth0\"} 0",
            "node_network_advertised_speed_bytes{device=\"eth0\",duplex=\"full\",mode=\"1000baseT\"} 125000000",
            "node_network_autonegotiate_advertised{device=\"eth0\"} 0",
            "node_network_pause_advertised{device=\"eth0\"} 0",
            "node_network_asymmetricpause_advertised{device=\"eth0\"} 0",
            "node_network_autonegotiate{device=\"eth0\"} 1",
        ];
        assert_eq!(lines(&COLLECTOR, &samples), expected);
    }
}
