//! Against another implementation, the `yamux` crate.

use super::*;

use ::yamux::{Connection, Mode};

const MIB: u64 = 1024 * 1024;

/// The other implementation with its task running.
struct Other {
    requests: mpsc::UnboundedSender<oneshot::Sender<::yamux::Stream>>,
    inbound: mpsc::UnboundedReceiver<::yamux::Stream>,
    close: Option<oneshot::Sender<()>>,
    _task: JoinHandle<()>,
}

impl Other {
    fn run(socket: End, mode: Mode) -> Self {
        let mut config = ::yamux::Config::default();
        config.set_max_connection_receive_window(None).set_max_num_streams(10_000);
        let mut connection = Connection::new(socket, config, mode);
        let (requests, mut requested) = mpsc::unbounded_channel::<oneshot::Sender<::yamux::Stream>>();
        let (accepted, inbound) = mpsc::unbounded_channel();
        let (close, mut closed) = oneshot::channel();
        let mut opening = VecDeque::new();
        let mut closing = false;
        let task = tokio::spawn(poll_fn(move |cx| {
            closing = closing || Pin::new(&mut closed).poll(cx) == Poll::Ready(Ok(()));
            if closing {
                return connection.poll_close(cx).map(|_| ());
            }
            while let Poll::Ready(Some(request)) = requested.poll_recv(cx) {
                opening.push_back(request);
            }
            loop {
                if !opening.is_empty()
                    && let Poll::Ready(Ok(stream)) = connection.poll_new_outbound(cx)
                {
                    let _ = opening.pop_front().expect("it is not empty").send(stream);
                    continue;
                }
                match connection.poll_next_inbound(cx) {
                    Poll::Ready(Some(Ok(stream))) => {
                        let _ = accepted.send(stream);
                    }
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }));
        Self { requests, inbound, close: Some(close), _task: task }
    }

    async fn open(&self) -> ::yamux::Stream {
        let (request, answer) = oneshot::channel();
        self.requests.send(request).unwrap();
        answer.await.unwrap()
    }
}

/// Our peer and the other one, in both distributions of roles.
fn pairs() -> [(Peer, Other); 2] {
    pairs_over(64 * 1024)
}

fn pairs_over(capacity: usize) -> [(Peer, Other); 2] {
    let ((a, b), (c, d)) = (pipe(capacity), pipe(capacity));
    [
        (Peer::run(client(a, Config::default())), Other::run(b, Mode::Server)),
        (Peer::run(server(c, Config::default())), Other::run(d, Mode::Client)),
    ]
}

/// A stream opened by us, and one opened by the other.
async fn streams(ours: &mut Peer, other: &mut Other) -> [(Stream, ::yamux::Stream); 2] {
    let mut out = ours.open().await;
    out.write_all(b"a").await.unwrap();
    let mut inn = other.inbound.recv().await.unwrap();
    inn.read_exact(&mut [0; 1]).await.unwrap();
    // The other acknowledges with its first frame.
    inn.write_all(b"b").await.unwrap();
    out.read_exact(&mut [0; 1]).await.unwrap();
    let mut other_out = other.open().await;
    other_out.write_all(b"b").await.unwrap();
    let mut our_inn = ours.accept().await;
    our_inn.read_exact(&mut [0; 1]).await.unwrap();
    [(out, inn), (our_inn, other_out)]
}

/// Sends the pattern and expects it back.
async fn echo<A, B>(here: A, there: B, total: u64)
where
    A: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let echo = tokio::spawn(async move {
        let (reader, mut writer) = there.split();
        futures::io::copy(reader, &mut writer).await.unwrap();
        writer.close().await.unwrap();
    });
    let (mut reader, mut writer) = here.split();
    let sending = tokio::spawn(async move {
        write_pattern(&mut writer, 1, total).await;
        writer.close().await.unwrap();
        writer
    });
    assert_eq!(read_pattern(&mut reader, 1).await, total);
    sending.await.unwrap();
    echo.await.unwrap();
}

#[tokio::test]
async fn eight_mib_are_echoed_by_either_side() {
    limited(async {
        for (mut ours, mut other) in pairs() {
            for (here, there) in streams(&mut ours, &mut other).await {
                echo(here, there, 8 * MIB).await;
            }
            for (here, there) in streams(&mut ours, &mut other).await {
                echo(there, here, 8 * MIB).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn both_directions_run_at_once_over_a_narrow_pipe() {
    limited(async {
        for (mut ours, mut other) in pairs_over(1000) {
            let mut transfers = Vec::new();
            for _ in 0..4 {
                for (here, there) in streams(&mut ours, &mut other).await {
                    transfers.push(tokio::spawn(echo(here, there, MIB)));
                }
            }
            for transfer in transfers {
                transfer.await.unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn half_close_works_in_both_directions() {
    limited(async {
        for (mut ours, mut other) in pairs() {
            for (mut here, mut there) in streams(&mut ours, &mut other).await {
                here.close().await.unwrap();
                assert_eq!(there.read(&mut [0; 8]).await.unwrap(), 0);
                let writing = tokio::spawn(async move {
                    write_pattern(&mut there, 2, 2 * MIB).await;
                    there.close().await.unwrap();
                    there
                });
                assert_eq!(read_pattern(&mut here, 2).await, 2 * MIB);
                writing.await.unwrap();
            }
            for (mut here, mut there) in streams(&mut ours, &mut other).await {
                there.close().await.unwrap();
                assert_eq!(here.read(&mut [0; 8]).await.unwrap(), 0);
                let writing = tokio::spawn(async move {
                    write_pattern(&mut here, 2, 2 * MIB).await;
                    here.close().await.unwrap();
                    here
                });
                assert_eq!(read_pattern(&mut there, 2).await, 2 * MIB);
                writing.await.unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn resets_and_lost_connections_of_the_other_side_are_errors() {
    limited(async {
        for (mut ours, mut other) in pairs() {
            for (mut here, there) in streams(&mut ours, &mut other).await {
                drop(there);
                assert_eq!(read_error(&mut here).await, io::ErrorKind::ConnectionReset);
            }
            for (here, mut there) in streams(&mut ours, &mut other).await {
                drop(here);
                // The other implementation cannot tell a reset from an end.
                assert_eq!(there.read(&mut [0; 8]).await.unwrap(), 0);
                assert!(there.write(b"x").await.is_err());
            }
            let streams = streams(&mut ours, &mut other).await;
            let _ = other.close.take().unwrap().send(());
            for (mut here, _there) in streams {
                assert_eq!(read_error(&mut here).await, io::ErrorKind::ConnectionAborted);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_thousand_streams_at_a_time_work() {
    limited(async {
        for (mut ours, mut other) in pairs() {
            let mut open = Vec::new();
            for _ in 0..500 {
                open.extend(streams(&mut ours, &mut other).await);
            }
            for (here, there) in &mut open {
                here.write_all(b"ping").await.unwrap();
                there.read_exact(&mut [0; 4]).await.unwrap();
                there.write_all(b"pong").await.unwrap();
                here.read_exact(&mut [0; 4]).await.unwrap();
            }
        }
    })
    .await;
}
