//! Connections within a machine are not paced.

use std::net::IpAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// What paces starts with this: BBR, in each of its versions.
const PACED: &[u8] = b"bbr";
/// The one that every Linux has and lets everybody use, see `tcp_allowed_congestion_control` in tcp(7).
const UNPACED: &[u8] = b"reno";

/// Takes a connection between two programs of this machine off BBR, if that is the system's default for congestion control.
/// BBR spreads over time what it sends, to keep the queues of the path short; here there is no path, and the timers take a
/// tenth of the processor's time. Connections to other machines stay with what the system has chosen.
pub fn unpace(connection: &TcpStream) {
    let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
    if !connection.peer_addr().is_ok_and(|address| is_loopback(address.ip())) {
        return;
    }
    let socket = SockRef::from(connection);
    if socket.tcp_congestion().is_ok_and(|name| name.starts_with(PACED)) {
        // Without it the connection works as well.
        let _ = socket.set_tcp_congestion(UNPACED);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// The congestion control of a connection within the machine, before and after.
    async fn unpaced(wanted: &[u8]) -> Option<[Vec<u8>; 2]> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let name = || {
            let mut name = SockRef::from(&connection).tcp_congestion().unwrap();
            name.retain(|byte| *byte != 0);
            name
        };
        SockRef::from(&connection).set_tcp_congestion(wanted).ok()?;
        let before = name();
        unpace(&connection);
        Some([before, name()])
    }

    #[tokio::test]
    async fn bbr_is_left_and_others_stay() {
        // Not every system has it, or lets everybody choose it.
        if let Some(names) = unpaced(b"bbr").await {
            assert_eq!(names, [b"bbr", b"reno" as &[u8]]);
        }
        assert_eq!(unpaced(b"reno").await.unwrap(), [b"reno", b"reno"]);
    }
}
