//! Software RAID: which arrays there are, how they are, and how many of their disks work.

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::folder::Folder;
use crate::source::text::{label, number, only_number, words};

/// `mdadm`
pub(super) const COLLECTOR: Collector = Collector {
    name: "mdadm",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(Mdadm {
                mdstat: NodeFile::new(paths.procfs.join("mdstat")),
                devices: Folder::sysfs(
                    paths.sysfs.join("block"),
                    &["md/level", "md/raid_disks", "md/degraded"],
                    &paths.handles,
                )
                .only(|name| name.starts_with("md")),
            })
        },
        // Its files wait for an array that is being changed (drivers/md/md.c, md_attr_show).
        can_block: true,
    },
};

families! {
    Blocks Gauge "node_md_blocks" "Total number of blocks on device.";
    BlocksSynced Gauge "node_md_blocks_synced" "Number of blocks synced on device.";
    Degraded Gauge "node_md_degraded" "Number of degraded disks on device.";
    Disks Gauge "node_md_disks" "Number of active/failed/spare disks of device.";
    DisksRequired Gauge "node_md_disks_required" "Total number of disks of device.";
    RaidDisks Gauge "node_md_raid_disks" "Number of raid disks on device.";
    State Gauge "node_md_state" "Indicates the state of md-device.";
}

const LEVEL: usize = 0;
const RAID_DISKS: usize = 1;
const DEGRADED: usize = 2;

struct Mdadm {
    mdstat: NodeFile,
    devices: Folder,
}

impl NodeCollector for Mdadm {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let arrays = parse(self.mdstat.read()?, |array| array.write(out));
        let result = arrays.map_err(|what| CollectError::parse(self.mdstat.path(), what));
        self.devices(out).and(result)
    }
}

impl Mdadm {
    fn devices(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants_any([F::Degraded, F::RaidDisks]) {
            return Ok(());
        }
        match self.devices.list() {
            Err(Errno::NOENT) => return Ok(()),
            listed => listed.map_err(|error| CollectError::read(self.devices.path(), error))?,
        }
        let mut result = Ok(());
        for device in 0..self.devices.len() {
            if let Err((file, error)) = write_device(&mut self.devices, device, out) {
                result =
                    Err(CollectError::Read { path: self.devices.file_path(device, file), source: error });
            }
        }
        result
    }
}

/// Documentation/admin-guide/md.rst
fn write_device(devices: &mut Folder, device: usize, out: &mut Writer<'_>) -> Result<(), (usize, Errno)> {
    let level = match devices.read(device, LEVEL) {
        Ok(level) => level,
        // No array, or one that went.
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err((LEVEL, error)),
    };
    let is_container = matches!(level, b"" | b"container" | b"imsm" | b"ddf");
    let is_redundant = matches!(level, b"raid1" | b"raid4" | b"raid5" | b"raid6" | b"raid10");
    // While the shape changes: `11 (10)`.
    let disks = match is_container {
        true => None,
        false => {
            let text = devices.read(device, RAID_DISKS).map_err(|error| (RAID_DISKS, error))?;
            words(text).next().and_then(number)
        }
    };
    let degraded = match is_redundant {
        false => Some(0),
        true => only_number(devices.read(device, DEGRADED).map_err(|error| (DEGRADED, error))?),
    };
    let labels = out.labels(&[("device", devices.name(device))]);
    if let Some(disks) = disks {
        out.node(F::RaidDisks, labels, disks as f64);
    }
    if let Some(degraded) = degraded {
        out.node(F::Degraded, labels, degraded as f64);
    }
    Ok(())
}

/// The states that are given, and the kernel's word for each.
const STATES: [(&str, &[u8]); 5] = [
    ("active", b"active"),
    ("check", b"check"),
    ("inactive", b"inactive"),
    ("recovering", b"recovery"),
    ("resync", b"resync"),
];

/// What an array does, as the line of its progress begins.
const ACTIONS: [&[u8]; 4] = [b"recovery", b"reshape", b"check", b"resync"];

#[derive(Debug, PartialEq)]
struct Array<'a> {
    name: &'a [u8],
    /// The kernel's word: `active`, `inactive`, `broken`, or an action.
    state: &'a [u8],
    required: u64,
    active: u64,
    failed: u64,
    spare: u64,
    blocks: u64,
    synced: u64,
}

