//! What each CPU did with the packets that it received.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{hexadecimal, label, lines, whole_lines, words};

/// `softnet`
pub(super) const COLLECTOR: Collector = Collector {
    name: "softnet",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| Box::new(Softnet(NodeFile::in_short_records(paths.net("softnet_stat")))),
        can_block: false,
    },
};

families! {
    Processed Counter "node_softnet_processed_total" "Number of processed packets.";
    Dropped Counter "node_softnet_dropped_total" "Number of dropped packets.";
    Squeezed Counter "node_softnet_times_squeezed_total" "Number of times processing packets ran out of quota.";
    Collision Counter "node_softnet_cpu_collision_total" "Number of collision occur while obtaining device lock while transmitting.";
    ReceivedRps Counter "node_softnet_received_rps_total" "Number of times cpu woken up received_rps.";
    FlowLimit Counter "node_softnet_flow_limit_count_total" "Number of times flow limit has been reached.";
    Backlog Gauge "node_softnet_backlog_len" "Softnet backlog status.";
}

/// The column of each family (net/core/net-procfs.c, softnet_seq_show); what an older kernel has not is 0.
const COLUMNS: [(F, usize); 7] = [
    (F::Processed, 0),
    (F::Dropped, 1),
    (F::Squeezed, 2),
    (F::Collision, 8),
    (F::ReceivedRps, 9),
    (F::FlowLimit, 10),
    (F::Backlog, 11),
];
/// Since Linux 5.14; before, a line had its CPU's number only as long as all CPUs were online.
const CPU: usize = 12;
const FEWEST: usize = 9;

struct Softnet(NodeFile);

impl NodeCollector for Softnet {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants_any(COLUMNS.map(|(family, _)| family)) {
            return Ok(());
        }
        let (text, is_whole) = whole_lines(self.0.read()?);
        let mut fault = (!is_whole).then(|| "ends in the middle".to_owned());
        let mut buffer = itoa::Buffer::new();
        for (number, line) in lines(text).enumerate() {
            let Some((cpu, values)) = parse(number as u64, line) else {
                fault = Some(format!("`{}` is not the counters of a CPU", label(line)));
                continue;
            };
            let labels = out.labels(&[("cpu", buffer.format(cpu))]);
            for (family, column) in COLUMNS {
                out.node(family, labels, values[column] as f64);
            }
        }
        fault.map_or(Ok(()), |what| Err(CollectError::parse(self.0.path(), what)))
    }
}

/// Hexadecimal columns: the CPU, and those before its number.
fn parse(number: u64, line: &[u8]) -> Option<(u64, [u64; CPU + 1])> {
    let mut values = [0; CPU + 1];
    let mut count = 0;
    for (value, word) in values.iter_mut().zip(words(line)) {
        *value = hexadecimal(word)?;
        count += 1;
    }
    let cpu = if count > CPU { values[CPU] } else { number };
    (count >= FEWEST).then_some((cpu, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    #[test]
    fn the_cpu_is_the_one_that_the_line_names_where_it_names_one() {
        let line =
            |columns: usize| (0..columns).map(|n| format!("{:08x}", n + 16)).collect::<Vec<_>>().join(" ");
        assert_eq!(parse(3, line(15).as_bytes()).unwrap().0, 28);
        let (cpu, values) = parse(3, line(10).as_bytes()).unwrap();
        assert_eq!((cpu, values[9], values[11]), (3, 25, 0));
        assert_eq!(parse(3, line(8).as_bytes()), None);
    }

    #[test]
    fn a_bad_line_costs_its_own_cpu() {
        let good = "ffffffff 00000001 00000002 0 0 0 0 0 3 4 5 6 7 0 0";
        let text = format!("{good}\n0000 000x 0 0 0 0 0 0 0\n{good}");
        let (lines, result) = gives(&COLLECTOR, &[("proc/net/softnet_stat", &text)], &[]);
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[0], r#"node_softnet_processed_total{cpu="7"} 4294967295"#);
        assert_eq!(lines[6], r#"node_softnet_backlog_len{cpu="7"} 6"#);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }
}
