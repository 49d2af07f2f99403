//! A muxer in a task of its own.

use libp2p::core::muxing::StreamMuxer;
use parking_lot::Mutex;
use tokio::runtime::{self, Handle};

use super::{super::Driven, *};

/// What the owner learns of the connection's end.
async fn end<C: AsyncRead + AsyncWrite + Unpin>(driven: &mut Driven<C>) -> io::Error {
    match poll_fn(|cx| driven.poll_unpin(cx)).await {
        Err(error) => error,
        Ok(event) => panic!("{event:?}"),
    }
}

async fn opened(muxer: &mut (impl StreamMuxer<Substream = Stream, Error = io::Error> + Unpin)) -> Stream {
    poll_fn(|cx| muxer.poll_outbound_unpin(cx)).await.unwrap()
}

/// A connection with a stream in which something was written, and its other end.
async fn writing() -> (Driven<End>, Stream, Peer) {
    let (a, b) = pipe(10_000);
    let mut driven = client(a, Config::default()).driven();
    let other = Peer::run(server(b, Config::default()));
    let mut near = opened(&mut driven).await;
    near.write_all(&[1; 100_000]).await.unwrap();
    (driven, near, other)
}

#[tokio::test]
async fn bytes_pass_while_the_owner_looks_elsewhere() {
    limited(async {
        let (_driven, mut near, mut other) = writing().await;
        let mut far = other.accept().await;
        far.read_exact(&mut vec![0; 100_000]).await.unwrap();
        far.write_all(b"answer").await.unwrap();
        near.read_exact(&mut [0; 6]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_owner_is_woken_by_a_new_stream_and_by_the_end() {
    limited(async {
        let (a, b) = pipe(10_000);
        let mut driven = server(a, Config::default()).driven();
        let other = Peer::run(client(b, Config::default()));
        let asked = tokio::spawn(async move { (other.open().await, other) });
        poll_fn(|cx| driven.poll_inbound_unpin(cx)).await.unwrap();
        let (_stream, other) = asked.await.unwrap();
        other.task.abort();
        // The task has its turns and ends, and still `poll` is the one to tell why.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(poll_once(|cx| driven.poll_outbound_unpin(cx)).is_pending());
        assert!(poll_once(|cx| driven.poll_inbound_unpin(cx)).is_pending());
        assert_eq!(end(&mut driven).await.kind(), io::ErrorKind::UnexpectedEof);
        assert!(poll_fn(|cx| driven.poll_outbound_unpin(cx)).await.is_err(), "it is over");
    })
    .await;
}

#[tokio::test]
async fn dropping_it_closes_the_socket_at_once_and_ends_the_streams() {
    limited(async {
        let (a, mut raw) = pipe(10_000);
        let mut driven = client(a, Config::default()).driven();
        let mut stream = opened(&mut driven).await;
        stream.write_all(b"x").await.unwrap();
        drop(driven);
        // Nobody else has had a turn.
        assert!(matches!(poll_once(|cx| Pin::new(&mut stream).poll_read(cx, &mut [0])), Poll::Ready(Err(_))));
        let mut rest = Vec::new();
        assert!(poll_once(|cx| Pin::new(&mut raw.read_to_end(&mut rest)).poll(cx)).is_ready());
    })
    .await;
}

#[tokio::test]
async fn closing_it_sends_what_was_queued() {
    limited(async {
        let (mut driven, _near, mut other) = writing().await;
        let closing = tokio::spawn(async move { poll_fn(|cx| driven.poll_close_unpin(cx)).await });
        let mut far = other.accept().await;
        far.read_exact(&mut vec![0; 100_000]).await.unwrap();
        closing.await.unwrap().unwrap();
        assert_eq!(read_error(&mut far).await, io::ErrorKind::ConnectionAborted);
    })
    .await;
}

/// A socket with a defect.
struct Broken;

impl AsyncRead for Broken {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        panic!("a defect of the socket")
    }
}

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_panic_of_its_task_is_one_of_the_owner() {
    limited(async {
        for closes in [false, true] {
            let mut driven = client(Broken, Config::default()).driven();
            let owner = tokio::spawn(async move {
                tokio::task::yield_now().await;
                if closes { poll_fn(|cx| driven.poll_close_unpin(cx)).await } else { Err(end(&mut driven).await) }
            });
            let panic = owner.await.unwrap_err().into_panic();
            assert_eq!(panic.downcast_ref(), Some(&"a defect of the socket"));
        }
    })
    .await;
}

/// A socket that notes which thread reads it last, and has a defect once that is the one named `breaks`.
struct Seen {
    socket: End,
    by: Arc<Mutex<String>>,
    breaks: Option<&'static str>,
}

impl AsyncRead for Seen {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        assert!(self.breaks != Some(&thread), "a defect of the socket");
        *self.by.lock() = thread;
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Seen {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

/// Another runtime, of a thread called so, until the sender is dropped.
fn elsewhere() -> (Handle, oneshot::Sender<()>) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (handle, (until, over)) = (runtime.handle().clone(), oneshot::channel());
    let run = move || drop(runtime.block_on(over));
    std::thread::Builder::new().name("elsewhere".into()).spawn(run).unwrap();
    (handle, until)
}

#[tokio::test]
async fn it_moves_to_another_runtime_and_ends_with_its_owner() {
    limited(async {
        let (runtime, _until) = elsewhere();
        let (a, b) = pipe(10_000);
        let by = Arc::new(Mutex::new(String::new()));
        let mut driven = client(Seen { socket: a, by: by.clone(), breaks: None }, Config::default()).driven();
        let mut other = Peer::run(server(b, Config::default()));
        let mut near = opened(&mut driven).await;
        near.write_all(&[1; 100_000]).await.unwrap();
        let mut far = other.accept().await;
        far.read_exact(&mut vec![0; 50_000]).await.unwrap();
        assert_ne!(*by.lock(), "elsewhere");
        near.move_connection(&runtime);
        far.read_exact(&mut vec![0; 50_000]).await.unwrap();
        far.write_all(b"answer").await.unwrap();
        near.read_exact(&mut [0; 6]).await.unwrap();
        // It does not move a second time.
        near.move_connection(&Handle::current());
        far.write_all(b"answer").await.unwrap();
        near.read_exact(&mut [0; 6]).await.unwrap();
        assert_eq!(*by.lock(), "elsewhere");
        // The owner takes streams as before.
        opened(&mut driven).await.write_all(b"x").await.unwrap();
        drop(driven);
        assert_eq!(read_error(&mut near).await, io::ErrorKind::ConnectionAborted);
        while runtime.metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_panic_elsewhere_is_one_of_the_owner() {
    limited(async {
        let (runtime, _until) = elsewhere();
        let (a, b) = pipe(10_000);
        let socket = Seen { socket: a, by: Arc::default(), breaks: Some("elsewhere") };
        let mut driven = client(socket, Config::default()).driven();
        let _other = Peer::run(server(b, Config::default()));
        opened(&mut driven).await.move_connection(&runtime);
        let owner = tokio::spawn(async move { end(&mut driven).await });
        let panic = owner.await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"a defect of the socket"));
    })
    .await;
}
