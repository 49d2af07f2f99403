mod direct;
mod driven;
mod ends;
mod flow;
mod fuzzed;
mod interop;
mod limits;
mod model;
mod pipe;
mod wire;

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt};
use libp2p::core::{Endpoint, muxing::StreamMuxerExt};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use self::pipe::{End, pipe};
use super::{Config, Muxer, Stream, fuzzing::Flag};

/// Runs a test with a time limit.
async fn limited<F: Future>(test: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), test).await.expect("the test takes too long")
}

/// A muxer whose task is running.
struct Peer {
    requests: mpsc::UnboundedSender<oneshot::Sender<Stream>>,
    inbound: mpsc::UnboundedReceiver<Stream>,
    close: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
}

impl Peer {
    fn run<C>(muxer: Muxer<C>) -> Self
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut muxer = muxer.driven();
        let (requests, mut requested) = mpsc::unbounded_channel::<oneshot::Sender<Stream>>();
        let (accepted, inbound) = mpsc::unbounded_channel();
        let (close, closed) = oneshot::channel();
        let mut closed = closed.fuse();
        let mut opening = VecDeque::new();
        let mut closing = false;
        let task = tokio::spawn(poll_fn(move |cx| {
            if !closing && Pin::new(&mut closed).poll(cx) == Poll::Ready(Ok(())) {
                closing = true;
            }
            if closing {
                return muxer.poll_close_unpin(cx);
            }
            while let Poll::Ready(Some(request)) = requested.poll_recv(cx) {
                opening.push_back(request);
            }
            loop {
                if let Poll::Ready(Err(error)) = muxer.poll_unpin(cx) {
                    return Poll::Ready(Err(error));
                }
                if !opening.is_empty()
                    && let Poll::Ready(stream) = muxer.poll_outbound_unpin(cx)?
                {
                    let request = opening.pop_front().expect("it is not empty");
                    // The asker may have given up.
                    let _ = request.send(stream);
                    continue;
                }
                match muxer.poll_inbound_unpin(cx)? {
                    Poll::Ready(stream) => {
                        let _ = accepted.send(stream);
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        }));
        Self { requests, inbound, close: Some(close), task }
    }

    fn request(&self) -> oneshot::Receiver<Stream> {
        let (request, answer) = oneshot::channel();
        self.requests.send(request).expect("the connection has ended");
        answer
    }

    async fn open(&self) -> Stream {
        self.request().await.expect("the connection has ended")
    }

    async fn accept(&mut self) -> Stream {
        self.inbound.recv().await.expect("the connection has ended")
    }

    async fn close(mut self) -> io::Result<()> {
        let _ = self.close.take().expect("closed once").send(());
        self.task.await.expect("the task panicked")
    }

    async fn error(self) -> io::Error {
        self.task.await.expect("the task panicked").expect_err("the connection ended without error")
    }
}

fn client<C>(socket: C, config: Config) -> Muxer<C> {
    config.muxer(socket, Endpoint::Dialer)
}

/// Long frames are read to where they stay.
fn server<C>(socket: C, config: Config) -> Muxer<C> {
    config.muxer(socket, Endpoint::Listener).reading_ahead(|_| false)
}

/// Two connected peers.
fn pair(config: Config) -> (Peer, Peer) {
    pair_over(config, 64 * 1024)
}

fn pair_over(config: Config, capacity: usize) -> (Peer, Peer) {
    let (a, b) = pipe(capacity);
    (Peer::run(client(a, config.clone())), Peer::run(server(b, config)))
}

/// An open stream with both its ends.
async fn connected(a: &Peer, b: &mut Peer) -> (Stream, Stream) {
    let mut out = a.open().await;
    out.write_all(b"hello").await.unwrap();
    let mut inn = b.accept().await;
    let mut hello = [0; 5];
    inn.read_exact(&mut hello).await.unwrap();
    (out, inn)
}

/// A stream that has received `data`, and FIN if it is `finished`, before its connection was lost.
pub async fn lost_stream(data: &[u8], finished: bool) -> Stream {
    limited(async {
        let (a, mut b) = pair(Config::default());
        let (out, mut inn) = connected(&a, &mut b).await;
        inn.write_all(data).await.unwrap();
        if finished {
            inn.close().await.unwrap();
        }
        // It sends what is queued, and is gone.
        b.close().await.unwrap();
        a.error().await;
        out
    })
    .await
}

async fn read_error(stream: &mut Stream) -> io::ErrorKind {
    stream.read(&mut [0; 16]).await.expect_err("the read gave no error").kind()
}

/// The error of writing until it fails.
async fn write_error(stream: &mut Stream) -> io::ErrorKind {
    loop {
        if let Err(error) = stream.write(&[0; 1024]).await {
            return error.kind();
        }
    }
}

/// The value of byte `position` of a test transfer.
fn pattern(seed: u64, position: u64) -> u8 {
    (position.wrapping_mul(31) ^ (position >> 8) ^ seed.wrapping_mul(0x9e37)) as u8
}

async fn write_pattern<W: AsyncWrite + Unpin>(stream: &mut W, seed: u64, total: u64) {
    let mut buf = vec![0; 50_000];
    let mut sent = 0;
    while sent < total {
        let n = buf.len().min((total - sent) as usize);
        for (i, byte) in buf[..n].iter_mut().enumerate() {
            *byte = pattern(seed, sent + i as u64);
        }
        stream.write_all(&buf[..n]).await.unwrap();
        sent += n as u64;
    }
}

/// Reads to the end and checks every byte.
async fn read_pattern<R: AsyncRead + Unpin>(stream: &mut R, seed: u64) -> u64 {
    let mut buf = vec![0; 70_000];
    let mut received = 0;
    loop {
        let n = stream.read(&mut buf).await.unwrap();
        if n == 0 {
            return received;
        }
        for (i, byte) in buf[..n].iter().enumerate() {
            assert_eq!(*byte, pattern(seed, received + i as u64), "byte {}", received + i as u64);
        }
        received += n as u64;
    }
}

/// Polls once; the stream's own wake-ups are not wanted.
fn poll_once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(&mut Context::from_waker(futures::task::noop_waker_ref()))
}
