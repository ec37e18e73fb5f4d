//! What a collector gives of a few files, as lines, for its tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Sample, Samples};
use crate::collector::{CollectError, Collector, NodeCollector, Options, Run};
use crate::source::Paths;
use crate::source::file::HandleBudget;

/// A folder with the files of a machine, removed at the end.
pub(crate) struct Tree(PathBuf);

impl Tree {
    /// These files; a text that begins with `-> ` makes a symbolic link.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        Tree::below(&std::env::temp_dir(), files)
    }

    /// The same in a folder of this one, such as one in memory where files are many.
    pub(crate) fn below(parent: &Path, files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let tree = Tree(parent.join(format!("tree-{}-{number}", std::process::id())));
        std::fs::create_dir_all(tree.path()).unwrap();
        files.iter().for_each(|(path, text)| tree.write(path, text.as_bytes()));
        tree
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, path: &str, text: &[u8]) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix(b"-> ") {
            Some(target) => std::os::unix::fs::symlink(std::str::from_utf8(target).unwrap(), path).unwrap(),
            None => std::fs::write(path, text).unwrap(),
        }
    }

    pub(crate) fn paths(&self) -> Paths {
        Paths {
            procfs: self.0.join("proc"),
            sysfs: self.0.join("sys"),
            rootfs: self.0.clone(),
            udev: self.0.join("udev"),
            handles: Arc::new(HandleBudget::new(1000)),
            ..Paths::default()
        }
    }

    /// The collector, ready to run on these files.
    pub(crate) fn start(&self, collector: &Collector, options: &[(&str, &str)]) -> Box<dyn NodeCollector> {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let Run::Node { start, .. } = collector.run else { unreachable!("not of the machine") };
        start(&self.paths(), &Options(options.collect()))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a collector gives of these files with these options.
pub(crate) fn gives(
    collector: &Collector,
    files: &[(&str, &str)],
    options: &[(&str, &str)],
) -> (Vec<String>, Result<(), CollectError>) {
    let tree = Tree::new(files);
    let mut running = tree.start(collector, options);
    scrape(collector, running.as_mut())
}

/// What a running collector gives now, in the order of its families.
pub(crate) fn scrape(
    collector: &Collector,
    running: &mut dyn NodeCollector,
) -> (Vec<String>, Result<(), CollectError>) {
    let mut samples = Samples::new(collector.families.len());
    let result = running.collect(&mut samples.writer(0, &vec![true; collector.families.len()]));
    (lines(collector, &samples), result)
}

/// Samples as lines.
pub(crate) fn lines(collector: &Collector, samples: &Samples) -> Vec<String> {
    let declared = collector.families.iter().enumerate().map(|(i, f)| (f.name, samples.family(i)));
    let named = samples.named().map(|f| (f.name.as_str(), f.samples.as_slice()));
    let line = |name: &str, sample: &Sample| {
        let labels = std::str::from_utf8(samples.labels(sample.labels)).unwrap();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        format!("{name}{}{labels} {}", sample.suffix.text(), sample.value)
    };
    let lines = declared.chain(named).flat_map(|(name, of)| of.iter().map(move |s| (name, s)));
    lines.map(|(name, sample)| line(name, sample)).collect()
}
