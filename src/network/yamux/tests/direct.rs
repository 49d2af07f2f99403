//! The way without copies: out of the boxes, from a source, to a sink.

use futures::io::Cursor;

use super::*;
use crate::network::yamux::{
    chunk::{CHUNK, Pool, SMALL},
    frame::HEADER,
    fuzzing::{read_direct, write_direct},
    unbox,
};

type Boxed = Box<dyn AsyncRead + Send + Unpin>;

#[tokio::test]
async fn a_stream_comes_out_of_its_boxes_with_what_it_has_and_what_it_owes() {
    limited(async {
        let (a, mut b) = pair(Config::default());
        let (mut out, inn) = connected(&a, &mut b).await;
        out.write_all(b"first then second").await.unwrap();
        let mut boxed: Boxed = Box::new(Box::new(inn) as Boxed);
        boxed.read_exact(&mut [0; 6]).await.unwrap();
        let mut inn = unbox(&mut boxed).expect("there is a stream in the boxes");
        assert!(unbox(&mut boxed).is_none(), "it is out already");
        // What stayed behind owes nothing: the stream lives on without it.
        drop(boxed);
        let mut rest = [0; 11];
        inn.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"then second");
        inn.write_all(b"answer").await.unwrap();
        out.read_exact(&mut [0; 6]).await.unwrap();
        drop(inn);
        assert_eq!(read_error(&mut out).await, io::ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn nothing_comes_out_of_boxes_without_a_stream() {
    limited(async {
        let (a, mut b) = pair(Config::default());
        let (_out, mut inn) = connected(&a, &mut b).await;
        assert!(unbox(&mut Cursor::new([1, 2, 3])).is_none());
        // Nor does reading nothing change a stream that nobody has asked for.
        assert_eq!(inn.read(&mut []).await.unwrap(), 0);
        assert!(unbox(&mut Cursor::new([1, 2, 3])).is_none());
        assert!(unbox(&mut inn).is_some());
    })
    .await;
}

/// How much a source is asked for, in how many parts.
fn asked(stream: &mut Stream, fill: bool) -> (usize, usize) {
    let mut asked = (0, 0);
    let _ = poll_once(|cx| {
        let Poll::Ready(Ok(room)) = stream.poll_room(cx) else { panic!("there is no room") };
        stream.poll_write_from(room, |parts| {
            asked = (parts.iter().map(|part| part.len()).sum(), parts.len());
            match fill {
                true => Poll::Ready(Ok(asked.0)),
                false => Poll::Pending,
            }
        })
    });
    asked
}

#[tokio::test]
async fn a_source_that_fills_its_room_is_asked_for_more_and_never_for_more_than_there_is() {
    limited(async {
        let (a, _raw) = pipe(100);
        let a = Peer::run(client(a, Config::default()));
        // The other end gives a window of 256 KiB and reads nothing.
        let mut stream = a.open().await;
        assert_eq!(asked(&mut stream, true), (8 * 1024, 1));
        assert_eq!(asked(&mut stream, true), (32 * 1024, 1));
        let frame = 64 * 1024 - HEADER;
        assert_eq!(asked(&mut stream, true), (2 * frame, 2));
        assert_eq!(asked(&mut stream, true), (frame, 1));
        assert_eq!(asked(&mut stream, true), (216 * 1024 - 3 * frame, 1));
        assert!(poll_once(|cx| stream.poll_room(cx)).is_pending(), "more than the window was taken");
    })
    .await;
}

#[tokio::test]
async fn a_source_that_has_nothing_leaves_no_trace() {
    limited(async {
        let (a, mut b) = pair(Config::default());
        let (mut out, mut inn) = connected(&a, &mut b).await;
        for _ in 0..3 {
            assert_eq!(asked(&mut out, false), (8 * 1024, 1));
        }
        assert_eq!(out.buffer_capacity(), 0);
        out.close().await.unwrap();
        assert_eq!(read_pattern(&mut inn, 0).await, 0);
    })
    .await;
}

#[tokio::test]
async fn little_data_holds_little_memory() {
    limited(async {
        let (a, _raw) = pipe(100);
        let a = Peer::run(client(a, Config::default()));
        let mut streams = Vec::new();
        for _ in 0..20 {
            let mut stream = a.open().await;
            for _ in 0..10 {
                assert!(matches!(poll_once(|cx| write_direct(&mut stream, cx, b"a few bytes")), Poll::Ready(Ok(11))));
            }
            streams.push(stream);
        }
        let held: usize = streams.iter().map(Stream::buffer_capacity).sum();
        assert!(held <= 20 * 1024, "{held} bytes for 2200");
    })
    .await;
}

#[tokio::test]
async fn what_a_sink_takes_in_parts_opens_the_window_again() {
    limited(async {
        let (a, mut b) = pair(Config::default());
        let (mut out, mut inn) = connected(&a, &mut b).await;
        let total = 3_000_000;
        let sending = tokio::spawn(async move {
            write_pattern(&mut out, 7, total).await;
            out.close().await.unwrap();
        });
        let mut buf = vec![0; 10_007];
        let mut received = 0;
        loop {
            let n = poll_fn(|cx| read_direct(&mut inn, cx, &mut buf)).await.unwrap();
            if n == 0 {
                break;
            }
            for (i, byte) in buf[..n].iter().enumerate() {
                assert_eq!(*byte, pattern(7, received + i as u64), "byte {}", received + i as u64);
            }
            received += n as u64;
        }
        assert_eq!(received, total);
        sending.await.unwrap();
    })
    .await;
}

/// Chunks go round under load: what is overwritten next is not cleared first.
#[test]
fn what_a_chunk_held_stays_behind_what_is_copied_into_it() {
    let pool = Pool::default();
    let mut chunk = pool.take_filled(CHUNK);
    chunk.fill(7);
    pool.put(chunk);
    let part = pool.copy(&[1; SMALL]);
    assert_eq!(*part, [1; SMALL]);
    pool.put(part.into_chunk());
    let chunk = pool.take_filled(CHUNK);
    assert!(chunk[..SMALL].iter().all(|byte| *byte == 1) && chunk[SMALL..].iter().all(|byte| *byte == 7));
}
