//! The handle of a stream.

use std::{
    cell::Cell,
    collections::VecDeque,
    fmt,
    io::{self, IoSlice, IoSliceMut},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use futures::{AsyncRead, AsyncWrite};
use parking_lot::MutexGuard;
use tokio::runtime::Handle;

use super::{
    chunk::Part,
    frame::HEADER,
    state::{Fin, Inner, State, park},
};

/// Less room than this is waited out while frames are queued: it grows when they leave.
const WORTH: usize = 4096;
/// How much a source is asked for at a time: at first the smaller number, up to the larger one as it fills what it gets.
const REACH_SMALL: usize = 8 * 1024;
const REACH_LARGE: usize = 256 * 1024;
/// Chunks for that; there is less in them where frames are smaller.
const BATCH: usize = 4;

thread_local! {
    /// Somebody looks for the stream within a box, and the stream that was in it.
    static WANTED: Cell<bool> = const { Cell::new(false) };
    static FOUND: Cell<Option<Stream>> = const { Cell::new(None) };
}

/// Takes the stream out of the boxes that libp2p has put around it, if there is one of this module in them. Afterwards they
/// are good for nothing but being dropped.
///
/// Reading nothing changes nothing and passes through every layer, so that is how the stream is asked to come out. Where a
/// protocol is still to be agreed on, a layer would act on it.
pub fn unbox(boxed: &mut (impl AsyncRead + Unpin)) -> Option<Stream> {
    WANTED.set(true);
    let _ = Pin::new(boxed).poll_read(&mut Context::from_waker(Waker::noop()), &mut []);
    WANTED.set(false);
    FOUND.take()
}

/// A stream of a yamux connection.
///
/// Reading delivers everything received, then `Ok(0)` if the remote finished with FIN, [`io::ErrorKind::ConnectionReset`]
/// if it sent RST, [`io::ErrorKind::ConnectionAborted`] if the connection ended first. Writing fails with the same
/// kinds, and with [`io::ErrorKind::BrokenPipe`] after `poll_close`.
///
/// `poll_flush` is always ready: the connection sends queued data by itself. `poll_close` is ready when all data and
/// the FIN are in what the connection writes next; the other direction lives on.
///
/// Dropping a stream that is not finished in both directions resets it, whatever is still queued.
pub struct Stream {
    inner: Arc<Inner>,
    /// What is being read, taken out of the shared state so that copying needs no lock.
    heads: VecDeque<Part>,
    /// In the first of them.
    position: usize,
    /// How much the source is asked for.
    reach: usize,
    /// It was taken out of its box by [`unbox`], and this is what stayed there.
    empty: bool,
}

impl Stream {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, heads: VecDeque::new(), position: 0, reach: REACH_SMALL, empty: false }
    }

    /// All of it; an empty one is left behind.
    fn take(&mut self) -> Self {
        let Self { position, reach, .. } = *self;
        self.empty = true;
        Self { inner: self.inner.clone(), heads: std::mem::take(&mut self.heads), position, reach, empty: false }
    }

    /// The stream's number on its connection; 0 if the stream was refused before it had one.
    #[cfg(test)]
    pub fn id(&self) -> u32 {
        self.inner.id
    }

    /// Has the connection, if it is [`Driven`](super::Driven), move on `runtime` from now on. It moves but once.
    pub fn move_connection(&self, runtime: &Handle) {
        let shared = &self.inner.shared;
        if shared.elsewhere.get().is_none() && shared.elsewhere.set(runtime.clone()).is_ok() {
            shared.waker.wake();
        }
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Bytes of memory held for data.
    #[cfg(any(test, fuzzing))]
    pub(super) fn buffer_capacity(&self) -> usize {
        self.heads.iter().map(Part::capacity).sum::<usize>() + self.inner.state.lock().buffer_capacity()
    }

    /// Puts what was received and not read into `slices`, waiting until there is some: how many of them it takes, 0 at the
    /// remote's FIN. It is the same until [`consume`](Self::consume) says that it was read.
    pub fn poll_data<'a>(&'a mut self, cx: &mut Context<'_>, slices: &mut [IoSlice<'a>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_heads(Some(cx)))?;
        let mut start = self.position;
        let mut used = 0;
        for (slice, part) in slices.iter_mut().zip(&self.heads) {
            *slice = IoSlice::new(&part[std::mem::take(&mut start)..]);
            used += 1;
        }
        Poll::Ready(Ok(used))
    }

    /// `n` bytes of what `poll_data` gave were read.
    pub fn consume(&mut self, n: usize) {
        self.position += n;
        let mut consumed = 0;
        while let Some(first) = self.heads.front()
            && first.len() <= self.position
        {
            consumed += first.len();
            self.position -= first.len();
            if let Some(part) = self.heads.pop_front() {
                self.inner.shared.pool.put(part.into_chunk());
            }
        }
        if consumed > 0 && self.inner.state.lock().consume(&self.inner.shared, consumed) {
            self.notify();
        }
    }

    /// Fills `heads` if they are empty: they stay so at the end of the stream, and without a context to wait with.
    fn poll_heads(&mut self, cx: Option<&mut Context<'_>>) -> Poll<io::Result<()>> {
        if !self.heads.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.inner.state.lock();
        std::mem::swap(&mut state.received, &mut self.heads);
        match (self.heads.is_empty() && !state.fin_received, cx) {
            (true, Some(cx)) => match state.end {
                Some(end) => Poll::Ready(Err(end.error())),
                None => {
                    park(&mut state.reader, cx);
                    Poll::Pending
                }
            },
            _ => Poll::Ready(Ok(())),
        }
    }

    /// How much may be written now, waiting until it is worth a write.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut state = self.inner.state.lock();
        state.check_writing()?;
        let room = state.room(&self.inner.shared);
        if room == 0 || (room < WORTH && state.has_frames()) {
            park(&mut state.writer, cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(room))
    }

    /// Writes what `source` puts into buffers with `room`, of which [`poll_room`](Self::poll_room) has told: how much that
    /// is. It goes from there to the connection's socket.
    pub fn poll_write_from<F>(&mut self, room: usize, source: F) -> Poll<io::Result<usize>>
    where
        F: FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    {
        let shared = &self.inner.shared;
        let mut chunks: [Vec<u8>; BATCH] = Default::default();
        // One, or whole ones only.
        let wanted = room.min(self.reach);
        let each = wanted.min(shared.chunk_data());
        let used = (wanted / each.max(1)).min(BATCH);
        let total = used * each;
        chunks[..used].fill_with(|| shared.pool.take_filled(HEADER + each));
        let mut buffers =
            chunks.each_mut().map(|chunk| IoSliceMut::new(chunk.get_mut(HEADER..HEADER + each).unwrap_or_default()));
        let result = source(&mut buffers[..used]);
        let mut left = match result {
            Poll::Ready(Ok(read)) => read,
            _ => 0,
        };
        self.reach = match left {
            _ if left == total => (4 * self.reach).min(REACH_LARGE),
            _ if left < self.reach / 4 => (self.reach / 4).max(REACH_SMALL),
            _ => self.reach,
        };
        let mut state = None;
        for chunk in chunks.into_iter().take(used) {
            let n = left.min(each);
            if n == 0 {
                shared.pool.put(chunk);
                continue;
            }
            left -= n;
            let state = state.get_or_insert_with(|| self.inner.state.lock());
            match state.end {
                // Only now: the next write tells.
                Some(_) => shared.pool.put(chunk),
                None => state.push_chunk(shared, chunk, n),
            }
        }
        if let Some(state) = state {
            self.wake_connection(state);
        }
        result
    }

    /// Data or an end was queued.
    fn wake_connection(&self, mut state: MutexGuard<'_, State>) {
        let notify = !state.sending && state.schedule();
        drop(state);
        if notify {
            self.notify();
        }
    }

    fn notify(&self) {
        self.inner.shared.notify(self.inner.clone());
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            if WANTED.get() && !this.empty {
                FOUND.set(Some(this.take()));
            }
            return Poll::Ready(Ok(0));
        }
        let mut n = 0;
        while n < buf.len() {
            ready!(this.poll_heads(if n == 0 { Some(&mut *cx) } else { None }))?;
            let Some(head) = this.heads.front() else { break };
            let rest = &head[this.position..];
            let taken = rest.len().min(buf.len() - n);
            buf[n..n + taken].copy_from_slice(&rest[..taken]);
            this.consume(taken);
            n += taken;
        }
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.inner.state.lock();
        state.check_writing()?;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let n = state.room(&self.inner.shared).min(buf.len());
        if n == 0 {
            park(&mut state.writer, cx);
            return Poll::Pending;
        }
        state.push(&self.inner.shared, &buf[..n]);
        self.wake_connection(state);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.inner.state.lock();
        if state.fin == Fin::Sent {
            return Poll::Ready(Ok(()));
        }
        if let Some(end) = state.end {
            return Poll::Ready(Err(end.error()));
        }
        state.fin = Fin::Requested;
        park(&mut state.writer, cx);
        self.wake_connection(state);
        Poll::Pending
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.empty {
            return;
        }
        let notify = self.inner.state.lock().drop_handle(&self.inner.shared);
        if notify {
            self.notify();
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.inner.id).finish_non_exhaustive()
    }
}
