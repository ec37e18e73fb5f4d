//! Which mounts may keep whoever asks them waiting: those of servers and programs, and what is mounted below them.

use std::path::{Path, PathBuf};

use super::ask::Place;
use super::{Mount, parse};
use crate::source::text::lines;

/// File systems whose sizes the kernel counts in memory (fs/ext4/super.c, ext4_statfs; mm/shmem.c, shmem_statfs;
/// fs/squashfs/super.c, squashfs_statfs). XFS before Linux 5.19 may wait for its disk there.
const AT_HAND: [&str; 5] = ["ext2", "ext3", "ext4", "squashfs", "tmpfs"];

/// Where all others are mounted.
pub(in crate::collector) struct CanHang(Vec<String>);

impl CanHang {
    /// Those of a file of mounts.
    pub(in crate::collector) fn of(text: &[u8], rootfs: &Path) -> Self {
        let mounts = lines(text).filter_map(|line| Some(parse(line, rootfs)?.0));
        let others = mounts.filter(|mount| !AT_HAND.contains(&mount.fstype.as_str()));
        CanHang(others.map(|mount| mount.point).collect())
    }

    /// Where a mount is, and whether it answers at once: nothing on the way there is another's, nor on top of it.
    pub(in crate::collector) fn place(&self, mount: &Mount, path: PathBuf) -> Place {
        let is_above = |other: &String| {
            let rest = mount.point.strip_prefix(other.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        Place { path, is_at_hand: !self.0.iter().any(is_above) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_at_hand_where_nothing_on_the_way_to_it_or_on_top_of_it_can_hang() {
        let text = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 0:5 / /proc rw - proc proc rw\n\
            3 1 0:6 / /run rw - tmpfs tmpfs rw\n\
            4 1 0:7 / /far rw - nfs4 far:/ rw\n\
            5 4 0:8 / /far/scratch rw - tmpfs tmpfs rw\n\
            6 1 0:9 / /farther rw - tmpfs tmpfs rw\n\
            7 1 8:2 / /data rw - ext4 /dev/sdb rw\n\
            8 7 0:10 / /data rw - fuse.x x rw\n";
        let at_hand = |text: &[u8]| {
            let can_hang = CanHang::of(text, Path::new("/"));
            let mounts = lines(text).filter_map(|line| parse(line, Path::new("/")));
            let places = mounts.map(|(mount, place)| can_hang.place(&mount, place));
            let at_hand = places.filter(|place| place.is_at_hand);
            at_hand.map(|place| place.path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(at_hand(text), ["/", "/run", "/farther"]);
        let on_overlay =
            [&b"1 0 0:4 / / rw - overlay overlay rw\n"[..], b"2 1 0:6 / /run rw - tmpfs tmpfs rw\n"];
        assert_eq!(at_hand(&on_overlay.concat()), [""; 0]);
    }
}
