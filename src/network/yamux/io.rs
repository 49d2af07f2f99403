//! The connection's read buffer and its queue of bytes to write.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

use super::{
    chunk::{CHUNK, Pool},
    company::Company,
    frame::{HEADER, Header, Kind},
    state::Shared,
};

/// The read buffer starts small and doubles up to the larger size while reads fill it.
const READ_SMALL: usize = 8 * 1024;
const READ_LARGE: usize = 512 * 1024;
/// Between long frames that are read to where they stay: enough for a TLS record, with the header and the beginning of the
/// next frame. After so many reads without a long frame they may be large again.
const READ_BETWEEN: usize = 17 * 1024;
const BETWEEN: u8 = 8;
/// Frames up to this size are gathered into a common chunk, larger ones are written from their own.
const GATHER: usize = 8 * 1024;
/// No frame is added while this many bytes wait for the socket: the smaller number while it takes less than it is given,
/// because what waits delays other streams, and up to the larger one while it takes everything, because few large writes
/// cost less than many small ones.
const OUTPUT_SMALL: usize = 128 * 1024;
pub(super) const OUTPUT_LARGE: usize = 512 * 1024;
/// Chunks given to one vectored write.
const SLICES: usize = 16;

/// Bytes read from the socket and not yet parsed.
pub(super) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Reads that are kept small in the expectation of long frames.
    between: u8,
}

impl Input {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, between: 0 }
    }

    /// Reads once; `Ok(0)` is the end of the connection.
    pub(super) fn poll_fill<C: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut C,
    ) -> Poll<io::Result<usize>> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.is_empty() {
            self.buffer.resize(READ_SMALL, 0);
        }
        let mut most = self.buffer.len();
        if self.between > 0 {
            most = self.end + READ_BETWEEN;
            if self.buffer.len() < most {
                self.buffer.resize(most, 0);
            }
        }
        let n = ready!(Pin::new(socket).poll_read(cx, &mut self.buffer[self.end..most]))?;
        self.miss_long_frame();
        self.end += n;
        if self.end == self.buffer.len() && self.end < READ_LARGE {
            self.buffer.resize(2 * self.end, 0);
        }
        Poll::Ready(Ok(n))
    }

    /// There was a long frame; the next reads shall leave the data of those that follow where it is.
    pub(super) fn expect_long_frames(&mut self) {
        self.between = BETWEEN;
    }

    /// A read for a long frame found none.
    pub(super) fn miss_long_frame(&mut self) {
        self.between = self.between.saturating_sub(1);
    }

    pub(super) fn expects_long_frames(&self) -> bool {
        self.between > 0
    }

    /// Adds what was read elsewhere.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.len() < self.end + bytes.len() {
            self.buffer.resize(self.end + bytes.len(), 0);
        }
        self.buffer[self.end..][..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    pub(super) fn unparsed(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.start += n;
    }

    pub(super) fn discard(&mut self) {
        self.start = self.end;
    }

    /// Frees the buffer if it is empty.
    pub(super) fn trim(&mut self) {
        if self.start == self.end {
            *self = Self::new();
        }
    }
}

/// Frames on their way to the socket.
pub(super) struct Output {
    shared: Arc<Shared>,
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that are written.
    written: usize,
    len: usize,
    limit: usize,
    /// The socket has taken less than it was given, and not yet once all: what encrypts takes more than the socket does.
    blocked: bool,
    pub(super) company: Company,
}

impl Output {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            chunks: VecDeque::new(),
            written: 0,
            len: 0,
            limit: OUTPUT_SMALL,
            blocked: false,
            company: Company::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn has_room(&self) -> bool {
        self.len < self.limit
    }

    /// How many frames a stream may add in its turn: one until all that waited was taken at once, up to four after that. Whoever
    /// writes to the stream has then room for as much at a time.
    pub(super) fn frames_per_turn(&self) -> usize {
        self.limit / OUTPUT_SMALL
    }

