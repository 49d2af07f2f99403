//! TCP connections to peers at loopback addresses. There is no path between the two, so nothing is gained by sparing it, or by
//! giving the system more than it can send.

use std::{net::IpAddr, sync::OnceLock};

use rustix::system::uname;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpStream;

/// BBR, in each of its versions.
const PACED: &[u8] = b"bbr";
/// What every Linux has, and lets everybody use unless its administrator says otherwise (`tcp_allowed_congestion_control` in
/// tcp(7)).
const RENO: &[u8] = b"reno";
/// Bytes that the system takes from the program before TCP can send them (`TCP_NOTSENT_LOWAT` in tcp(7)); it tells the program
/// of room when half of that is left. By default it takes megabytes.
const UNSENT: u32 = 256 * 1024;
/// Bytes that the system keeps until this side reads them (`SO_RCVBUF` in socket(7), which says that it takes twice as much, for
/// its own records). By default it is up to `tcp_rmem`, 6 to 32 MiB.
const UNREAD: usize = 1024 * 1024;
/// The first version of Linux that is known to let a window grow to a buffer that was set after the handshake. Others may leave
/// it where the handshake put it, at 64 KiB.
const LINUX: (u32, u32) = (6, 18);

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
    // All streams of a connection go through one socket, and a byte of any of them comes behind everything that waits there. It
    // still has to be enough for the milliseconds in which a side does not run on a busy machine: less takes speed
    // (docs/performance.md).
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    if can_bound_unread() {
        let _ = socket.set_recv_buffer_size(UNREAD);
    }
}

/// Whether the system keeps as many bytes as [`UNREAD`] asks for, no fewer.
fn can_bound_unread() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| is_known(uname().release().to_bytes()) && lets_set_unread())
}

/// An administrator may allow less (`rmem_max` in socket(7)), and setting it cannot be taken back.
fn lets_set_unread() -> bool {
    let given = Socket::new(Domain::IPV4, Type::STREAM, None).and_then(|socket| {
        socket.set_recv_buffer_size(UNREAD)?;
        socket.recv_buffer_size()
    });
    given.is_ok_and(|given| given == 2 * UNREAD)
}

/// Of a release of Linux, such as 6.18.4-1.
fn is_known(release: &[u8]) -> bool {
    let mut numbers =
        release.split(|c| !c.is_ascii_digit()).map_while(|digits| str::from_utf8(digits).ok()?.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|version: (u32, u32)| version >= LINUX)
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

    use rustix::io::ioctl_fionread;
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
        let taken = fill(&connection).await;
        assert!(taken < 2 << 20, "{taken} bytes");
    }

    #[test]
    fn the_version_of_linux_is_read_from_its_release() {
        for (release, known) in [
            ("6.18.0", true),
            ("6.18", true),
            ("6.19.1-generic", true),
            ("7.0.0-rc1", true),
            ("10.2", true),
            ("6.9.3", false),
            ("5.19.0-45-generic", false),
            ("4.4.0", false),
            ("6", false),
            ("", false),
            ("unknown", false),
        ] {
            assert_eq!(is_known(release.as_bytes()), known, "{release}");
        }
    }

    #[tokio::test]
    async fn what_is_not_read_is_bounded_and_no_less_than_that_is_taken() {
        let (connection, other) = connection().await;
        let before = SockRef::from(&other).recv_buffer_size().unwrap();
        adapt(&other);
        let size = SockRef::from(&other).recv_buffer_size().unwrap();
        assert_eq!(size, if can_bound_unread() { 2 * UNREAD } else { before });
        fill(&connection).await;
        let unread = ioctl_fionread(&other).unwrap() as usize;
        // The system does not let it grow while nothing is read, where it has not been asked for more.
        let expected = if can_bound_unread() { UNREAD..=2 * UNREAD } else { 1..=UNREAD };
        assert!(expected.contains(&unread), "{unread} bytes");
    }

    /// Writes until the other end, which reads nothing, takes no more: how many bytes that were.
    async fn fill(connection: &TcpStream) -> usize {
        let mut taken = 0;
        while timeout(Duration::from_millis(200), connection.writable()).await.is_ok() && taken < 64 << 20 {
            match connection.try_write(&[0; 16 * 1024]) {
                Ok(n) => taken += n,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        taken
    }
}
