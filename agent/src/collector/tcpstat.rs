//! How many TCP sockets are in each state, and what waits in their queues.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{hexadecimal, label, words};

/// `tcpstat`
pub(super) const COLLECTOR: Collector = Collector {
    name: "tcpstat",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(Tcpstat(["tcp", "tcp6"].map(|file| NodeFile::in_short_records(paths.net(file)))))
        },
        can_block: false,
    },
};

families! {
    States Gauge "node_tcp_connection_states" "Number of connection states.";
}

/// By number, from 1 (include/net/tcp_states.h).
const STATES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];

struct Tcpstat([NodeFile; 2]);

#[derive(Debug, Default, PartialEq)]
struct Sockets {
    /// By state, and at the end those of an unknown one.
    states: [u64; STATES.len() + 1],
    received: u64,
    transmitted: u64,
}

impl NodeCollector for Tcpstat {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants(F::States) {
            return Ok(());
        }
        let mut sockets = Sockets::default();
        for (file, is_needed) in self.0.iter_mut().zip([true, false]) {
            match read(file, &mut sockets) {
                // Without IPv6 there is no tcp6.
                Err(CollectError::Absent(_)) if !is_needed => {}
                // A part of them would be a wrong count.
                result => result?,
            }
        }
        let named = STATES.into_iter().chain(["unknown"]).zip(sockets.states).filter(|(_, count)| *count > 0);
        let queues = [("rx_queued_bytes", sockets.received), ("tx_queued_bytes", sockets.transmitted)];
        let has_any = sockets.states.iter().any(|count| *count > 0);
        for (state, value) in named.chain(queues.into_iter().filter(|_| has_any)) {
            let labels = out.labels(&[("state", state)]);
            out.node(F::States, labels, value as f64);
        }
        Ok(())
    }
}

fn read(file: &mut NodeFile, sockets: &mut Sockets) -> Result<(), CollectError> {
    let mut is_heading = true;
    let mut fault = None;
    let is_whole = file.each_line(|line| {
        if !std::mem::take(&mut is_heading) && !sockets.add(line) && fault.is_none() {
            fault = Some(format!("`{}` is not a socket", label(line)));
        }
    })?;
    if fault.is_none() && !is_whole {
        fault = Some("ends in the middle".to_owned());
    }
    fault.map_or(Ok(()), |what| Err(CollectError::parse(file.path(), what)))
}

impl Sockets {
    /// `   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 …`: the fourth is the state, the fifth what is to be sent
    /// and what is to be read (Documentation/networking/proc_net_tcp.rst).
    fn add(&mut self, line: &[u8]) -> bool {
        let mut columns = words(line);
        let state = columns.nth(3).and_then(hexadecimal);
        let queues = columns.next().and_then(|word| {
            let colon = word.iter().position(|b| *b == b':')?;
            Some((hexadecimal(&word[..colon])?, hexadecimal(&word[colon + 1..])?))
        });
        let (Some(state), Some((transmitted, received))) = (state, queues) else { return false };
        let place = (state as usize).wrapping_sub(1).min(STATES.len());
        self.states[place] += 1;
        self.transmitted += transmitted;
        self.received += received;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const HEADINGS: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n";
    const LISTEN: &str =
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0\n";
    const OTHER: &str = "   1: 0100007F:1F90 0100007F:0001 01 0000000A:00000010 00:00000000 00000000     0\n";

    fn check(tcp: &str, tcp6: &[(&str, &str)], expected: &[&str]) -> Result<(), CollectError> {
        let (lines, result) = gives(&COLLECTOR, &[&[("proc/net/tcp", tcp)], tcp6].concat(), &[]);
        let expected: Vec<_> =
            expected.iter().map(|line| format!("node_tcp_connection_states{line}")).collect();
        assert_eq!(lines, expected);
        result
    }

    #[test]
    fn both_families_are_counted_together() {
        let tcp6 = format!("{HEADINGS}{}", LISTEN.replace(" 0A ", " 0D "));
        let expected = [
            r#"{state="established"} 1"#,
            r#"{state="listen"} 1"#,
            r#"{state="unknown"} 1"#,
            r#"{state="rx_queued_bytes"} 20"#,
            r#"{state="tx_queued_bytes"} 10"#,
        ];
        check(&format!("{HEADINGS}{LISTEN}{OTHER}"), &[("proc/net/tcp6", &tcp6)], &expected).unwrap();
    }

    #[test]
    fn without_ipv6_and_without_sockets_nothing_is_wrong() {
        check(HEADINGS, &[], &[]).unwrap();
    }

    #[test]
    fn a_cut_list_gives_no_count() {
        check(&format!("{HEADINGS}{LISTEN}   1: 0100"), &[], &[]).unwrap_err();
        check(&format!("{HEADINGS}{LISTEN}   1: 0100\n"), &[], &[]).unwrap_err();
    }
}
