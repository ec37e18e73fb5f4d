//! How full each mounted file system is, and whether it can be written to.

pub(super) mod ask;
pub(super) mod can_hang;

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Pattern, Run};
use crate::metric::{Writer, families};
use crate::source::mounts::MountTable;
use crate::source::text::{label, lines, number, whole_lines};
use ask::{Answer, Asker, Place, patience};
use can_hang::CanHang;

/// `filesystem`
pub(super) const COLLECTOR: Collector = Collector {
    name: "filesystem",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new(
            "mountPointsExclude",
            OptionKind::Regex,
            "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)",
            "Mount points to leave out.",
        )
        .deprecated(&["collector.filesystem.ignored-mount-points"]),
        OptionDesc::new("mountPointsInclude", OptionKind::Regex, "", "Mount points to give, and no others."),
        OptionDesc::new(
            "fsTypesExclude",
            OptionKind::Regex,
            "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|\
                      nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$",
            "Types of file systems to leave out.",
        )
        .deprecated(&["collector.filesystem.ignored-fs-types"]),
        OptionDesc::new(
            "fsTypesInclude",
            OptionKind::Regex,
            "",
            "Types of file systems to give, and no others.",
        ),
        OptionDesc::new(
            "mountTimeout",
            OptionKind::Duration,
            "400ms",
            "How long one mount is waited for, at the most a fifth of `--collector.timeout`, so that the others are given in time.",
        ),
    ],
    exclusive: &[("mountPointsExclude", "mountPointsInclude"), ("fsTypesExclude", "fsTypesInclude")],
    run: Run::Node {
        start: |paths, options| {
            let selection = Selection {
                points: options.pattern(&COLLECTOR, "mountPointsInclude", "mountPointsExclude"),
                types: options.pattern(&COLLECTOR, "fsTypesInclude", "fsTypesExclude"),
                rootfs: paths.rootfs.clone(),
            };
            let patience = patience(options.duration(&COLLECTOR, "mountTimeout"), paths.timeout);
            let asker = Asker::new(paths.stuck.clone(), patience);
            // Those of no text.
            let mounts = Mounts { list: Vec::new(), places: Arc::new([]), fault: Some("empty".to_owned()) };
            Box::new(Filesystem {
                table: MountTable::new(paths),
                selection,
                mounts,
                asker,
                answers: Vec::new(),
            })
        },
        can_block: true,
    },
};

families! {
    Avail Gauge "node_filesystem_avail_bytes" "Filesystem space available to non-root users in bytes.";
    DeviceError Gauge "node_filesystem_device_error" "Whether an error occurred while getting statistics for the given device.";
    Files Gauge "node_filesystem_files" "Filesystem total file nodes.";
    FilesFree Gauge "node_filesystem_files_free" "Filesystem total free file nodes.";
    Free Gauge "node_filesystem_free_bytes" "Filesystem free space in bytes.";
    MountInfo Gauge "node_filesystem_mount_info" "Filesystem mount information.";
    Readonly Gauge "node_filesystem_readonly" "Filesystem read-only status.";
    Size Gauge "node_filesystem_size_bytes" "Filesystem size in bytes.";
}

const ALL: [F; 8] =
    [F::Avail, F::DeviceError, F::Files, F::FilesFree, F::Free, F::MountInfo, F::Readonly, F::Size];

struct Filesystem {
    table: MountTable,
    selection: Selection,
    mounts: Mounts,
    asker: Asker,
    answers: Vec<Answer>,
}

struct Selection {
    points: Pattern,
    types: Pattern,
    rootfs: PathBuf,
}

struct Mounts {
    list: Vec<Mount>,
    /// Where each of them is for us.
    places: Arc<[Place]>,
    fault: Option<String>,
}

/// A line of a file of mounts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) device: String,
    pub(super) point: String,
    pub(super) fstype: String,
    pub(super) major: u32,
    pub(super) minor: u32,
    is_readonly: bool,
}

impl NodeCollector for Filesystem {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants_any(ALL) {
            return Ok(());
        }
        if let Some(text) = self.table.changed()? {
            self.mounts = self.selection.mounts(text);
        }
        self.asker.ask(&self.mounts.places, &mut self.answers);
        for (mount, answer) in self.mounts.list.iter().zip(&self.answers) {
            mount.write(answer, out);
        }
        match &self.mounts.fault {
            Some(what) => Err(CollectError::parse(self.table.path(), what)),
            None => Ok(()),
        }
    }
}

impl Selection {
    /// The mounts of a file of mounts that are to be given, each once: of those with the same labels, the kernel speaks
    /// of the one on top, which comes last.
    fn mounts(&self, text: &[u8]) -> Mounts {
        let (text, is_whole) = whole_lines(text);
        let can_hang = CanHang::of(text, &self.rootfs);
        let mut fault = (!is_whole).then(|| "ends in the middle".to_owned());
        let (mut list, mut places, mut known) = (Vec::<Mount>::new(), Vec::new(), HashMap::new());
        for line in lines(text) {
            let Some((mount, place)) = parse(line, &self.rootfs) else {
                fault = Some(format!("`{}` is not a mount", label(line)));
                continue;
            };
            if self.points.ignores(&mount.point) || self.types.ignores(&mount.fstype) {
                continue;
            }
            match known.entry((mount.device.clone(), mount.point.clone(), mount.fstype.clone())) {
                Entry::Occupied(below) => list[*below.get()] = mount,
                Entry::Vacant(free) => {
                    free.insert(list.len());
                    places.push(can_hang.place(&mount, place));
                    list.push(mount);
                }
            }
        }
        Mounts { list, places: places.into(), fault }
    }
}

