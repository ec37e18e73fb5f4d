//! What a loss of power leaves of the last good configuration: `power-cut [CUTS]`, 500 when not given; as root.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use anyhow::{Context as _, Result, ensure};
use e2e::{interrupt, power_cut};

fn main() -> Result<()> {
    let cuts: u32 = std::env::args().nth(1).map_or(Ok(500), |n| n.parse()).context("CUTS is a number")?;
    ensure!(rustix::process::geteuid().is_root(), "it mounts and cuts a file system: run it as root");
    interrupt::watch()?;
    println!("{}", power_cut::check(cuts)?);
    Ok(())
}
