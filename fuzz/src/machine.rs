//! A recorded node of which one file at a time holds other bytes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use agent::collector::COLLECTORS;
use agent::expose::text::Format;
use agent::plan::{Overlay, Plan};
use agent::scrape::{Part, Scraper};
use agent::source::Paths;
use agent::source::file::HandleBudget;
use agent::telemetry::Telemetry;
use protocol::Facts;

/// A copy of a recorded node, and an agent with every collector that reads it.
pub struct Machine {
    root: PathBuf,
    files: Vec<PathBuf>,
    scraper: Scraper,
    text: Vec<u8>,
}

impl Machine {
    /// A copy of the node whose files are below this folder, in a folder of its own that ends with it.
    ///
    /// # Errors
    /// When the files cannot be copied.
    pub fn new(recorded: &Path) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("fuzz-machine-{}-{number}", std::process::id()));
        let mut files = Vec::new();
        for part in ["proc", "sys", "udev", "etc", "textfile"] {
            if recorded.join(part).is_dir() {
                copy(&recorded.join(part), &root.join(part), &mut files)?;
            }
        }
        let paths = Paths {
            procfs: root.join("proc"),
            sysfs: root.join("sys"),
            rootfs: root.clone(),
            udev: root.join("udev"),
            handles: Arc::new(HandleBudget::new(0)),
            ..Paths::default()
        };
        let telemetry = Arc::new(Telemetry::new().map_err(io::Error::other)?);
        let mut scraper = Scraper::new(paths, "pause".to_owned(), 1024, everything(&root), telemetry);
        if let Ok(pods) = fs::read(recorded.join("kubelet/pods.json")) {
            scraper.set_pods(agent::source::kubelet::parse(&pods).map_err(io::Error::other)?);
        }
        Ok(Machine { root, files, scraper, text: Vec::new() })
    }

    /// The files, in order of their paths.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Scrapes while a file holds these bytes, and puts back what it held.
    ///
    /// # Errors
    /// What is wrong with the answer: a collector that panicked, or a line that Prometheus could not read.
    pub fn with(&mut self, file: usize, bytes: &[u8]) -> Result<(), String> {
        let path = &self.files[file];
        let before = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        self.text.clear();
        self.scraper.scrape(Part::All, Format::Text, &mut self.text);
        fs::write(path, before).map_err(|error| format!("{}: {error}", path.display()))?;
        check(&self.text).map_err(|what| {
            let file = path.strip_prefix(&self.root).unwrap_or(path).display();
            format!("{file} with {:?}: {what}", String::from_utf8_lossy(bytes))
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn everything(root: &Path) -> Plan {
    let directory = root.join("textfile").display().to_string();
    let textfile = ("textfile".to_owned(), [("directory".to_owned(), directory)].into());
    let flags = Overlay {
        enabled: COLLECTORS.iter().map(|c| (c.name.to_owned(), true)).collect(),
        options: [textfile].into(),
        ..Overlay::default()
    };
    Plan::new(Vec::new(), Facts::default(), &flags)
}

fn copy(from: &Path, to: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let to = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_symlink() => std::os::unix::fs::symlink(fs::read_link(entry.path())?, to)?,
            kind if kind.is_dir() => copy(&entry.path(), &to, files)?,
            _ => {
                // Not its mode: a file that only root may read is fuzzed like any other.
                fs::write(&to, fs::read(entry.path())?)?;
                files.push(to);
            }
        }
    }
    Ok(())
}

/// Whether every line is a comment or a sample.
fn check(text: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("the answer is not UTF-8: {error}"))?;
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        if line.contains("reason=\"panic\"") {
            return Err(format!("a collector panicked: {line}"));
        }
        sample(line).ok_or_else(|| format!("not a sample: {line}"))?;
    }
    Ok(())
}

fn sample(line: &str) -> Option<()> {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        let start = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b':';
        bytes.next().is_some_and(start) && bytes.all(|b| start(b) || b.is_ascii_digit())
    };
    let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
    if let Some(mut labels) = rest.strip_prefix('{') {
        loop {
            let (label, after) = labels.split_once("=\"")?;
            is_name(label).then_some(())?;
            let after = &after[end_of_quoted(after)?..];
            match after.strip_prefix(',') {
                Some(more) => labels = more,
                None => {
                    rest = after.strip_prefix('}')?;
                    break;
                }
            }
        }
    }
    rest.strip_prefix(' ')?.parse::<f64>().ok()?;
    is_name(name).then_some(())
}

/// Where the text behind the closing quote begins.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at + 1),
            b'\\' => matches!(bytes.next()?.1, b'n' | b'\\' | b'"').then_some(())?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_prometheus_could_not_read_is_found() {
        for good in ["a 1", "a{b=\"c\"} +Inf", "a:b{c=\"\",d=\"x\\\"\\n\\\\\"} -1.5e3", "a NaN"] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in
            ["a", "a b", "1a 1", "a{b=c} 1", "a{b=\"c} 1", "a{b=\"c\" 1", "a{b=\"\\x\"} 1", "a{} 1", ""]
        {
            assert!(check(format!("{bad}\n").as_bytes()).is_err(), "{bad}");
        }
        assert!(check(b"a{b=\"\xff\"} 1").is_err());
        assert!(check(b"x_total{collector=\"cpu\",reason=\"panic\"} 1").is_err());
    }
}
