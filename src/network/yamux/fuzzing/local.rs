//! A stream in the hands of the local side, and what it has been told.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use futures::{AsyncRead, AsyncWrite};

use super::{
    super::Stream,
    remote::{Remote, pattern},
};

/// Whether somebody was woken.
#[derive(Default)]
pub struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Somebody who polls, and sees that he is woken when there is a reason.
#[derive(Default)]
pub(super) struct Poller {
    flag: Arc<Flag>,
    waiting: bool,
}

impl Poller {
    pub(super) fn poll<T>(&mut self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let waker = Waker::from(self.flag.clone());
        let woken = self.flag.take();
        let polled = poll(&mut Context::from_waker(&waker));
        assert!(!(self.waiting && polled.is_ready() && !woken), "nobody was woken");
        self.waiting = polled.is_pending();
        polled
    }

    /// Has become another's place to wait.
    pub(super) fn forget(&mut self) {
        self.waiting = false;
    }
}

/// Reads as the tunnel does: the sink takes from where the bytes were received.
pub fn read_direct(stream: &mut Stream, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); 3];
    let used = ready!(stream.poll_data(cx, &mut slices))?;
    let mut n = 0;
    for slice in &slices[..used] {
        let taken = slice.len().min(buf.len() - n);
        buf[n..n + taken].copy_from_slice(&slice[..taken]);
        n += taken;
    }
    stream.consume(n);
    Poll::Ready(Ok(n))
}

/// Writes as the tunnel does: the source, which has `buf`, puts it to where it is sent from.
pub fn write_direct(stream: &mut Stream, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
    let room = ready!(stream.poll_room(cx))?;
    stream.poll_write_from(room, |parts| {
        let mut n = 0;
        for part in parts {
            let taken = part.len().min(buf.len() - n);
            part[..taken].copy_from_slice(&buf[n..n + taken]);
            n += taken;
        }
        Poll::Ready(Ok(n))
    })
}

/// Whether a stream is used as a tunnel does, or as anybody.
fn is_direct(stream: &Stream) -> bool {
    stream.inner().id % 4 < 2
}

/// Reads in one way or the other, always the same for a stream: who waits in one is not woken for the other.
pub fn read_either(stream: &mut Stream, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
    if is_direct(stream) { read_direct(stream, cx, buf) } else { Pin::new(stream).poll_read(cx, buf) }
}

/// The same for writing.
pub fn write_either(stream: &mut Stream, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
    if is_direct(stream) { write_direct(stream, cx, buf) } else { Pin::new(stream).poll_write(cx, buf) }
}

pub(super) struct Local {
    stream: Stream,
    pub(super) id: u32,
    pub(super) read: usize,
    /// How reading ended.
    pub(super) end: Option<Result<(), io::ErrorKind>>,
    pub(super) written: u64,
    pub(super) write_error: Option<io::ErrorKind>,
    closing: bool,
    pub(super) closed: bool,
    reader: Poller,
    writer: Poller,
}

impl Local {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            id: stream.inner().id,
            stream,
            read: 0,
            end: None,
            written: 0,
            write_error: None,
            closing: false,
            closed: false,
            reader: Poller::default(),
            writer: Poller::default(),
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Both directions have ended with FIN.
    pub(super) fn finished(&self) -> bool {
        self.closed && self.end == Some(Ok(()))
    }

    /// Reads once; true if there may be more.
    pub(super) fn read(&mut self, most: usize, remote: &Remote) -> bool {
        let mut buf = vec![0; most.max(1)];
        let stream = &mut self.stream;
        let Poll::Ready(result) = self.reader.poll(|cx| read_either(stream, cx, &mut buf)) else {
            assert_eq!(self.end, None, "stream {}: reading goes on behind its end", self.id);
            return false;
        };
        // A refused stream has no side.
        let side = remote.sides.get(&self.id).filter(|side| !side.ambiguous());
        let now = match result {
            Ok(n @ 1..) => {
                assert_eq!(self.end, None, "stream {}: {n} bytes behind the end", self.id);
                if let Some(side) = side {
                    let expected = side.data.get(self.read..self.read + n);
                    assert_eq!(Some(&buf[..n]), expected, "stream {}: bytes from {}", self.id, self.read);
                }
                self.read += n;
                return true;
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error.kind()),
        };
        assert!(self.end.is_none_or(|end| end == now), "stream {}: first {:?}, then {now:?}", self.id, self.end);
        self.end = Some(now);
        if let Some(side) = side {
            match now {
                Ok(()) => assert!(side.fin_said, "stream {}: an end of file without FIN", self.id),
                Err(io::ErrorKind::ConnectionReset) => {
                    assert!(side.rst_said, "stream {}: a reset of nobody's", self.id)
                }
                Err(kind) => assert_eq!(kind, io::ErrorKind::ConnectionAborted, "stream {}", self.id),
            }
            assert!(now.is_err() || self.read == side.data.len(), "stream {}: an early end of file", self.id);
        }
        false
    }

    pub(super) fn write(&mut self, most: usize) {
        let id = self.id;
        let buf: Vec<u8> = (0..most.max(1) as u64).map(|i| pattern(id, self.written + i)).collect();
        let stream = &mut self.stream;
        // Who waits for the close still does so behind a write that fails.
        let writer = if self.closing { &mut Poller::default() } else { &mut self.writer };
        match writer.poll(|cx| write_either(stream, cx, &buf)) {
            Poll::Ready(Ok(n)) => {
                assert!(n > 0 && !self.closing && self.write_error.is_none(), "stream {id}: {n} bytes were taken");
                self.written += n as u64;
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => assert!(self.closing),
            Poll::Ready(Err(error)) => self.write_error = Some(error.kind()),
            Poll::Pending => {}
        }
    }

    pub(super) fn close(&mut self) {
        if !std::mem::replace(&mut self.closing, true) {
            self.writer.forget();
        }
        let stream = &mut self.stream;
        match self.writer.poll(|cx| Pin::new(stream).poll_close(cx)) {
            Poll::Ready(Ok(())) => self.closed = true,
            Poll::Ready(Err(error)) => {
                assert!(!self.closed, "stream {}: not closed after all", self.id);
                self.write_error = Some(error.kind());
            }
            Poll::Pending => assert!(!self.closed, "stream {}: not closed after all", self.id),
        }
    }
}
