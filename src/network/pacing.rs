//! Connections to peers at loopback addresses do not use BBR.

use std::net::IpAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// BBR, in each of its versions.
const PACED: &[u8] = b"bbr";
/// What every Linux has, and lets everybody use unless its administrator says otherwise (`tcp_allowed_congestion_control` in
/// tcp(7)).
const RENO: &[u8] = b"reno";

/// Takes a connection to a loopback address off BBR, if that is the system's default for congestion control. BBR spreads
/// over time what it sends, to keep the queues of the path short. Here there is no path, and the timers take a tenth of the
/// processor's time. The kernel goes on pacing with Reno, but at rates that hold nothing back. Other connections keep what the
/// system has chosen.
pub fn unpace(connection: &TcpStream) {
    let socket = SockRef::from(connection);
    if let (Ok(address), Ok(current)) = (connection.peer_addr(), socket.tcp_congestion())
        && is_unwanted(address.ip(), &current)
    {
        // With the old one the connection works as well.
        let _ = socket.set_tcp_congestion(RENO);
    }
}

fn is_unwanted(peer: IpAddr, congestion_control: &[u8]) -> bool {
    peer.to_canonical().is_loopback() && congestion_control.starts_with(PACED)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_bbr_and_only_towards_loopback_addresses_is_unwanted() {
        for (peer, name, unwanted) in [
            ("127.0.0.1", "bbr", true),
            ("127.9.9.9", "bbr2", true),
            ("::1", "bbr\0\0", true),
            ("::ffff:127.0.0.1", "bbr", true),
            ("127.0.0.1", "cubic", false),
            ("127.0.0.1", "reno", false),
            ("192.0.2.1", "bbr", false),
            ("2001:db8::1", "bbr", false),
        ] {
            assert_eq!(is_unwanted(peer.parse().unwrap(), name.as_bytes()), unwanted, "{peer} {name}");
        }
    }

    #[tokio::test]
    async fn a_connection_to_a_loopback_address_is_taken_off_bbr() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&connection);
        // Not every system has it, or lets everybody choose it; then there is nothing to take off.
        let has_bbr = socket.set_tcp_congestion(b"bbr").is_ok();
        let before = socket.tcp_congestion().unwrap();
        unpace(&connection);
        let after = socket.tcp_congestion().unwrap();
        assert!(if has_bbr { after.starts_with(RENO) } else { after == before }, "{before:?} {after:?}");
    }
}
