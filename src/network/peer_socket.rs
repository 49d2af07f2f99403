//! A peer's socket: the thread that reads it notices what arrives, and its runtime looks out for it.

use std::{
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::tcp::tokio::TcpStream;
use tokio::runtime::Handle;

use crate::process;

/// Tells [`process::arrived`] what is read, and follows whoever polls it to the [second thread](process::second_thread) and back.
pub struct PeerSocket {
    socket: TcpStream,
    /// It was last polled there.
    second: bool,
}

impl PeerSocket {
    pub fn new(socket: TcpStream) -> Self {
        PeerSocket { socket, second: process::is_second_thread() }
    }

    fn here(&mut self) -> Pin<&mut TcpStream> {
        let second = process::is_second_thread();
        if second != self.second {
            self.second = second;
            // Where it cannot, the runtime before goes on, and wakes this thread.
            if let Ok(copy) = watch_here(&self.socket) {
                self.socket = TcpStream(copy);
            }
        }
        Pin::new(&mut self.socket)
    }
}

/// The same socket, for which the runtime of this thread looks out.
fn watch_here(socket: &TcpStream) -> io::Result<tokio::net::TcpStream> {
    Handle::try_current().map_err(io::Error::other)?;
    tokio::net::TcpStream::from_std(socket.0.as_fd().try_clone_to_owned()?.into())
}

impl AsyncRead for PeerSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(self.here().poll_read(cx, buffer))?;
        process::arrived(read);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for PeerSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.here().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.here().poll_write_vectored(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here().poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::TcpListener, time::Duration};

    use futures::AsyncReadExt;
    use tokio::{runtime, time::timeout};

    use super::*;

    /// Two ends of a connection.
    async fn pair() -> (PeerSocket, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (PeerSocket::new(TcpStream(socket)), listener.accept().unwrap().0)
    }

    async fn read(socket: &mut PeerSocket, room: usize) -> usize {
        let mut buffer = vec![0; room];
        timeout(Duration::from_secs(10), socket.read(&mut buffer)).await.expect("nothing is read").unwrap()
    }

    #[tokio::test]
    async fn what_is_read_is_told() {
        let (mut socket, mut peer) = pair().await;
        peer.write_all(&[7; 5000]).unwrap();
        process::take_arrived();
        for (room, told) in [(10, 10), (4000, 4000), (4000, 990)] {
            assert_eq!(read(&mut socket, room).await, told);
            assert_eq!(process::take_arrived(), Some(told));
        }
    }

    #[test]
    fn it_follows_to_the_second_thread_and_back() {
        let made_on = runtime();
        let (mut socket, mut peer) = made_on.block_on(pair());
        let mut before = made_on;
        for (second, byte) in [(true, b"1"), (false, b"2"), (true, b"3")] {
            let (after, moved) = std::thread::spawn(move || {
                process::pretend_second_thread(second);
                let after = runtime();
                let mut waiting = Box::pin(async move {
                    assert_eq!(read(&mut socket, 10).await, 1);
                    socket
                });
                let first_poll = async {
                    assert!(futures::poll!(&mut waiting).is_pending(), "nothing was sent yet");
                };
                after.block_on(first_poll);
                // A runtime that is gone wakes nobody.
                drop(before);
                peer.write_all(byte).unwrap();
                let socket = after.block_on(waiting);
                (after, (socket, peer))
            })
            .join()
            .unwrap();
            (socket, peer) = moved;
            before = after;
        }
    }

    fn runtime() -> runtime::Runtime {
        runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }
}
