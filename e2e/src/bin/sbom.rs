//! Writes what both programs are built from, as CycloneDX: `sbom [--out DIR]`.

#![expect(clippy::print_stdout, reason = "it says what it wrote")]

use std::path::PathBuf;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => PathBuf::from("target/sbom"),
        ["--out", folder] => PathBuf::from(folder),
        _ => bail!("usage: sbom [--out DIR]"),
    };
    for path in e2e::sbom::write(&folder)? {
        println!("{}", path.display());
    }
    Ok(())
}
