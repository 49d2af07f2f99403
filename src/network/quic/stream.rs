//! One bidirectional stream.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use parking_lot::Mutex;
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::time::{Instant, sleep, timeout_at};

use super::room::Room;
use crate::network::frames;

/// A substream of a QUIC connection.
///
/// Reading: data, then `Ok(0)` for ever after the peer's FIN, [`ConnectionReset`](io::ErrorKind::ConnectionReset) for
/// ever after its RESET_STREAM, [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) for ever when the connection
/// was lost before either.
///
/// Writing: `ConnectionReset` when the peer does not want more (STOP_SENDING; reading goes on), `ConnectionAborted`
/// when the connection was lost, [`BrokenPipe`](io::ErrorKind::BrokenPipe) after closing.
///
/// Closing sends FIN behind the data and is done at once. It also succeeds when the peer does not want more: some
/// implementations say so whenever they close their end of a stream.
///
/// Dropped, it resets what was not closed and tells the peer to stop what was not read to the end.
pub struct Stream {
    /// `None` once closed.
    send: Option<SendStream>,
    recv: RecvStream,
    /// How reading failed, if it did.
    failed: Option<Failure>,
    log: Log,
    share: Share,
    shared: Arc<Shared>,
    /// Held by streams that the peer opened, for as long as they are.
    _counted: Option<Arc<()>>,
}

#[derive(Clone, Copy)]
enum Failure {
    Reset,
    Lost,
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Reset => io::Error::new(io::ErrorKind::ConnectionReset, "the peer reset the stream"),
            Failure::Lost => io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was lost"),
        }
    }
}

impl Stream {
    pub(super) fn new((send, recv): (SendStream, RecvStream), shared: Arc<Shared>) -> Self {
        let log = Log::new(shared.number, &send);
        shared.count_stream(true);
        Stream { send: Some(send), recv, failed: None, log, share: Share::new(), shared, _counted: None }
    }

