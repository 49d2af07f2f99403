use std::{io::ErrorKind, net::UdpSocket, time::Instant};

use futures::future::join;

use super::{super::port::Port, *};

/// Sends more than one flight of packets in a stream and closes it, then ends the connection with `end`.
async fn finished_data_survives(end: impl AsyncFnOnce(Muxer)) {
    let Pair { dialer: _dialer, listener: _listener, near, far: _far, mut near_stream, mut far_stream } =
        Pair::new().await;
    let data = pattern(6 << 20);
    let send = async {
        near_stream.write_all(&data).await.unwrap();
        near_stream.close().await.unwrap();
        drop(near_stream);
        end(near).await;
    };
    let mut read = Vec::new();
    join(send, far_stream.read_to_end(&mut read)).await.1.unwrap();
    assert!(read == data);
}

#[tokio::test]
async fn closing_a_connection_first_delivers_finished_streams() {
    within(finished_data_survives(async |mut muxer| close(&mut muxer).await.unwrap())).await;
}

#[tokio::test]
async fn dropping_a_connection_first_delivers_finished_streams() {
    within(finished_data_survives(async |muxer| drop(muxer))).await;
}

#[tokio::test]
async fn what_has_arrived_can_be_read_after_the_connection_is_gone() {
    within(async {
        let mut pair = Pair::new().await;
        let data = pattern(100_000);
        pair.near_stream.write_all(&data).await.unwrap();
        pair.near_stream.close().await.unwrap();
        close(&mut pair.near).await.unwrap();
        // The far connection is known to be lost before anything is read from the stream.
        assert!(accept_stream(&mut pair.far).await.is_err());
        let mut read = Vec::new();
        pair.far_stream.read_to_end(&mut read).await.unwrap();
        assert!(read == data);
    })
    .await;
}

#[tokio::test]
async fn closing_does_not_wait_for_ever_for_a_silent_peer() {
    within(async {
        let limit = Duration::from_millis(200);
        let mut pair = Pair::with(|config| config.close_timeout = limit).await;
        the_port(&pair.listener.1).socket.close();
        pair.near_stream.write_all(b"lost").await.unwrap();
        pair.near_stream.close().await.unwrap();
        let start = Instant::now();
        close(&mut pair.near).await.unwrap();
        assert!(start.elapsed() >= limit, "nothing could have been acknowledged");
        assert!(start.elapsed() < limit + Duration::from_secs(5));
    })
    .await;
}

#[tokio::test]
async fn closing_without_finished_streams_is_immediate() {
    within(async {
        let mut pair = Pair::new().await;
        pair.near_stream.write_all(b"unfinished").await.unwrap();
        let start = Instant::now();
        close(&mut pair.near).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(1));
        let error = pair.far_stream.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    })
    .await;
}

/// A node that was killed and started again tells its old peers that their connections are gone.
#[tokio::test]
async fn a_restarted_node_ends_the_connections_of_its_former_self() {
    within(async {
        let key = Keypair::generate_ed25519();
        let start = || (key.public().to_peer_id(), Transport::new(Config::new(&key)).unwrap());
        let (mut dialer, mut killed) = (node(), start());
        // Only a port that is named has keys that survive a restart.
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1");
        let (mut near, mut far) = connect(&mut dialer, &mut killed, &address).await;
        let (mut near_stream, _far_stream) = stream_pair(&mut near, &mut far).await;
        the_port(&killed.1).socket.close();
        let mut restarted = start();
        listen(&mut restarted.1, &address).await;
        let started = Instant::now();
        near_stream.write_all(&[0; 1000]).await.unwrap();
        assert_eq!(near_stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert!(started.elapsed() < Duration::from_secs(10), "that was the idle timeout");
    })
    .await;
}

#[tokio::test]
async fn dropping_a_transport_frees_its_ports_and_ends_its_tasks() {
    within(async {
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let mut pair = Pair::new().await;
        let address = format!("/ip4/127.0.0.1/udp/{}/quic-v1", the_port(&pair.listener.1).local().port());
        // One more connection, from a port of its own.
        let own = DialOpts { port_use: PortUse::New, ..DIAL };
        let dialled = pair.dialer.1.dial(address.parse().unwrap(), own).unwrap();
        let (third, fourth) = join(dialled, accept(&mut pair.listener.1)).await;
        let (third, fourth) = (third.unwrap().1, fourth.unwrap());
        let from = super::super::address::parse(&fourth.2).unwrap().0.port();
        let ports = [the_port(&pair.listener.1).local().port(), dial_port(&pair.dialer.1), from];
        assert!(ports.iter().all(|port| UdpSocket::bind(("0.0.0.0", *port)).is_err()));
        drop((pair.dialer, pair.listener));
        // The connections are told.
        assert_eq!(pair.near_stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(pair.far_stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        drop((pair.near, pair.far, pair.near_stream, pair.far_stream, third, fourth));
        while tasks() > before || ports.iter().any(|port| UdpSocket::bind(("0.0.0.0", *port)).is_err()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_port_of_its_own_goes_with_its_connection() {
    within(async {
        let (mut dialer, mut listener) = (node(), node());
        let (_, address) = listen(&mut listener.1, LOCALHOST).await;
        let own = DialOpts { port_use: PortUse::New, ..DIAL };
        let dialled = dialer.1.dial(address, own).unwrap();
        let (near, far) = join(dialled, accept(&mut listener.1)).await;
        let port = super::super::address::parse(&far.unwrap().2).unwrap().0.port();
        drop(near);
        while UdpSocket::bind(("0.0.0.0", port)).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn the_port(transport: &Transport) -> &Port {
    &transport.listeners[0].port
}

fn dial_port(transport: &Transport) -> u16 {
    transport.dialers[0].as_ref().unwrap().local().port()
}
