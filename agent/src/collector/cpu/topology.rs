//! Which CPUs are online, and how often each core and package was slowed down for being hot.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use super::F;
use crate::collector::CollectError;
use crate::metric::Writer;
use crate::source::Paths;
use crate::source::file::{HandleBudget, NodeFile, read_once};
use crate::source::folder;
use crate::source::listed::DeviceFile;
use crate::source::text::{number, only_number};

/// What `/sys/devices/system/cpu` says (Documentation/ABI/testing/sysfs-devices-system-cpu).
pub(super) struct Topology {
    folder: PathBuf,
    handles: Arc<HandleBudget>,
    online: NodeFile,
    isolated: NodeFile,
    /// The list of CPUs online for which the rest was made: it changes only when a CPU comes or goes.
    list: Option<Vec<u8>>,
    /// The numbers of all CPUs; empty where CPUs cannot be switched off.
    cpus: Vec<u64>,
    throttles: Vec<Throttle>,
    buffer: Vec<u8>,
}

/// One file that tells of a core or a package; the other CPUs of it have the same.
struct Throttle {
    package: u64,
    core: Option<u64>,
    path: PathBuf,
    file: DeviceFile,
}

impl Topology {
    pub(super) fn new(paths: &Paths) -> Self {
        let folder = paths.sysfs.join("devices/system/cpu");
        Topology {
            handles: paths.handles.clone(),
            online: NodeFile::whole(folder.join("online")),
            isolated: NodeFile::whole(folder.join("isolated")),
            folder,
            list: None,
            cpus: Vec::new(),
            throttles: Vec::new(),
            buffer: Vec::new(),
        }
    }

    pub(super) fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let isolated = if out.wants(F::Isolated) { self.isolated(out) } else { Ok(()) };
        if !out.wants_any([F::Online, F::CoreThrottles, F::PackageThrottles]) {
            return isolated;
        }
        let online = match self.online.read() {
            Ok(text) => text,
            Err(error) if error.source == Errno::NOENT => b"",
            Err(error) => return Err(error.into()),
        };
        if self.list.as_deref() != Some(online) {
            self.list = Some(online.to_owned());
            self.make();
        }
        let mut number = itoa::Buffer::new();
        for cpu in &self.cpus {
            let is_online = ranges(self.list.as_deref().unwrap_or_default())
                .flatten()
                .any(|(first, last)| (first..=last).contains(cpu));
            let labels = out.labels(&[("cpu", number.format(*cpu))]);
            out.node(F::Online, labels, f64::from(is_online));
        }
        let mut result = isolated;
        for throttle in &mut self.throttles {
            let count = match throttle.file.read(|| throttle.path.clone(), &mut self.buffer) {
                Ok(text) => only_number(text),
                // The CPU went; with the next scrape another of the core is found.
                Err(Errno::NOENT) => {
                    self.list = None;
                    continue;
                }
                Err(error) => {
                    result = Err(CollectError::read(&throttle.path, error));
                    continue;
                }
            };
            let Some(count) = count else {
                result = Err(CollectError::parse(&throttle.path, "not a number"));
                continue;
            };
            let mut core_number = itoa::Buffer::new();
            let package = ("package", number.format(throttle.package));
            match throttle.core {
                Some(core) => {
                    let labels = out.labels(&[("core", core_number.format(core)), package]);
                    out.node(F::CoreThrottles, labels, count as f64);
                }
                None => {
                    let labels = out.labels(&[package]);
                    out.node(F::PackageThrottles, labels, count as f64);
                }
            }
        }
        result
    }

    fn isolated(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let text = match self.isolated.read() {
            Err(error) if error.source == Errno::NOENT => return Ok(()),
            text => text?,
        };
        let mut number = itoa::Buffer::new();
        let is_list = ranges(text).all(|range| range.is_some());
        for (first, last) in ranges(text).flatten() {
            for cpu in first..=last {
                let labels = out.labels(&[("cpu", number.format(cpu))]);
                out.node(F::Isolated, labels, 1.0);
            }
        }
        match is_list {
            true => Ok(()),
            false => Err(CollectError::parse(self.isolated.path(), "not a list of CPUs")),
        }
    }

    /// Finds out which CPUs there are, and by which of them each core and package is read.
    fn make(&mut self) {
        self.throttles.clear();
        self.cpus.clear();
        let mut names = folder::names(&self.folder).unwrap_or_default();
        names.retain(|name| cpu_number(name).is_some());
        for name in &names {
            let folder = self.folder.join(name);
            let mut read = |file: &str| {
                read_once(&folder.join(file), &mut self.buffer).ok().and_then(|()| only_number(&self.buffer))
            };
            let ids = (read("topology/physical_package_id"), read("topology/core_id"));
            let (Some(package), Some(core)) = ids else { continue };
            for (core, file) in [
                (Some(core), "thermal_throttle/core_throttle_count"),
                (None, "thermal_throttle/package_throttle_count"),
            ] {
                let is_new = !self.throttles.iter().any(|t| (t.package, t.core) == (package, core));
                if is_new && read(file).is_some() {
                    let (path, file) = (folder.join(file), DeviceFile::new(&self.handles));
                    self.throttles.push(Throttle { package, core, path, file });
                }
            }
        }
        // Where the first cannot be switched off, as on most machines, nothing is said of the others either.
        let first = names.first().map(|name| self.folder.join(name).join("online"));
        if first.is_some_and(|path| read_once(&path, &mut self.buffer) != Err(Errno::NOENT)) {
            self.cpus.extend(names.iter().filter_map(|name| cpu_number(name)));
        }
    }
}

