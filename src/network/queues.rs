//! What waits in the sockets of connections to peers at loopback addresses. All streams of a connection go through one
//! socket, and a byte of any of them comes behind everything that waits there.

use rustix::system::uname;
use socket2::SockRef;
use tokio::net::TcpStream;

/// Bytes that the system takes from the program before TCP can send them (`TCP_NOTSENT_LOWAT` in tcp(7)); it tells the program
/// of room when half of that is left. By default it takes megabytes.
const UNSENT: u32 = 256 * 1024;
/// Bytes that are received in advance; the system doubles the number (`SO_RCVBUF` in socket(7)). By default it is what
/// `tcp_rmem` allows, up to 32 MiB, which is there for long paths.
const RECEIVED: usize = 256 * 1024;
/// Before this version of Linux a connection with a receive buffer of its own keeps the window that it began with, 64 KiB in
/// most systems, which is too little ("tcp: Update window clamping condition", 2024).
const LINUX: (u32, u32) = (6, 12);

/// Lets less wait in a connection to a loopback address. There nothing is on its way for long, so all that waits is delay.
/// Where one bound is missing, what has no room on one side waits on the other.
pub fn shorten(connection: &TcpStream) {
    let near = connection.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
    if near && uname().release().to_str().is_ok_and(is_recent) {
        let socket = SockRef::from(connection);
        // With what the system has chosen the connection works as well.
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
        let _ = socket.set_recv_buffer_size(RECEIVED);
    }
}

/// Whether that is the release of a kernel that can do it.
fn is_recent(release: &str) -> bool {
    let mut numbers = release.split(|other: char| !other.is_ascii_digit()).map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|version| version >= LINUX)
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, time::Duration};

    use tokio::{net::TcpListener, time::timeout};

    use super::*;

    #[test]
    fn only_recent_kernels_get_a_receive_buffer() {
        for release in ["6.12.0", "6.18.44-x86", "7.0-rc1"] {
            assert!(is_recent(release), "{release}");
        }
        for release in ["6.1.0-28-amd64", "5.15.167.4-microsoft-standard-WSL2", "6.11", "6", "", "unknown"] {
            assert!(!is_recent(release), "{release}");
        }
    }

    #[tokio::test]
    async fn a_connection_to_a_loopback_address_takes_little_in_advance() {
        let recent = is_recent(uname().release().to_str().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let writer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (reader, _) = listener.accept().await.unwrap();
        for end in [&writer, &reader] {
            shorten(end);
            let socket = SockRef::from(end);
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), if recent { UNSENT } else { 0 });
            assert!(!recent || socket.recv_buffer_size().unwrap() <= 2 * RECEIVED);
        }
        if !recent {
            return;
        }
        let mut taken = 0;
        while timeout(Duration::from_millis(200), writer.writable()).await.is_ok() && taken < 64 << 20 {
            match writer.try_write(&[0; 16 * 1024]) {
                Ok(n) => taken += n,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(taken < 2 << 20, "{taken} bytes");
    }
}
