use std::io::ErrorKind;

use futures::{FutureExt, future::join};

use super::*;

#[tokio::test]
async fn the_end_of_data_is_read_for_ever() {
    within(async {
        let mut pair = Pair::new().await;
        pair.near_stream.write_all(b"all").await.unwrap();
        pair.near_stream.close().await.unwrap();
        pair.near_stream.close().await.unwrap();
        assert_eq!(pair.near_stream.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        let mut read = Vec::new();
        pair.far_stream.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"all");
        assert_eq!(pair.far_stream.read(&mut [0]).await.unwrap(), 0);
        // The other direction is still open.
        pair.far_stream.write_all(b"back").await.unwrap();
        pair.near_stream.read_exact(&mut [0; 4]).await.unwrap();
        close(&mut pair.near).await.unwrap();
        assert_eq!(pair.far_stream.read(&mut [0]).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_stream_never_looks_complete() {
    within(async {
        let mut pair = Pair::new().await;
        pair.near_stream.write_all(b"some").await.unwrap();
        drop(pair.near_stream);
        let error = pair.far_stream.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(pair.far_stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        // The drop also told us to stop.
        let error = write_until_it_fails(&mut pair.far_stream).await;
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        // The connection goes on.
        stream_pair(&mut pair.near, &mut pair.far).await;
    })
    .await;
}

#[tokio::test]
async fn a_dropped_stream_that_was_never_written_is_reset_too() {
    within(async {
        let mut pair = Pair::new().await;
        drop(open(&mut pair.near).await.unwrap());
        let mut stream = accept_stream(&mut pair.far).await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn closed_then_dropped_everything_still_arrives() {
    within(async {
        let mut pair = Pair::new().await;
        let data = pattern(6 << 20);
        let send = async {
            pair.near_stream.write_all(&data).await.unwrap();
            pair.near_stream.close().await.unwrap();
            drop(pair.near_stream);
        };
        let mut read = Vec::new();
        join(send, pair.far_stream.read_to_end(&mut read)).await.1.unwrap();
        assert!(read == data);
    })
    .await;
}

#[tokio::test]
async fn when_the_peer_stops_reading_only_writing_fails() {
    within(async {
        let mut pair = Pair::new().await;
        // The far end finishes its data and goes away without having read ours.
        pair.far_stream.write_all(b"last words").await.unwrap();
        pair.far_stream.close().await.unwrap();
        drop(pair.far_stream);
        let error = write_until_it_fails(&mut pair.near_stream).await;
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let mut read = Vec::new();
        pair.near_stream.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"last words");
        pair.near_stream.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_is_no_end_of_data() {
    within(async {
        let mut pair = Pair::new().await;
        // Once closed by the peer, once by ourselves.
        close(&mut pair.near).await.unwrap();
        for stream in [&mut pair.far_stream, &mut pair.near_stream] {
            assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
            assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
            assert_eq!(stream.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
            assert_eq!(stream.close().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        }
        assert!(accept_stream(&mut pair.far).await.is_err());
        assert!(open(&mut pair.far).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn an_idle_timeout_is_a_lost_connection() {
    within(async {
        let mut pair = Pair::with(|config| config.max_idle_timeout = Duration::from_millis(300)).await;
        assert_eq!(pair.near_stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert!(accept_stream(&mut pair.far).await.is_err_and(|e| e.to_string().contains("timed out")));
    })
    .await;
}

#[tokio::test]
async fn keep_alive_holds_an_idle_connection() {
    within(async {
        let mut pair = Pair::with(|config| {
            config.max_idle_timeout = Duration::from_millis(500);
            config.keep_alive_interval = Duration::from_millis(50);
        })
        .await;
        let silence = tokio::time::timeout(Duration::from_millis(1500), pair.near_stream.read(&mut [0])).await;
        assert!(silence.is_err(), "{silence:?}");
        stream_pair(&mut pair.near, &mut pair.far).await;
    })
    .await;
}

#[tokio::test]
async fn opening_beyond_the_peers_limit_waits_without_harm() {
    within(async {
        let mut pair = Pair::with(|config| config.max_concurrent_streams = 2).await;
        let (mut second, mut far_second) = stream_pair(&mut pair.near, &mut pair.far).await;
        assert!(open(&mut pair.near).now_or_never().is_none());
        // The streams that are open go on, and so does the other direction.
        second.write_all(b"x").await.unwrap();
        far_second.read_exact(&mut [0]).await.unwrap();
        stream_pair(&mut pair.far, &mut pair.near).await;
        assert!(open(&mut pair.near).now_or_never().is_none());
        drop((second, far_second));
        let mut third = open(&mut pair.near).await.unwrap();
        third.write_all(b"x").await.unwrap();
        accept_stream(&mut pair.far).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_peer_may_open_more_streams_as_it_uses_them() {
    within(async {
        let mut pair = Pair::new().await;
        let mut streams = vec![stream_pair(&mut pair.near, &mut pair.far).await];
        let first = Config::new(&libp2p::identity::Keypair::generate_ed25519()).first_streams() as usize;
        let mut opened = Vec::new();
        while let Some(stream) = open(&mut pair.near).now_or_never() {
            opened.push(stream.unwrap());
        }
        // One of them the pair has itself.
        assert!((first - 2..first).contains(&opened.len()), "{} streams could be opened at first", opened.len());
        for mut near in opened {
            near.write_all(b"x").await.unwrap();
            streams.push((near, accept_stream(&mut pair.far).await.unwrap()));
        }
        open(&mut pair.near).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn thousands_of_streams_are_open_at_once() {
    within(async {
        let mut pair = Pair::new().await;
        let mut streams = Vec::new();
        for _ in 0..5000 {
            streams.push(stream_pair(&mut pair.near, &mut pair.far).await);
        }
        for (near, far) in &mut streams {
            near.write_all(b"x").await.unwrap();
            far.read_exact(&mut [0]).await.unwrap();
        }
    })
    .await;
}

async fn write_until_it_fails(stream: &mut Stream) -> std::io::Error {
    loop {
        if let Err(error) = stream.write(&[0; 1000]).await {
            return error;
        }
        tokio::task::yield_now().await;
    }
}
