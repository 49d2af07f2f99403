//! Windows, back-pressure and fairness.

use super::*;
use crate::network::yamux::{
    Budget,
    frame::{ACK, FIN, HEADER, Header, INITIAL_WINDOW, Kind, SYN},
};

const MIB: u64 = 1024 * 1024;

/// Reads in small steps and lets others run in between.
async fn read_slowly<R: AsyncRead + Unpin>(stream: &mut R, seed: u64) -> u64 {
    let mut buf = vec![0; 10_000];
    let mut received = 0;
    loop {
        let n = stream.read(&mut buf).await.unwrap();
        if n == 0 {
            return received;
        }
        for (i, byte) in buf[..n].iter().enumerate() {
            assert_eq!(*byte, pattern(seed, received + i as u64));
        }
        received += n as u64;
        tokio::task::yield_now().await;
    }
}

async fn transfer_both_ways(stream: Stream, send: u64, receive: u64, total: u64) -> u64 {
    let (mut reader, mut writer) = stream.split();
    let writing = tokio::spawn(async move {
        write_pattern(&mut writer, send, total).await;
        writer.close().await.unwrap();
        writer
    });
    let received = read_slowly(&mut reader, receive).await;
    writing.await.unwrap();
    received
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_ways_of_64_mib_with_slow_readers_do_not_deadlock() {
    limited(async {
        for (streams, total, capacity) in [(1, 64 * MIB, 64 * 1024), (8, 8 * MIB, 1000)] {
            let (a, mut b) = pair_over(Config::default(), capacity);
            let mut tasks = Vec::new();
            for n in 0..streams {
                let (out, inn) = connected(&a, &mut b).await;
                tasks.push(tokio::spawn(transfer_both_ways(out, 2 * n, 2 * n + 1, total)));
                tasks.push(tokio::spawn(transfer_both_ways(inn, 2 * n + 1, 2 * n, total)));
            }
            for task in tasks {
                assert_eq!(task.await.unwrap(), total);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn both_ends_may_close_before_either_reads() {
    limited(async {
        // Neither the data nor the ends fit into the pipe.
        for capacity in [20, 1000] {
            let (a, mut b) = pair_over(Config::default(), capacity);
            let mut ends = Vec::new();
            for n in 0..3 {
                let (mut out, mut inn) = connected(&a, &mut b).await;
                write_pattern(&mut out, 2 * n, 100_000).await;
                write_pattern(&mut inn, 2 * n + 1, 100_000).await;
                ends.push((out, inn));
            }
            for (out, inn) in &mut ends {
                let (closed_out, closed_inn) = futures::join!(out.close(), inn.close());
                closed_out.unwrap();
                closed_inn.unwrap();
            }
            for (n, (out, inn)) in (0..).zip(&mut ends) {
                assert_eq!(read_pattern(inn, 2 * n).await, 100_000);
                assert_eq!(read_pattern(out, 2 * n + 1).await, 100_000);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_remote_that_answers_before_it_reads_on_is_no_deadlock() {
    limited(async {
        let (a, mut raw) = pipe(100);
        let a = Peer::run(client(a, Config::default()));
        let stream = a.open().await;
        raw.expect(Kind::WindowUpdate, SYN, 1, 0).await;
        raw.send(Kind::WindowUpdate, ACK, 1, 0).await;
        // Echoes all data, gives back the window, asks with each frame; it never reads while it cannot write.
        let remote = tokio::spawn(async move {
            let (mut pings, mut pongs) = (0, 0);
            loop {
                let mut header = [0; HEADER];
                raw.read_exact(&mut header).await.unwrap();
                let header = Header::decode(&header).unwrap();
                match header.kind {
                    Kind::Data => {
                        let mut data = vec![0; header.length as usize];
                        raw.read_exact(&mut data).await.unwrap();
                        raw.send(Kind::Ping, SYN, 0, pings).await;
                        raw.send_data(header.flags, 1, &data).await;
                        raw.send(Kind::WindowUpdate, 0, 1, header.length).await;
                        pings += 1;
                    }
                    Kind::Ping if header.has(ACK) => pongs += 1,
                    Kind::Ping => raw.send(Kind::Ping, ACK, 0, header.length).await,
                    _ => {}
                }
                if header.has(FIN) {
                    return (raw, pings, pongs);
                }
            }
        });
        assert_eq!(transfer_both_ways(stream, 1, 1, 4 * MIB).await, 4 * MIB);
        let (_raw, pings, pongs) = remote.await.unwrap();
        assert!(pings - pongs < 10, "{pongs} of {pings} pings were answered");
    })
    .await;
}

#[tokio::test]
async fn a_stalled_reader_stalls_nobody_else() {
    limited(async {
        let (a, mut b) = pair(Config::default());
        let (mut stalled, _unread) = connected(&a, &mut b).await;
        let (mut out, mut inn) = connected(&a, &mut b).await;
        let writer = tokio::spawn(async move { write_pattern(&mut stalled, 0, MIB).await });
        let transfer = tokio::spawn(async move {
            write_pattern(&mut out, 1, 8 * MIB).await;
            out.close().await.unwrap();
            out
        });
        assert_eq!(read_pattern(&mut inn, 1).await, 8 * MIB);
        transfer.await.unwrap();
        assert!(!writer.is_finished(), "the window was not respected");
        writer.abort();
    })
    .await;
}

#[tokio::test]
async fn reading_does_not_wait_for_a_remote_that_does_not_read() {
    limited(async {
        let (a, mut raw) = pipe(2000);
        let a = Peer::run(client(a, Config::default()));
        let mut stream = a.open().await;
        raw.expect(Kind::WindowUpdate, SYN, 1, 0).await;
        // From here on nothing is read from the connection.
        while poll_once(|cx| Pin::new(&mut stream).poll_write(cx, &[0; 1000])).is_ready() {}
        let sending = tokio::spawn(async move {
            for _ in 0..100 {
                raw.send_data(0, 1, &[9; 1000]).await;
                raw.send(Kind::Ping, SYN, 0, 7).await;
            }
            raw
        });
        let mut data = vec![0; 100_000];
        stream.read_exact(&mut data).await.unwrap();
        assert_eq!(data, vec![9; 100_000]);
        // All pings are answered once the remote reads again, ahead of the stream's data that is still queued.
        let mut raw = sending.await.unwrap();
        let (mut pongs, mut bytes) = (0, 0);
        while pongs < 100 {
            let mut header = [0; HEADER];
            raw.read_exact(&mut header).await.unwrap();
            let header = Header::decode(&header).unwrap();
            match header.kind {
                Kind::Ping if header.has(ACK) => pongs += 1,
                Kind::Data => {
                    raw.read_exact(&mut vec![0; header.length as usize]).await.unwrap();
                    bytes += header.length;
                }
                _ => {}
            }
        }
        assert!(bytes <= 128 * 1024 + 64 * 1024, "{bytes} bytes of data before the last pong");
    })
    .await;
}

/// Waits until everything sent so far was handled; returns the window updates that came.
async fn updates(raw: &mut End) -> Vec<u32> {
    raw.send(Kind::Ping, SYN, 0, 77).await;
    let mut updates = Vec::new();
    loop {
        let mut header = [0; HEADER];
        raw.read_exact(&mut header).await.unwrap();
        let header = Header::decode(&header).unwrap();
        match header.kind {
            Kind::Ping if header.length == 77 && header.has(ACK) => return updates,
            Kind::Ping => {}
            Kind::WindowUpdate => updates.push(header.length),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn windows_are_updated_when_half_is_consumed_not_when_it_is_received() {
    limited(async {
        let (a, mut raw) = pipe(1024 * 1024);
        let a = Peer::run(client(a, Config::default()));
        let mut stream = a.open().await;
        raw.expect(Kind::WindowUpdate, SYN, 1, 0).await;
        raw.send(Kind::WindowUpdate, ACK, 1, 0).await;
        for _ in 0..4 {
            raw.send_data(0, 1, &[0; 64 * 1024]).await;
        }
        assert!(updates(&mut raw).await.is_empty());
        let mut buf = vec![0; 127 * 1024];
        stream.read_exact(&mut buf).await.unwrap();
        assert!(updates(&mut raw).await.is_empty());
        stream.read_exact(&mut buf[..70 * 1024]).await.unwrap();
        let updates = updates(&mut raw).await;
        assert_eq!(updates.len(), 1);
        assert!((128 * 1024..=197 * 1024).contains(&updates[0]), "{updates:?}");
    })
    .await;
}

#[tokio::test]
async fn a_large_window_is_updated_long_before_half_is_consumed() {
    limited(async {
        let (a, mut raw) = pipe(1024 * 1024);
        let a = Peer::run(client(a, Config::default()));
        let mut stream = a.open().await;
        raw.expect(Kind::WindowUpdate, SYN, 1, 0).await;
        raw.send(Kind::WindowUpdate, ACK, 1, 0).await;
        stream.inner().shared.set_round_trip(Duration::from_secs(100));
        let mut buf = vec![0; 64 * 1024];
        let mut credit = INITIAL_WINDOW;
        let mut largest = 0;
        for _ in 0..256 {
            raw.send_data(0, 1, &buf).await;
            stream.read_exact(&mut buf).await.unwrap();
            credit -= buf.len() as u32;
            credit += updates(&mut raw).await.iter().sum::<u32>();
            largest = largest.max(credit);
            let window = stream.inner().state.lock().window();
            let unknown = window - credit;
            assert!(unknown < MIB as u32 + 64 * 1024, "{unknown} of {window} bytes are unknown to the remote");
        }
        assert!(largest > 15 * MIB as u32, "the remote never had more than {largest} bytes");
    })
    .await;
}

/// The window of the receiving stream after a transfer over a connection with a long round-trip time.
async fn window_after_transfer(config: Config) -> u32 {
    let (a, b) = pipe(64 * 1024);
    let a = Peer::run(client(a, Config::default()));
    let muxer = server(b, config);
    let shared = muxer.core.shared.clone();
    let mut b = Peer::run(muxer);
    let (mut out, mut inn) = connected(&a, &mut b).await;
    // After the first answer no ping follows for a while.
    while shared.round_trip().is_none() {
        tokio::task::yield_now().await;
    }
    shared.set_round_trip(Duration::from_secs(100));
    let writer = tokio::spawn(async move {
        write_pattern(&mut out, 1, 40 * MIB).await;
        out.close().await.unwrap();
        out
    });
    assert_eq!(read_pattern(&mut inn, 1).await, 40 * MIB);
    writer.await.unwrap();
    let window = inn.inner().state.lock().window();
    drop(inn);
    assert_eq!(shared.growth.in_use(), 0, "the growth was not given back");
    window
}

#[tokio::test]
async fn windows_grow_within_every_bound() {
    limited(async {
        assert_eq!(window_after_transfer(Config::default()).await, 16 * 1024 * 1024);
        let config = Config { receive_window_max: 1_000_000, ..Config::default() };
        assert_eq!(window_after_transfer(config).await, 1_000_000);
        let config = Config { connection_window_max: 1024 * 1024, ..Config::default() };
        assert_eq!(window_after_transfer(config).await, 1024 * 1024);
        let config = Config { connection_window_max: 0, ..Config::default() };
        assert_eq!(window_after_transfer(config).await, INITIAL_WINDOW);
        let budget = Arc::new(Budget::new(4 * 1024 * 1024));
        let config = Config { budget: Some(budget.clone()), ..Config::default() };
        // 4 MiB would leave nothing to new streams.
        assert_eq!(window_after_transfer(config).await, 2 * 1024 * 1024);
        assert_eq!(budget.in_use(), 0);
    })
    .await;
}

#[tokio::test]
async fn streams_share_the_growth_of_their_connection_and_give_it_back() {
    limited(async {
        const GROWTH: usize = 1024 * 1024;
        let config = Config { connection_window_max: GROWTH, ..Config::default() };
        let (a, mut b) = pair(config);
        let mut ends = Vec::new();
        for _ in 0..4 {
            ends.push(connected(&a, &mut b).await);
        }
        let shared = ends[0].1.inner().shared.clone();
        shared.set_round_trip(Duration::from_secs(100));
        let mut transfers = Vec::new();
        for (mut out, mut inn) in ends {
            transfers.push(tokio::spawn(async move {
                let writing = async {
                    write_pattern(&mut out, 1, 8 * MIB).await;
                    out.close().await.unwrap();
                };
                let (_, read) = futures::join!(writing, read_pattern(&mut inn, 1));
                assert_eq!(read, 8 * MIB);
                let grown = (inn.inner().state.lock().window() - INITIAL_WINDOW) as usize;
                (inn, grown)
            }));
        }
        let mut kept = Vec::new();
        for transfer in transfers {
            kept.push(transfer.await.unwrap());
        }
        let grown: usize = kept.iter().map(|(_, grown)| grown).sum();
        assert!(grown > GROWTH / 2 && grown <= GROWTH, "{grown} bytes");
        assert_eq!(shared.growth.in_use(), grown);
        drop(kept);
        assert_eq!(shared.growth.in_use(), 0);
    })
    .await;
}

#[tokio::test]
async fn windows_do_not_grow_for_a_slow_reader() {
    limited(async {
        let (a, mut b) = pair(Config::default());
        let (mut out, mut inn) = connected(&a, &mut b).await;
        inn.inner().shared.set_round_trip(Duration::from_nanos(1));
        let writer = tokio::spawn(async move {
            write_pattern(&mut out, 1, 4 * MIB).await;
            out.close().await.unwrap();
        });
        assert_eq!(read_slowly(&mut inn, 1).await, 4 * MIB);
        writer.await.unwrap();
        assert_eq!(inn.inner().state.lock().window(), INITIAL_WINDOW);
    })
    .await;
}

/// Whose frames the other end gets, one after the other, when three streams have `each` bytes to send over a pipe of this
/// size.
async fn order_of_frames(capacity: usize, each: usize) -> Vec<u32> {
    const FRAME: usize = 1000;
    let (a, mut raw) = pipe(capacity);
    let a = Peer::run(client(a, Config { frame_size: FRAME, ..Config::default() }));
    let mut streams = [a.open().await, a.open().await, a.open().await];
    for stream in &mut streams {
        // Without waiting, so that all three are queued before the connection runs.
        let written = poll_once(|cx| Pin::new(&mut *stream).poll_write(cx, &vec![0; each]));
        assert!(matches!(written, Poll::Ready(Ok(n)) if n == each));
    }
    let mut order = Vec::new();
    while order.len() < 3 * each / FRAME {
        let (header, data) = raw.receive().await;
        if !data.is_empty() {
            order.push(header.stream);
        }
    }
    order
}

#[tokio::test]
async fn streams_take_turns_of_one_frame_while_the_socket_is_slow() {
    limited(async {
        let order = order_of_frames(100, 50_000).await;
        for (i, id) in order.iter().enumerate() {
            assert_eq!(*id, order[i % 3], "{order:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn turns_get_longer_while_the_socket_takes_everything() {
    limited(async {
        let order = order_of_frames(1 << 20, 250_000).await;
        let turns: Vec<usize> = order.chunk_by(|one, next| one == next).map(<[u32]>::len).collect();
        assert!(turns.iter().all(|frames| *frames <= 4), "{turns:?}");
        assert_eq!(turns[..3], [1, 1, 1], "{turns:?}");
        assert!(turns.windows(3).any(|turns| turns == [4, 4, 4]), "{turns:?}");
    })
    .await;
}

/// A connection that is polled by hand, with its streams and the other end.
struct Turns {
    muxer: Muxer<Slow>,
    streams: Vec<Stream>,
    raw: End,
}

/// A pipe that is not done with flushing when it is asked for the first time.
struct Slow {
    pipe: End,
    flushes: usize,
}

impl Turns {
    /// With so many streams, each of which has spoken on its own.
    fn new(streams: usize) -> Self {
        let (pipe, raw) = pipe(100_000);
        let muxer = client(Slow { pipe, flushes: 0 }, Config::default());
        let mut turns = Turns { muxer, streams: Vec::new(), raw };
        for stream in 0..streams {
            turns.open();
            assert_eq!(turns.turn(&[]), (0, true), "its first words are awaited");
            assert_eq!(turns.turn(&[stream]), (1, false));
        }
        turns
    }

    fn open(&mut self) {
        match poll_once(|cx| self.muxer.poll_outbound_unpin(cx)) {
            Poll::Ready(Ok(stream)) => self.streams.push(stream),
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, speaking: &[usize]) {
        for stream in speaking {
            let written = poll_once(|cx| Pin::new(&mut self.streams[*stream]).poll_write(cx, b"x"));
            assert!(matches!(written, Poll::Ready(Ok(1))));
        }
    }

    /// What has come to the other end since the last time.
    fn received(&mut self) -> Vec<u8> {
        let mut received = [0; 20_000];
        match poll_once(|cx| Pin::new(&mut self.raw).poll_read(cx, &mut received)) {
            Poll::Ready(read) => received[..read.unwrap()].to_vec(),
            Poll::Pending => Vec::new(),
        }
    }

    /// How many of the streams' bytes are in it.
    fn arrived(&mut self) -> usize {
        self.received().iter().filter(|byte| **byte == b'x').count()
    }

    /// These streams write; what has arrived after one turn of the connection, and whether it wants another.
    fn turn(&mut self, speaking: &[usize]) -> (usize, bool) {
        self.write(speaking);
        let again = Arc::<Flag>::default();
        assert!(self.muxer.poll_unpin(&mut Context::from_waker(&again.clone().into())).is_pending());
        (self.arrived(), again.take())
    }
}

impl AsyncRead for Slow {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.flushes.checked_sub(1) {
            Some(left) => {
                self.flushes = left;
                Poll::Pending
            }
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_close(cx)
    }
}

#[tokio::test]
async fn small_frames_wait_once_where_several_streams_speak_and_never_where_one_does() {
    let mut alone = Turns::new(1);
    for _ in 0..3 {
        assert_eq!(alone.turn(&[0]), (1, false), "the connection's own ping is no company");
    }
    let mut several = Turns::new(3);
    assert_eq!(several.turn(&[0, 1]), (2, false), "nothing is known yet");
    assert_eq!(several.turn(&[2]), (0, true), "others may follow");
    assert_eq!(several.turn(&[0]), (2, false), "but only one turn later");
    assert_eq!(several.turn(&[1]), (0, true));
    assert_eq!(several.turn(&[]), (1, false), "nobody followed");
    for _ in 0..3 {
        assert_eq!(several.turn(&[1]), (1, false), "it speaks alone");
    }
}

#[tokio::test]
async fn streams_that_are_opened_in_one_turn_leave_together() {
    let mut turns = Turns::new(2);
    for stream in [2, 3] {
        turns.open();
        assert_eq!(turns.turn(&[stream]), (0, true));
    }
    assert_eq!(turns.turn(&[]), (2, false));
}

#[tokio::test]
async fn streams_that_are_accepted_in_one_turn_are_acknowledged_together_and_not_put_off_for_ever() {
    let mut turns = Turns::new(1);
    let mut accepted = 0;
    loop {
        turns.raw.send(Kind::WindowUpdate, SYN, 2 * (accepted + 1), 0).await;
        let again = Arc::<Flag>::default();
        assert!(turns.muxer.poll_unpin(&mut Context::from_waker(&again.clone().into())).is_pending());
        let Poll::Ready(Ok(stream)) = poll_once(|cx| turns.muxer.poll_inbound_unpin(cx)) else { panic!("no stream") };
        turns.streams.push(stream);
        let acknowledged = turns.received().len();
        if acknowledged > 0 {
            assert!(accepted > 1 && acknowledged >= 8 * 1024, "{acknowledged} bytes after {accepted} streams");
            break;
        }
        accepted += 1;
        assert!(accepted < 1000, "the remote waits for its streams");
    }
}

#[tokio::test]
async fn nothing_waits_behind_a_flush_that_is_due() {
    let mut turns = Turns::new(3);
    turns.muxer.socket.flushes = 1;
    assert_eq!(turns.turn(&[0, 1]), (2, false));
    assert_eq!(turns.turn(&[2]), (1, false));
}

#[tokio::test]
async fn what_waits_for_others_is_sent_before_the_connection_closes() {
    let mut turns = Turns::new(3);
    assert_eq!(turns.turn(&[0, 1]), (2, false));
    assert_eq!(turns.turn(&[2]), (0, true));
    assert!(poll_once(|cx| turns.muxer.poll_close_unpin(cx)).is_ready());
    assert_eq!(turns.arrived(), 1);
}

#[tokio::test]
async fn a_connection_at_rest_frees_its_chunks_though_little_things_go_on() {
    limited(async {
        let (a, mut raw) = pipe(1024 * 1024);
        let a = Peer::run(client(a, Config::default()));
        let mut stream = a.open().await;
        raw.expect(Kind::WindowUpdate, SYN, 1, 0).await;
        for _ in 0..3 {
            raw.send_data(0, 1, &[0; 64 * 1024]).await;
        }
        stream.read_exact(&mut vec![0; 192 * 1024]).await.unwrap();
        assert!(stream.inner().shared.pool.len() > 0);
        // As libp2p's pings do, more often than the connection would be idle, but far apart for what they carry.
        while stream.inner().shared.pool.len() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            raw.send_data(0, 1, &[0; 32]).await;
            stream.read_exact(&mut [0; 32]).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_stream_holds_no_buffers() {
    limited(async {
        let (a, mut b) = pair(Config::default());
        let (mut out, mut inn) = connected(&a, &mut b).await;
        out.write_all(&[0; 100_000]).await.unwrap();
        inn.read_exact(&mut vec![0; 100_000]).await.unwrap();
        assert_eq!(inn.buffer_capacity() + out.buffer_capacity(), 0);
    })
    .await;
}
