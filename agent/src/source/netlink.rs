//! Lists that only netlink gives: of the network namespace that this program is in.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Asks the kernel. The socket is opened with the first question and kept until one fails; the buffer stays.
#[derive(Debug, Default)]
pub struct Netlink {
    socket: Option<OwnedFd>,
    sequence: u32,
    /// The datagrams of one list, each from a multiple of 4 on.
    buffer: Vec<u8>,
}

/// Why a list cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetlinkError {
    /// What the kernel says.
    Kernel(Errno),
    /// A message ends in the middle.
    Malformed,
    /// The list changed while it was read, again and again.
    Interrupted,
}

// include/uapi/linux/netlink.h
const HEADER: usize = 16;
const REQUEST_DUMP: u16 = 0x1 | 0x100 | 0x200;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const DUMP_INTERRUPTED: u16 = 0x10;

impl Netlink {
    /// Asks the routing tables, the links or the traffic control (rtnetlink(7)) for a list, and gives its messages,
    /// without their headers.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn dump(
        &mut self,
        kind: u16,
        payload: &[u8],
    ) -> Result<impl Iterator<Item = &[u8]> + use<'_>, NetlinkError> {
        const ATTEMPTS: usize = 5;
        let mut result = Err(NetlinkError::Interrupted);
        for _ in 0..ATTEMPTS {
            result = self.attempt(kind, payload);
            if result != Err(NetlinkError::Interrupted) {
                break;
            }
        }
        if result.is_err() {
            self.socket = None;
        }
        result?;
        let sequence = self.sequence;
        let is_of_list = move |m: &Message<'_>| m.sequence == sequence && m.kind != DONE;
        Ok(Messages(&self.buffer).flatten().filter(is_of_list).map(|message| message.payload))
    }

    /// Reads a list into the buffer, to its end.
    fn attempt(&mut self, kind: u16, payload: &[u8]) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.buffer.clear();
        self.buffer.extend(((HEADER + payload.len()) as u32).to_ne_bytes());
        self.buffer.extend(kind.to_ne_bytes());
        self.buffer.extend(REQUEST_DUMP.to_ne_bytes());
        self.buffer.extend(self.sequence.to_ne_bytes());
        self.buffer.extend([0; 4]);
        self.buffer.extend(payload);
        let socket = match &mut self.socket {
            Some(socket) => socket,
            closed => closed.insert(open().map_err(NetlinkError::Kernel)?),
        };
        rustix::net::send(&*socket, &self.buffer, SendFlags::empty()).map_err(NetlinkError::Kernel)?;
        self.buffer.clear();
        let mut is_interrupted = false;
        loop {
            let start = self.buffer.len();
            receive(socket, &mut self.buffer)?;
            for message in Messages(&self.buffer[start..]) {
                let message = message.ok_or(NetlinkError::Malformed)?;
                // What is left of a list that was given up.
                if message.sequence != self.sequence {
                    continue;
                }
                is_interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    DONE if is_interrupted => return Err(NetlinkError::Interrupted),
                    DONE => return Ok(()),
                    ERROR => {
                        let code = u32_at(message.payload, 0).ok_or(NetlinkError::Malformed)? as i32;
                        return Err(NetlinkError::Kernel(Errno::from_raw_os_error(-code)));
                    }
                    _ => {}
                }
            }
            self.buffer.resize(self.buffer.len().next_multiple_of(4), 0);
        }
    }
}

fn open() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    // NETLINK_ROUTE is the protocol 0, and so the default.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(10)))?;
    Ok(socket)
}

/// Appends one datagram, whole: the kernel makes them no longer than what the last one had room for, and at first 8 KiB
/// (net/netlink/af_netlink.c, netlink_dump).
fn receive(socket: &OwnedFd, buffer: &mut Vec<u8>) -> Result<(), NetlinkError> {
    const ROOM: usize = 64 << 10;
    let start = buffer.len();
    buffer.reserve(ROOM);
    let (_, length) = rustix::io::retry_on_intr(|| {
        rustix::net::recv(socket, rustix::buffer::spare_capacity(buffer), RecvFlags::TRUNC)
    })
    .map_err(NetlinkError::Kernel)?;
    (length <= buffer.len() - start).then_some(()).ok_or(NetlinkError::Malformed)
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// The messages of a datagram; nothing in place of one that is cut.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Option<Message<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() {
            return None;
        }
        let Some(length) = u32_at(bytes, 0).map(|length| length as usize) else { return Some(None) };
        if length < HEADER || length > bytes.len() {
            return Some(None);
        }
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let message = || {
            let payload = &bytes[HEADER..length];
            Some(Message {
                kind: u16_at(bytes, 4)?,
                flags: u16_at(bytes, 6)?,
                sequence: u32_at(bytes, 8)?,
                payload,
            })
        };
        Some(message())
    }
}

