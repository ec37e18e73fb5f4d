//! How many neighbours each interface of the machine knows by ARP.

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Pattern, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{label, words};

/// `arp`
pub(super) const COLLECTOR: Collector = Collector {
    name: "arp",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new("deviceExclude", OptionKind::Regex, "", "Interfaces to leave out."),
        OptionDesc::new("deviceInclude", OptionKind::Regex, "", "Interfaces to give, and no others."),
        OptionDesc::new(
            "netlink",
            OptionKind::Bool,
            "true",
            "Taken for compatibility, without effect: the file tells the same in any network namespace.",
        ),
    ],
    exclusive: &[("deviceExclude", "deviceInclude")],
    run: Run::Node {
        start: |paths, options| {
            Box::new(Arp {
                file: NodeFile::in_short_records(paths.net("arp")),
                devices: options.pattern(&COLLECTOR, "deviceInclude", "deviceExclude"),
                counts: Vec::new(),
            })
        },
        can_block: false,
    },
};

families! {
    Entries Gauge "node_arp_entries" "ARP entries by device.";
}

struct Arp {
    file: NodeFile,
    devices: Pattern,
    /// Of this scrape; kept for their names.
    counts: Vec<(String, u64)>,
}

impl NodeCollector for Arp {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Arp { file, devices, counts } = self;
        counts.iter_mut().for_each(|(_, count)| *count = 0);
        let (mut is_heading, mut fault) = (true, None);
        let is_whole = file.each_line(|line| {
            if std::mem::take(&mut is_heading) {
                return;
            }
            let Some(device) = device(line) else {
                fault = Some(format!("`{}` is not a neighbour", label(line)));
                return;
            };
            match counts.iter_mut().find(|(known, _)| known.as_bytes() == device) {
                Some((_, count)) => *count += 1,
                None => count_new(counts, &label(device)),
            }
        })?;
        counts.retain(|(_, count)| *count > 0);
        for (device, count) in counts.iter().filter(|(device, _)| !devices.ignores(device)) {
            let labels = out.labels(&[("device", device)]);
            out.node(F::Entries, labels, *count as f64);
        }
        match fault {
            Some(what) => Err(CollectError::parse(file.path(), what)),
            None if is_whole => Ok(()),
            None => Err(CollectError::parse(file.path(), "ends in the middle")),
        }
    }
}

fn count_new(counts: &mut Vec<(String, u64)>, device: &str) {
    match counts.iter_mut().find(|(known, _)| known == device) {
        Some((_, count)) => *count += 1,
        None => counts.push((device.to_owned(), 1)),
    }
}

/// `10.0.0.1   0x1   0x2   00:16:3e:00:00:01   *   eth0` (net/ipv4/arp.c, arp_format_neigh_entry): address, type, flags,
/// hardware address, mask, interface. An interface without hardware addresses leaves that one out.
fn device(line: &[u8]) -> Option<&[u8]> {
    let mut words = words(line);
    let (_address, kind, flags) = (words.next()?, words.next()?, words.next()?);
    let is_hex = |word: &[u8]| word.starts_with(b"0x");
    if !is_hex(kind) || !is_hex(flags) {
        return None;
    }
    words.next()?;
    words.last()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const HEADING: &str = "IP address       HW type     Flags       HW address            Mask     Device\n";

    fn line(device: &str) -> String {
        format!("10.0.0.1         0x1         0x2         00:16:3e:00:00:01     *        {device}\n")
    }

    #[test]
    fn entries_are_counted_by_interface_and_a_bad_line_costs_only_itself() {
        let bare = "10.0.0.2         0x30d       0x0                              *        gre1\n";
        let text = [HEADING, &line("eth0"), "10.0.0.9 x\n", bare, &line("eth0"), &line("a\"b")].concat();
        let (lines, result) = gives(&COLLECTOR, &[("proc/net/arp", &text)], &[]);
        let expected = [
            r#"node_arp_entries{device="eth0"} 2"#,
            r#"node_arp_entries{device="gre1"} 1"#,
            r#"node_arp_entries{device="a\"b"} 1"#,
        ];
        assert_eq!(lines, expected);
        assert!(result.unwrap_err().to_string().contains("`10.0.0.9 x`"));
    }

    #[test]
    fn a_machine_without_neighbours_has_no_series_and_a_cut_file_is_an_error() {
        let (lines, result) = gives(&COLLECTOR, &[("proc/net/arp", HEADING)], &[]);
        assert!(lines.is_empty() && result.is_ok());
        let text = [HEADING, &line("eth0"), "10.0.0.1         0x1      "].concat();
        let (lines, result) = gives(&COLLECTOR, &[("proc/net/arp", &text)], &[("deviceExclude", "^lo")]);
        assert_eq!(lines.len(), 1);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }
}
