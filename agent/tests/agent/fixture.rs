//! Recorded nodes, and what the agent exposes of them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use agent::collector::COLLECTORS;
use agent::compare::{Exposition, parse};
use agent::expose::text::Format;
use agent::flags::Flags;
use agent::plan::{Overlay, Plan};
use agent::scrape::{Part, Scraper};
use agent::source::Paths;
use agent::source::kubelet::StatsSummary;
use agent::telemetry::Telemetry;
use protocol::Facts;

/// A folder in `fixtures/`.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

/// The sandbox's image is a flag of the agent, since no file tells it; on the recorded nodes it is this one.
const SANDBOX_IMAGE: &str = "docker.io/local/pause:1";

impl Fixture {
    /// All of them.
    pub(crate) fn all() -> Vec<Self> {
        let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")).unwrap();
        let mut folders: Vec<_> =
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        let name = |folder: &Path| folder.file_name().unwrap().to_str().unwrap().to_owned();
        folders.into_iter().map(|folder| Fixture { name: name(&folder), folder }).collect()
    }

    /// What the kubelet said of its cgroups, where that is recorded.
    pub(crate) fn cadvisor(&self) -> Option<Exposition> {
        Some(parse(&fs::read_to_string(self.folder.join("kubelet/cadvisor.prom")).ok()?).unwrap())
    }

    /// What an agent with every collector exposes of the node.
    pub(crate) fn scrape(&self) -> Exposition {
        self.scrape_with(Plan::new(Vec::new(), Facts::default(), &self.overlay())).exposition
    }

    /// Every collector, and the flags that stand in the file `flags`.
    fn overlay(&self) -> Overlay {
        let flags = fs::read_to_string(self.folder.join("flags")).unwrap_or_default();
        let flags: Vec<_> = flags.lines().collect();
        let mut overlay = Flags::parse(&flags).unwrap().overlay;
        overlay.enabled.extend(COLLECTORS.iter().map(|collector| (collector.name.to_owned(), true)));
        overlay
    }

    /// What an agent with this plan makes of the node.
    pub(crate) fn scrape_with(&self, plan: Plan) -> Scraped {
        let (copy, mut scraper) = self.scraper(plan);
        // Where the copy is differs from run to run, and some families have the path of what they read as a label.
        let exposition = parse(&text(&mut scraper).replace(copy.0.to_str().unwrap(), "")).unwrap();
        let files = scraper.files().into_iter().map(|(file, _)| file).collect();
        Scraped { exposition, files }
    }

    /// A scraper of the node, and what it reads.
    pub(crate) fn scraper(&self, plan: Plan) -> (Copy, Scraper) {
        let copy = Copy::new(self);
        let paths = Paths {
            procfs: copy.0.join("proc"),
            sysfs: copy.0.join("sys"),
            rootfs: copy.0.clone(),
            udev: copy.0.join("udev"),
            ..Paths::default()
        };
        let telemetry = Arc::new(Telemetry::new().unwrap());
        let mut scraper = Scraper::new(paths, SANDBOX_IMAGE.to_owned(), 8192, plan, telemetry);
        if let Ok(pods) = fs::read(self.folder.join("kubelet/pods.json")) {
            scraper.set_pods(agent::source::kubelet::parse(&pods).unwrap());
        }
        if let Ok(summary) = fs::read(self.folder.join("kubelet/summary.json")) {
            scraper.set_stats(StatsSummary::parse(&summary).unwrap(), Instant::now());
        }
        (copy, scraper)
    }
}

/// What a scrape gives; what a collector notes of itself is in a part after its own.
pub(crate) fn scrape(scraper: &mut Scraper) -> Exposition {
    parse(&text(scraper)).unwrap()
}

fn text(scraper: &mut Scraper) -> String {
    let mut text = Vec::new();
    scraper.scrape(Part::All, Format::Text, &mut text);
    String::from_utf8(text).unwrap()
}

/// What a scrape of a recorded node came to.
pub(crate) struct Scraped {
    pub(crate) exposition: Exposition,
    /// The files of cgroups that it read.
    pub(crate) files: Vec<PathBuf>,
}

/// A copy of a fixture whose cgroups have the times at which they began, which version control does not keep.
pub(crate) struct Copy(PathBuf);

impl Copy {
    fn new(fixture: &Fixture) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("agent-fixture-{}-{number}", std::process::id());
        let copy = Copy(std::env::temp_dir().join(name));
        for part in ["proc", "sys", "udev", "etc", "textfile"] {
            if fixture.folder.join(part).exists() {
                copy_folder(&fixture.folder.join(part), &copy.0.join(part));
            }
        }
        // Where the recorded nodes have file systems mounted that are empty here.
        for point in ["dev/shm", "run/lock"] {
            fs::create_dir_all(copy.0.join(point)).unwrap();
        }
        for line in fs::read_to_string(fixture.folder.join("cgroups-started.txt")).unwrap_or_default().lines()
        {
            let (seconds, cgroup) = line.split_once(' ').unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.parse().unwrap());
            for tree in ["", "memory"] {
                let folder = copy.0.join("sys/fs/cgroup").join(tree).join(cgroup.trim_start_matches('/'));
                if let Ok(folder) = File::open(folder) {
                    folder.set_modified(time).unwrap();
                }
            }
        }
        copy
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_folder(&entry.path(), &to);
        } else if kind.is_symlink() {
            // Devices are links in /sys, and what they are linked to says what they are.
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), to).unwrap();
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
