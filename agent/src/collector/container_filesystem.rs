//! How full the machine's own file systems are, which cAdvisor gives with the root.

use std::path::PathBuf;
use std::sync::Arc;

use super::filesystem::ask::{Answer, Asker, Place, patience};
use super::filesystem::{Mount, parse};
use super::{CgroupCollector, Cgroups, CollectError, Collector, OptionDesc, OptionKind, Pattern, Run};
use crate::metric::{Subject, Writer, families};
use crate::source::Paths;
use crate::source::file::{FileError, NodeFile};
use crate::source::mounts::MountTable;
use crate::source::text::{label, lines, number, whole_lines, words};

/// `container_filesystem`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_filesystem",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new(
            "mountPointsExclude",
            OptionKind::Regex,
            "^/(run/(containerd|credentials|crio|k3s|user)|var/lib/(containerd|containers|docker|kubelet|rancher))/",
            "Mount points to leave out.",
        ),
        OptionDesc::new("mountPointsInclude", OptionKind::Regex, "", "Mount points to give, and no others."),
    ],
    exclusive: &[("mountPointsExclude", "mountPointsInclude")],
    run: Run::Cgroups {
        start: |paths, options| {
            let points = options.pattern(&COLLECTOR, "mountPointsInclude", "mountPointsExclude");
            Box::new(ContainerFilesystem {
                mounted: Mounted::new(paths, points),
                asker: Asker::new(paths.stuck.clone(), patience(None, paths.timeout)),
                answers: Vec::new(),
            })
        },
    },
};

families! {
    InodesFree Gauge "container_fs_inodes_free" "Number of available inodes.";
    Inodes Gauge "container_fs_inodes_total" "Number of inodes.";
    Limit Gauge "container_fs_limit_bytes" "Number of bytes that can be consumed by the container on this filesystem.";
    Usage Gauge "container_fs_usage_bytes" "Number of bytes that are consumed by the container on this filesystem.";
}

struct ContainerFilesystem {
    mounted: Mounted,
    asker: Asker,
    answers: Vec<Answer>,
}

impl CgroupCollector for ContainerFilesystem {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants_any([F::InodesFree, F::Inodes, F::Limit, F::Usage]) {
            return Ok(());
        }
        let Some(root) = cgroups.root().map(Subject::cgroup) else { return Ok(()) };
        self.mounted.list()?;
        self.asker.ask(&self.mounted.places, &mut self.answers);
        for (mounted, answer) in self.mounted.list.iter().zip(&self.answers) {
            // What cannot be asked is left out; `node_filesystem_device_error` tells of it.
            let Answer::Sizes(sizes) = answer else { continue };
            let labels = out.labels(&[("device", &mounted.device)]);
            let bytes = |blocks: u64| blocks as f64 * sizes.f_frsize as f64;
            out.push(F::InodesFree, root, labels, sizes.f_ffree as f64);
            out.push(F::Inodes, root, labels, sizes.f_files as f64);
            out.push(F::Limit, root, labels, bytes(sizes.f_blocks));
            out.push(F::Usage, root, labels, bytes(sizes.f_blocks.saturating_sub(sizes.f_bfree)));
        }
        Ok(())
    }
}

/// Types of file systems on disks of this machine, and in its memory. What is on other machines is none of its own.
const TYPES: [&str; 21] = [
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "hfsplus", "iso9660", "jfs",
    "msdos", "ntfs", "ntfs3", "reiserfs", "squashfs", "tmpfs", "udf", "vfat", "xfs", "zfs",
];

/// The machine's file systems, each once, by the mount that came first.
pub(super) struct Mounted {
    table: MountTable,
    diskstats: NodeFile,
    rootfs: PathBuf,
    points: Pattern,
    list: Vec<FileSystem>,
    /// Where each of them is for us.
    places: Arc<[Place]>,
}

/// One of them.
pub(super) struct FileSystem {
    /// As the label has it.
    pub(super) device: String,
    /// The numbers of its disk; those of a tmpfs are nobody's.
    pub(super) disk: (u32, u32),
}

impl Mounted {
    pub(super) fn new(paths: &Paths, points: Pattern) -> Self {
        Mounted {
            table: MountTable::new(paths),
            diskstats: NodeFile::new(paths.procfs.join("diskstats")),
            rootfs: paths.rootfs.clone(),
            points,
            list: Vec::new(),
            places: Arc::new([]),
        }
    }

