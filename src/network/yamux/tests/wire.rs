//! Remotes that break the protocol, say nothing or do not read.

use super::*;
use crate::network::yamux::{
    KeepAlive,
    chunk::BODY,
    frame::{ACK, FIN, GO_AWAY_PROTOCOL_ERROR, HEADER, Header, Kind, RST, SYN},
};

fn frame(kind: Kind, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    Header::new(kind, flags, stream, length).encode().to_vec()
}

#[tokio::test]
async fn a_broken_frame_ends_the_connection_with_a_go_away_and_a_reason() {
    let mut version = frame(Kind::Ping, SYN, 0, 0);
    version[0] = 1;
    let mut kind = frame(Kind::Ping, SYN, 0, 0);
    kind[1] = 4;
    let open = frame(Kind::WindowUpdate, SYN, 1, 0);
    let cases = [
        (version, "unknown version 1"),
        (kind, "unknown frame type 4"),
        (frame(Kind::Data, 0, 1, 16 * 1024 * 1024 + 1), "a data frame of 16777217 bytes"),
        (frame(Kind::WindowUpdate, SYN, 0, 0), "opened stream 0"),
        (frame(Kind::Data, SYN, 2, 0), "opened stream 2"),
        ([open.clone(), frame(Kind::Data, SYN, 1, 0)].concat(), "opened stream 1 twice"),
        (
            [open.clone(), frame(Kind::Data, 0, 1, 256 * 1024 + 1)].concat(),
            "data beyond the receive window of stream 1",
        ),
        (frame(Kind::Data, SYN, 1, 256 * 1024 + 1), "data beyond the receive window of stream 1"),
        ([open.clone(), frame(Kind::WindowUpdate, 0, 1, u32::MAX)].concat(), "overflows the window of stream 1"),
    ];
    limited(async {
        for (bytes, reason) in cases {
            let (mut raw, b) = pipe(64 * 1024);
            let mut b = Peer::run(server(b, Config::default()));
            raw.send(Kind::WindowUpdate, SYN, 101, 0).await;
            let mut other = b.accept().await;
            raw.expect(Kind::WindowUpdate, ACK, 101, 0).await;
            raw.write_all(&bytes).await.unwrap();
            raw.expect(Kind::GoAway, 0, 0, GO_AWAY_PROTOCOL_ERROR).await;
            assert_eq!(read_error(&mut other).await, io::ErrorKind::ConnectionAborted);
            let error = b.error().await;
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(reason), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_violation_is_reported_also_if_the_go_away_cannot_be_sent() {
    limited(async {
        // Not even the first ping fits.
        let (mut raw, b) = pipe(HEADER - 1);
        let b = Peer::run(server(b, Config::default()));
        raw.write_all(&frame(Kind::Data, SYN, 2, 0)).await.unwrap();
        assert_eq!(b.error().await.kind(), io::ErrorKind::InvalidData);
    })
    .await;
}

#[tokio::test]
async fn behind_a_violation_everything_is_still_read() {
    limited(async {
        // The connection's buffer has grown to its full size, and is full when the violation is its first frame.
        const BEFORE: usize = (8 + 16 + 32 + 64 + 128 + 256) * 1024;
        let (mut raw, b) = pipe(1 << 20);
        let mut muxer = server(b, Config::default());
        raw.send_data(0, 4242, &vec![0; BEFORE - HEADER]).await;
        raw.write_all(&[1; 256 * 1024 + 100_000]).await.unwrap();
        let error = poll_fn(|cx| muxer.poll_unpin(cx)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // What is not read when the socket is closed would reset it, go-away and all.
        assert_eq!(raw.unread(), 0);
    })
    .await;
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_without_end_hold_no_memory() {
    limited(async {
        let (mut raw, b) = pipe(1000);
        let mut muxer = server(b, Config::default());
        // The remote does not read: what the connection has to say to it waits.
        for id in (1..40_000).step_by(2) {
            raw.send(Kind::WindowUpdate, SYN, id, 0).await;
            assert!(poll_fn(|cx| Poll::Ready(muxer.poll_unpin(cx).is_pending())).await);
            let stream = poll_fn(|cx| muxer.poll_inbound_unpin(cx)).await.unwrap();
            raw.send(Kind::WindowUpdate, RST, id, 0).await;
            assert!(poll_fn(|cx| Poll::Ready(muxer.poll_unpin(cx).is_pending())).await);
            drop(stream);
        }
        let (_, waiting) = muxer.core.queued();
        assert!(waiting < 100, "{waiting} streams that are gone are kept");
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_requests_without_reading_ends_the_connection() {
    limited(async {
        for request in [frame(Kind::Ping, SYN, 0, 1), frame(Kind::Data, SYN, 1, 0)] {
            let (raw, b) = pipe(1000);
            let mut config = Config { max_streams: 0, ..Config::default() };
            config.accept_backlog = 0;
            let b = Peer::run(server(b, config));
            let (_reader, mut writer) = raw.split();
            let flood = tokio::spawn(async move { while writer.write_all(&request).await.is_ok() {} });
            let error = b.error().await;
            assert!(error.to_string().contains("does not read the answers"), "{error}");
            flood.await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_streams_that_are_dropped_is_bounded_too() {
    limited(async {
        let (raw, b) = pipe(1000);
        let mut b = Peer::run(server(b, Config { max_streams: 10, ..Config::default() }));
        let (_reader, mut writer) = raw.split();
        let flood = tokio::spawn(async move {
            for id in (1..).step_by(2) {
                if writer.write_all(&frame(Kind::Data, SYN, id, 0)).await.is_err() {
                    return;
                }
            }
        });
        while let Some(stream) = b.inbound.recv().await {
            drop(stream);
        }
        assert_eq!(b.error().await.kind(), io::ErrorKind::InvalidData);
        flood.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn frames_are_understood_however_they_are_cut() {
    limited(async {
        let frames = [
            frame(Kind::Data, SYN, 1, 5),
            b"hello".to_vec(),
            frame(Kind::WindowUpdate, 0, 1, 10),
            frame(Kind::Data, 0, 1, 7),
            b", world".to_vec(),
            frame(Kind::Data, FIN, 1, 0),
        ]
        .concat();
        for step in [1, 2, 5, 11, 13, 17] {
            let (mut raw, b) = pipe(64 * 1024);
            let mut b = Peer::run(server(b, Config::default()));
            for part in frames.chunks(step) {
                raw.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            let mut data = String::new();
            b.accept().await.read_to_string(&mut data).await.unwrap();
            assert_eq!(data, "hello, world");
        }
    })
    .await;
}

/// Frames of one stream, with the bytes of [`pattern`].
struct Sender {
    id: u32,
    sent: u64,
}

impl Sender {
    fn data(&mut self, flags: u16, length: u32) -> Vec<u8> {
        let mut bytes = frame(Kind::Data, flags, self.id, length);
        let positions = self.sent..self.sent + u64::from(length);
        self.sent = positions.end;
        bytes.extend(positions.map(|position| pattern(u64::from(self.id), position)));
        bytes
    }
}

#[tokio::test]
async fn long_frames_among_others_arrive_whole_wherever_they_begin() {
    const LONG: u32 = BODY as u32;
    limited(async {
        for (long, pings, small) in [LONG - 1, LONG, LONG + 1, 65_524, 65_536, 200_000]
            .into_iter()
            .flat_map(|long| [0, 1, 3].map(|pings| (long, pings)))
            .flat_map(|(long, pings)| [0, 1, 100, 8_000, 30_000].map(|small| (long, pings, small)))
        {
            let (mut one, mut two) = (Sender { id: 1, sent: 0 }, Sender { id: 3, sent: 0 });
            let mut stranger = Sender { id: 5, sent: 0 };
            let frames = [
                one.data(SYN, 60_000),
                two.data(SYN, 1),
                frame(Kind::Ping, SYN, 0, 7).repeat(pings),
                two.data(0, small),
                one.data(0, long),
                one.data(0, 100),
                stranger.data(0, 60_000),
                two.data(0, 0),
                two.data(0, 50_000),
                frame(Kind::WindowUpdate, 0, 3, 1),
                one.data(FIN, 0),
                two.data(FIN, 65_000),
            ]
            .concat();
            let (mut raw, b) = pipe(1 << 20);
            let mut b = Peer::run(server(b, Config::default()));
            raw.write_all(&frames).await.unwrap();
            for sender in [one, two] {
                let mut stream = b.accept().await;
                let received = read_pattern(&mut stream, u64::from(sender.id)).await;
                assert_eq!(received, sender.sent, "long {long}, {pings} pings, small {small}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_violation_behind_a_long_frame_takes_nothing_of_it_away() {
    limited(async {
        let mut sender = Sender { id: 1, sent: 0 };
        let (mut raw, b) = pipe(1 << 20);
        let mut b = Peer::run(server(b, Config::default()));
        raw.write_all(&sender.data(SYN, 60_000)).await.unwrap();
        let mut stream = b.accept().await;
        let frames = [
            sender.data(0, 65_000),
            frame(Kind::Ping, SYN, 0, 1),
            sender.data(0, 65_000),
            frame(Kind::Data, SYN, 2, 0),
        ];
        raw.write_all(&frames.concat()).await.unwrap();
        let mut data = Vec::new();
        assert_eq!(stream.read_to_end(&mut data).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(data.len() as u64, sender.sent);
        assert!((0..).zip(&data).all(|(position, byte)| *byte == pattern(1, position)));
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_ends_inside_a_frame_gives_no_clean_end() {
    limited(async {
        for bytes in [frame(Kind::Data, SYN | FIN, 1, 5), [&frame(Kind::Data, SYN | FIN, 1, 5)[..], b"hell"].concat()] {
            let (mut raw, b) = pipe(64 * 1024);
            let mut b = Peer::run(server(b, Config::default()));
            raw.write_all(&bytes).await.unwrap();
            let mut stream = b.accept().await;
            drop(raw);
            let mut data = Vec::new();
            let error = stream.read_to_end(&mut data).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
            assert_eq!(data, &bytes[HEADER..]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_reset_carries_its_error_code_not_a_window() {
    limited(async {
        let (mut raw, b) = pipe(64 * 1024);
        let mut b = Peer::run(server(b, Config::default()));
        raw.send(Kind::WindowUpdate, SYN, 1, 0).await;
        let mut stream = b.accept().await;
        raw.send(Kind::WindowUpdate, RST, 1, u32::MAX).await;
        assert_eq!(read_error(&mut stream).await, io::ErrorKind::ConnectionReset);
        raw.send(Kind::WindowUpdate, SYN, 3, 0).await;
        b.accept().await;
    })
    .await;
}

fn silence(interval: u64, timeout: u64) -> Option<KeepAlive> {
    Some(KeepAlive { interval: Duration::from_millis(interval), timeout: Duration::from_millis(timeout) })
}

#[tokio::test]
async fn a_silent_remote_is_pinged_and_then_given_up() {
    limited(async {
        let (mut raw, b) = pipe(64 * 1024);
        let b = Peer::run(server(b, Config { keep_alive: silence(30, 30), ..Config::default() }));
        // An answered ping keeps the connection; the second one comes from the keep-alive.
        for value in 0..3 {
            let mut bytes = [0; HEADER];
            raw.read_exact(&mut bytes).await.unwrap();
            assert_eq!(Header::decode(&bytes).unwrap(), Header::new(Kind::Ping, SYN, 0, value));
            raw.send(Kind::Ping, ACK, 0, value).await;
        }
        let error = b.error().await;
        assert_eq!((error.kind(), error.to_string().contains("does not answer")), (io::ErrorKind::TimedOut, true));
    })
    .await;
}

#[tokio::test]
async fn a_remote_that_does_not_read_is_given_up() {
    limited(async {
        let (mut raw, b) = pipe(1000);
        let config = Config { keep_alive: None, write_timeout: Some(Duration::from_millis(50)), ..Config::default() };
        let mut b = Peer::run(server(b, config));
        raw.send(Kind::WindowUpdate, SYN, 1, 0).await;
        let mut stream = b.accept().await;
        stream.write_all(&[0; 10_000]).await.unwrap();
        let error = b.error().await;
        assert_eq!((error.kind(), error.to_string().contains("does not read")), (io::ErrorKind::TimedOut, true));
        assert_eq!(read_error(&mut stream).await, io::ErrorKind::ConnectionAborted);
    })
    .await;
}

#[tokio::test]
async fn no_bytes_can_make_it_panic_or_hang() {
    limited(async {
        for seed in 1..400 {
            let mut random = model::Random::new(seed);
            let (raw, b) = pipe(64 * 1024);
            let mut b = Peer::run(server(b, Config { max_streams: 4, ..Config::default() }));
            let (mut reader, mut writer) = raw.split();
            let reading = tokio::spawn(async move { futures::io::copy(&mut reader, &mut futures::io::sink()).await });
            for _ in 0..100 {
                let kind = [Kind::Data, Kind::WindowUpdate, Kind::Ping, Kind::GoAway][random.below(4)];
                let most = if random.below(50) == 0 { 1 << 26 } else { 3000 };
                let length = random.below(most);
                let mut bytes = frame(kind, random.below(16) as u16, random.below(8) as u32, length as u32);
                if random.below(100) == 0 {
                    let at = random.below(HEADER);
                    bytes[at] ^= 1 << random.below(8);
                }
                if kind == Kind::Data {
                    bytes.resize(HEADER + random.below(length.min(3000) + 1), 0x55);
                }
                if writer.write_all(&bytes).await.is_err() {
                    break;
                }
                while let Ok(mut stream) = b.inbound.try_recv() {
                    let _ = poll_once(|cx| Pin::new(&mut stream).poll_write(cx, b"answer"));
                    let _ = poll_once(|cx| Pin::new(&mut stream).poll_read(cx, &mut [0; 100]));
                }
                tokio::task::yield_now().await;
            }
            drop(b.close.take());
            let _ = writer.close().await;
            drop(writer);
            let _ = b.task.await.expect("the task panicked");
            let _ = reading.await.unwrap();
        }
    })
    .await;
}
