//! Errors of IPsec transformations.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{FamilyDesc, Kind, Labels, Writer};
use crate::source::file::NodeFile;
use crate::source::text::{label, lines, number, whole_lines, words};

/// `xfrm`
pub(super) const COLLECTOR: Collector = Collector {
    name: "xfrm",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| Box::new(Xfrm(NodeFile::whole(paths.net("xfrm_stat")))),
        can_block: false,
    },
};

/// Declares a family for each key.
macro_rules! keys {
    ($($key:literal $name:literal $help:literal;)*) => {
        const KEYS: &[&str] = &[$($key),*];

        const FAMILIES: &[FamilyDesc] =
            &[$(FamilyDesc { name: $name, kind: Kind::Counter, help: $help }),*];
    };
}

// Documentation/networking/xfrm_proc.rst says what each of them counts.
keys! {
    "XfrmInError" "node_xfrm_in_error_packets_total" "All errors not matched by other.";
    "XfrmInBufferError" "node_xfrm_in_buffer_error_packets_total" "No buffer is left.";
    "XfrmInHdrError" "node_xfrm_in_hdr_error_packets_total" "Header error.";
    "XfrmInNoStates" "node_xfrm_in_no_states_packets_total" "No state is found, i.e. Either inbound SPI, address, or IPsec protocol at SA is wrong.";
    "XfrmInStateProtoError" "node_xfrm_in_state_proto_error_packets_total" "Transformation protocol specific error, e.g. SA key is wrong.";
    "XfrmInStateModeError" "node_xfrm_in_state_mode_error_packets_total" "Transformation mode specific error.";
    "XfrmInStateSeqError" "node_xfrm_in_state_seq_error_packets_total" "Sequence error, i.e. Sequence number is out of window.";
    "XfrmInStateExpired" "node_xfrm_in_state_expired_packets_total" "State is expired.";
    "XfrmInStateMismatch" "node_xfrm_in_state_mismatch_packets_total" "State has mismatch option, e.g. UDP encapsulation type is mismatch.";
    "XfrmInStateInvalid" "node_xfrm_in_state_invalid_packets_total" "State is invalid.";
    "XfrmInTmplMismatch" "node_xfrm_in_tmpl_mismatch_packets_total" "No matching template for states, e.g. Inbound SAs are correct but SP rule is wrong.";
    "XfrmInNoPols" "node_xfrm_in_no_pols_packets_total" "No policy is found for states, e.g. Inbound SAs are correct but no SP is found.";
    "XfrmInPolBlock" "node_xfrm_in_pol_block_packets_total" "Policy discards.";
    "XfrmInPolError" "node_xfrm_in_pol_error_packets_total" "Policy error.";
    "XfrmOutError" "node_xfrm_out_error_packets_total" "All errors which is not matched others.";
    "XfrmOutBundleGenError" "node_xfrm_out_bundle_gen_error_packets_total" "Bundle generation error.";
    "XfrmOutBundleCheckError" "node_xfrm_out_bundle_check_error_packets_total" "Bundle check error.";
    "XfrmOutNoStates" "node_xfrm_out_no_states_packets_total" "No state is found.";
    "XfrmOutStateProtoError" "node_xfrm_out_state_proto_error_packets_total" "Transformation protocol specific error.";
    "XfrmOutStateModeError" "node_xfrm_out_state_mode_error_packets_total" "Transformation mode specific error.";
    "XfrmOutStateSeqError" "node_xfrm_out_state_seq_error_packets_total" "Sequence error, i.e. Sequence number overflow.";
    "XfrmOutStateExpired" "node_xfrm_out_state_expired_packets_total" "State is expired.";
    "XfrmOutPolBlock" "node_xfrm_out_pol_block_packets_total" "Policy discards.";
    "XfrmOutPolDead" "node_xfrm_out_pol_dead_packets_total" "Policy is dead.";
    "XfrmOutPolError" "node_xfrm_out_pol_error_packets_total" "Policy error.";
    "XfrmFwdHdrError" "node_xfrm_fwd_hdr_error_packets_total" "Forward routing of a packet is not allowed.";
    "XfrmOutStateInvalid" "node_xfrm_out_state_invalid_packets_total" "State is invalid, perhaps expired.";
    "XfrmAcquireError" "node_xfrm_acquire_error_packets_total" "State hasn't been fully acquired before use.";
}

struct Xfrm(NodeFile);

impl NodeCollector for Xfrm {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let text = self.0.read()?;
        parse(text, |family, value| out.node(family, Labels::NONE, value as f64))
            .map_err(|what| CollectError::parse(self.0.path(), what))
    }
}

/// `XfrmInError             \t0` (net/xfrm/xfrm_proc.c)
fn parse(text: &[u8], mut found: impl FnMut(u16, u64)) -> Result<(), String> {
    let (text, is_whole) = whole_lines(text);
    let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
    for line in lines(text) {
        let mut row = words(line);
        match (row.next(), row.next().and_then(number)) {
            (Some(key), Some(value)) => {
                if let Some(family) = KEYS.iter().position(|known| known.as_bytes() == key) {
                    found(family as u16, value);
                }
            }
            _ => result = Err(format!("`{}` has no number", label(line))),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, u64)]) -> Result<(), String> {
        let mut found = Vec::new();
        let result = parse(text.as_bytes(), |family, value| found.push((KEYS[usize::from(family)], value)));
        assert_eq!(found, expected);
        result
    }

    #[test]
    fn keys_of_a_later_kernel_are_passed_over_and_a_bad_line_costs_itself() {
        let text = "XfrmInError             \t3\nXfrmInNew 5\nXfrmAcquireError\t4\n";
        check(text, &[("XfrmInError", 3), ("XfrmAcquireError", 4)]).unwrap();
        check("XfrmInError x\nXfrmOutError 7\nXfrmOutPol", &[("XfrmOutError", 7)]).unwrap_err();
        check("", &[]).unwrap_err();
    }
}
