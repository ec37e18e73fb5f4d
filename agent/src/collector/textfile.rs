//! Metrics that other programs leave in files, such as the results of cron jobs.

mod family;
mod glob;
mod merge;
mod parse;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::metric::{Labels, NamedDesc, Writer, families};
use crate::source::user_file::{self, Stamp};
use family::Family;
use merge::{Fault, Merged, Source, merge};

/// `textfile`
pub(super) const COLLECTOR: Collector = Collector {
    name: "textfile",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[NamedDesc { prefix: "", help: "What the files say." }],
    options: &[
        OptionDesc::new(
            "directory",
            OptionKind::Lines,
            "",
            "Directory whose files with the ending .prom are read, or a pattern for several of them.",
        ),
        OptionDesc::new(
            "maxAge",
            OptionKind::Duration,
            "",
            "Age from which on a file gives no series any more, but its time of modification; without it, never.",
        ),
    ],
    exclusive: &[],
    run: Run::Node {
        start: |_, options| {
            Box::new(Textfile {
                directories: options.lines(&COLLECTOR, "directory").map(str::to_owned).collect(),
                max_age: options.duration(&COLLECTOR, "maxAge"),
                files: Vec::new(),
                merged: Merged::default(),
                buffer: Vec::new(),
                logged: BTreeMap::new(),
            })
        },
        can_block: true,
    },
};

families! {
    Mtime Gauge "node_textfile_mtime_seconds" "Unixtime mtime of textfiles successfully read.";
    ScrapeError Gauge "node_textfile_scrape_error" "1 if there was an error opening or reading a file, 0 otherwise.";
}

/// What is longer was not meant to be scraped.
const LONGEST: u64 = 16 << 20;
/// The same of all files together, since all are kept.
const LONGEST_TOGETHER: u64 = 64 << 20;

struct Textfile {
    directories: Vec<String>,
    max_age: Option<Duration>,
    /// Those of the last scrape, in order.
    files: Vec<File>,
    merged: Merged,
    buffer: Vec<u8>,
    /// What is wrong, by path: a line in the log when it changes.
    logged: BTreeMap<PathBuf, String>,
}

struct File {
    path: PathBuf,
    stamp: Option<Stamp>,
    is_settled: bool,
    is_old: bool,
    /// What it says, or what is wrong with it.
    content: Result<Vec<Family>, String>,
}

impl NodeCollector for Textfile {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let mut faults = BTreeMap::new();
        let paths = self.list(&mut faults);
        if self.read(paths) {
            let sources: Vec<_> = self.files.iter().map(File::source).collect();
            self.merged = merge(&sources);
        }
        for (file, fault) in self.files.iter().zip(&self.merged.faults) {
            let what = match (&file.content, fault) {
                (Err(what), _) | (_, Some(Fault::Refused(what) | Fault::LeftOut(what))) => what,
                _ => continue,
            };
            faults.insert(file.path.clone(), what.clone());
        }
        self.write(!faults.is_empty(), out);
        self.log(faults);
        Ok(())
    }
}

impl Textfile {
    /// The files that there are, in node_exporter's order; a directory that is named twice counts once.
    fn list(&self, faults: &mut BTreeMap<PathBuf, String>) -> Vec<PathBuf> {
        let (mut paths, mut known) = (Vec::new(), BTreeSet::new());
        for folder in self.directories.iter().flat_map(|pattern| glob::expand(pattern)) {
            if !known.insert(folder.clone()) {
                continue;
            }
            let here = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
            let names = std::fs::read_dir(here).and_then(|entries| {
                let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
                names.collect::<Result<Vec<_>, _>>()
            });
            match names {
                Ok(mut names) => {
                    names.retain(|name| name.as_encoded_bytes().ends_with(b".prom"));
                    names.sort();
                    paths.extend(names.into_iter().map(|name| folder.join(name)));
                }
                Err(error) => {
                    faults.insert(folder, format!("cannot read the directory: {error}"));
                }
            }
        }
        paths
    }