    /// What is mounted now.
    pub(super) fn list(&mut self) -> Result<&[FileSystem], FileError> {
        let Some(text) = self.table.changed()? else { return Ok(&self.list) };
        let disks = self.diskstats.read().unwrap_or_default();
        let (mut list, mut places) = (Vec::<FileSystem>::new(), Vec::new());
        let text = whole_lines(text).0;
        for line in lines(text) {
            let Some((mount, place)) = parse(line, &self.rootfs) else { continue };
            if !TYPES.contains(&mount.fstype.as_str()) || self.points.ignores(&mount.point) {
                continue;
            }
            let system = FileSystem { device: device(&mount, disks), disk: (mount.major, mount.minor) };
            if list.iter().all(|known| known.device != system.device) {
                list.push(system);
                // Never at once: whoever waits here keeps all scrapes waiting.
                places.push(Place { path: place, is_at_hand: false });
            }
        }
        (self.list, self.places) = (list, places.into());
        Ok(&self.list)
    }
}

/// The kernel's name of the disk, which all rows of it have; where it is on none, what was mounted. A tmpfs goes by
/// where it is mounted, as with cAdvisor, for all of them are called `tmpfs`.
fn device(mount: &Mount, diskstats: &[u8]) -> String {
    if mount.fstype == "tmpfs" {
        return mount.point.clone();
    }
    let is_same = |disk: &Disk<'_>| disk.number == (mount.major, mount.minor);
    match lines(diskstats).filter_map(disk).find(is_same) {
        Some(disk) => format!("/dev/{}", label(disk.name)),
        None => mount.device.clone(),
    }
}

/// A line of `/proc/diskstats`.
pub(super) struct Disk<'a> {
    pub(super) number: (u32, u32),
    name: &'a [u8],
    /// The columns after the name (Documentation/admin-guide/iostats.rst): 11 of them, later more.
    pub(super) columns: [u64; 11],
}

pub(super) fn disk(line: &[u8]) -> Option<Disk<'_>> {
    let mut words = words(line);
    let mut next = || words.next().and_then(number);
    let number = (u32::try_from(next()?).ok()?, u32::try_from(next()?).ok()?);
    let name = words.next()?;
    let mut columns = [0; 11];
    for column in &mut columns {
        *column = words.next().and_then(crate::source::text::number)?;
    }
    Some(Disk { number, name, columns })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::Options;
    use crate::metric::shown::Tree;

    const MOUNTS: &str = "22 1 8:1 / / rw - ext4 /dev/root rw\n\
        23 22 0:21 / /proc rw - proc proc rw\n\
        24 22 0:22 / /run rw - tmpfs tmpfs rw\n\
        25 24 0:23 / /run/lock rw - tmpfs tmpfs rw\n\
        26 22 8:1 /home /home rw - ext4 /dev/root rw\n\
        27 22 0:30 / /data rw - btrfs /dev/sdb rw\n\
        28 22 0:31 / /far rw - nfs4 far:/ rw\n\
        29 22 0:32 / /var/lib/kubelet/pods/1/volumes/x rw - tmpfs tmpfs rw\n";
    const DISKS: &str =
        "   8       0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13\n   8       1 sda1 1 2 3 4 5 6 7 8 9 10 11\n";

    fn devices(options: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::new(&[("proc/1/mountinfo", MOUNTS), ("proc/diskstats", DISKS)]);
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let points =
            Options(options.collect()).pattern(&COLLECTOR, "mountPointsInclude", "mountPointsExclude");
        let mut mounted = Mounted::new(&tree.paths(), points);
        mounted.list().unwrap().iter().map(|system| system.device.clone()).collect()
    }

    #[test]
    fn each_file_system_of_this_machine_is_given_once_and_none_of_pods() {
        assert_eq!(devices(&[]), ["/dev/sda1", "/run", "/run/lock", "/dev/sdb"]);
        assert_eq!(devices(&[("mountPointsInclude", "^/run")]), ["/run", "/run/lock"]);
        assert_eq!(
            devices(&[("mountPointsExclude", "^/(run|data)")])[..2],
            ["/dev/sda1", "/var/lib/kubelet/pods/1/volumes/x"]
        );
    }

    #[test]
    fn a_line_with_too_few_columns_is_no_disk() {
        let disk = disk(b"   8       1 sda1 1 2 3 4 5 6 7 8 9 10 11 12").unwrap();
        assert_eq!((disk.number, disk.name, disk.columns[10]), ((8, 1), &b"sda1"[..], 11));
        for bad in ["8 1 sda1 1 2 3 4 5 6 7 8 9 10", "8 x sda1 1 2 3 4 5 6 7 8 9 10 11", ""] {
            assert!(super::disk(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