    pub(super) fn counted(mut self, counter: Arc<()>) -> Self {
        self._counted = Some(counter);
        self
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Some(failure) = self.failed {
            return Poll::Ready(Err(failure.into()));
        }
        let failure = match ready!(self.recv.poll_read(cx, buffer)) {
            Ok(count) => {
                self.log.on_read(count, buffer);
                return Poll::Ready(Ok(count));
            }
            Err(ReadError::Reset(_)) => {
                self.log.frame("received", "RESET_STREAM");
                Failure::Reset
            }
            Err(_) => {
                self.log.on_lost();
                Failure::Lost
            }
        };
        self.failed = Some(failure);
        Poll::Ready(Err(failure.into()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(send) = &mut this.send else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let mut written = Pin::new(&mut *send).poll_write(cx, data);
        if written.is_pending() && this.shared.makes_room() {
            written = Pin::new(&mut *send).poll_write(cx, data);
        }
        if written.is_pending() && this.share.left(&this.shared.connection) > 0 {
            let data = &data[..data.len().min(this.share.left)];
            written = this.shared.beyond_what_is_kept(|| Pin::new(send).poll_write(cx, data));
        }
        let written = ready!(written);
        let count = *written.as_ref().unwrap_or(&0);
        this.share.left = this.share.left.saturating_sub(count);
        this.log.bytes_out += count as u64;
        Poll::Ready(written.map_err(|error| match error {
            WriteError::Stopped(_) => {
                this.log.on_stopped();
                Failure::Reset.into()
            }
            WriteError::ConnectionLost(_) | WriteError::ZeroRttRejected => {
                this.log.on_lost();
                Failure::Lost.into()
            }
            WriteError::ClosedStream => io::ErrorKind::BrokenPipe.into(),
        }))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task sends what was written without being asked.
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(mut send) = self.send.take() {
            if self.shared.connection.close_reason().is_some() {
                self.send = Some(send);
                return Poll::Ready(Err(Failure::Lost.into()));
            }
            // Fails for a finished or reset stream only, and this one is neither.
            let _ = send.finish();
            self.log.frame("sent", "FIN");
            self.shared.ended(Ended::Finished(send));
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.count_stream(false);
        if let Some(mut send) = self.send.take() {
            // Fails when the peer has closed or stopped it before, which is as good. Without this, dropping the send
            // side would finish it. The receive side stops the peer by itself.
            if send.reset(0u32.into()).is_ok() && !self.log.lost {
                self.log.frame("sent", "RESET_STREAM");
                self.shared.ended(Ended::Reset(send));
            }
        }
        if self.failed.is_none() && !self.log.ended && !self.log.lost {
            self.log.frame("sent", "STOP_SENDING");
        }
    }
}

/// What the frame log tells of a stream: its beginning and its ends, with the bytes that went in and out until then.
struct Log {
    connection: u64,
    stream: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// The end of file was read.
    ended: bool,
    /// What is in the log already: the peer's STOP_SENDING, the loss of the connection.
    stopped: bool,
    lost: bool,
}

impl Log {
    fn new(connection: u64, send: &SendStream) -> Self {
        let stream = send.id().into();
        tracing::trace!(target: frames::TARGET, connection, stream, "quic opened");
        Log { connection, stream, bytes_in: 0, bytes_out: 0, ended: false, stopped: false, lost: false }
    }

    /// `count` bytes were read into `buffer`.
    fn on_read(&mut self, count: usize, buffer: &[u8]) {
        self.bytes_in += count as u64;
        if count == 0 && !buffer.is_empty() && !self.ended {
            self.ended = true;
            self.frame("received", "FIN");
        }
    }

    /// Every write fails from now on.
    fn on_stopped(&mut self) {
        if !std::mem::replace(&mut self.stopped, true) {
            self.frame("received", "STOP_SENDING");
        }
    }

    fn on_lost(&mut self) {
        if !std::mem::replace(&mut self.lost, true) {
            let Log { connection, stream, bytes_in, bytes_out, .. } = *self;
            tracing::trace!(target: frames::TARGET, connection, stream, bytes_in, bytes_out, "quic lost");
        }
    }

    fn frame(&self, way: &'static str, kind: &'static str) {
        let Log { connection, stream, bytes_in, bytes_out, .. } = *self;
        tracing::trace!(target: frames::TARGET, connection, stream, kind, bytes_in, bytes_out, "quic {way}");
    }
}

/// What the streams of a connection share with it.
pub(super) struct Shared {
    /// The connection's number in the frame log.
    number: u64,
    pub connection: quinn::Connection,
    /// Send sides that were finished or reset; those whose end has arrived are removed now and then.
    ended: Mutex<Vec<Ended>>,
    room: Mutex<Room>,
    kept: Mutex<Kept>,
}

/// What a stream may send in each round trip, however much others do: who has much to send would take all room as soon as
/// there is some.
const SHARE: usize = 16 << 10;

/// What is left to a stream of its [`SHARE`].
struct Share {
    left: usize,
    since: Instant,
}

impl Share {
    fn new() -> Self {
        Share { left: SHARE, since: Instant::now() }
    }

    fn left(&mut self, connection: &quinn::Connection) -> usize {
        if self.left < SHARE && self.since.elapsed() >= connection.rtt() {
            *self = Share::new();
        }
        self.left
    }
}

/// What is kept of sent data while little may be in flight.
pub(super) const SEND_WINDOW: u64 = 512 << 10;

/// How much of what the streams have sent is kept until the peer has it all.
struct Kept {
    window: u64,
    most: u64,
    /// Packets lost so far, and when the last loss was seen.
    lost: u64,
    lost_at: Option<Instant>,
}

impl Kept {
    fn new(most: u64) -> Self {
        Kept { window: SEND_WINDOW.min(most), most, lost: 0, lost_at: None }
    }

    /// Twice what may be in flight, so that there is always something to send, also while one lost packet is on its way again:
    /// what came behind it is kept until then. After losses everything is kept until they have come a second time, or a third.
    /// More than that would only wait, and push all else out of the processor's caches.
    fn wanted(&mut self, path: &quinn::PathStats, now: Instant) -> u64 {
        if path.lost_packets > self.lost {
            self.lost = path.lost_packets;
            self.lost_at = Some(now);
        }
        let loses = self.lost_at.is_some_and(|at| now < at + 4 * path.rtt);
        let wanted = path.cwnd * if loses { 4 } else { 2 };
        wanted.max(SEND_WINDOW).min(self.most)
    }
}

/// Ended streams that are kept before looking which of them have arrived.
const SPARE: usize = 32;
/// Nothing tells that a reset has arrived, so that is looked after while a connection is closed.
const LOOK: Duration = Duration::from_millis(5);
/// How long it is waited for, besides some round trips.
const RESETS: Duration = Duration::from_millis(100);

enum Ended {
    Finished(SendStream),
    Reset(SendStream),
}

impl Ended {
    /// Whether the peer has acknowledged all of it, or will never do so.
    fn arrived(&self, connection: &quinn::Connection) -> bool {
        match self {
            Ended::Finished(send) => {
                let stopped = pin!(send.stopped());
                std::future::Future::poll(stopped, &mut Context::from_waker(Waker::noop())).is_ready()
            }
            // A stream whose reset has arrived is known no more. Waiting for one leaves a trace behind in quinn.
            Ended::Reset(send) => send.priority().is_err() || connection.close_reason().is_some(),
        }
    }
}

impl Shared {
    pub fn new(connection: quinn::Connection, room: Room, send_window: u64) -> Arc<Self> {
        Arc::new(Shared {
            number: frames::connection(),
            connection,
            ended: Mutex::default(),
            room: Mutex::new(room),
            kept: Mutex::new(Kept::new(send_window)),
        })
    }

    /// Adapts what is kept of what was sent: whether there is room for more now.
    fn makes_room(&self) -> bool {
        let mut kept = self.kept.lock();
        let wanted = kept.wanted(&self.connection.stats().path, Instant::now());
        let more = wanted > kept.window;
        if more || wanted < kept.window / 2 {
            kept.window = wanted;
            self.connection.set_send_window(wanted);
        }
        more
    }

    /// Writes though no more than what there is should be kept.
    fn beyond_what_is_kept<R>(&self, write: impl FnOnce() -> R) -> R {
        let kept = self.kept.lock();
        self.connection.set_send_window(kept.most.min(2 * kept.window));
        let written = write();
        self.connection.set_send_window(kept.window);
        written
    }

    fn count_stream(&self, opened: bool) {
        let mut room = self.room.lock();
        if let Some(window) = room.count(opened) {
            self.connection.set_receive_window(VarInt::from_u64(window as u64).unwrap_or(VarInt::MAX));
        }
    }

    fn ended(&self, stream: Ended) {
        let mut ended = self.ended.lock();
        // Looked through when the room is used up and doubled when that did not help: a constant cost per stream.
        if ended.len() == ended.capacity() {
            ended.retain(|stream| !stream.arrived(&self.connection));
            if ended.len() >= ended.capacity() / 2 {
                let room = ended.capacity().max(SPARE);
                ended.reserve(room);
            }
        }
        ended.push(stream);
    }

    /// Whether the peer has not acknowledged the end of a stream, or what was sent before it.
    pub fn has_undelivered(&self) -> bool {
        let mut ended = self.ended.lock();
        ended.retain(|stream| !stream.arrived(&self.connection));
        !ended.is_empty()
    }

    /// Waits until the peer has everything of the finished streams, at most for `limit`, and knows of those that were reset,
    /// for a few round trips; then closes the connection.
    ///
    /// quinn sends the close of a connection only when congestion control would let it send what else is waiting, and it
    /// takes no acknowledgements any more then: closed while a reset waits behind what is in flight, the peer would hear
    /// nothing until its idle timeout.
    pub async fn close(&self, limit: Duration) {
        let until = Instant::now() + limit;
        loop {
            let batch = std::mem::take(&mut *self.ended.lock());
            if batch.is_empty() {
                break;
            }
            let resets_until = until.min(Instant::now() + RESETS + 3 * self.connection.rtt());
            for stream in batch {
                // What has not arrived by then is given up. It has arrived also when the peer does not want the rest, and when the
                // connection is lost.
                match &stream {
                    Ended::Finished(send) => drop(timeout_at(until, send.stopped()).await),
                    Ended::Reset(_) => {
                        while !stream.arrived(&self.connection) && Instant::now() < resets_until {
                            sleep(LOOK).await;
                        }
                    }
                }
            }
        }
        self.connection.close(0u32.into(), b"");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_follows_what_may_be_in_flight() {
        let mut kept = Kept::new(32 << 20);
        let now = Instant::now();
        let mut path = quinn::PathStats::default();
        (path.cwnd, path.rtt) = (12_000, Duration::from_millis(100));
        assert_eq!(kept.wanted(&path, now), SEND_WINDOW);
        path.cwnd = 4 << 20;
        assert_eq!(kept.wanted(&path, now), 8 << 20);
        path.lost_packets = 1;
        assert_eq!(kept.wanted(&path, now), 16 << 20);
        let soon = now + Duration::from_millis(399);
        assert_eq!(kept.wanted(&path, soon), 16 << 20, "it has not come again");
        path.lost_packets = 2;
        path.cwnd = 100 << 20;
        assert_eq!(kept.wanted(&path, soon), 32 << 20, "the most");
        path.cwnd = 4 << 20;
        assert_eq!(kept.wanted(&path, soon + Duration::from_millis(400)), 8 << 20);
        assert_eq!(Kept::new(1000).wanted(&path, now), 1000);
    }
}
