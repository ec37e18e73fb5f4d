//! Any file of a recorded node with any bytes: the first two choose the file.
#![no_main]

use std::cell::RefCell;
use std::path::Path;

use fuzz::Machine;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static MACHINE: RefCell<Machine> = RefCell::new({
        let nodes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../agent/fixtures");
        let node = std::env::var("FUZZ_NODE").unwrap_or_else(|_| "hardware".to_owned());
        Machine::new(&nodes.join(node)).expect("a recorded node; FUZZ_NODE names its folder")
    });
}

fuzz_target!(|data: &[u8]| {
    let [high, low, bytes @ ..] = data else { return };
    MACHINE.with_borrow_mut(|machine| {
        let file = usize::from(u16::from_be_bytes([*high, *low])) % machine.files().len();
        machine.with(file, bytes).unwrap_or_else(|what| panic!("{what}"));
    });
});
