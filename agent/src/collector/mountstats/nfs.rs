//! The figures of one NFS mount, out of the text that the kernel writes.

use std::ops::Range;

use crate::source::text::{float, label, number, words};

// How many columns each line has (fs/nfs/iostat.h; net/sunrpc/stats.c; net/sunrpc/xprtsock.c).
pub(super) const BYTES: usize = 8;
pub(super) const EVENTS: usize = 27;
pub(super) const OPERATIONS: usize = 8;
pub(super) const TRANSPORT: usize = 13;

/// The parts that begin with `device` or `no device`; one for each mount.
pub(super) fn blocks(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let begins =
            |at: usize| rest[at..].starts_with(b"\ndevice ") || rest[at..].starts_with(b"\nno device ");
        let end = (1..rest.len()).find(|at| begins(*at)).map_or(rest.len(), |at| at + 1);
        let (block, after) = rest.split_at(end);
        rest = after;
        (!block.is_empty()).then_some(block)
    })
}

/// The server's address among the options of the same mount; both files list mounts in the same order, but not at the
/// same moment.
pub(super) fn address<'a>(info: &'a [u8], place: usize, point: &[u8]) -> &'a [u8] {
    let is_it = |line: &&[u8]| line.split(|b| *b == b' ').nth(4) == Some(point);
    let lines = || info.split(|b| *b == b'\n');
    let line = lines().nth(place).filter(is_it).or_else(|| lines().rfind(is_it)).unwrap_or_default();
    let options = line.rsplit(|b| *b == b' ').next().unwrap_or_default();
    options.split(|b| *b == b',').find_map(|option| option.strip_prefix(b"addr=")).unwrap_or_default()
}

pub(super) struct Mount<'a> {
    pub(super) device: &'a [u8],
    pub(super) point: &'a [u8],
    /// `1.0` or `1.1`
    version: &'a [u8],
}

impl<'a> Mount<'a> {
    /// `device server:/export mounted on /mnt with fstype nfs4 statvers=1.1`; nothing where there are no figures.
    pub(super) fn new(block: &'a [u8]) -> Option<Self> {
        let line = block.split(|b| *b == b'\n').next()?;
        let mut columns = words(line);
        let columns: [&[u8]; 9] = std::array::from_fn(|_| columns.next().unwrap_or_default());
        let [b"device", device, b"mounted", b"on", point, b"with", b"fstype", b"nfs" | b"nfs4", version] =
            columns
        else {
            return None;
        };
        Some(Mount { device, point, version: version.strip_prefix(b"statvers=")? })
    }
}

/// The figures of one mount at a time, in the same room.
#[derive(Default)]
pub(super) struct Nfs {
    pub(super) age: f64,
    pub(super) bytes: [u64; BYTES],
    pub(super) events: [u64; EVENTS],
    pub(super) transports: Vec<(&'static str, [u64; TRANSPORT])>,
    operations: Vec<(Range<usize>, [u64; OPERATIONS])>,
    /// Of the operations, one after the other.
    names: String,
}

impl Nfs {
    /// Takes the figures of this mount in place of those of the last.
    pub(super) fn parse(&mut self, mount: &Mount<'_>, block: &[u8]) -> Result<(), String> {
        let (mut age, mut bytes, mut events) = (None, None, None);
        self.transports.clear();
        self.operations.clear();
        self.names.clear();
        let mut is_operations = false;
        for line in block.split(|b| *b == b'\n').skip(1) {
            let mut columns = words(line);
            let Some(key) = columns.next() else { continue };
            let wrong = || format!("`{}` is not what it should be", label(line));
            match key {
                _ if is_operations => {
                    let values = numbers(columns).ok_or_else(wrong)?;
                    let start = self.names.len();
                    self.names.push_str(&label(key.strip_suffix(b":").unwrap_or(key)));
                    self.operations.push((start..self.names.len(), values));
                }
                b"age:" => age = Some(columns.next().and_then(float).ok_or_else(wrong)?),
                b"bytes:" => bytes = Some(numbers(columns).ok_or_else(wrong)?),
                b"events:" => events = Some(numbers(columns).ok_or_else(wrong)?),
                b"xprt:" => self.transports.push(transport(mount.version, columns).ok_or_else(wrong)?),
                b"per-op" => is_operations = true,
                _ => {}
            }
        }
        let lacks = |what: &str| format!("has no {what}");
        self.age = age.ok_or_else(|| lacks("age"))?;
        self.bytes = bytes.ok_or_else(|| lacks("bytes"))?;
        self.events = events.ok_or_else(|| lacks("events"))?;
        Ok(())
    }

    /// The operations and their figures.
    pub(super) fn operations(&self) -> impl Iterator<Item = (&str, &[u64; OPERATIONS])> {
        self.operations.iter().map(|(name, values)| (&self.names[name.clone()], values))
    }
}

/// The first numbers of a line; what a later kernel adds is passed over.
fn numbers<'a, const N: usize>(mut columns: impl Iterator<Item = &'a [u8]>) -> Option<[u64; N]> {
    let mut values = [0; N];
    for value in &mut values {
        *value = number(columns.next()?)?;
    }
    Some(values)
}

/// `tcp 832 0 1 0 11 6428 6428 0 12154 0 24 26 5726`: UDP has no connections, RDMA no queues, and version 1.0 neither the
/// slots nor the queues.
fn transport<'a>(
    version: &[u8],
    mut columns: impl Iterator<Item = &'a [u8]>,
) -> Option<(&'static str, [u64; TRANSPORT])> {
    let mut values = [0; TRANSPORT];
    let (protocol, missing) = match columns.next()? {
        b"tcp" => ("tcp", 0..0),
        b"udp" => ("udp", 2..5),
        b"rdma" => ("rdma", 10..13),
        _ => return None,
    };
    let count = match version {
        b"1.0" => 10,
        b"1.1" => TRANSPORT,
        _ => return None,
    };
    let places = values.iter_mut().enumerate().take(count).filter(|(i, _)| !missing.contains(i));
    for (_, value) in places {
        *value = number(columns.next()?)?;
    }
    Some((protocol, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_has_its_columns() {
        let read =
            |version: &[u8], line: &str| transport(version, words(line.as_bytes())).map(|(_, values)| values);
        let tcp = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
        assert_eq!(read(b"1.1", "tcp 1 2 3 4 5 6 7 8 9 10 11 12 13 14"), Some(tcp));
        assert_eq!(read(b"1.0", "tcp 1 2 3 4 5 6 7 8 9 10"), Some([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0, 0]));
        let udp = [1, 2, 0, 0, 0, 3, 4, 5, 6, 7, 8, 9, 10];
        assert_eq!(read(b"1.1", "udp 1 2 3 4 5 6 7 8 9 10"), Some(udp));
        let rdma = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0, 0];
        assert_eq!(read(b"1.1", "rdma 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"), Some(rdma));
        assert_eq!(read(b"1.1", "tcp 1 2 3 4 5 6 7 8 9 10"), None);
        assert_eq!([read(b"1.2", "tcp 1"), read(b"1.1", "pigeon 1")], [None, None]);
    }
}
