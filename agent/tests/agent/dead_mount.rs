//! A file system that stops answering, for real: what the scrape still gives, and what becomes of the threads.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::compare::{Exposition, Labels, parse};
use agent::expose::text::Format;
use agent::plan::{Overlay, Plan};
use agent::scrape::{Part, Scraper};
use agent::source::Paths;
use agent::telemetry::Telemetry;
use rustix::mount::{MountFlags, mount};

use crate::fuse::{DEVICE, FILE, Fuse};

/// Set where the test runs in namespaces of its own: the folder to work in.
const INSIDE: &str = "EXPORTER_TEST_NAMESPACE";

#[test]
fn a_mount_that_stops_answering_costs_its_own_rows_and_one_thread() {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return in_namespace(Path::new(&folder));
    }
    if let Some(reason) = why_not() {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "{reason}");
        // Not with `eprintln`, which is shown only of tests that fail.
        writeln!(std::io::stderr(), "\nleft out: a file system that stops answering: {reason}").unwrap();
        return;
    }
    let folder = std::env::temp_dir().join(format!("agent-dead-mount-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let name = "dead_mount::a_mount_that_stops_answering_costs_its_own_rows_and_one_thread";
    // In namespaces of its own, so that no mount and no process outlives it; not for ever, whatever hangs.
    let status = Command::new("timeout")
        .args(["--signal=KILL", "300"])
        .args(NAMESPACES)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, &folder)
        .status();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(status.unwrap().success());
}

const NAMESPACES: [&str; 6] = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Why it cannot run here.
fn why_not() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can mount one".to_owned());
    }
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/fuse") {
        return Some(format!("/dev/fuse: {error}"));
    }
    let output = match Command::new(NAMESPACES[0]).args(&NAMESPACES[1..]).arg("true").output() {
        Ok(output) => output,
        Err(error) => return Some(format!("unshare: {error}")),
    };
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