/// The attributes of a message: their types, without the marks for nesting and byte order, and what they hold.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const MARKS: u16 = 0xc000;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)?;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !MARKS, value))
    })
}

/// A number at this place, in the byte order of the machine.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A number at this place, in the byte order of the machine.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A number at this place, in the byte order of the machine.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The names of the interfaces by their numbers, of which those that are still there are kept.
#[derive(Debug, Default)]
pub struct Interfaces {
    names: HashMap<u32, Name>,
    round: u64,
}

#[derive(Debug)]
struct Name {
    text: String,
    /// The last list that had it.
    round: u64,
}

impl Interfaces {
    /// Asks which there are.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn read(&mut self, netlink: &mut Netlink) -> Result<(), NetlinkError> {
        const GET_LINK: u16 = 18;
        /// struct ifinfomsg, with the number after family and type.
        const LINK: usize = 16;
        const NAME: u16 = 3;
        self.round += 1;
        for link in netlink.dump(GET_LINK, &[0; LINK])? {
            let name = || attributes(link.get(LINK..)?).find(|(kind, _)| *kind == NAME);
            let (Some((_, name)), Some(number)) = (name(), u32_at(link, 4)) else { continue };
            self.insert(number, &text(name));
        }
        self.names.retain(|_, name| name.round == self.round);
        Ok(())
    }

    fn insert(&mut self, number: u32, text: &str) {
        let name = self.names.entry(number).or_insert_with(|| Name { text: String::new(), round: 0 });
        name.round = self.round;
        if name.text != text {
            text.clone_into(&mut name.text);
        }
    }

    /// The name of the interface with this number.
    pub fn get(&self, number: u32) -> Option<&str> {
        self.names.get(&number).map(|name| name.text.as_str())
    }
}

#[cfg(test)]
impl<const N: usize> From<[(u32, String); N]> for Interfaces {
    fn from(names: [(u32, String); N]) -> Self {
        let mut interfaces = Interfaces::default();
        names.iter().for_each(|(number, text)| interfaces.insert(*number, text));
        interfaces
    }
}

/// A text that ends with a zero byte.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_end_where_they_say() {
        let mut bytes = Vec::new();
        let mut push = |length: u16, kind: u16, value: &[u8]| {
            bytes.extend(length.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
        };
        push(7, 1, b"abc\0");
        push(8, 0x8002, b"defg");
        push(4, 3, b"");
        push(100, 4, b"cut");
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found, [(1, &b"abc"[..]), (2, b"defg"), (3, b"")]);
        assert_eq!(attributes(&[3, 0, 1, 0, 0, 0, 0, 0]).count(), 0, "shorter than its own head");
    }

    #[test]
    fn a_message_that_is_cut_is_one_that_is_not_there() {
        let header = |length: u32| [&length.to_ne_bytes()[..], &[0; 12], b"body"].concat();
        let kinds = |bytes: &[u8]| Messages(bytes).map(|message| message.is_some()).collect::<Vec<_>>();
        assert_eq!(kinds(&[header(20), header(20)].concat()), [true, true]);
        assert_eq!(kinds(&[header(20), header(24)].concat()), [true, false]);
        assert_eq!(kinds(&header(15)), [false]);
        assert_eq!(kinds(&[1, 2]), [false]);
    }

    #[test]
    fn the_loopback_interface_is_the_first() {
        let (mut netlink, mut interfaces) = (Netlink::default(), Interfaces::default());
        interfaces.insert(u32::MAX, "gone");
        for _ in 0..2 {
            interfaces.read(&mut netlink).unwrap();
            assert_eq!((interfaces.get(1), interfaces.get(u32::MAX)), (Some("lo"), None));
            // No such question.
            let error = netlink.dump(4095, &[0; 16]).err();
            assert_eq!(error, Some(NetlinkError::Kernel(Errno::OPNOTSUPP)));
        }
    }
}
