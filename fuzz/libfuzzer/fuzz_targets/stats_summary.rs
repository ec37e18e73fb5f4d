//! Any bytes as what the kubelet says of storage.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::stats_summary(data));
