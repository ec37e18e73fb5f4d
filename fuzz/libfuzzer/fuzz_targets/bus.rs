//! Any bytes as what a service sends over D-Bus.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = fuzz::bus(data);
});
