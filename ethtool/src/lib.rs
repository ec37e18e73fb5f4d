//! What the drivers of network interfaces say of them, by the ioctl SIOCETHTOOL (include/uapi/linux/ethtool.h): their
//! names, what a link can do, and their own statistics, which nothing else gives.

mod region;

use region::Region;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// A socket to ask about the interfaces of the network namespace that the program is in.
#[derive(Debug)]
pub struct Ethtool {
    socket: OwnedFd,
    names: Region,
    answer: Region,
}

/// What a link can do, and what it offers to the other side, as the bits of ETHTOOL_LINK_MODE_*, as far as the first 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it can do.
    pub supported: u32,
    /// What it offers.
    pub advertised: u32,
    /// Whether it agrees with the other side on one of these: AUTONEG_*.
    pub autonegotiates: u8,
}

/// Who drives an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driver<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its version.
    pub version: &'a [u8],
    /// That of the device's own program.
    pub firmware: &'a [u8],
    /// Where the device is.
    pub bus: &'a [u8],
    /// The version of the ROM on it.
    pub rom: &'a [u8],
}

/// All statistics of an interface, in the driver's order.
#[derive(Clone, Copy, Debug)]
pub struct Statistics<'a> {
    /// Their names, each in [`NAME`] bytes, padded with zeros; they change rarely.
    pub names: &'a [u8],
    /// Their values, each in the eight bytes of a number as the machine has it.
    pub values: &'a [u8],
}

/// How long the name of a statistic is: ETH_GSTRING_LEN.
pub const NAME: usize = 32;

const GET_SETTINGS: u32 = 0x1;
const GET_DRIVER: u32 = 0x3;
const GET_STRINGS: u32 = 0x1b;
const GET_STATISTICS: u32 = 0x1d;
/// The set of strings that are the names of statistics: ETH_SS_STATS.
const STATISTICS: u32 = 1;
/// struct ethtool_drvinfo: five texts, and the number of statistics behind two more numbers and some reserved bytes.
const COUNT: usize = 180;

impl Ethtool {
    /// Opens the socket.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new() -> Result<Self, Errno> {
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(Ethtool { socket, names: Region::new()?, answer: Region::new()? })
    }

    /// What the link of this interface can do.
    ///
    /// # Errors
    /// `OPNOTSUPP` where the driver does not say, others as the kernel has them.
    pub fn link(&mut self, interface: &str) -> Result<Link, Errno> {
        self.answer.ask(&self.socket, interface, &[GET_SETTINGS])?;
        // struct ethtool_cmd
        let answer = self.answer.bytes();
        Ok(Link { supported: number(answer, 4), advertised: number(answer, 8), autonegotiates: answer[18] })
    }

    /// Who drives this interface.
    ///
    /// # Errors
    /// As before.
    pub fn driver(&mut self, interface: &str) -> Result<Driver<'_>, Errno> {
        self.answer.ask(&self.socket, interface, &[GET_DRIVER])?;
        let answer = self.answer.bytes();
        Ok(Driver {
            name: text(&answer[4..36]),
            version: text(&answer[36..68]),
            firmware: text(&answer[68..100]),
            bus: text(&answer[100..132]),
            rom: text(&answer[132..164]),
        })
    }

    /// What the driver of this interface counts.
    ///
    /// # Errors
    /// As before; `AGAIN` where their number has changed while they were asked for.
    pub fn statistics(&mut self, interface: &str) -> Result<Statistics<'_>, Errno> {
        self.answer.ask(&self.socket, interface, &[GET_DRIVER])?;
        let count = number(self.answer.bytes(), COUNT);
        if count == 0 {
            return Ok(Statistics { names: &[], values: &[] });
        }
        self.names.ask(&self.socket, interface, &[GET_STRINGS, STATISTICS, count])?;
        self.answer.ask(&self.socket, interface, &[GET_STATISTICS, count])?;
        let (names, values) = (self.names.bytes(), self.answer.bytes());
        let (named, counted) = (number(names, 8), number(values, 4));
        if named != counted || named == 0 {
            return Err(Errno::AGAIN);
        }
        let named = named as usize;
        let both = names.get(12..12 + named * NAME).zip(values.get(8..8 + named * 8));
        both.map(|(names, values)| Statistics { names, values }).ok_or(Errno::OVERFLOW)
    }
}

impl<'a> Statistics<'a> {
    /// Their names, without the zeros.
    pub fn names(self) -> impl Iterator<Item = &'a [u8]> {
        self.names.chunks_exact(NAME).map(text)
    }

    /// Their values.
    pub fn values(self) -> impl Iterator<Item = u64> + 'a {
        self.values.as_chunks().0.iter().map(|value| u64::from_ne_bytes(*value))
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(number)
}

/// Up to the first zero.
fn text(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_driver_serves_is_an_error_and_not_what_was_asked_before() {
        let mut ethtool = Ethtool::new().unwrap();
        assert_eq!(ethtool.link("no such one"), Err(Errno::NODEV));
        assert_eq!(ethtool.driver("longer-than-a-name-can-be").unwrap_err(), Errno::NODEV);
        assert_eq!(ethtool.statistics("").unwrap_err(), Errno::NODEV);
        // The loopback has neither a link nor statistics.
        assert_eq!(ethtool.link("lo"), Err(Errno::OPNOTSUPP));
    }

    #[test]
    fn every_interface_says_as_many_names_as_values() {
        let mut ethtool = Ethtool::new().unwrap();
        for interface in std::fs::read_dir("/sys/class/net").unwrap() {
            let name = interface.unwrap().file_name().into_string().unwrap();
            if let Ok(driver) = ethtool.driver(&name) {
                assert!(!driver.name.is_empty() && driver.name.is_ascii(), "{name}: {driver:?}");
            }
            if let Ok(statistics) = ethtool.statistics(&name) {
                assert_eq!(statistics.names().count(), statistics.values().count(), "{name}");
                assert!(statistics.names().all(<[u8]>::is_ascii), "{name}");
            }
        }
    }

    #[test]
    fn texts_end_at_the_first_zero() {
        let names = [b"rx_bytes".as_slice(), &[0; 24], &[b'x'; 32]].concat();
        let values = [7u64, 1 << 40].map(u64::to_ne_bytes).concat();
        let statistics = Statistics { names: &names, values: &values };
        assert_eq!(statistics.names().collect::<Vec<_>>(), [&b"rx_bytes"[..], &[b'x'; 32]]);
        assert_eq!(statistics.values().collect::<Vec<_>>(), [7, 1 << 40]);
    }
}
