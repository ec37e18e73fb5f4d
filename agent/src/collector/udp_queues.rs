//! How much memory the datagrams in the machine's UDP sockets take.

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{hexadecimal, label, words};

/// `udp_queues`
pub(super) const COLLECTOR: Collector = Collector {
    name: "udp_queues",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(UdpQueues([
                ("v4", NodeFile::in_short_records(paths.net("udp"))),
                ("v6", NodeFile::in_short_records(paths.net("udp6"))),
            ]))
        },
        can_block: false,
    },
};

families! {
    Queues Gauge "node_udp_queues" "Number of allocated memory in the kernel for UDP datagrams in bytes.";
}

struct UdpQueues([(&'static str, NodeFile); 2]);

impl NodeCollector for UdpQueues {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants(F::Queues) {
            return Ok(());
        }
        let mut is_any = false;
        for (ip, file) in &mut self.0 {
            match sums(file) {
                Ok((tx, rx)) => {
                    is_any = true;
                    for (queue, sum) in [("tx", tx), ("rx", rx)] {
                        let labels = out.labels(&[("ip", ip), ("queue", queue)]);
                        out.node(F::Queues, labels, sum as f64);
                    }
                }
                Err(CollectError::Absent(_)) => {}
                Err(error) => return Err(error),
            }
        }
        match is_any {
            true => Ok(()),
            false => Err(CollectError::read(self.0[0].1.path(), Errno::NOENT)),
        }
    }
}

/// The sums of what is to be sent and what was received; without one of the sockets they would be wrong.
fn sums(file: &mut NodeFile) -> Result<(u64, u64), CollectError> {
    let (mut sums, mut is_heading, mut fault) = ((0u64, 0u64), true, None);
    let is_whole = file.each_line(|line| {
        if std::mem::take(&mut is_heading) {
            return;
        }
        match queues(line) {
            Some((tx, rx)) => sums = (sums.0.wrapping_add(tx), sums.1.wrapping_add(rx)),
            None => fault = Some(format!("`{}` is not a socket", label(line))),
        }
    })?;
    match fault {
        Some(what) => Err(CollectError::parse(file.path(), what)),
        None if is_whole && !is_heading => Ok(sums),
        None => Err(CollectError::parse(file.path(), "ends in the middle")),
    }
}

/// `  460: 00000000:0044 00000000:0000 07 00000000:00000000 00:…` (net/ipv4/udp.c, udp4_format_sock): the fifth word is
/// what is queued for sending and what was received, in bytes.
fn queues(line: &[u8]) -> Option<(u64, u64)> {
    let mut words = words(line).skip(4);
    let queues = words.next()?;
    words.next()?;
    let colon = queues.iter().position(|b| *b == b':')?;
    Some((hexadecimal(&queues[..colon])?, hexadecimal(&queues[colon + 1..])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const HEADING: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";

    fn line(queues: &str) -> String {
        format!(
            "  460: 00000000:0044 00000000:0000 07 {queues} 00:00000000 00000000     0        0 8 2 0 0\n"
        )
    }

    #[test]
    fn queues_are_summed_over_sockets() {
        let text = [HEADING, &line("00000010:00000300"), &line("00000001:FFFFFFFF")].concat();
        let (lines, result) = gives(&COLLECTOR, &[("proc/net/udp", &text), ("proc/net/udp6", HEADING)], &[]);
        let expected = [
            r#"node_udp_queues{ip="v4",queue="tx"} 17"#,
            r#"node_udp_queues{ip="v4",queue="rx"} 4294968063"#,
            r#"node_udp_queues{ip="v6",queue="tx"} 0"#,
            r#"node_udp_queues{ip="v6",queue="rx"} 0"#,
        ];
        assert_eq!(lines, expected);
        result.unwrap();
    }

    #[test]
    fn a_socket_that_cannot_be_read_leaves_no_sum() {
        for bad in [line("00000010"), line("0000001g:0"), "  460: 00000000:0044".to_owned()] {
            let text = [HEADING, &line("1:1"), &bad].concat();
            let (lines, result) = gives(&COLLECTOR, &[("proc/net/udp", &text)], &[]);
            assert!(lines.is_empty() && matches!(result, Err(CollectError::Parse { .. })), "{bad}");
        }
        let (_, result) = gives(&COLLECTOR, &[], &[]);
        assert!(matches!(result, Err(CollectError::Absent(_))));
    }
}
