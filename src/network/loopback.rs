//! TCP connections to peers at loopback addresses. There is no path between the two, so nothing is gained by sparing it, or by
//! giving the system more than it can send.

use std::net::IpAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// BBR, in each of its versions.
const PACED: &[u8] = b"bbr";
/// What every Linux has, and lets everybody use unless its administrator says otherwise (`tcp_allowed_congestion_control` in
/// tcp(7)).
const RENO: &[u8] = b"reno";
/// Bytes that the system takes from the program before TCP can send them (`TCP_NOTSENT_LOWAT` in tcp(7)); it tells the program
/// of room when half of that is left. By default it takes megabytes.
const UNSENT: u32 = 256 * 1024;

/// Adapts a connection to a loopback address; others keep what the system has chosen. Where an option cannot be set, the
/// connection works as well.
pub fn adapt(connection: &TcpStream) {
    if !connection.peer_addr().is_ok_and(|peer| is_near(peer.ip())) {
        return;
    }
    let socket = SockRef::from(connection);
    // BBR spreads over time what it sends, to keep the queues of the path short, and its timers take a tenth of the processor's
    // time. The kernel goes on pacing with Reno, but at rates that hold nothing back.
    if socket.tcp_congestion().is_ok_and(|name| is_paced(&name)) {
        let _ = socket.set_tcp_congestion(RENO);
    }
    // All streams of a connection go through one socket, and a byte of any of them comes behind everything that waits there.
    // What the other side has received and not read is not bounded: when it does not run for some milliseconds, as happens on
    // busy machines, this side would have nothing to do.
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
}

fn is_near(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

fn is_paced(congestion_control: &[u8]) -> bool {
    congestion_control.starts_with(PACED)
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, time::Duration};

    use tokio::{net::TcpListener, time::timeout};

    use super::*;

    #[test]
    fn loopback_addresses_are_near_however_they_are_written() {
        for (peer, near) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_near(peer.parse().unwrap()), near, "{peer}");
        }
    }

    #[test]
    fn only_bbr_is_replaced() {
        for (name, paced) in [("bbr", true), ("bbr2", true), ("bbr\0\0", true), ("cubic", false), ("reno", false)] {
            assert_eq!(is_paced(name.as_bytes()), paced, "{name}");
        }
    }

    /// A connection within this machine, and its other end.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (connection, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_connection_to_a_loopback_address_is_taken_off_bbr() {
        let (connection, _other) = connection().await;
        let socket = SockRef::from(&connection);
        // Not every system has it, or lets everybody choose it; then there is nothing to take off.
        let has_bbr = socket.set_tcp_congestion(b"bbr").is_ok();
        let before = socket.tcp_congestion().unwrap();
        adapt(&connection);
        let after = socket.tcp_congestion().unwrap();
        assert!(if has_bbr { after.starts_with(RENO) } else { after == before }, "{before:?} {after:?}");
    }

    #[tokio::test]
    async fn a_connection_to_a_loopback_address_takes_little_that_it_cannot_send() {
        let (connection, _other) = connection().await;
        adapt(&connection);
        assert_eq!(SockRef::from(&connection).tcp_notsent_lowat().unwrap(), UNSENT);
        let mut taken = 0;
        while timeout(Duration::from_millis(200), connection.writable()).await.is_ok() && taken < 64 << 20 {
            match connection.try_write(&[0; 16 * 1024]) {
                Ok(n) => taken += n,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(taken < 2 << 20, "{taken} bytes");
    }
}