fn cpu_number(name: &str) -> Option<u64> {
    number(name.strip_prefix("cpu")?.as_bytes())
}

/// The ranges of a list such as `0-3,8` (Documentation/admin-guide/cputopology.rst); nothing for one that is none, or that
/// no machine has.
fn ranges(text: &[u8]) -> impl Iterator<Item = Option<(u64, u64)>> {
    const MOST: u64 = 1 << 16;
    text.trim_ascii().split(|b| *b == b',').filter(|range| !range.is_empty()).map(|range| {
        let mut ends = range.split(|b| *b == b'-').map(number);
        let first = ends.next()??;
        let last = ends.next().unwrap_or(Some(first))?;
        (ends.next().is_none() && first <= last && last < MOST).then_some((first, last))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::cpu::COLLECTOR;
    use crate::metric::shown::{Tree, scrape};

    const CPU: &str = "sys/devices/system/cpu/";

    fn tree() -> Tree {
        let tree = Tree::new(&[("proc/stat", "cpu0 1 1 1 1 1 1 1 1 1 1\nintr 1\n")]);
        // Two packages of one core each, with two threads; the last CPU is offline and has no topology.
        for (cpu, package) in [("cpu0", "0"), ("cpu1", "0"), ("cpu2", "1"), ("cpu10", "1")] {
            let write = |file: &str, text: &str| tree.write(&format!("{CPU}{cpu}/{file}"), text.as_bytes());
            write("online", "1\n");
            write("topology/core_id", "7\n");
            write("topology/physical_package_id", &format!("{package}\n"));
            write("thermal_throttle/core_throttle_count", "5\n");
            write("thermal_throttle/package_throttle_count", "30\n");
        }
        tree.write(&format!("{CPU}cpu11/online"), b"0\n");
        tree.write(&format!("{CPU}cpufreq/policy0"), b"");
        tree.write(&format!("{CPU}online"), b"0-2,10\n");
        tree
    }

    fn lines(all: &[String], family: &str) -> Vec<String> {
        all.iter().filter_map(|line| line.strip_prefix(family).map(str::to_owned)).collect()
    }

    #[test]
    fn cores_and_packages_are_counted_once_and_found_again_when_a_cpu_goes() {
        let tree = tree();
        let mut cpu = tree.start(&COLLECTOR, &[]);
        for _ in 0..2 {
            let (all, result) = scrape(&COLLECTOR, cpu.as_mut());
            result.unwrap();
            let cores = [r#"{core="7",package="0"} 5"#, r#"{core="7",package="1"} 5"#];
            assert_eq!(lines(&all, "node_cpu_core_throttles_total"), cores);
            assert_eq!(
                lines(&all, "node_cpu_package_throttles_total"),
                [r#"{package="0"} 30"#, r#"{package="1"} 30"#]
            );
            let mut online = lines(&all, "node_cpu_online");
            online.sort();
            assert_eq!(
                online,
                [r#"{cpu="0"} 1"#, r#"{cpu="1"} 1"#, r#"{cpu="10"} 1"#, r#"{cpu="11"} 0"#, r#"{cpu="2"} 1"#]
            );
        }
        std::fs::remove_dir_all(tree.path().join(format!("{CPU}cpu0/topology"))).unwrap();
        tree.write(&format!("{CPU}cpu1/thermal_throttle/core_throttle_count"), b"6\n");
        tree.write(&format!("{CPU}online"), b"1-2,10\n");
        let (all, _) = scrape(&COLLECTOR, cpu.as_mut());
        assert_eq!(lines(&all, "node_cpu_core_throttles_total")[0], r#"{core="7",package="0"} 6"#);
        assert_eq!(lines(&all, "node_cpu_online")[0], r#"{cpu="0"} 0"#);
    }

    #[test]
    fn isolated_cpus_are_given_one_by_one_and_a_list_that_is_none_is_an_error() {
        let tree = tree();
        tree.write(&format!("{CPU}isolated"), b"1,3-5\n");
        let (all, _) = scrape(&COLLECTOR, tree.start(&COLLECTOR, &[]).as_mut());
        assert_eq!(
            lines(&all, "node_cpu_isolated"),
            [r#"{cpu="1"} 1"#, r#"{cpu="3"} 1"#, r#"{cpu="4"} 1"#, r#"{cpu="5"} 1"#]
        );
        for bad in ["1-", "5-3", "x", "1-2-3", "0-99999999999"] {
            assert!(ranges(bad.as_bytes()).any(|range| range.is_none()), "{bad}");
        }
        assert_eq!(ranges(b"\n").count(), 0);
    }
}
