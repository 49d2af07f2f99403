//! How streams end.

use libp2p::core::StreamMuxer as _;
use multistream_select::{Version, dialer_select_proto};

use super::*;
use crate::network::yamux::frame::{ACK, FIN, GO_AWAY_NORMAL, Kind, RST, SYN};

#[tokio::test]
async fn data_is_delivered_before_the_end_and_the_end_stays() {
    limited(async {
        let (a, mut b) = pair(Config::default());
        let (mut out, mut inn) = connected(&a, &mut b).await;
        out.write_all(&[7; 100_000]).await.unwrap();
        out.close().await.unwrap();
        let mut data = Vec::new();
        inn.read_to_end(&mut data).await.unwrap();
        assert_eq!(data, [7; 100_000]);
        for _ in 0..3 {
            assert_eq!(inn.read(&mut [0; 8]).await.unwrap(), 0);
        }
        assert_eq!(out.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    })
    .await;
}

#[tokio::test]
async fn a_reset_is_an_error_after_the_data() {
    limited(async {
        for finished in [false, true] {
            let (a, mut b) = pair(Config::default());
            let (mut out, mut inn) = connected(&a, &mut b).await;
            if finished {
                inn.close().await.unwrap();
            }
            out.write_all(b"some data").await.unwrap();
            // The reader has the data before the reset is sent.
            let mut one = [0; 1];
            inn.read_exact(&mut one).await.unwrap();
            drop(out);
            let mut data = Vec::new();
            let error = inn.read_to_end(&mut data).await.unwrap_err();
            assert_eq!((error.kind(), &data[..]), (io::ErrorKind::ConnectionReset, &b"ome data"[..]));
            assert_eq!(read_error(&mut inn).await, io::ErrorKind::ConnectionReset);
            if !finished {
                assert_eq!(write_error(&mut inn).await, io::ErrorKind::ConnectionReset);
                assert_eq!(inn.close().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_is_an_error_after_the_data() {
    limited(async {
        for (finished, closed) in [(false, false), (true, false), (false, true), (true, true)] {
            let (a, mut b) = pair(Config::default());
            let (mut out, mut inn) = connected(&a, &mut b).await;
            if finished {
                inn.close().await.unwrap();
            }
            out.write_all(b"some data").await.unwrap();
            if closed {
                a.close().await.unwrap();
            } else {
                let mut one = [0; 1];
                inn.read_exact(&mut one).await.unwrap();
                a.task.abort();
            }
            let mut data = Vec::new();
            let error = inn.read_to_end(&mut data).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
            assert!(data.ends_with(b"ome data"), "{data:?}");
            if !finished {
                assert_eq!(write_error(&mut inn).await, io::ErrorKind::ConnectionAborted);
            }
            assert_eq!(b.error().await.kind(), io::ErrorKind::UnexpectedEof);
            match out.read(&mut [0; 8]).await {
                Ok(n) => assert!(finished && n == 0),
                Err(error) => assert!(!finished && error.kind() == io::ErrorKind::ConnectionAborted),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn after_the_remotes_fin_reads_stay_clean_whatever_follows() {
    limited(async {
        for reset in [true, false] {
            let (a, mut raw) = pipe(64 * 1024);
            let a = Peer::run(client(a, Config::default()));
            let mut stream = a.open().await;
            raw.expect(Kind::WindowUpdate, SYN, 1, 0).await;
            raw.send_data(ACK | FIN, 1, b"last words").await;
            let mut data = Vec::new();
            stream.read_to_end(&mut data).await.unwrap();
            let kind = if reset {
                raw.send(Kind::WindowUpdate, RST, 1, 0).await;
                io::ErrorKind::ConnectionReset
            } else {
                drop(raw);
                io::ErrorKind::ConnectionAborted
            };
            assert_eq!(write_error(&mut stream).await, kind);
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
            assert_eq!(data, b"last words");
        }
    })
    .await;
}

#[tokio::test]
async fn dropping_an_unfinished_stream_resets_it_in_every_state() {
    limited(async {
        for (our_fin, their_fin) in [(false, false), (true, false), (false, true)] {
            let (a, mut raw) = pipe(1024 * 1024);
            let a = Peer::run(client(a, Config::default()));
            let mut stream = a.open().await;
            raw.expect(Kind::WindowUpdate, SYN, 1, 0).await;
            raw.send(Kind::WindowUpdate, ACK, 1, 0).await;
            if their_fin {
                raw.send(Kind::Data, FIN, 1, 0).await;
                assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
            }
            if our_fin {
                stream.close().await.unwrap();
                raw.expect(Kind::Data, FIN, 1, 0).await;
            }
            drop(stream);
            raw.expect(Kind::WindowUpdate, RST, 1, 0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn dropping_a_finished_stream_sends_nothing() {
    limited(async {
        let (a, mut raw) = pipe(64 * 1024);
        let a = Peer::run(client(a, Config::default()));
        let mut stream = a.open().await;
        raw.expect(Kind::WindowUpdate, SYN, 1, 0).await;
        stream.write_all(b"bye").await.unwrap();
        stream.close().await.unwrap();
        assert_eq!(raw.receive().await.1, b"bye");
        raw.send_data(FIN | ACK, 1, b"never read").await;
        // The second stream's frames come after the first one's end.
        let second = a.open().await;
        raw.receive().await;
        drop(stream);
        drop(second);
        raw.expect(Kind::WindowUpdate, RST, 3, 0).await;
    })
    .await;
}

#[tokio::test]
async fn data_queued_at_the_drop_is_discarded() {
    limited(async {
        // The small pipe keeps most of the data in the stream's queue.
        let (a, mut raw) = pipe(256);
        let a = Peer::run(client(a, Config { frame_size: 1024, ..Config::default() }));
        let mut stream = a.open().await;
        // About half of it fits into the connection's output, half into the stream's queue.
        stream.write_all(&[1; 250_000]).await.unwrap();
        let close = poll_once(|cx| Pin::new(&mut stream).poll_close(cx));
        assert!(close.is_pending(), "the FIN cannot have left");
        drop(stream);
        let mut received = 0;
        loop {
            let (header, data) = raw.receive().await;
            received += data.len();
            assert!(!header.has(FIN));
            if header.has(RST) {
                break;
            }
        }
        assert!(received < 160 * 1024, "{received} bytes");
    })
    .await;
}

#[tokio::test]
async fn a_stream_unknown_to_the_remote_is_dropped_silently() {
    limited(async {
        let (a, mut raw) = pipe(1024);
        let mut muxer = client(a, Config::default());
        let Poll::Ready(Ok(unused)) = poll_once(|cx| muxer.poll_outbound_unpin(cx)) else { panic!("no stream") };
        drop(unused);
        let a = Peer::run(muxer);
        let _stream = a.open().await;
        raw.expect(Kind::WindowUpdate, SYN, 3, 0).await;
    })
    .await;
}

#[tokio::test]
async fn after_our_fin_the_other_direction_lives_on() {
    limited(async {
        let (a, mut b) = pair(Config::default());
        let (mut out, mut inn) = connected(&a, &mut b).await;
        out.close().await.unwrap();
        assert_eq!(inn.read(&mut [0; 8]).await.unwrap(), 0);
        // Far beyond the window: updates still flow.
        let writer = tokio::spawn(async move {
            write_pattern(&mut inn, 3, 5_000_000).await;
            inn.close().await.unwrap();
            inn
        });
        assert_eq!(read_pattern(&mut out, 3).await, 5_000_000);
        drop((writer.await.unwrap(), out));
        // Both directions were finished, so nothing is left behind.
        connected(&a, &mut b).await;
    })
    .await;
}

#[tokio::test]
async fn closing_the_connection_sends_what_was_queued_and_says_good_bye() {
    limited(async {
        let (a, mut raw) = pipe(256);
        let a = Peer::run(client(a, Config::default()));
        let mut stream = a.open().await;
        // More than the connection's output takes at a time.
        stream.write_all(&[5; 200_000]).await.unwrap();
        let mut waiting = a.open().await;
        let reader = tokio::spawn(async move { read_error(&mut waiting).await });
        let closing = tokio::spawn(a.close());
        let mut received = 0;
        loop {
            let (header, data) = raw.receive().await;
            received += data.len();
            if header.kind == Kind::GoAway {
                assert_eq!(header.length, GO_AWAY_NORMAL);
                break;
            }
        }
        assert_eq!(received, 200_000);
        assert_eq!(raw.read(&mut [0; 8]).await.unwrap(), 0);
        closing.await.unwrap().unwrap();
        assert_eq!(reader.await.unwrap(), io::ErrorKind::ConnectionAborted);
        assert_eq!(write_error(&mut stream).await, io::ErrorKind::ConnectionAborted);
    })
    .await;
}

#[tokio::test]
async fn two_connections_that_close_with_full_pipes_do_not_wait_for_each_other() {
    limited(async {
        let (a, mut b) = pair_over(Config::default(), 300);
        let (mut out, mut inn) = connected(&a, &mut b).await;
        out.write_all(&[1; 100_000]).await.unwrap();
        inn.write_all(&[2; 100_000]).await.unwrap();
        let (a, b) = futures::join!(a.close(), b.close());
        // One of them may see the other's end first.
        assert!(a.is_ok() || b.is_ok(), "{a:?} {b:?}");
    })
    .await;
}

#[tokio::test]
async fn dropping_the_connection_wakes_every_waiting_stream() {
    limited(async {
        let (a, mut b) = pair(Config::default());
        let (mut out, inn) = connected(&a, &mut b).await;
        let (mut reader, mut writer) = inn.split();
        let reads = tokio::spawn(async move { reader.read(&mut [0; 8]).await.unwrap_err().kind() });
        let writes = tokio::spawn(async move {
            loop {
                if let Err(error) = writer.write(&[0; 4096]).await {
                    return error.kind();
                }
            }
        });
        // The writer fills its window, then waits.
        out.read_exact(&mut [0; 1]).await.unwrap();
        b.task.abort();
        assert_eq!(reads.await.unwrap(), io::ErrorKind::ConnectionAborted);
        assert_eq!(writes.await.unwrap(), io::ErrorKind::ConnectionAborted);
    })
    .await;
}

#[tokio::test]
async fn a_connection_whose_protocol_was_never_confirmed_can_be_closed() {
    limited(async {
        let (near, mut far) = pipe(64 * 1024);
        let lazy = dialer_select_proto(near, ["/yamux/1.0.0"], Version::V1Lazy).await;
        let mut muxer = client(lazy.expect("the lazy way expects the best").1, Config::default());
        far.close().await.unwrap();
        let error = poll_fn(|cx| Pin::new(&mut muxer).poll_close(cx)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        poll_fn(|cx| Pin::new(&mut muxer).poll_close(cx)).await.unwrap();
    })
    .await;
}
