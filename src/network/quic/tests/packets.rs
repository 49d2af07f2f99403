//! How large packets become.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::net::UdpSocket;

use super::*;
use crate::network::quic::{address, mtu};

const AMOUNT: usize = 4 << 20;

/// A path to `destination` for one dialer, on which larger packets than `carries` are lost.
async fn path_to(destination: SocketAddr, carries: Arc<AtomicUsize>) -> SocketAddr {
    let (near, far) = (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)), UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
    let (near, far) = (near.await.unwrap(), far.await.unwrap());
    let path = near.local_addr().unwrap();
    far.connect(destination).await.unwrap();
    tokio::spawn(async move {
        let mut dialer = None;
        let [mut there, mut back] = [[0; 65536]; 2];
        loop {
            let passes = |size: &usize| *size <= carries.load(Ordering::Relaxed);
            tokio::select! {
                Ok((size, from)) = near.recv_from(&mut there) => {
                    dialer = Some(from);
                    if passes(&size) {
                        let _ = far.send(&there[..size]).await;
                    }
                }
                Ok(size) = far.recv(&mut back) => {
                    if let (Some(dialer), true) = (dialer, passes(&size)) {
                        let _ = near.send_to(&back[..size], dialer).await;
                    }
                }
                else => return,
            }
        }
    });
    path
}

/// Sends much, and says how large packets were in the end.
async fn send(from: &Muxer, near: &mut Stream, far: &mut Stream) -> u16 {
    let (sent, mut received) = (pattern(AMOUNT), vec![0; AMOUNT]);
    let (near, far) =
        try_join(near.write_all(&sent), far.read_exact(&mut received)).await.map(|_| (near, far)).unwrap();
    assert!(sent == received);
    // The last of it is acknowledged.
    far.write_all(b"!").await.unwrap();
    near.read_exact(&mut [0]).await.unwrap();
    size(from)
}

fn size(from: &Muxer) -> u16 {
    from.shared.connection.stats().path.current_mtu
}

#[tokio::test]
async fn within_the_machine_packets_grow_both_ways() {
    within(async {
        let Pair { dialer: _dialer, listener: _listener, near, far, mut near_stream, mut far_stream } =
            Pair::new().await;
        // What is tried is not lost while the connection has little to do.
        while [&near, &far].map(size).iter().any(|size| *size <= mtu::LARGEST - 100) {
            near_stream.write_all(b"?").await.unwrap();
            far_stream.read_exact(&mut [0]).await.unwrap();
            far_stream.write_all(b"!").await.unwrap();
            near_stream.read_exact(&mut [0]).await.unwrap();
        }
        let size = send(&near, &mut near_stream, &mut far_stream).await;
        assert!(size > mtu::LARGEST - 100, "{size}");
        let size = send(&far, &mut far_stream, &mut near_stream).await;
        assert!(size > mtu::LARGEST - 100, "{size}");
    })
    .await;
}

#[tokio::test]
async fn a_path_that_loses_large_packets_carries_everything() {
    within(async {
        let (mut dialer, mut listener) = (node(), node());
        let (_, address) = listen(&mut listener.1, LOCALHOST).await;
        let carries = Arc::new(AtomicUsize::new(1400));
        let path = path_to(address::parse(&address).unwrap().0, carries.clone()).await;
        let dialled = dial(&mut dialer.1, &address::format(path), listener.0);
        let dialled = async { dialled.await.map_err(|error| error.to_string()) };
        let accepted = async { accept(&mut listener.1).await.map_err(|error| error.to_string()) };
        let ((_, mut near), (_, mut far, _)) = try_join(dialled, accepted).await.unwrap();
        let (mut near_stream, mut far_stream) = stream_pair(&mut near, &mut far).await;
        let size = send(&near, &mut near_stream, &mut far_stream).await;
        assert!((1200..=1400).contains(&size), "{size}");
        // Later it carries less.
        carries.store(1250, Ordering::Relaxed);
        let size = send(&near, &mut near_stream, &mut far_stream).await;
        assert!((1200..=1250).contains(&size), "{size}");
    })
    .await;
}
