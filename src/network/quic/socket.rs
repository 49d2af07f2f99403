//! The UDP socket under an endpoint: quinn's socket interface on tokio, with the addition that it can be closed.

use std::{
    fmt,
    future::{Future, poll_fn},
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use parking_lot::{Mutex, RwLock};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use socket2::{Domain, Protocol, Type};
use tokio::{io::Interest, net::UdpSocket, sync::Notify};

use super::{batch::Batch, mtu};
use crate::process;

/// Most messages taken from the operating system at a time: more of them would push each other out of the processor's caches
/// before they are looked at.
const MESSAGES: usize = 8;
/// Most bytes of a message: packets that came together.
const MESSAGE: usize = 64 * 1024;

/// A UDP socket whose port can be given back while connections still refer to it.
///
/// Connections keep their socket for some round trips after their end. Closed, the socket swallows what they send and
/// never receives.
pub(super) struct Socket {
    io: RwLock<Option<Arc<UdpSocket>>>,
    local: SocketAddr,
    state: UdpSocketState,
    /// Packets that wait for others to go out with them, until the tasks that may have some have run.
    batch: Mutex<Batch>,
    /// Wakes the task that sends the batch. It ends when it can have the socket no more.
    held: Arc<Notify>,
}

impl Socket {
    /// Binds to `local`. IPv6 sockets carry IPv6 only: IPv4 has its own listeners. `buffer_size` is a wish.
    pub fn bind(local: SocketAddr, buffer_size: usize) -> io::Result<Arc<Self>> {
        let socket = socket2::Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // The operating system may refuse, or give less.
        let _ = socket.set_recv_buffer_size(buffer_size);
        let _ = socket.set_send_buffer_size(buffer_size);
        socket.bind(&local.into())?;
        let socket = std::net::UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let io = RwLock::new(Some(Arc::new(UdpSocket::from_std(socket)?)));
        let socket = Arc::new(Socket { io, local, state, batch: Mutex::default(), held: Arc::default() });
        tokio::spawn(send_held(socket.held.clone(), Arc::downgrade(&socket)));
        Ok(socket)
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Gives the port back. When this returns, another socket can have it, unless something waits to send at this moment.
    pub fn close(&self) {
        *self.io.write() = None;
    }

    fn send(&self, io: &UdpSocket, transmit: &Transmit<'_>) -> io::Result<()> {
        io.try_io(Interest::WRITABLE, || self.state.send(io.into(), transmit))
    }

    /// Sends the batch. `WouldBlock`: it is still there.
    fn send_batch(&self, io: &UdpSocket, batch: &mut Batch) -> io::Result<()> {
        let Some(transmit) = batch.transmit() else { return Ok(()) };
        match self.send(io, &transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            result => {
                batch.clear();
                result
            }
        }
    }

    /// Sends what nothing else went out with. If the socket takes nothing now, what to wait for.
    fn send_held(&self) -> Option<Arc<UdpSocket>> {
        let io = self.io.read();
        let mut batch = self.batch.lock();
        if self.send_batch(io.as_ref()?, &mut batch).is_err() {
            return io.clone();
        }
        batch.free();
        None
    }

    /// Sends one packet outside of any connection; it may be lost like any other.
    pub async fn send_to(&self, packet: &[u8], remote: SocketAddr) -> io::Result<()> {
        let Some(io) = self.io.read().clone() else { return Err(io::ErrorKind::NotConnected.into()) };
        io.send_to(packet, remote).await.map(drop)
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let io = self.io.read();
        let Some(io) = &*io else { return Ok(()) };
        let mut batch = self.batch.lock();
        let most = self.state.max_gso_segments();
        if !batch.takes(transmit, most) {
            self.send_batch(io, &mut batch)?;
        }
        if batch.is_empty() && !Batch::may_go_on(transmit) {
            return self.send(io, transmit);
        }
        batch.push(transmit);
        if (Batch::may_go_on(transmit) && !batch.is_full(most)) || self.send_batch(io, &mut batch).is_err() {
            self.held.notify_one();
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let io = self.io.read();
        let Some(io) = &*io else { return Poll::Pending };
        let messages = buffers.len().min(MESSAGES);
        let buffers = &mut buffers[..messages];
        loop {
            ready!(io.poll_recv_ready(cx))?;
            match io.try_io(Interest::READABLE, || self.state.recv(io.as_ref().into(), buffers, meta)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A report of an earlier packet that did not arrive says nothing about the socket.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Ok(received) => {
                    process::arrived(meta[..received].iter().map(|meta| meta.len).sum());
                    return Poll::Ready(Ok(received));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// As many as can come together: quinn makes room for as many packets of the largest size.
    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments().min(MESSAGE.div_ceil(mtu::LARGEST.into()))
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.held.notify_one();
    }
}

/// Sends what the socket holds once all tasks that are ready have had their turn and none has added to it.
async fn send_held(held: Arc<Notify>, socket: Weak<Socket>) {
    loop {
        held.notified().await;
        loop {
            let Some(changes) = socket.upgrade().map(|socket| socket.batch.lock().changes()) else { return };
            behind_the_others().await;
            let Some(socket) = socket.upgrade() else { return };
            if socket.batch.lock().changes() != changes {
                continue;
            }
            let Some(io) = socket.send_held() else { break };
            drop(socket);
            // Fails when the runtime ends.
            if io.writable().await.is_err() {
                return;
            }
        }
    }
}

/// Lets the tasks run that are ready now. (tokio's `yield_now` lets all run that become ready, too.)
async fn behind_the_others() {
    let mut behind = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut behind, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.local).finish()
    }
}

/// One connection's wait for room in the send buffer. Each has its own: a socket remembers a single waker only.
struct Writable {
    socket: Arc<Socket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let waiting = match &mut this.waiting {
            Some(waiting) => waiting,
            None => {
                let Some(io) = this.socket.io.read().clone() else { return Poll::Ready(Ok(())) };
                this.waiting.insert(Box::pin(async move { io.writable().await }))
            }
        };
        let result = ready!(waiting.as_mut().poll(cx));
        this.waiting = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writable").field(&self.socket).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{task::yield_now, time::timeout};

    use super::*;

    /// Whatever is held arrives, in order and in packets as they were given, also if nothing comes behind it.
    #[tokio::test]
    async fn packets_arrive_as_they_were_given() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
        let destination = receiver.local_addr().unwrap();
        // Numbers of packets, and whether the last is smaller than the others.
        let given = [(10, false), (10, false), (3, true), (1, true), (7, false), (1, true), (10, false), (10, false)];
        let mut numbers = 0u8..;
        let mut expected = Vec::new();
        for (count, smaller) in given {
            let mut contents = Vec::new();
            for index in 0..count {
                let size = if smaller && index + 1 == count { 500 } else { 1200 };
                expected.push(vec![numbers.next().unwrap(); size]);
                contents.extend_from_slice(expected.last().unwrap());
            }
            let segment_size = (count > 1 && socket.max_transmit_segments() > 1).then_some(1200);
            let step = if segment_size.is_some() { contents.len() } else { 1200 };
            for contents in contents.chunks(step) {
                let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
                while socket.try_send(&transmit).is_err() {
                    yield_now().await;
                }
            }
        }
        for expected in expected {
            let mut packet = [0; 2000];
            let count = timeout(Duration::from_secs(10), receiver.recv(&mut packet)).await.expect("it came").unwrap();
            assert_eq!(packet[..count], expected);
        }
        let held = Arc::downgrade(&socket.held);
        drop(socket);
        let ended = async {
            while held.upgrade().is_some() {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), ended).await.expect("the task ends with the socket");
    }
}
