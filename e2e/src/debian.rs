//! The Debian package of the agent, for machines without Kubernetes.
//!
//! An `ar` archive of two compressed tar files (deb(5)). The same files give the same bytes: no times, no owner's names.

mod installed;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::image::architecture;
use crate::programs::{self, AGENT, VERSION};

pub use installed::check;

/// The package's name, which is also that of its program and of its service.
pub const NAME: &str = "exporter-agent";

/// What the package puts on a machine besides the program: the path there, and the file's text.
const FILES: &[(&str, &str)] = &[
    ("etc/default/exporter-agent", include_str!("../../packaging/exporter-agent.default")),
    ("usr/lib/systemd/system/exporter-agent.service", include_str!("../../packaging/exporter-agent.service")),
    ("usr/lib/sysusers.d/exporter-agent.conf", include_str!("../../packaging/exporter-agent.sysusers")),
    (
        "usr/share/doc/exporter-agent/accepted-differences.md",
        include_str!("../../agent/accepted-differences.md"),
    ),
    ("usr/share/doc/exporter-agent/copyright", include_str!("../../packaging/debian/copyright")),
    ("usr/share/doc/exporter-agent/METRICS.md", include_str!("../../agent/METRICS.md")),
    (
        "usr/share/doc/exporter-agent/migrate-from-node_exporter.md",
        include_str!("../../docs/migrate-from-node_exporter.md"),
    ),
    (
        "usr/share/doc/exporter-agent/migrate-from-process-exporter.md",
        include_str!("../../docs/migrate-from-process-exporter.md"),
    ),
];

/// Files that stay as their owner has left them.
const CONFFILES: &str = "/etc/default/exporter-agent\n";

/// What dpkg runs before and after.
const SCRIPTS: &[(&str, &str)] = &[
    ("postinst", include_str!("../../packaging/debian/postinst")),
    ("postrm", include_str!("../../packaging/debian/postrm")),
    ("prerm", include_str!("../../packaging/debian/prerm")),
];

/// The name of the package's file.
pub fn file_name() -> String {
    format!("{NAME}_{VERSION}_{}.deb", architecture())
}

/// Builds the agent of this commit and writes the package of it.
pub fn build(revision: &str, to: &Path) -> Result<()> {
    let built = programs::build_of(&[AGENT], revision)?;
    let program = built.first().context("the agent was not built")?;
    // Line numbers are four fifths of a program.
    let stripped = to.with_extension("stripped");
    let written = programs::strip(program, &stripped).and_then(|()| write(&stripped, to));
    let _ = fs::remove_file(stripped);
    written
}

/// Writes the package with this program, which must be static: it depends on nothing.
pub fn write(program: &Path, to: &Path) -> Result<()> {
    let program = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let mut files = vec![Entry { path: format!("usr/bin/{NAME}"), content: &program, mode: 0o755 }];
    files.extend(FILES.iter().map(|(path, text)| Entry {
        path: (*path).to_owned(),
        content: text.as_bytes(),
        mode: 0o644,
    }));
    // In the order of their paths, so that a folder comes before what is in it and only once.
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let kilobytes = files.iter().map(|file| file.content.len().div_ceil(1024)).sum::<usize>();
    let control = control(kilobytes);
    let mut about = vec![
        Entry { path: "conffiles".to_owned(), content: CONFFILES.as_bytes(), mode: 0o644 },
        Entry { path: "control".to_owned(), content: control.as_bytes(), mode: 0o644 },
    ];
    about.extend(SCRIPTS.iter().map(|(name, text)| Entry {
        path: (*name).to_owned(),
        content: text.as_bytes(),
        mode: 0o755,
    }));
    let mut package = b"!<arch>\n".to_vec();
    member(&mut package, "debian-binary", b"2.0\n")?;
    member(&mut package, "control.tar.gz", &archive(&about)?)?;
    member(&mut package, "data.tar.gz", &archive(&files)?)?;
    fs::write(to, package).with_context(|| format!("cannot write {}", to.display()))
}

struct Entry<'a> {
    path: String,
    content: &'a [u8],
    mode: u32,
}

fn control(kilobytes: usize) -> String {
    format!(
        "Package: {NAME}\n\
         Version: {VERSION}\n\
         Architecture: {}\n\
         Maintainer: exporter-operator\n\
         Installed-Size: {kilobytes}\n\
         Section: net\n\
         Priority: optional\n\
         Description: metrics of a machine for Prometheus\n \
         Gives the metrics of node_exporter, under the same names and with the same\n \
         flags, and those of containers, at a fraction of the cost. It serves on port\n \
         9100, as node_exporter does; /etc/default/{NAME} says with which flags.\n",
        architecture()
    )
}

/// Folders, each before what is in it, and files.
fn archive(entries: &[Entry<'_>]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    let mut folders = Vec::new();
    for entry in entries {
        for (end, _) in entry.path.match_indices('/') {
            let folder = &entry.path[..=end];
            if !folders.contains(&folder) {
                folders.push(folder);
                let mut header = header(0o755, 0);
                header.set_entry_type(tar::EntryType::Directory);
                builder
                    .append_data(&mut header, folder, std::io::empty())
                    .context("cannot write an archive")?;
            }
        }
        let mut header = header(entry.mode, entry.content.len());
        builder.append_data(&mut header, &entry.path, entry.content).context("cannot write an archive")?;
    }
    builder.into_inner().and_then(GzEncoder::finish).context("cannot write an archive")
}

fn header(mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(size as u64);
    header
}

/// A member of an `ar` archive: its head in columns (ar(5)), and its content, padded to an even length.
fn member(archive: &mut Vec<u8>, name: &str, content: &[u8]) -> Result<()> {
    let (time, owner, group, mode) = (0, 0, 0, "100644");
    writeln!(archive, "{name:<16}{time:<12}{owner:<6}{group:<6}{mode:<8}{:<10}`", content.len())
        .context("cannot write an archive")?;
    archive.extend_from_slice(content);
    if content.len() % 2 == 1 {
        archive.push(b'\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_program_gives_the_same_bytes() {
        let folder = std::env::temp_dir().join(format!("exporter-deb-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let program = folder.join("program");
        fs::write(&program, "not really one").unwrap();
        let packages = ["a.deb", "b.deb"].map(|name| {
            write(&program, &folder.join(name)).unwrap();
            fs::read(folder.join(name)).unwrap()
        });
        fs::remove_dir_all(&folder).unwrap();
        assert!(packages[0] == packages[1]);
        assert!(packages[0].starts_with(b"!<arch>\ndebian-binary   0 "));
    }
}
