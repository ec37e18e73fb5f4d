//! The CPUs and memory modules of a machine, and what it is called.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use protocol::NodeFacts;
use rustix::io::Errno;

use crate::source::Paths;
use crate::source::file::{FileError, NodeFile, read_in_root, read_once};
use crate::source::text::{integer, label, lines, only_number};

/// What there is; made again when a CPU came or went, since all of it is fixed while the machine runs but for that.
pub(super) struct Inventory {
    online: NodeFile,
    cpuinfo: PathBuf,
    cpus: PathBuf,
    modules: PathBuf,
    made: Option<(Vec<u8>, Found)>,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) cpus: usize,
    /// Nothing where the kernel does not tell.
    pub(super) cores: Option<usize>,
    pub(super) sockets: Option<usize>,
    /// Of a mainframe only.
    pub(super) books: usize,
    pub(super) drawers: usize,
    pub(super) dimms: BTreeMap<String, Dimms>,
}

/// The memory modules of one type.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dimms {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Inventory {
    pub(super) fn new(paths: &Paths) -> Self {
        let cpus = paths.sysfs.join("devices/system/cpu");
        Inventory {
            online: NodeFile::whole(cpus.join("online")),
            cpuinfo: paths.procfs.join("cpuinfo"),
            cpus,
            modules: paths.sysfs.join("devices/system/edac/mc"),
            made: None,
        }
    }

    /// What there is now.
    pub(super) fn get(&mut self) -> Result<&Found, FileError> {
        // A kernel whose CPUs cannot be switched off has no such file.
        let online = self.online.read().unwrap_or_default();
        let is_current = self.made.as_ref().is_some_and(|(of, _)| of == online);
        if !is_current {
            let online = online.to_vec();
            let found = self.look()?;
            self.made = Some((online, found));
        }
        Ok(self.made.as_ref().map_or(const { &Found::NONE }, |(_, found)| found))
    }

    fn look(&self) -> Result<Found, FileError> {
        let mut text = Vec::new();
        read_once(&self.cpuinfo, &mut text)
            .map_err(|source| FileError { path: self.cpuinfo.clone(), source })?;
        let mut numbers = Vec::new();
        for line in lines(&text) {
            let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
            if line[..colon].trim_ascii() == b"processor"
                && let Some(number) = only_number(&line[colon + 1..])
            {
                numbers.push(number);
            }
        }
        // Documentation/ABI/stable/sysfs-devices-system-cpu: ids are unique within what is above only.
        let ids = |names: &[&str]| -> usize {
            let of_cpu = |cpu: &u64| -> Option<Vec<i128>> {
                let folder = self.cpus.join(format!("cpu{cpu}/topology"));
                names.iter().map(|name| attribute(&folder.join(name))).collect()
            };
            numbers.iter().filter_map(of_cpu).collect::<BTreeSet<_>>().len()
        };
        let some = |count: usize, in_cpuinfo: usize| Some(count.max(in_cpuinfo)).filter(|count| *count > 0);
        let (sockets, cores) = in_cpuinfo(&text);
        Ok(Found {
            cpus: numbers.len(),
            cores: some(ids(&["physical_package_id", "core_id"]), cores),
            sockets: some(ids(&["physical_package_id"]), sockets),
            books: ids(&["book_id"]),
            drawers: ids(&["drawer_id"]),
            dimms: self.dimms(),
        })
    }

    /// Where EDAC has a driver for the memory controller (Documentation/ABI/testing/sysfs-devices-edac).
    fn dimms(&self) -> BTreeMap<String, Dimms> {
        let mut dimms = BTreeMap::<String, Dimms>::new();
        let mut kind = Vec::new();
        for dimm in entries(&self.modules, "mc").iter().flat_map(|controller| entries(controller, "dimm")) {
            let Some(megabytes) = attribute(&dimm.join("size")).and_then(|n| u64::try_from(n).ok()) else {
                continue;
            };
            if read_once(&dimm.join("dimm_mem_type"), &mut kind).is_ok() {
                let of_kind = dimms.entry(label(kind.trim_ascii()).into_owned()).or_default();
                of_kind.count += 1;
                of_kind.bytes = of_kind.bytes.saturating_add(megabytes.saturating_mul(1 << 20));
            }
        }
        dimms
    }
}

impl Found {
    const NONE: Found =
        Found { cpus: 0, cores: None, sockets: None, books: 0, drawers: 0, dimms: BTreeMap::new() };
}

/// The sockets and cores that `/proc/cpuinfo` names, which it does on some architectures.
fn in_cpuinfo(text: &[u8]) -> (usize, usize) {
    let (mut sockets, mut cores, mut socket) = (BTreeSet::new(), BTreeSet::new(), None);
    for line in lines(text) {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let id = only_number(&line[colon + 1..]);
        match (line[..colon].trim_ascii(), id) {
            (b"processor", _) => socket = None,
            (b"physical id", Some(id)) => {
                socket = Some(id);
                sockets.insert(id);
            }
            (b"core id", Some(id)) => {
                cores.insert((socket, id));
            }
            _ => {}
        }
    }
    (sockets.len(), cores.len())
}

fn attribute(path: &Path) -> Option<i128> {
    let mut text = Vec::new();
    read_once(path, &mut text).ok()?;
    integer(text.trim_ascii())
}

/// The entries of a folder that are called so, with a number.
fn entries(folder: &Path, called: &str) -> Vec<PathBuf> {
    let is_called = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix(called).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_called).collect()
}

