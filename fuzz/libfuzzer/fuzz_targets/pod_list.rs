//! Any bytes as the kubelet's list of pods.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::pod_list(data));
