//! A connection in memory with a bounded buffer in each direction.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use parking_lot::Mutex;

use super::super::{
    frame::{HEADER, Header, Kind},
    fuzzing::poll_write_slices,
};

#[derive(Default)]
struct Half {
    bytes: VecDeque<u8>,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One end of the connection. Dropping it closes both directions.
pub(super) struct End {
    input: Arc<Mutex<Half>>,
    output: Arc<Mutex<Half>>,
    capacity: usize,
}

pub(super) fn pipe(capacity: usize) -> (End, End) {
    let (a, b) = (Arc::<Mutex<Half>>::default(), Arc::<Mutex<Half>>::default());
    (End { input: a.clone(), output: b.clone(), capacity }, End { input: b, output: a, capacity })
}

impl Half {
    fn close(half: &Mutex<Half>) {
        let mut half = half.lock();
        half.closed = true;
        let wakers = [half.reader.take(), half.writer.take()];
        drop(half);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut half = self.input.lock();
        if half.bytes.is_empty() && !half.closed {
            half.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = io::Read::read(&mut half.bytes, buf)?;
        let writer = half.writer.take();
        drop(half);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut half = self.output.lock();
        if half.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = buf.len().min(self.capacity - half.bytes.len());
        if n == 0 {
            half.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        half.bytes.extend(&buf[..n]);
        let reader = half.reader.take();
        drop(half);
        reader.into_iter().for_each(Waker::wake);
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
        Half::close(&self.output);
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        Half::close(&self.input);
        Half::close(&self.output);
    }
}

/// Frames written and read by hand.
impl End {
    /// Bytes written that the other end has not read.
    pub(super) fn unread(&self) -> usize {
        self.output.lock().bytes.len()
    }

    pub(super) async fn send(&mut self, kind: Kind, flags: u16, stream: u32, length: u32) {
        self.write_all(&Header::new(kind, flags, stream, length).encode()).await.unwrap();
    }

    pub(super) async fn send_data(&mut self, flags: u16, stream: u32, data: &[u8]) {
        self.send(Kind::Data, flags, stream, data.len() as u32).await;
        self.write_all(data).await.unwrap();
    }

    /// The next frame that is no ping, with its data.
    pub(super) async fn receive(&mut self) -> (Header, Vec<u8>) {
        loop {
            let mut bytes = [0; HEADER];
            self.read_exact(&mut bytes).await.unwrap();
            let header = Header::decode(&bytes).unwrap();
            let mut data = vec![0; if header.kind == Kind::Data { header.length as usize } else { 0 }];
            self.read_exact(&mut data).await.unwrap();
            if header.kind != Kind::Ping {
                return (header, data);
            }
        }
    }

    /// The next frame that is no ping must have no data and be this one.
    pub(super) async fn expect(&mut self, kind: Kind, flags: u16, stream: u32, length: u32) {
        assert_eq!(self.receive().await, (Header::new(kind, flags, stream, length), vec![]));
    }
}