    /// Whether what is there is so little that it should wait for frames of other streams; see [`Company`].
    pub(super) fn waits_for_company(&mut self) -> bool {
        self.len < GATHER && self.company.is_awaited()
    }

    fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    /// Appends a frame without data.
    pub(super) fn push_header(&mut self, header: Header) {
        header.log(self.shared.connection, "sent");
        self.company.add(header.stream);
        self.gather(&header.encode());
    }

    /// Appends whole frames.
    pub(super) fn push_bytes(&mut self, frames: &[u8]) {
        for part in frames.chunks(CHUNK / HEADER * HEADER) {
            self.gather(part);
        }
    }

    /// Appends a data frame; `frame` has room for the header at its beginning.
    pub(super) fn push_data(&mut self, stream: u32, flags: u16, mut frame: Vec<u8>) {
        // At most `CHUNK` bytes.
        let length = (frame.len() - HEADER) as u32;
        let header = Header::new(Kind::Data, flags, stream, length);
        header.log(self.shared.connection, "sent");
        frame[..HEADER].copy_from_slice(&header.encode());
        self.company.add(stream);
        if frame.len() <= GATHER {
            self.gather(&frame);
            self.pool().put(frame);
        } else {
            self.len += frame.len();
            self.chunks.push_back(frame);
        }
    }

    fn gather(&mut self, frame: &[u8]) {
        self.len += frame.len();
        match self.chunks.back_mut() {
            Some(tail) if tail.capacity() - tail.len() >= frame.len() => tail.extend_from_slice(frame),
            _ => {
                let mut chunk = self.pool().take_full();
                chunk.extend_from_slice(frame);
                self.chunks.push_back(chunk);
            }
        }
    }

    /// Writes once.
    pub(super) fn poll_write<C: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut C,
    ) -> Poll<io::Result<usize>> {
        let result = self.poll_write_chunks(cx, socket);
        match &result {
            Poll::Ready(Ok(n)) if *n == self.len && *n >= self.limit => {
                if !std::mem::take(&mut self.blocked) {
                    self.limit = (2 * self.limit).min(OUTPUT_LARGE);
                }
            }
            Poll::Ready(_) => {}
            Poll::Pending => (self.limit, self.blocked) = (OUTPUT_SMALL, true),
        }
        let n = ready!(result)?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.company.leave();
        self.remove(n);
        Poll::Ready(Ok(n))
    }

    fn poll_write_chunks<C: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        socket: &mut C,
    ) -> Poll<io::Result<usize>> {
        let socket = Pin::new(socket);
        let mut chunks = self.chunks.iter();
        let first = chunks.next().map_or(&[][..], |chunk| &chunk[self.written..]);
        if self.chunks.len() <= 1 {
            return socket.poll_write(cx, first);
        }
        let mut slices = [IoSlice::new(first); SLICES];
        let mut used = 1;
        for (slice, chunk) in slices[1..].iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            used += 1;
        }
        socket.poll_write_vectored(cx, &slices[..used])
    }

    fn remove(&mut self, mut n: usize) {
        self.len -= n;
        while let Some(first) = self.chunks.front() {
            let rest = first.len() - self.written;
            if n < rest {
                self.written += n;
                return;
            }
            n -= rest;
            self.written = 0;
            if let Some(chunk) = self.chunks.pop_front() {
                self.pool().put(chunk);
            }
        }
    }

    /// Forgets what can be left out without tearing a frame that is partly written.
    pub(super) fn abandon(&mut self) {
        let keep = usize::from(self.written > 0);
        while self.chunks.len() > keep {
            if let Some(chunk) = self.chunks.pop_back() {
                self.len -= chunk.len();
                self.pool().put(chunk);
            }
        }
    }
}

const _: () = assert!(OUTPUT_SMALL >= 2 * CHUNK && READ_SMALL > HEADER);
