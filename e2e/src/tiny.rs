//! The smallest program: it waits and ends, and starting it costs a fifth of starting one that has a libc.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Where its only segment is in memory.
const BASE: u64 = 0x40_0000;
/// What is before its code: the header of the file and that of the segment.
const HEADERS: u64 = 64 + 56;

/// nanosleep(2) of the time that follows the code, and exit(2) with 0.
const CODE: [u8; 32] = [
    0xb8, 35, 0, 0, 0, // mov eax, 35
    0x48, 0x8d, 0x3d, 20, 0, 0, 0, // lea rdi, [rip + 20]
    0x31, 0xf6, // xor esi, esi
    0x0f, 0x05, // syscall
    0xb8, 60, 0, 0, 0, // mov eax, 60
    0x31, 0xff, // xor edi, edi
    0x0f, 0x05, // syscall
    0, 0, 0, 0, 0, 0, 0,
];

/// Writes a program that ends after so long whatever its arguments are. On other machines than x86-64 it is the sample
/// workload, which has to be told.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, life: Duration, workload: &Path) -> Result<()> {
    let written = if cfg!(target_arch = "x86_64") {
        std::fs::write(path, elf(life))
            .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)))
    } else {
        std::fs::copy(workload, path).map(drop)
    };
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// One segment that holds everything (elf(5)).
fn elf(life: Duration) -> Vec<u8> {
    let size = HEADERS + CODE.len() as u64 + 16;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // Executable, x86-64; where it begins, where the header of the segment is, and their sizes.
    file.extend([2u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1u32.to_le_bytes());
    file.extend([BASE + HEADERS, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    // To be loaded, to be read and executed.
    file.extend([1u32, 5].map(u32::to_le_bytes).concat());
    file.extend([0, BASE, BASE, size, size, 0x1000].map(u64::to_le_bytes).concat());
    file.extend(CODE);
    file.extend([life.as_secs(), u64::from(life.subsec_nanos())].map(u64::to_le_bytes).concat());
    file
}
