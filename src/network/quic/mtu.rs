//! How large packets may become on a path.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use rustix::net::sockopt::{ip_mtu, ipv6_mtu};

/// What every path of QUIC carries (RFC 9000 section 14).
const LEAST: u16 = 1200;
/// What most paths carry: Ethernet's 1,500 bytes, less the headers of IPv6 and UDP.
const USUAL: u16 = 1452;
/// Ten packets, as many as quinn gives at a time, can still go to the operating system in one call.
pub(super) const LARGEST: u16 = 6500;

/// The largest packet, without the headers of IP and UDP, that is worth a try on the way to `remote`.
///
/// Whether it passes is found out (RFC 8899), in some round trips for each size that does not. So more than what is usual is
/// only tried where the path may well end where the first hop does, and carries what the system knows of that: on the same
/// machine, or in a network of private addresses.
pub(super) fn largest(remote: SocketAddr) -> u16 {
    if !is_near(remote.ip().to_canonical()) {
        return USUAL;
    }
    let headers = if remote.is_ipv4() { 28 } else { 48 };
    match first_hop(remote) {
        Ok(mtu) => u16::try_from(mtu.saturating_sub(headers)).unwrap_or(LARGEST).clamp(LEAST, LARGEST),
        Err(_) => USUAL,
    }
}

fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The largest IP packet that the system would send towards `remote`. Nothing is sent for that.
fn first_hop(remote: SocketAddr) -> io::Result<u32> {
    let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(remote)?;
    Ok(if remote.is_ipv4() { ip_mtu(&socket)? } else { ipv6_mtu(&socket)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_the_machine_packets_may_be_large() {
        for remote in ["127.0.0.1:9", "127.1.2.3:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert_eq!(largest(remote.parse().unwrap()), LARGEST, "{remote}");
        }
    }

    #[test]
    fn elsewhere_they_are_what_is_usual() {
        for remote in ["192.0.2.1:9", "198.51.100.7:9", "[2001:db8::1]:9"] {
            assert_eq!(largest(remote.parse().unwrap()), USUAL, "{remote}");
        }
    }

    #[test]
    fn networks_of_private_addresses_are_near() {
        for (ip, near) in [
            ("10.0.0.1", true),
            ("172.31.0.1", true),
            ("192.168.1.1", true),
            ("169.254.0.1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("172.32.0.1", false),
            ("100.64.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_near(ip.parse().unwrap()), near, "{ip}");
        }
    }
}
