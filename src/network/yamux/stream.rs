//! The handle of a stream.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};

use super::state::{Fin, Inner, park};

/// A stream of a yamux connection.
///
/// Reading delivers everything received, then `Ok(0)` if the remote finished with FIN, [`io::ErrorKind::ConnectionReset`]
/// if it sent RST, [`io::ErrorKind::ConnectionAborted`] if the connection ended first. Writing fails with the same
/// kinds, and with [`io::ErrorKind::BrokenPipe`] after `poll_close`.
///
/// `poll_flush` is always ready: the connection sends queued data by itself. `poll_close` is ready when all data and
/// the FIN have left for the connection's socket; the other direction lives on.
///
/// Dropping a stream that is not finished in both directions resets it, whatever is still queued.
pub struct Stream {
    inner: Arc<Inner>,
    /// The chunk being read, taken out of the shared state so that copying needs no lock.
    head: Vec<u8>,
    position: usize,
    /// Bytes read and not yet reported to the shared state.
    consumed: usize,
}

impl Stream {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, head: Vec::new(), position: 0, consumed: 0 }
    }

    /// The stream's number on its connection; 0 if the stream was refused before it had one.
    #[cfg(test)]
    pub fn id(&self) -> u32 {
        self.inner.id
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Bytes of memory held for data.
    #[cfg(any(test, fuzzing))]
    pub(super) fn buffer_capacity(&self) -> usize {
        self.head.capacity() + self.inner.state.lock().buffer_capacity()
    }

    /// Copies from the head chunk, and returns the chunk to the pool once it is empty.
    fn copy(&mut self, buf: &mut [u8]) -> usize {
        let rest = &self.head[self.position..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.position += n;
        if n > 0 && self.position == self.head.len() {
            self.consumed += self.head.len();
            self.position = 0;
            self.inner.shared.pool.put(std::mem::take(&mut self.head));
        }
        n
    }

    fn notify(&self) {
        self.inner.shared.notify(self.inner.clone());
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut n = 0;
        loop {
            n += this.copy(&mut buf[n..]);
            if n == buf.len() {
                return Poll::Ready(Ok(n));
            }
            let mut state = this.inner.state.lock();
            let notify = state.consume(&this.inner.shared, std::mem::take(&mut this.consumed));
            let next = state.received.pop_front();
            let result = match &next {
                Some(_) => None,
                None if n > 0 || state.fin_received => Some(Poll::Ready(Ok(n))),
                None => match state.end {
                    Some(end) => Some(Poll::Ready(Err(end.error()))),
                    None => {
                        park(&mut state.reader, cx);
                        Some(Poll::Pending)
                    }
                },
            };
            drop(state);
            if notify {
                this.notify();
            }
            this.head = next.unwrap_or_default();
            if let Some(result) = result {
                return result;
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.inner.state.lock();
        if let Some(end) = state.end {
            return Poll::Ready(Err(end.error()));
        }
        if state.fin != Fin::Open {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "the stream is closed for writing")));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let n = state.write(&self.inner.shared, buf);
        if n == 0 {
            park(&mut state.writer, cx);
            return Poll::Pending;
        }
        let notify = !state.sending && state.schedule();
        drop(state);
        if notify {
            self.notify();
        }
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
        let notify = !state.sending && state.schedule();
        drop(state);
        if notify {
            self.notify();
        }
        Poll::Pending
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
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