impl Array<'_> {
    fn write(&self, out: &mut Writer<'_>) {
        let name = label(self.name);
        let device = ("device", &*name);
        let labels = out.labels(&[device]);
        out.node(F::Blocks, labels, self.blocks as f64);
        out.node(F::BlocksSynced, labels, self.synced as f64);
        out.node(F::DisksRequired, labels, self.required as f64);
        for (state, count) in [("active", self.active), ("failed", self.failed), ("spare", self.spare)] {
            let labels = out.labels(&[device, ("state", state)]);
            out.node(F::Disks, labels, count as f64);
        }
        for (state, word) in STATES {
            let labels = out.labels(&[device, ("state", state)]);
            out.node(F::State, labels, f64::from(self.state == word));
        }
    }
}

/// Each array is a line that begins at the margin and some that do not (drivers/md/md.c, md_seq_show).
fn parse<'a>(text: &'a [u8], mut found: impl FnMut(&Array<'a>)) -> Result<(), String> {
    // Without the last line the arrays are not all there.
    let mut fault = (!text.ends_with(b"\n")).then(|| "ends in the middle".to_owned());
    let mut lines = text.split(|b| *b == b'\n').peekable();
    while let Some(head) = lines.next() {
        let is_array = head.first().is_some_and(|b| !b.is_ascii_whitespace())
            && !head.starts_with(b"Personalities")
            && !head.starts_with(b"unused devices");
        if !is_array {
            continue;
        }
        let sizes = lines.next_if(|line| line.starts_with(b" ")).unwrap_or_default();
        let mut action = None;
        while let Some(line) = lines.next_if(|line| line.starts_with(b" ")) {
            action = action.or_else(|| Action::parse(line));
        }
        // An empty line ends an array.
        match (array(head, sizes, action), lines.peek()) {
            (Some(array), Some(_)) => found(&array),
            _ => fault = Some(format!("`{}` and what follows is not an array", label(head))),
        }
    }
    fault.map_or(Ok(()), Err)
}

#[derive(Clone, Copy)]
struct Action<'a> {
    word: &'a [u8],
    /// Nothing while it waits for another.
    synced: Option<u64>,
}

impl<'a> Action<'a> {
    /// `      [=>...................]  recovery =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec`, or
    /// `       resync=DELAYED`
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = words(line).skip_while(|word| word.starts_with(b"["));
        let first = words.next()?;
        let word = ACTIONS.into_iter().find(|action| {
            first.strip_prefix(*action).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
        })?;
        let blocks = words.find_map(|word| word.strip_prefix(b"("));
        let synced = blocks.and_then(|blocks| number(blocks.split(|b| *b == b'/').next()?));
        Some(Action { word, synced })
    }
}

