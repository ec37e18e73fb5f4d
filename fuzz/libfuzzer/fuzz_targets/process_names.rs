//! Any bytes as the configuration of process-exporter.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::process_names(data));
