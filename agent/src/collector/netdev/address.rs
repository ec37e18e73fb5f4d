//! The addresses of each interface.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::F;
use crate::collector::{CollectError, Pattern};
use crate::metric::Writer;
use crate::source::netlink::{Interfaces, Netlink, NetlinkError, attributes, u32_at};

// include/uapi/linux/rtnetlink.h and if_addr.h
const GET_ADDRESS: u16 = 22;
/// struct ifaddrmsg: family, bits of the network, flags, scope, number of the interface.
const MESSAGE: usize = 8;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;

/// What is asked, and what is kept for the next time.
#[derive(Default)]
pub(super) struct Addresses {
    netlink: Netlink,
    interfaces: Interfaces,
    text: String,
}

pub(super) fn collect(
    addresses: &mut Addresses,
    pattern: &Pattern,
    out: &mut Writer<'_>,
) -> Result<(), CollectError> {
    const WHERE: &str = "the addresses of interfaces (rtnetlink)";
    let failed = |error| match error {
        NetlinkError::Kernel(errno) => CollectError::read(WHERE, errno),
        NetlinkError::Malformed => CollectError::parse(WHERE, "a message ends in the middle"),
        NetlinkError::Interrupted => CollectError::parse(WHERE, "the list changed again and again"),
    };
    let Addresses { netlink, interfaces, text } = addresses;
    interfaces.read(netlink).map_err(failed)?;
    for message in netlink.dump(GET_ADDRESS, &[0; MESSAGE]).map_err(failed)? {
        let Some((number, address, bits)) = parse(message) else { continue };
        let Some(device) = interfaces.get(number).filter(|device| !pattern.ignores(device)) else { continue };
        text.clear();
        let _ = write!(text, "{address}");
        let mut buffer = itoa::Buffer::new();
        let labels = out.labels(&[
            ("address", text),
            ("device", device),
            ("netmask", buffer.format(bits)),
            ("scope", scope(address)),
        ]);
        out.node(F::AddressInfo, labels, 1.0);
    }
    Ok(())
}

/// The interface's number, the address, and how many bits of it are the network's. Where an interface leads to one peer,
/// ADDRESS is the peer's, and its own is LOCAL.
fn parse(message: &[u8]) -> Option<(u32, IpAddr, u8)> {
    let (bits, number) = (*message.get(1)?, u32_at(message, 4)?);
    let find = |wanted: u16| {
        let (_, bytes) = attributes(message.get(MESSAGE..)?).find(|(kind, _)| *kind == wanted)?;
        let v4 = || <[u8; 4]>::try_from(bytes).map(|b| IpAddr::V4(Ipv4Addr::from(b)));
        let v6 = || <[u8; 16]>::try_from(bytes).map(|b| IpAddr::V6(Ipv6Addr::from(b)));
        v4().or_else(|_| v6()).ok()
    };
    Some((number, find(LOCAL).or_else(|| find(ADDRESS))?, bits))
}

/// In node_exporter's words.
fn scope(address: IpAddr) -> &'static str {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_loopback() || is_link_local {
        "link-local"
    } else if address.is_unspecified() || address.is_multicast() || is_broadcast {
        ""
    } else {
        "global"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn an_interface_to_one_peer_has_its_own_address() {
        let message =
            |attributes: &[Vec<u8>]| [&[2, 24, 0, 0][..], &7u32.to_ne_bytes(), &attributes.concat()].concat();
        let (own, peer) = (attribute(LOCAL, &[10, 0, 0, 1]), attribute(ADDRESS, &[10, 0, 0, 2]));
        let expected = Some((7, IpAddr::from([10, 0, 0, 1]), 24));
        assert_eq!(parse(&message(&[attribute(3, b"eth0\0"), peer.clone(), own.clone()])), expected);
        assert_eq!(parse(&message(&[own, peer])), expected);
        let v6 = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(parse(&message(&[attribute(ADDRESS, &v6)])), Some((7, IpAddr::from(v6), 24)));
        for cut in [&message(&[])[..], &message(&[attribute(LOCAL, &[10, 0])]), &[2, 24, 0]] {
            assert_eq!(parse(cut), None);
        }
    }

    #[test]
    fn the_scope_is_that_of_the_address() {
        for (address, expected) in [
            ("127.0.0.1", "link-local"),
            ("169.254.3.4", "link-local"),
            ("fe80::1", "link-local"),
            ("::1", "link-local"),
            ("10.0.0.1", "global"),
            ("fd00::1", "global"),
            ("0.0.0.0", ""),
            ("255.255.255.255", ""),
        ] {
            assert_eq!(scope(address.parse().unwrap()), expected, "{address}");
        }
    }
}
