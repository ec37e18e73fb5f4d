//! Any bytes as the spec of a policy.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::exporter_policy(data));
