//! Any bytes as the file of `--web.config.file`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::web_config(data).expect("the file can be written"));
