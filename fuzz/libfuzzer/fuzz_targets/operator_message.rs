//! Any bytes as what an operator sends to an agent.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::operator_message(data));
