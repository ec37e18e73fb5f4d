//! Builds the images of operator and agent as tar files, with version and commit: `images [--out DIR]`.

#![expect(clippy::print_stdout, reason = "it says what it made")]

use std::path::PathBuf;

use anyhow::{Result, bail};
use e2e::programs::{AGENT, OPERATOR, release, revision};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => PathBuf::from("target/images"),
        ["--out", folder] => PathBuf::from(folder),
        _ => bail!("usage: images [--out DIR]"),
    };
    let revision = revision()?;
    for image in release(&[OPERATOR, AGENT], &revision, &folder)? {
        let size = std::fs::metadata(&image.tar)?.len() as f64 / 1e6;
        println!("{}: {}, revision {revision}, {size:.1} MB", image.tar.display(), image.reference);
    }
    Ok(())
}
