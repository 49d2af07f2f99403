//! A connection in memory whose other end is the fuzzer.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};

#[derive(Default)]
pub(super) struct Ends {
    /// What the remote has said and the connection has not read.
    pub(super) input: VecDeque<u8>,
    /// Behind the input comes an end of file.
    pub(super) finished: bool,
    /// Reading and writing fail.
    pub(super) broken: bool,
    /// What the connection has written and the remote has not looked at.
    pub(super) output: Vec<u8>,
    /// Bytes that may still be written.
    pub(super) room: usize,
    pub(super) closed: bool,
    /// Calls that may still be made before the connection waits; each should move a byte or be told to wait.
    pub(super) calls: usize,
    pub(super) moved: usize,
}

#[derive(Clone, Default)]
pub(super) struct Socket(pub(super) Rc<RefCell<Ends>>);

impl Ends {
    fn count(&mut self) -> io::Result<()> {
        self.calls = self.calls.checked_sub(1).expect("the connection calls its socket without end");
        if self.broken { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut ends = self.0.borrow_mut();
        ends.count()?;
        assert!(!buf.is_empty(), "a read into nothing looks like an end of file");
        if ends.input.is_empty() && !ends.finished {
            return Poll::Pending;
        }
        let n = io::Read::read(&mut ends.input, buf)?;
        ends.moved += n;
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut ends = self.0.borrow_mut();
        ends.count()?;
        let n = buf.len().min(ends.room);
        if n == 0 {
            return Poll::Pending;
        }
        ends.room -= n;
        ends.moved += n;
        ends.output.extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_slices(&mut *self, cx, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().closed = true;
        Poll::Ready(Ok(()))
    }
}

/// A vectored write made of plain ones.
pub fn poll_write_slices(
    mut socket: impl AsyncWrite + Unpin,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut total = 0;
    for slice in slices {
        match Pin::new(&mut socket).poll_write(cx, slice)? {
            Poll::Ready(n) if n < slice.len() => return Poll::Ready(Ok(total + n)),
            Poll::Ready(n) => total += n,
            Poll::Pending if total == 0 => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(total))
}
