//! Operations of each mounted XFS file system: extents, B-trees, directories, inodes and calls.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::devices::Devices;
use crate::metric::{Labels, Writer, families};
use crate::source::text::{lines, number, words};

/// `xfs`
pub(super) const COLLECTOR: Collector = Collector {
    name: "xfs",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            // Beside a folder for each file system there is one with the sum of all, which has no such file in it.
            Box::new(Xfs(Devices::new(paths.sysfs.join("fs/xfs"), &["stats/stats"], &paths.handles)))
        },
        can_block: false,
    },
};

families! {
    AllocationBtreeCompares Counter "node_xfs_allocation_btree_compares_total" "Number of allocation B-tree compares for a filesystem.";
    AllocationBtreeLookups Counter "node_xfs_allocation_btree_lookups_total" "Number of allocation B-tree lookups for a filesystem.";
    AllocationBtreeRecordsDeleted Counter "node_xfs_allocation_btree_records_deleted_total" "Number of allocation B-tree records deleted for a filesystem.";
    AllocationBtreeRecordsInserted Counter "node_xfs_allocation_btree_records_inserted_total" "Number of allocation B-tree records inserted for a filesystem.";
    BlockMapBtreeCompares Counter "node_xfs_block_map_btree_compares_total" "Number of block map B-tree compares for a filesystem.";
    BlockMapBtreeLookups Counter "node_xfs_block_map_btree_lookups_total" "Number of block map B-tree lookups for a filesystem.";
    BlockMapBtreeRecordsDeleted Counter "node_xfs_block_map_btree_records_deleted_total" "Number of block map B-tree records deleted for a filesystem.";
    BlockMapBtreeRecordsInserted Counter "node_xfs_block_map_btree_records_inserted_total" "Number of block map B-tree records inserted for a filesystem.";
    BlockMappingExtentListCompares Counter "node_xfs_block_mapping_extent_list_compares_total" "Number of extent list compares for a filesystem.";
    BlockMappingExtentListDeletions Counter "node_xfs_block_mapping_extent_list_deletions_total" "Number of extent list deletions for a filesystem.";
    BlockMappingExtentListInsertions Counter "node_xfs_block_mapping_extent_list_insertions_total" "Number of extent list insertions for a filesystem.";
    BlockMappingExtentListLookups Counter "node_xfs_block_mapping_extent_list_lookups_total" "Number of extent list lookups for a filesystem.";
    BlockMappingReads Counter "node_xfs_block_mapping_reads_total" "Number of block map for read operations for a filesystem.";
    BlockMappingUnmaps Counter "node_xfs_block_mapping_unmaps_total" "Number of block unmaps (deletes) for a filesystem.";
    BlockMappingWrites Counter "node_xfs_block_mapping_writes_total" "Number of block map for write operations for a filesystem.";
    DirectoryOperationCreate Counter "node_xfs_directory_operation_create_total" "Number of times a new directory entry was created for a filesystem.";
    DirectoryOperationGetdents Counter "node_xfs_directory_operation_getdents_total" "Number of times the directory getdents operation was performed for a filesystem.";
    DirectoryOperationLookup Counter "node_xfs_directory_operation_lookup_total" "Number of file name directory lookups which miss the operating systems directory name lookup cache.";
    DirectoryOperationRemove Counter "node_xfs_directory_operation_remove_total" "Number of times an existing directory entry was created for a filesystem.";
    ExtentAllocationBlocksAllocated Counter "node_xfs_extent_allocation_blocks_allocated_total" "Number of blocks allocated for a filesystem.";
    ExtentAllocationBlocksFreed Counter "node_xfs_extent_allocation_blocks_freed_total" "Number of blocks freed for a filesystem.";
    ExtentAllocationExtentsAllocated Counter "node_xfs_extent_allocation_extents_allocated_total" "Number of extents allocated for a filesystem.";
    ExtentAllocationExtentsFreed Counter "node_xfs_extent_allocation_extents_freed_total" "Number of extents freed for a filesystem.";
    InodeOperationAttempts Counter "node_xfs_inode_operation_attempts_total" "Number of times the OS looked for an XFS inode in the inode cache.";
    InodeOperationAttributeChanges Counter "node_xfs_inode_operation_attribute_changes_total" "Number of times the OS explicitly changed the attributes of an XFS inode.";
    InodeOperationDuplicates Counter "node_xfs_inode_operation_duplicates_total" "Number of times the OS tried to add a missing XFS inode to the inode cache, but found it had already been added by another process.";
    InodeOperationFound Counter "node_xfs_inode_operation_found_total" "Number of times the OS looked for and found an XFS inode in the inode cache.";
    InodeOperationMissed Counter "node_xfs_inode_operation_missed_total" "Number of times the OS looked for an XFS inode in the cache, but did not find it.";
    InodeOperationReclaims Counter "node_xfs_inode_operation_reclaims_total" "Number of times the OS reclaimed an XFS inode from the inode cache to free memory for another purpose.";
    InodeOperationRecycled Counter "node_xfs_inode_operation_recycled_total" "Number of times the OS found an XFS inode in the cache, but could not use it as it was being recycled.";
    ReadCalls Counter "node_xfs_read_calls_total" "Number of read(2) system calls made to files in a filesystem.";
    VnodeActive Counter "node_xfs_vnode_active_total" "Number of vnodes not on free lists for a filesystem.";
    VnodeAllocate Counter "node_xfs_vnode_allocate_total" "Number of times vn_alloc called for a filesystem.";
    VnodeGet Counter "node_xfs_vnode_get_total" "Number of times vn_get called for a filesystem.";
    VnodeHold Counter "node_xfs_vnode_hold_total" "Number of times vn_hold called for a filesystem.";
    VnodeReclaim Counter "node_xfs_vnode_reclaim_total" "Number of times vn_reclaim called for a filesystem.";
    VnodeRelease Counter "node_xfs_vnode_release_total" "Number of times vn_rele called for a filesystem.";
    VnodeRemove Counter "node_xfs_vnode_remove_total" "Number of times vn_remove called for a filesystem.";
    WriteCalls Counter "node_xfs_write_calls_total" "Number of write(2) system calls made to files in a filesystem.";
}