/// `md3 : active raid6 sda1[8] sdh1[7](F) sdc1[2](S)` and `      5853468288 blocks super 1.2 level 6, 64k chunk,
/// algorithm 2 [8/7] [UUUUUUU_]`
fn array<'a>(head: &'a [u8], sizes: &[u8], action: Option<Action<'a>>) -> Option<Array<'a>> {
    let mut heads = words(head);
    let (name, colon, state) = (heads.next()?, heads.next()?, heads.next()?);
    let blocks = number(words(sizes).next()?)?;
    if colon != b":" {
        return None;
    }
    let count = |flag: &[u8]| head.windows(flag.len()).filter(|part| *part == flag).count() as u64;
    let (required, active) = if heads.any(|word| matches!(word, b"raid0" | b"linear")) {
        // Without redundancy all of them are needed.
        (count(b"["), count(b"["))
    } else if state == b"inactive" {
        (0, 0)
    } else {
        words(sizes).find_map(|word| {
            let (required, active) = word
                .strip_prefix(b"[")?
                .strip_suffix(b"]")?
                .split_at_checked(word.iter().position(|b| *b == b'/')? - 1)?;
            Some((number(required)?, number(&active[1..])?))
        })?
    };
    let synced = action.map_or(blocks, |action| action.synced.unwrap_or(0));
    let state = action.map_or(state, |action| action.word);
    Some(Array { name, state, required, active, failed: count(b"(F)"), spare: count(b"(S)"), blocks, synced })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    fn check(text: &str, expected: &[(&str, &str, [u64; 6])]) -> Result<(), String> {
        let text = ["Personalities : [raid1] [raid6] [raid0]\n", text].concat();
        let mut arrays = Vec::new();
        let result = parse(text.as_bytes(), |a| {
            let numbers = [a.required, a.active, a.failed, a.spare, a.blocks, a.synced];
            arrays.push((label(a.name).into_owned(), label(a.state).into_owned(), numbers));
        });
        let found: Vec<_> =
            arrays.iter().map(|(name, state, n)| (name.as_str(), state.as_str(), *n)).collect();
        assert_eq!(found, expected);
        result
    }

    #[test]
    fn an_array_at_rest_is_synced_and_one_without_redundancy_needs_all_its_disks() {
        check(
            "md3 : active raid6 sda1[8] sdh1[7](F) sdc1[2](S) sdd1[11](S)\n      \
             5853468288 blocks super 1.2 level 6, 64k chunk, algorithm 2 [8/7] [UUUUUUU_]\n      \
             bitmap: 0/1 pages [0KB], 65536KB chunk, file: /check\n\n\
             md4 : active (auto-read-only) raid0 sdk[0] sdj[1]\n      4883648 blocks 64k chunks\n      \n\
             md5 : inactive sda[0](S)\n      20 blocks super external:imsm\n       \n\
             md6 : broken raid1 sda[0]\n      20 blocks super 1.2 [2/1] [U_]\n      \n\
             unused devices: <none>\n",
            &[
                ("md3", "active", [8, 7, 1, 2, 5853468288, 5853468288]),
                ("md4", "active", [2, 2, 0, 0, 4883648, 4883648]),
                ("md5", "inactive", [0, 0, 0, 1, 20, 20]),
                ("md6", "broken", [2, 1, 0, 0, 20, 20]),
            ],
        )
        .unwrap();
    }

    #[test]
    fn an_array_that_is_made_right_tells_how_far_it_is() {
        let array = |line: &str| {
            format!(
                "md0 : active raid1 sda[0] sdb[1]\n      200 blocks [2/1] [U_]\n      {line}\n      \nunused devices: <none>\n"
            )
        };
        for (line, state, synced) in [
            ("[=>.....]  recovery =  8.5% (17/200) finish=17.0min speed=259783K/sec", "recovery", 17),
            ("[>......]  check =  0.5% (1/200) finish=7.0min speed=1K/sec", "check", 1),
            ("[>......]  reshape =  0.5% (2/200) finish=7.0min speed=1K/sec", "reshape", 2),
            ("\tresync=DELAYED", "resync", 0),
            ("resync=PENDING", "resync", 0),
            ("[>......]  resync = 0.0% (0/200) finish=0.0min speed=0K/sec", "resync", 0),
        ] {
            check(&array(line), &[("md0", state, [2, 1, 0, 0, 200, synced])]).unwrap();
        }
    }

    #[test]
    fn a_line_that_makes_no_sense_costs_its_own_array() {
        let good = "md1 : active raid1 sda[0]\n      20 blocks [1/1] [U]\n\n";
        let known = ("md1", "active", [1, 1, 0, 0, 20, 20]);
        for bad in [
            "md0 : active raid1 sda[0]\n\n",
            "md0 :\n      2 blocks\n\n",
            "md0 : active faulty sda[0]\n      x blocks\n\n",
        ] {
            check(&[bad, good].concat(), &[known]).unwrap_err();
        }
        check(&[good, "md2 : active raid1 sda[0]\n      20 blo"].concat(), &[known]).unwrap_err();
        check("unused devices: <none>\n", &[]).unwrap();
    }

    #[test]
    fn what_only_sysfs_tells_is_read_of_arrays_alone() {
        let files = [
            ("proc/mdstat", "Personalities : \nunused devices: <none>\n"),
            ("sys/block/md0/md/level", "raid5\n"),
            ("sys/block/md0/md/raid_disks", "4 (3)\n"),
            ("sys/block/md0/md/degraded", "1\n"),
            ("sys/block/md127/md/level", "container\n"),
            ("sys/block/mdraidless/size", "0\n"),
            ("sys/block/sda/md/level", "raid1\n"),
        ];
        let (mut lines, result) = gives(&COLLECTOR, &files, &[]);
        result.unwrap();
        lines.sort();
        let expected = [
            r#"node_md_degraded{device="md0"} 1"#,
            r#"node_md_degraded{device="md127"} 0"#,
            r#"node_md_raid_disks{device="md0"} 4"#,
        ];
        assert_eq!(lines, expected);
    }
}