/// What the files of the machine call it.
pub(super) struct Ids {
    machine: String,
    system: String,
    boot: String,
}

/// What it is called.
pub(super) struct Told<'a> {
    pub(super) machine: &'a str,
    pub(super) system: &'a str,
    pub(super) boot: &'a str,
}

impl Ids {
    pub(super) fn read(paths: &Paths) -> Self {
        let mut buffer = Vec::new();
        let mut of_root = |files: &[&str]| {
            let found = files.iter().find(|file| read_in_root(&paths.rootfs, file, &mut buffer).is_ok());
            found.map_or_else(String::new, |_| label(buffer.trim_ascii()).into_owned())
        };
        let machine = of_root(&["/etc/machine-id", "/var/lib/dbus/machine-id"]);
        let text = |path: PathBuf| {
            let mut text = Vec::new();
            let result = read_once(&path, &mut text);
            result.map(|()| label(text.trim_ascii()).trim_end_matches('\0').to_owned())
        };
        // As cAdvisor: the firmware of most machines, of Power, of a mainframe; and the kubelet without one of them.
        let mut system = Err(Errno::NOENT);
        for file in [
            paths.sysfs.join("class/dmi/id/product_uuid"),
            paths.procfs.join("device-tree/system-id"),
            paths.procfs.join("device-tree/vm,uuid"),
        ] {
            if system == Err(Errno::NOENT) {
                system = text(file);
            }
        }
        let system = match system {
            Err(Errno::NOENT) => machine.clone(),
            // Only root may read it, and another id in its place would be wrong.
            other => other.unwrap_or_default(),
        };
        let boot = text(paths.procfs.join("sys/kernel/random/boot_id")).unwrap_or_default();
        Ids { machine, system, boot }
    }

    /// What the API server says of the node, and of what it does not say what the files do.
    pub(super) fn told<'a>(&'a self, facts: &'a NodeFacts) -> Told<'a> {
        let or = |told: &'a str, read: &'a str| if told.is_empty() { read } else { told };
        Told {
            machine: or(&facts.machine_id, &self.machine),
            system: or(&facts.system_uuid, &self.system),
            boot: or(&facts.boot_id, &self.boot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::Tree;

    #[test]
    fn cores_are_counted_in_each_socket_and_modules_by_type() {
        let cpuinfo: String = [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]
            .map(|(cpu, socket, core)| {
                format!("processor\t: {cpu}\nphysical id\t: {socket}\ncore id\t\t: {core}\n\n")
            })
            .concat();
        let mc = "sys/devices/system/edac/mc/mc0";
        let tree = Tree::new(&[
            ("proc/cpuinfo", &cpuinfo),
            (&format!("{mc}/dimm0/size"), "1024\n"),
            (&format!("{mc}/dimm0/dimm_mem_type"), "Registered-DDR4\n"),
            (&format!("{mc}/dimm1/size"), "2048\n"),
            (&format!("{mc}/dimm1/dimm_mem_type"), "Registered-DDR4\n"),
            (&format!("{mc}/dimm2/size"), "none\n"),
        ]);
        let mut inventory = Inventory::new(&tree.paths());
        let found = inventory.get().unwrap();
        let dimms = Dimms { count: 2, bytes: 3 << 30 };
        let expected = Found {
            cpus: 4,
            cores: Some(4),
            sockets: Some(2),
            dimms: [("Registered-DDR4".to_owned(), dimms)].into(),
            ..Found::NONE
        };
        assert_eq!(*found, expected);
    }

    #[test]
    fn a_machine_whose_cpuinfo_names_no_cores_has_them_in_sys_and_they_are_read_again_with_a_cpu() {
        let cpu = |n: u8, what: &str| format!("sys/devices/system/cpu/cpu{n}/topology/{what}");
        let tree = Tree::new(&[
            ("proc/cpuinfo", "processor\t: 0\n"),
            ("sys/devices/system/cpu/online", "0\n"),
            (&cpu(0, "core_id"), "0\n"),
            (&cpu(0, "physical_package_id"), "-1\n"),
            (&cpu(1, "core_id"), "7\n"),
            (&cpu(1, "physical_package_id"), "-1\n"),
        ]);
        let mut inventory = Inventory::new(&tree.paths());
        let count = |inventory: &mut Inventory| {
            let found = inventory.get().unwrap();
            (found.cpus, found.cores, found.sockets)
        };
        assert_eq!(count(&mut inventory), (1, Some(1), Some(1)));
        tree.write("proc/cpuinfo", b"processor\t: 0\nprocessor\t: 1\n");
        assert_eq!(count(&mut inventory), (1, Some(1), Some(1)));
        tree.write("sys/devices/system/cpu/online", b"0-1\n");
        assert_eq!(count(&mut inventory), (2, Some(2), Some(1)));
    }

    #[test]
    fn the_api_server_knows_ids_that_files_keep_for_root() {
        let tree = Tree::new(&[("etc/machine-id", "m\n"), ("proc/sys/kernel/random/boot_id", "b\n")]);
        let read = Ids::read(&tree.paths());
        let nothing = NodeFacts::default();
        let told = read.told(&nothing);
        assert_eq!([told.machine, told.system, told.boot], ["m", "m", "b"]);
        let facts = NodeFacts { system_uuid: "s".to_owned(), ..NodeFacts::default() };
        let told = read.told(&facts);
        assert_eq!([told.machine, told.system, told.boot], ["m", "s", "b"]);
        tree.write("sys/class/dmi/id/product_uuid", b"u\n");
        assert_eq!(Ids::read(&tree.paths()).system, "u");
    }
}
