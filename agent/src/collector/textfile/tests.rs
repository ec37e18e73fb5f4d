//! Files on a disk: which are read, when again, and that none spoils another.

use std::collections::BTreeMap;

use rustix::fs::Mode;

use super::*;
use crate::metric::Samples;

/// A folder of textfiles, and a collector that reads it.
struct Node {
    folder: PathBuf,
    textfile: Textfile,
}

impl Node {
    fn new(name: &str, max_age: Option<Duration>) -> Self {
        let folder = std::env::temp_dir().join(format!("textfile-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let textfile = Textfile {
            directories: vec![folder.to_str().unwrap().to_owned()],
            max_age,
            files: Vec::new(),
            merged: Merged::default(),
            buffer: Vec::new(),
            logged: BTreeMap::new(),
        };
        Node { folder, textfile }
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    /// Gives a file an age of so many seconds, in its time of modification only.
    fn age(&self, name: &str, seconds: u64) {
        let file = std::fs::File::options().append(true).open(self.folder.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    /// `name{labels}=value` of what was read, the files that count as read, and whether there was an error.
    fn check(&mut self, series: &[&str], files: &[&str], is_error: bool) {
        let mut samples = Samples::new(FAMILIES.len());
        self.textfile.collect(&mut samples.writer(0, &[true; FAMILIES.len()])).unwrap();
        let text = |labels| String::from_utf8_lossy(samples.labels(labels)).into_owned();
        let found: Vec<String> = samples
            .named()
            .flat_map(|f| f.samples.iter().map(move |s| (f, s)))
            .map(|(f, s)| format!("{}{}{{{}}}={}", f.name, s.suffix.text(), text(s.labels), s.value))
            .collect();
        assert_eq!(found, series);
        let read: Vec<String> = samples.family(0).iter().map(|s| text(s.labels)).collect();
        let name = |name: &&str| format!("file=\"{}\"", self.folder.join(name).display());
        assert_eq!(read, files.iter().map(name).collect::<Vec<_>>());
        assert_eq!(samples.family(1)[0].value, f64::from(is_error));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_bad_file_is_an_error_and_the_others_are_read() {
    let mut node = Node::new("bad", None);
    node.check(&[], &[], false);
    node.put("a.prom", "a 1\n");
    node.put("b.prom", "b 2\n");
    node.put("c.txt", "c 3\n");
    node.check(&["a{}=1", "b{}=2"], &["a.prom", "b.prom"], false);
    node.put("a.prom", "a 1\nhalf a li");
    node.check(&["b{}=2"], &["b.prom"], true);
    node.put("a.prom", "a{x=\"1\"} 4\n");
    node.put("c.prom", "ok 1\nb 3\n");
    node.check(&["a{x=\"1\"}=4", "b{}=2"], &["a.prom", "b.prom"], true);
    std::fs::remove_file(node.folder.join("b.prom")).unwrap();
    node.check(&["a{x=\"1\"}=4", "ok{}=1", "b{}=3"], &["a.prom", "c.prom"], false);
}

#[test]
fn what_is_no_readable_regular_file_is_an_error_and_nobody_waits_for_it() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut node = Node::new("odd", None);
    node.put("good.prom", "good 1\n");
    std::fs::create_dir(node.folder.join("folder.prom")).unwrap();
    node.check(&["good{}=1"], &["good.prom"], true);
    std::fs::remove_dir(node.folder.join("folder.prom")).unwrap();
    let fifo = node.folder.join("fifo.prom");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    node.check(&["good{}=1"], &["good.prom"], true);
    std::fs::remove_file(fifo).unwrap();
    std::os::unix::fs::symlink("nowhere", node.folder.join("link.prom")).unwrap();
    node.check(&["good{}=1"], &["good.prom"], true);
    std::fs::remove_file(node.folder.join("link.prom")).unwrap();
    let long = std::fs::File::create(node.folder.join("long.prom")).unwrap();
    long.set_len(LONGEST + 1).unwrap();
    node.check(&["good{}=1"], &["good.prom"], true);
    std::fs::remove_file(node.folder.join("long.prom")).unwrap();
    let name = node.folder.join(std::ffi::OsStr::from_bytes(b"\xff.prom"));
    std::fs::write(&name, "bad 1\n").unwrap();
    node.check(&["good{}=1"], &["good.prom"], true);
    std::fs::remove_file(name).unwrap();
    node.put("latin.prom", b"# HELP latin \xe9\nlatin 1\n");
    node.check(&["good{}=1", "latin{}=1"], &["good.prom", "latin.prom"], false);
}

#[test]
fn a_folder_that_is_not_there_is_an_error_and_the_others_are_read() {
    let mut node = Node::new("folders", None);
    node.put("a.prom", "a 1\n");
    let folder = node.textfile.directories[0].clone();
    node.textfile.directories = vec![folder.clone(), format!("{folder}/none"), folder];
    node.check(&["a{}=1"], &["a.prom"], true);
}

#[test]
fn past_its_age_a_file_gives_only_its_time() {
    let mut node = Node::new("age", Some(Duration::from_secs(600)));
    node.put("new.prom", "same 1\n");
    node.put("old.prom", "same 2\n");
    node.age("old.prom", 700);
    node.check(&["same{}=1"], &["new.prom", "old.prom"], false);
    node.age("new.prom", 700);
    node.age("old.prom", 500);
    node.check(&["same{}=2"], &["new.prom", "old.prom"], false);
    node.textfile.max_age = None;
    node.age("old.prom", 1 << 30);
    std::fs::remove_file(node.folder.join("new.prom")).unwrap();
    node.check(&["same{}=2"], &["old.prom"], false);
}

#[test]
fn a_file_is_read_again_only_when_it_has_changed() {
    let mut node = Node::new("again", None);
    node.put("a.prom", "a 1\n");
    node.check(&["a{}=1"], &["a.prom"], false);
    // What was written a moment ago may be written again with the same stamp.
    assert!(!node.textfile.files[0].is_settled);
    let paths = node.textfile.list(&mut BTreeMap::new());
    assert!(node.textfile.read(paths.clone()));
    node.textfile.files[0].is_settled = true;
    assert!(!node.textfile.read(paths.clone()));
    node.put("a.prom", "a 2\n");
    assert!(node.textfile.read(paths));
    node.put("b.prom", "b 1\n");
    let paths = node.textfile.list(&mut BTreeMap::new());
    node.textfile.files[0].is_settled = true;
    assert!(node.textfile.read(paths));
}
