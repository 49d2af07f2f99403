//! What waits in the sockets of connections to peers. All streams of a connection go through one socket, and a byte of any
//! of them comes behind everything that waits there.

use socket2::SockRef;
use tokio::net::TcpStream;

/// Bytes that the system takes before TCP can send them (`TCP_NOTSENT_LOWAT`): what it needs while the program is woken.
/// Without it, it takes megabytes. On a long path, what was sent and is not acknowledged does not count.
const UNSENT: u32 = 256 * 1024;
/// Bytes that the system receives in advance from a peer at a loopback address. There nothing is on its way, so that all
/// of it waits for the program; a system may allow itself 32 MiB, which are for long paths.
const RECEIVED: usize = 256 * 1024;

/// Bounds both.
pub fn shorten(connection: &TcpStream) {
    let socket = SockRef::from(connection);
    // With what the system has chosen the connection works as well.
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    if connection.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback()) {
        let _ = socket.set_recv_buffer_size(RECEIVED);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// How much a connection takes whose other end does not read.
    async fn taken(prepare: fn(&TcpStream)) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let writer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (reader, _) = listener.accept().await.unwrap();
        prepare(&writer);
        prepare(&reader);
        let mut taken = 0;
        let full = std::time::Duration::from_millis(200);
        while tokio::time::timeout(full, writer.writable()).await.is_ok() {
            taken += writer.try_write(&[0; 16 * 1024]).unwrap_or(0);
        }
        taken
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_noticed_soon() {
        let (short, long) = (taken(shorten).await, taken(|_| {}).await);
        println!("{short} bytes in place of {long}");
        assert!(short < 1 << 20 && short < long, "{short} {long}");
    }
}