impl Mount {
    fn write(&self, answer: &Answer, out: &mut Writer<'_>) {
        let error = match answer {
            Answer::Sizes(_) => Cow::Borrowed(""),
            Answer::Failed(error) => error_text(*error),
            // node_exporter's word for it
            Answer::Hangs => Cow::Borrowed("mountpoint timeout"),
        };
        let labels = out.labels(&[
            ("device", &self.device),
            ("device_error", &error),
            ("fstype", &self.fstype),
            ("mountpoint", &self.point),
        ]);
        out.node(F::DeviceError, labels, f64::from(!error.is_empty()));
        // One that meets an error becomes so without the table's saying that it has changed.
        let is_readonly = self.is_readonly
            || matches!(answer, Answer::Sizes(sizes) if sizes.f_flag.contains(StatVfsMountFlags::RDONLY));
        out.node(F::Readonly, labels, f64::from(is_readonly));
        let Answer::Sizes(sizes) = answer else { return };
        // The numbers of blocks are in fragments (statvfs(3)), which some FUSE file systems have smaller than blocks.
        let bytes = |blocks: u64| blocks as f64 * sizes.f_frsize as f64;
        out.node(F::Size, labels, bytes(sizes.f_blocks));
        out.node(F::Free, labels, bytes(sizes.f_bfree));
        out.node(F::Avail, labels, bytes(sizes.f_bavail));
        out.node(F::Files, labels, sizes.f_files as f64);
        out.node(F::FilesFree, labels, sizes.f_ffree as f64);
        if out.wants(F::MountInfo) {
            let (mut major, mut minor) = (itoa::Buffer::new(), itoa::Buffer::new());
            let labels = out.labels(&[
                ("device", &self.device),
                ("major", major.format(self.major)),
                ("minor", minor.format(self.minor)),
                ("mountpoint", &self.point),
            ]);
            out.node(F::MountInfo, labels, 1.0);
        }
    }
}

/// What the C library says, in node_exporter's spelling.
fn error_text(error: Errno) -> Cow<'static, str> {
    match error {
        // An agent that is not root meets this one for each volume of each pod, at every scrape.
        Errno::ACCESS => Cow::Borrowed("permission denied"),
        Errno::NOENT => Cow::Borrowed("no such file or directory"),
        error => {
            let text = std::io::Error::from(error).to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            let mut letters = text.chars();
            let first = letters.next().map(|letter| letter.to_ascii_lowercase());
            Cow::Owned(first.into_iter().chain(letters).collect())
        }
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue` (proc(5), mountinfo): the mount,
/// and where it is below our root.
pub(super) fn parse(line: &[u8], rootfs: &Path) -> Option<(Mount, PathBuf)> {
    // Not `words`: a device may be empty.
    let mut fields = line.split(|b| *b == b' ');
    let (_id, _parent, device_number, _root) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let (point, options) = (unescape(fields.next()?), fields.next()?);
    fields.by_ref().find(|field| *field == b"-")?;
    let (fstype, device, super_options) = (fields.next()?, fields.next()?, fields.next()?);
    let colon = device_number.iter().position(|b| *b == b':')?;
    let number = |digits| number(digits).and_then(|n| u32::try_from(n).ok());
    let point = strip(&point, rootfs);
    let mount = Mount {
        // Escaped as it is: node_exporter gives it so.
        device: label(device).into_owned(),
        point: label(point).into_owned(),
        fstype: label(fstype).into_owned(),
        major: number(&device_number[..colon])?,
        minor: number(&device_number[colon + 1..])?,
        is_readonly: [options, super_options].into_iter().any(|options| {
            // A file system that found itself broken (`emergency_ro`, Linux 6.12) still counts as mounted for writing.
            options.split(|b| *b == b',').any(|option| matches!(option, b"ro" | b"emergency_ro"))
        }),
    };
    let place = rootfs.join(OsStr::from_bytes(point.strip_prefix(b"/").unwrap_or(point)));
    Some((mount, place))
}

/// Space, tab, newline and backslash are written as `\040` and the like (fs/proc_namespace.c).
fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = &rest[4..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(bytes)
}

/// The mount point as the node has it: our own table of mounts has the node's below our root for it.
fn strip<'a>(point: &'a [u8], rootfs: &Path) -> &'a [u8] {
    let root = rootfs.as_os_str().as_bytes();
    let root = root.strip_suffix(b"/").unwrap_or(root);
    match point.strip_prefix(root) {
        Some(b"") => b"/",
        Some(rest) if rest.starts_with(b"/") => rest,
        _ => point,
    }
}

#[cfg(test)]
mod tests;
