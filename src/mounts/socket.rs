//! A connected socket of this machine, TCP's or a Unix one, with no system call more than its bytes need.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::SocketAddr,
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};

use rustix::{
    io::{Errno, readv, writev},
    net::{SocketAddrAny, SocketFlags, acceptfrom_with},
};
use socket2::{SockAddr, SockRef, Socket as Descriptor, Type};
use tokio::io::{Interest, unix::AsyncFd};

use crate::process;

/// What the runtime looks out for. Urgent data is nothing that a tunnel carries, but see [`Socket::poll_read`].
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

/// A listening socket that does not block.
pub struct Listener(AsyncFd<OwnedFd>);

impl Listener {
    /// Needs a runtime, as all of this does.
    pub fn new(descriptor: impl Into<OwnedFd>) -> io::Result<Self> {
        Ok(Listener(watch(descriptor.into(), Interest::READABLE)?))
    }

    /// The next client, and where it comes from.
    async fn accept(&self) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        self.0.async_io(Interest::READABLE, |listener| Ok(acceptfrom_with(listener, flags)?)).await
    }
}

/// Lets the runtime look out for what becomes possible.
#[expect(deprecated, reason = "what replaces it asks for a promise that an owned descriptor keeps by itself")]
fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, interest)
}

pub struct Socket {
    descriptor: AsyncFd<OwnedFd>,
    tcp: bool,
}

impl Socket {
    /// Of a connected one that does not block.
    fn new(descriptor: OwnedFd, tcp: bool) -> io::Result<Self> {
        Ok(Socket { descriptor: watch(descriptor, INTEREST)?, tcp })
    }

    /// The next client of a TCP socket, and its address.
    pub async fn accept_tcp(listener: &Listener) -> io::Result<(Self, SocketAddr)> {
        let (descriptor, from) = listener.accept().await?;
        let from = from.and_then(|from| SocketAddr::try_from(from).ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok((Socket::new(descriptor, true)?, from))
    }

    /// The next client of a Unix socket.
    pub async fn accept_unix(listener: &Listener) -> io::Result<Self> {
        Socket::new(listener.accept().await?.0, false)
    }

    /// Connects over TCP, or to a Unix socket.
    pub async fn connect(address: &SockAddr) -> io::Result<Self> {
        let descriptor = Descriptor::new(address.domain(), Type::STREAM.nonblocking(), None)?;
        match descriptor.connect(address) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => return Err(error),
            _ => {}
        }
        let socket = Socket::new(descriptor.into(), !address.is_unix())?;
        let failed = {
            let mut guard = socket.descriptor.writable().await?;
            // It stays writable.
            guard.retain_ready();
            guard.ready().is_write_closed()
        };
        let error = if failed { socket.system().take_error()? } else { None };
        error.map_or(Ok(socket), Err)
    }

    /// Has the runtime of this thread look out for it from now on. Where it cannot, the one before goes on.
    pub fn follow(&mut self) {
        let copy = self.descriptor.get_ref().try_clone().and_then(|copy| watch(copy, INTEREST));
        if let Ok(copy) = copy {
            self.descriptor = copy;
        }
    }

