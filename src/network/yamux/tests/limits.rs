//! Limits cost one stream, never the connection.

use super::*;
use crate::network::yamux::{
    Budget,
    frame::{ACK, FIN, GO_AWAY_NORMAL, INITIAL_WINDOW, Kind, RST, SYN},
};

#[tokio::test]
async fn an_open_beyond_max_streams_waits_for_a_free_slot() {
    limited(async {
        let (a, b) = pipe(64 * 1024);
        let a = Peer::run(client(a, Config { max_streams: 2, ..Config::default() }));
        let mut b = Peer::run(server(b, Config::default()));
        let (first, _x) = connected(&a, &mut b).await;
        let (mut second, mut y) = connected(&a, &mut b).await;
        let mut third = a.request();
        second.write_all(b"alive").await.unwrap();
        y.read_exact(&mut [0; 5]).await.unwrap();
        assert!(third.try_recv().is_err());
        drop(first);
        let mut third = third.await.unwrap();
        third.write_all(b"works").await.unwrap();
        b.accept().await.read_exact(&mut [0; 5]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_inbound_stream_beyond_max_streams_is_reset_alone() {
    limited(async {
        let (a, b) = pipe(64 * 1024);
        let a = Peer::run(client(a, Config::default()));
        let mut b = Peer::run(server(b, Config { max_streams: 2, ..Config::default() }));
        let mut kept = vec![connected(&a, &mut b).await, connected(&a, &mut b).await];
        let mut refused = a.open().await;
        // Its data is discarded. It may be refused already.
        let _ = refused.write_all(&[0; 1000]).await;
        assert_eq!(read_error(&mut refused).await, io::ErrorKind::ConnectionReset);
        for (out, inn) in &mut kept {
            out.write_all(b"alive").await.unwrap();
            inn.read_exact(&mut [0; 5]).await.unwrap();
        }
        kept.pop();
        connected(&a, &mut b).await;
    })
    .await;
}

#[tokio::test]
async fn inbound_streams_beyond_the_accept_backlog_are_reset() {
    limited(async {
        let (mut raw, b) = pipe(64 * 1024);
        let mut muxer = server(b, Config { accept_backlog: 2, ..Config::default() });
        for id in [1, 3, 5, 7] {
            raw.send(Kind::WindowUpdate, SYN, id, 0).await;
        }
        // All four arrive before anybody accepts.
        let polled = poll_fn(|cx| Poll::Ready(muxer.poll_unpin(cx).is_pending())).await;
        assert!(polled);
        let mut b = Peer::run(muxer);
        assert_eq!((b.accept().await.id(), b.accept().await.id()), (1, 3));
        raw.expect(Kind::WindowUpdate, RST, 5, 0).await;
        raw.expect(Kind::WindowUpdate, RST, 7, 0).await;
        raw.send(Kind::WindowUpdate, SYN, 9, 0).await;
        assert_eq!(b.accept().await.id(), 9);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_was_reset_before_it_was_accepted_is_not_handed_out() {
    limited(async {
        let (mut raw, b) = pipe(64 * 1024);
        raw.send(Kind::WindowUpdate, SYN, 1, 0).await;
        raw.send(Kind::WindowUpdate, RST, 1, 0).await;
        raw.send(Kind::WindowUpdate, SYN, 3, 0).await;
        let mut b = Peer::run(server(b, Config::default()));
        assert_eq!(b.accept().await.id(), 3);
    })
    .await;
}

#[tokio::test]
async fn streams_are_acknowledged_when_they_are_accepted() {
    limited(async {
        let (mut raw, b) = pipe(64 * 1024);
        let mut b = Peer::run(server(b, Config::default()));
        raw.send_data(SYN, 1, b"ping").await;
        let mut stream = b.accept().await;
        raw.expect(Kind::WindowUpdate, ACK, 1, 0).await;
        stream.write_all(b"pong").await.unwrap();
        assert_eq!(raw.receive().await.0.flags, 0);
    })
    .await;
}

#[tokio::test]
async fn opens_wait_while_too_many_are_unacknowledged() {
    limited(async {
        let (a, mut raw) = pipe(64 * 1024);
        let a = Peer::run(client(a, Config { ack_backlog: 2, ..Config::default() }));
        let mut first = a.open().await;
        let mut second = a.open().await;
        let (third, fourth) = (a.request(), a.request());
        raw.expect(Kind::WindowUpdate, SYN, 1, 0).await;
        raw.expect(Kind::WindowUpdate, SYN, 3, 0).await;
        raw.send_data(ACK, 3, b"x").await;
        second.read_exact(&mut [0; 1]).await.unwrap();
        let third = third.await.unwrap();
        assert_eq!(third.id(), 5);
        raw.expect(Kind::WindowUpdate, SYN, 5, 0).await;
        // A refusal frees a place as well.
        raw.send(Kind::WindowUpdate, RST, 1, 0).await;
        assert_eq!(read_error(&mut first).await, io::ErrorKind::ConnectionReset);
        assert_eq!(fourth.await.unwrap().id(), 7);
    })
    .await;
}

#[tokio::test]
async fn the_budget_refuses_streams_one_by_one() {
    limited(async {
        let window = INITIAL_WINDOW as usize;
        let budget = Arc::new(Budget::new(2 * window));
        let limit = Config { budget: Some(budget.clone()), ..Config::default() };

        let (a, b) = pipe(64 * 1024);
        let a = Peer::run(client(a, limit));
        let mut b = Peer::run(server(b, Config::default()));
        let kept = connected(&a, &mut b).await;
        let freed = connected(&a, &mut b).await;
        assert_eq!(budget.in_use(), 2 * window);
        let mut refused = a.open().await;
        assert_eq!(read_error(&mut refused).await, io::ErrorKind::OutOfMemory);
        assert_eq!(write_error(&mut refused).await, io::ErrorKind::OutOfMemory);
        assert_eq!(refused.close().await.unwrap_err().kind(), io::ErrorKind::OutOfMemory);

        // Inbound: the remote sees a reset.
        let mut inbound = b.open().await;
        assert_eq!(read_error(&mut inbound).await, io::ErrorKind::ConnectionReset);

        drop(freed);
        assert_eq!(budget.in_use(), window);
        let (mut out, mut inn) = connected(&a, &mut b).await;
        out.write_all(b"alive").await.unwrap();
        inn.read_exact(&mut [0; 5]).await.unwrap();
        drop((kept, out, inn));
        assert_eq!(budget.in_use(), 0);
    })
    .await;
}

#[tokio::test]
async fn when_all_ids_are_used_opens_fail_and_streams_live_on() {
    limited(async {
        let (a, b) = pipe(64 * 1024);
        let mut muxer = client(a, Config::default());
        muxer.core.next_id = Some(u32::MAX);
        let a = Peer::run(muxer);
        let mut b = Peer::run(server(b, Config::default()));
        let (mut out, mut inn) = connected(&a, &mut b).await;
        assert_eq!(out.id(), u32::MAX);
        assert_eq!(read_error(&mut a.open().await).await, io::ErrorKind::ConnectionRefused);
        out.write_all(b"alive").await.unwrap();
        inn.read_exact(&mut [0; 5]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn after_a_go_away_opens_fail_and_streams_live_on() {
    limited(async {
        let (a, mut raw) = pipe(64 * 1024);
        let a = Peer::run(client(a, Config { ack_backlog: 1, ..Config::default() }));
        let mut stream = a.open().await;
        let waiting = a.request();
        raw.expect(Kind::WindowUpdate, SYN, 1, 0).await;
        raw.send(Kind::GoAway, 0, 0, GO_AWAY_NORMAL).await;
        assert_eq!(read_error(&mut waiting.await.unwrap()).await, io::ErrorKind::ConnectionRefused);
        raw.send_data(ACK | FIN, 1, b"still here").await;
        let mut data = Vec::new();
        stream.read_to_end(&mut data).await.unwrap();
        assert_eq!(data, b"still here");
        stream.write_all(b"me too").await.unwrap();
        assert_eq!(raw.receive().await.1, b"me too");
    })
    .await;
}

#[tokio::test]
async fn late_frames_of_forgotten_streams_are_ignored() {
    limited(async {
        let (a, mut raw) = pipe(1024 * 1024);
        let a = Peer::run(client(a, Config::default()));
        let stream = a.open().await;
        raw.expect(Kind::WindowUpdate, SYN, 1, 0).await;
        drop(stream);
        raw.expect(Kind::WindowUpdate, RST, 1, 0).await;
        for _ in 0..10 {
            raw.send_data(ACK, 1, &[1; 60_000]).await;
        }
        raw.send(Kind::WindowUpdate, 0, 1, u32::MAX).await;
        raw.send(Kind::WindowUpdate, FIN, 1, u32::MAX).await;
        raw.send(Kind::Data, RST, 1, 0).await;
        raw.send_data(0, 4242, &[1; 10]).await;
        let mut stream = a.open().await;
        raw.expect(Kind::WindowUpdate, SYN, 3, 0).await;
        raw.send_data(ACK, 3, b"fine").await;
        let mut data = [0; 4];
        stream.read_exact(&mut data).await.unwrap();
        assert_eq!(&data, b"fine");
    })
    .await;
}

#[tokio::test]
async fn thousands_of_streams_live_on_one_connection() {
    limited(async {
        let (a, mut b) = pair(Config::default());
        let mut streams = Vec::new();
        for _ in 0..8192 {
            streams.push(connected(&a, &mut b).await);
        }
        let mut waiting = a.request();
        for (out, inn) in &mut streams {
            inn.write_all(b"alive").await.unwrap();
            out.read_exact(&mut [0; 5]).await.unwrap();
        }
        assert!(waiting.try_recv().is_err());
        // All resets at once are no flood.
        streams.clear();
        let mut opened = waiting.await.unwrap();
        opened.write_all(b"works").await.unwrap();
        b.accept().await.read_exact(&mut [0; 5]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_open_looks_at_no_other_stream() {
    limited(async {
        let (a, _raw) = pipe(64 * 1024);
        let mut muxer = client(a, Config::default());
        let Poll::Ready(Ok(first)) = poll_once(|cx| muxer.poll_outbound_unpin(cx)) else { panic!("no stream") };
        // An open that looked at this one would wait for ever.
        let inner = first.inner().clone();
        let locked = inner.state.lock();
        let (opened, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let stream = poll_once(|cx| muxer.poll_outbound_unpin(cx));
            let _ = opened.send((stream.is_ready(), muxer, stream));
        });
        let (ready, muxer, second) = wait.recv_timeout(Duration::from_secs(10)).expect("the open waits");
        assert!(ready);
        drop(locked);
        drop((muxer, second));
    })
    .await;
}

#[tokio::test]
async fn whoever_waits_for_a_stream_is_woken() {
    limited(async {
        let acknowledged = (Kind::WindowUpdate, ACK, 1);
        let finished = (Kind::WindowUpdate, RST, 1);
        let one_unacknowledged = Config { ack_backlog: 1, ..Config::default() };
        let one_stream = Config { max_streams: 1, ..Config::default() };
        for (config, (kind, flags, id)) in [(one_unacknowledged, acknowledged), (one_stream, finished)] {
            let (a, mut raw) = pipe(64 * 1024);
            let mut muxer = client(a, config);
            let _first = poll_once(|cx| muxer.poll_outbound_unpin(cx));
            let flag = Arc::new(Flag::default());
            let waker = flag.clone().into();
            assert!(muxer.poll_outbound_unpin(&mut Context::from_waker(&waker)).is_pending());
            raw.send(kind, flags, id, 0).await;
            let polled = poll_fn(|cx| Poll::Ready(muxer.poll_unpin(cx).is_pending())).await;
            assert!(polled && flag.take());
            assert!(poll_once(|cx| muxer.poll_outbound_unpin(cx)).is_ready());
        }

        let (a, mut raw) = pipe(64 * 1024);
        let mut muxer = client(a, Config::default());
        let flag = Arc::new(Flag::default());
        let waker = flag.clone().into();
        assert!(muxer.poll_inbound_unpin(&mut Context::from_waker(&waker)).is_pending());
        raw.send(Kind::WindowUpdate, SYN, 2, 0).await;
        let polled = poll_fn(|cx| Poll::Ready(muxer.poll_unpin(cx).is_pending())).await;
        assert!(polled && flag.take());
    })
    .await;
}
