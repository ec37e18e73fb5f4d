//! Any bytes as what an agent sends to the operator.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::agent_message(data));