    /// For what has no method here.
    pub fn system(&self) -> SockRef<'_> {
        SockRef::from(self.descriptor.get_ref())
    }

    /// Reads what there is, as much as there is room for: 0 at the end.
    ///
    /// The system tells of what arrives, not of what is there. So what is not known to be all must be followed by another read.
    /// It is known where TCP gives less than there is room for (epoll(7), question 9), except before urgent data, where it
    /// stops; and a Unix socket stops behind each message that has descriptors with it.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        let room: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        loop {
            let mut ready = ready!(self.descriptor.poll_read_ready(cx))?;
            match readv(self.descriptor.get_ref(), buffers) {
                Ok(read) => {
                    process::arrived(read);
                    if self.tcp && read > 0 && read < room && !self.has_met_urgent_data() {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(read));
                }
                Err(Errno::WOULDBLOCK) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Writes what the other end has room for. Where TCP takes less than it is given, it has no more room.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let given: usize = bytes.iter().map(|bytes| bytes.len()).sum();
        loop {
            let mut ready = ready!(self.descriptor.poll_write_ready(cx))?;
            match writev(self.descriptor.get_ref(), bytes) {
                Ok(written) => {
                    if self.tcp && written > 0 && written < given {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(written));
                }
                Err(Errno::WOULDBLOCK) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Whether any urgent data (RFC 6093) was received so far.
    fn has_met_urgent_data(&self) -> bool {
        self.descriptor.try_io(Interest::PRIORITY, |_| Ok(())).is_ok()
    }

    /// Returns when the other end has reset the connection.
    pub async fn was_reset(&self) {
        loop {
            match self.descriptor.ready(Interest::ERROR).await {
                Ok(guard) if !guard.ready().is_error() => tokio::task::yield_now().await,
                _ => return,
            }
        }
    }

    pub fn is_tcp(&self) -> bool {
        self.tcp
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        io::Write,
        mem::MaybeUninit,
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
        time::Duration,
    };

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Reads until `wanted` has come.
    async fn assert_reads(socket: &Socket, wanted: &[u8]) {
        let mut all = Vec::new();
        while all.len() < wanted.len() {
            let mut buffer = [0; 100];
            let read = poll_fn(|cx| socket.poll_read(cx, &mut [IoSliceMut::new(&mut buffer)]));
            let read =
                tokio::time::timeout(PATIENCE, read).await.map_err(|_| String::from_utf8_lossy(&all).into_owned());
            let read = read.expect("what has come is not read").unwrap();
            assert!(read > 0, "the end, too early");
            all.extend_from_slice(&buffer[..read]);
        }
        assert_eq!(all, wanted);
    }

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Socket::connect(&listener.local_addr().unwrap().into()).await.unwrap();
        (socket, listener.accept().unwrap().0)
    }

    #[tokio::test]
    async fn what_comes_behind_urgent_data_is_read() {
        let (socket, mut other) = pair().await;
        for round in ["1", "2"] {
            // All of it is there before it is looked for. One urgent byte goes beside the others, see tcp(7).
            other.write_all(b"before").unwrap();
            SockRef::from(&other).send_out_of_band(b"!").unwrap();
            other.write_all(round.as_bytes()).unwrap();
            assert_reads(&socket, format!("before{round}").as_bytes()).await;
        }
        other.write_all(b"word").unwrap();
        assert_reads(&socket, b"word").await;
        SockRef::from(&other).send_out_of_band(b"!").unwrap();
        other.write_all(b"last").unwrap();
        assert_reads(&socket, b"last").await;
    }

    #[tokio::test]
    async fn what_comes_behind_a_message_with_descriptors_is_read() {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let socket = Socket::new(near.into(), false).unwrap();
        let descriptors = [far.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&far, &[IoSlice::new(b"with")], &mut control, SendFlags::empty()).unwrap();
        (&far).write_all(b"behind").unwrap();
        assert_reads(&socket, b"withbehind").await;
    }

    #[test]
    fn it_follows_to_another_runtime() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let made_on = runtime();
        let (mut socket, mut other) = made_on.block_on(pair());
        let after = runtime();
        after.block_on(async { socket.follow() });
        // A runtime that is gone wakes nobody.
        drop(made_on);
        let reading = std::thread::spawn(move || after.block_on(assert_reads(&socket, b"word")));
        other.write_all(b"word").unwrap();
        reading.join().unwrap();
    }

    #[tokio::test]
    async fn a_failed_connection_says_why() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = Socket::connect(&address.into()).await.err().expect("nobody listens there");
        assert_eq!(error.raw_os_error(), Some(Errno::CONNREFUSED.raw_os_error()));
    }

    #[tokio::test]
    async fn a_full_socket_is_written_on_when_there_is_room_again() {
        let (socket, mut other) = pair().await;
        let reader = std::thread::spawn(move || std::io::copy(&mut other, &mut io::sink()).unwrap());
        let chunk = vec![7; 1 << 20];
        let mut written = 0;
        while written < 64 << 20 {
            let write = poll_fn(|cx| socket.poll_write(cx, &[IoSlice::new(&chunk)]));
            written += tokio::time::timeout(PATIENCE, write).await.expect("it is not written on").unwrap();
        }
        drop(socket);
        assert_eq!(reader.join().unwrap(), written as u64);
    }

    #[tokio::test]
    async fn an_end_and_a_reset_are_noticed_behind_what_came_before() {
        for reset in [false, true] {
            let (socket, mut other) = pair().await;
            other.write_all(b"word").unwrap();
            assert_reads(&socket, b"word").await;
            if reset {
                SockRef::from(&other).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(other);
            let mut buffer = [0; 10];
            let read = poll_fn(|cx| socket.poll_read(cx, &mut [IoSliceMut::new(&mut buffer)]));
            let read = tokio::time::timeout(PATIENCE, read).await.expect("it is not noticed");
            assert_eq!(
                read.map_err(|error| error.kind()),
                if reset { Err(io::ErrorKind::ConnectionReset) } else { Ok(0) }
            );
        }
    }
}