fn in_namespace(folder: &Path) {
    let (live, dead) = (folder.join("live"), folder.join("dead"));
    std::fs::create_dir_all(&live).unwrap();
    std::fs::create_dir_all(&dead).unwrap();
    mount("live", &live, "tmpfs", MountFlags::empty(), None).unwrap();
    let fuse = Fuse::mount(&dead, "from_file 1\n");
    let mut node = Node::new(folder, &dead);

    let before = node.scrape();
    assert_eq!(before.mounts_with_sizes(), [dead.clone(), live.clone()]);
    assert_eq!(before.size(&dead), 4_096_000.0);
    assert_eq!(before.device_error(&dead), "");
    assert_eq!((before.value("from_file", &[]), before.successes()), (Some(1.0), [1.0, 1.0]));
    let file = dead.join(FILE);
    let modified = before.value("node_textfile_mtime_seconds", &[("file", file.to_str().unwrap())]);
    assert_eq!(modified, Some(1_000_000_001.0));
    assert_eq!(before.stuck(), [0.0, 0.0]);

    // That a scrape comes back at all is the first thing: nobody answers the one who asks.
    fuse.stop_answering();
    let during = node.scrape();
    assert_eq!(during.mounts_with_sizes(), std::slice::from_ref(&live));
    assert_eq!(during.device_error(&dead), "mountpoint timeout");
    assert_eq!(during.device_error(&live), "");
    assert_eq!((during.value("from_file", &[]), during.successes()), (Some(1.0), [1.0, 0.0]));
    assert_eq!(during.stuck(), [1.0, 1.0]);

    // The thread that is left behind has a successor with this one.
    node.scrape();
    let threads = threads();
    for _ in 0..10 {
        let again = node.scrape();
        assert_eq!((again.device_error(&dead), again.stuck()), ("mountpoint timeout".to_owned(), [1.0, 1.0]));
        assert_eq!(again.value("from_file", &[]), Some(1.0));
    }
    // On a busy machine one may be sent after jobs that only wait their turn; it ends when it has none.
    wait_for("a scrape that finds a thread stuck starts no other", || self::threads() <= threads);

    // Other options are other collectors, and what is stuck is still the same.
    for age in ["9000001h", "9000002h", "9000003h"] {
        node.set_plan(age);
        let other = node.scrape();
        assert_eq!((other.device_error(&dead), other.stuck()), ("mountpoint timeout".to_owned(), [1.0, 1.0]));
        assert_eq!(other.successes(), [1.0, 0.0]);
    }
    // The threads of collectors that are replaced end by and by; beyond these there is none.
    wait_for("no more threads", || self::threads() <= threads);

    fuse.answer_again("from_file 2\n");
    let mut after = node.scrape();
    wait_for("all is well again", || {
        after = node.scrape();
        // A thread may come back between the question that passes it over and the count.
        let is_well = after.successes() == [1.0, 1.0] && after.stuck() == [0.0, 0.0];
        is_well && after.device_error(&dead).is_empty()
    });
    assert_eq!((after.mounts_with_sizes().len(), after.value("from_file", &[])), (2, Some(2.0)));
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::yield_now();
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// An agent with the two collectors that meet foreign file systems.
struct Node {
    scraper: Scraper,
    folder: PathBuf,
    dead: PathBuf,
}

impl Node {
    fn new(folder: &Path, dead: &Path) -> Self {
        let telemetry = Arc::new(Telemetry::new().unwrap());
        let nothing = Overlay { disable_defaults: true, ..Overlay::default() };
        let plan = Plan::new(Vec::new(), Default::default(), &nothing);
        let scraper = Scraper::new(Paths::default(), String::new(), 100, plan, telemetry);
        let mut node = Node { scraper, folder: folder.to_owned(), dead: dead.to_owned() };
        node.set_plan("9000000h");
        node
    }

    /// Puts options in force that mean the same for each age.
    fn set_plan(&mut self, age: &str) {
        let folder = self.folder.to_str().unwrap();
        let option = |key: &str, value: String| (key.to_owned(), value);
        let points = option("mountPointsInclude", format!("^{folder}/[a-z]+$|^{age}$"));
        let directory = option("directory", self.dead.to_str().unwrap().to_owned());
        let overlay = Overlay {
            disable_defaults: true,
            enabled: ["filesystem", "textfile"].map(|name| (name.to_owned(), true)).into(),
            options: [
                ("filesystem".to_owned(), [points].into()),
                ("textfile".to_owned(), [directory, option("maxAge", age.to_owned())].into()),
            ]
            .into(),
        };
        self.scraper.set_plan(Plan::new(Vec::new(), Default::default(), &overlay));
    }

    fn scrape(&mut self) -> Scraped {
        let mut text = Vec::new();
        self.scraper.scrape(Part::All, Format::Text, &mut text);
        Scraped(parse(std::str::from_utf8(&text).unwrap()).unwrap())
    }
}

struct Scraped(Exposition);

impl Scraped {
    fn value(&self, family: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels: Labels =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.0.get(family)?.series.get(&labels).copied()
    }

    fn mounts_with_sizes(&self) -> Vec<PathBuf> {
        let series = self.0.get("node_filesystem_size_bytes").into_iter().flat_map(|f| &f.series);
        series.map(|(labels, _)| PathBuf::from(label(labels, "mountpoint"))).collect()
    }

    fn size(&self, point: &Path) -> f64 {
        let of_point = |(labels, _): &(&Labels, &f64)| label(labels, "mountpoint") == point.to_str().unwrap();
        *self.0["node_filesystem_size_bytes"].series.iter().find(of_point).unwrap().1
    }

    /// What is wrong with a mount; empty where nothing is.
    fn device_error(&self, point: &Path) -> String {
        let series = &self.0["node_filesystem_device_error"].series;
        let of_point = |(labels, _): &(&Labels, &f64)| label(labels, "mountpoint") == point.to_str().unwrap();
        let (labels, value) = series.iter().find(of_point).unwrap();
        let error = label(labels, "device_error");
        assert_eq!(*value, f64::from(!error.is_empty()));
        assert!(!labels.iter().any(|(name, value)| name == "device" && value != DEVICE && !error.is_empty()));
        error
    }

    /// Of filesystem and textfile.
    fn successes(&self) -> [f64; 2] {
        self.of_both("node_scrape_collector_success")
    }

    fn stuck(&self) -> [f64; 2] {
        self.of_both("exporter_agent_collector_stuck_threads")
    }

    fn of_both(&self, family: &str) -> [f64; 2] {
        ["filesystem", "textfile"].map(|name| self.value(family, &[("collector", name)]).unwrap())
    }
}

fn label(labels: &Labels, name: &str) -> String {
    labels.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone()).unwrap_or_default()
}