    /// Reads the files that have changed; tells whether anything is new.
    fn read(&mut self, paths: Vec<PathBuf>) -> bool {
        let now = SystemTime::now();
        let before = std::mem::take(&mut self.files);
        let mut has_changed =
            before.len() != paths.len() || before.iter().zip(&paths).any(|(f, p)| f.path != *p);
        let mut before: HashMap<PathBuf, File> =
            before.into_iter().map(|file| (file.path.clone(), file)).collect();
        let mut together = 0;
        for path in paths {
            let stamp = Stamp::of(&path);
            let is_old = stamp.as_ref().is_ok_and(|stamp| self.is_old(stamp, now));
            let stamp = stamp.map_err(|error| error.to_string());
            let known = before.remove(&path).filter(|file| match (&stamp, &file.content) {
                (Ok(stamp), _) => file.is_settled && file.is_old == is_old && file.stamp == Some(*stamp),
                (Err(what), Err(before)) => what == before,
                _ => false,
            });
            let file = known.unwrap_or_else(|| {
                has_changed = true;
                File::read(path, stamp, is_old, LONGEST_TOGETHER - together, now, &mut self.buffer)
            });
            if matches!(&file.content, Ok(families) if !families.is_empty()) {
                together += file.stamp.map_or(0, |stamp| stamp.size()).min(LONGEST_TOGETHER - together);
            }
            self.files.push(file);
        }
        // What one large file took is not kept for the small ones.
        if has_changed {
            self.buffer = Vec::new();
        }
        has_changed
    }

    fn is_old(&self, stamp: &Stamp, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.max_age.is_some_and(|most| now.saturating_sub(stamp.modified().max(0) as u64) > most.as_secs())
    }

    fn write(&self, is_fault: bool, out: &mut Writer<'_>) {
        for (file, fault) in self.files.iter().zip(&self.merged.faults) {
            // A file that is refused must not look fresh.
            let (Ok(_), Some(stamp), Some(path)) = (&file.content, file.stamp, file.path.to_str()) else {
                continue;
            };
            if !matches!(fault, Some(Fault::Refused(_))) && out.wants(F::Mtime) {
                let labels = out.labels(&[("file", path)]);
                out.node(F::Mtime, labels, stamp.modified() as f64);
            }
        }
        out.node(F::ScrapeError, Labels::NONE, f64::from(is_fault));
        for merged in &self.merged.families {
            let named = out.named(&merged.name, merged.kind, &merged.help);
            for (file, number) in &merged.parts {
                let family = self.files[*file].content.iter().flatten().nth(*number);
                for (labels, suffix, value) in family.into_iter().flat_map(Family::series) {
                    let labels = out.escaped(labels);
                    out.add(named, labels, suffix, value);
                }
            }
        }
    }

    fn log(&mut self, faults: BTreeMap<PathBuf, String>) {
        for (path, what) in faults.iter().filter(|(path, what)| self.logged.get(*path) != Some(*what)) {
            tracing::error!(collector = COLLECTOR.name, "{}: {what}", path.display());
        }
        self.logged = faults;
    }
}

impl File {
    fn source(&self) -> Source<'_> {
        Source {
            path: self.path.to_str().unwrap_or_default(),
            families: self.content.as_deref().unwrap_or_default(),
        }
    }

    /// Reads a file that had this stamp, unless it is longer than what is `left` for all of them.
    fn read(
        path: PathBuf,
        stamp: Result<Stamp, String>,
        is_old: bool,
        left: u64,
        now: SystemTime,
        buffer: &mut Vec<u8>,
    ) -> Self {
        let mut last = stamp.as_ref().ok().copied();
        let content = stamp.and_then(|stamp| {
            // It becomes a label.
            path.to_str().ok_or("its name is not UTF-8")?;
            if is_old {
                return Ok(Vec::new());
            }
            if stamp.size() > left && stamp.size() <= LONGEST {
                return Err(format!("all files together are longer than {LONGEST_TOGETHER} bytes"));
            }
            last = Some(user_file::read(&path, LONGEST, buffer).map_err(|error| error.to_string())?);
            parse::parse(buffer)
        });
        let is_settled = last.is_some_and(|stamp| stamp.is_settled(now));
        File { path, stamp: last, is_settled, is_old, content }
    }
}

#[cfg(test)]
mod tests;