/// The lines, and what their numbers are (fs/xfs/xfs_stats.c, xfs_stats_format; fs/xfs/xfs_stats.h).
const LINES: &[(&str, &[F])] = &[
    (
        "extent_alloc",
        &[
            F::ExtentAllocationExtentsAllocated,
            F::ExtentAllocationBlocksAllocated,
            F::ExtentAllocationExtentsFreed,
            F::ExtentAllocationBlocksFreed,
        ],
    ),
    (
        "abt",
        &[
            F::AllocationBtreeLookups,
            F::AllocationBtreeCompares,
            F::AllocationBtreeRecordsInserted,
            F::AllocationBtreeRecordsDeleted,
        ],
    ),
    (
        "blk_map",
        &[
            F::BlockMappingReads,
            F::BlockMappingWrites,
            F::BlockMappingUnmaps,
            F::BlockMappingExtentListInsertions,
            F::BlockMappingExtentListDeletions,
            F::BlockMappingExtentListLookups,
            F::BlockMappingExtentListCompares,
        ],
    ),
    (
        "bmbt",
        &[
            F::BlockMapBtreeLookups,
            F::BlockMapBtreeCompares,
            F::BlockMapBtreeRecordsInserted,
            F::BlockMapBtreeRecordsDeleted,
        ],
    ),
    (
        "dir",
        &[
            F::DirectoryOperationLookup,
            F::DirectoryOperationCreate,
            F::DirectoryOperationRemove,
            F::DirectoryOperationGetdents,
        ],
    ),
    (
        "ig",
        &[
            F::InodeOperationAttempts,
            F::InodeOperationFound,
            F::InodeOperationRecycled,
            F::InodeOperationMissed,
            F::InodeOperationDuplicates,
            F::InodeOperationReclaims,
            F::InodeOperationAttributeChanges,
        ],
    ),
    ("rw", &[F::WriteCalls, F::ReadCalls]),
    (
        "vnodes",
        &[
            F::VnodeActive,
            F::VnodeAllocate,
            F::VnodeGet,
            F::VnodeHold,
            F::VnodeRelease,
            F::VnodeReclaim,
            F::VnodeRemove,
        ],
    ),
];

struct Xfs(Devices);

impl NodeCollector for Xfs {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Xfs(file_systems) = self;
        file_systems.list_if_there()?;
        for i in 0..file_systems.len() {
            let labels = out.labels(&[("device", file_systems.name(i))]);
            let parse = |text: &[u8]| write(text, labels, out);
            file_systems.parse(i, 0, parse, "a line that is cut off");
        }
        file_systems.result()
    }
}

/// Nothing where a line has less numbers than it should; the others stay.
fn write(text: &[u8], labels: Labels, out: &mut Writer<'_>) -> Option<()> {
    let mut is_whole = Some(());
    for line in lines(text) {
        let mut words = words(line);
        let name = words.next();
        let Some((_, families)) = LINES.iter().find(|(line, _)| Some(line.as_bytes()) == name) else {
            continue;
        };
        for family in *families {
            match words.next().and_then(number) {
                Some(value) => out.node(*family, labels, value as f64),
                None => is_whole = None,
            }
        }
    }
    is_whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Samples;

    #[test]
    fn a_cut_line_costs_what_is_cut_off_and_new_lines_cost_nothing() {
        let mut samples = Samples::new(FAMILIES.len());
        let mut out = samples.writer(0, &[true; FAMILIES.len()]);
        assert_eq!(
            write(b"rw 12 34\nvnodes 1 2 3 4 5 6 7 8\nnew 1 2\n\nxpc 1 x", Labels::NONE, &mut out),
            Some(())
        );
        assert_eq!(write(b"dir 1 2 3", Labels::NONE, &mut out), None);
        let values = |family: F| samples.family(family as usize).iter().map(|s| s.value).collect::<Vec<_>>();
        assert_eq!((values(F::WriteCalls), values(F::ReadCalls)), (vec![12.0], vec![34.0]));
        assert_eq!((values(F::VnodeActive), values(F::VnodeRemove)), (vec![1.0], vec![7.0]));
        let [lookups, getdents] = [F::DirectoryOperationLookup, F::DirectoryOperationGetdents].map(values);
        assert_eq!((lookups, getdents), (vec![1.0], vec![]));
    }
}
