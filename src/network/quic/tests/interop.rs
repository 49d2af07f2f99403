use futures::{AsyncRead, AsyncWrite, StreamExt, future::join};
use libp2p::{
    Swarm,
    core::muxing::StreamMuxerBox,
    ping,
    swarm::{self, SwarmEvent},
};

use super::*;

/// Both ends open a stream, send a megabyte, finish and read the other's to the end.
async fn exchange<A: StreamMuxer + Unpin, B: StreamMuxer + Unpin>(mut near: A, mut far: B)
where
    A::Substream: Unpin,
    B::Substream: Unpin,
{
    let (near_stream, far_stream) = stream_pair(&mut near, &mut far).await;
    join(talk(near_stream), talk(far_stream)).await;
    let (far_stream, near_stream) = stream_pair(&mut far, &mut near).await;
    join(talk(far_stream), talk(near_stream)).await;
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let data = pattern(1 << 20);
    let (mut reader, mut writer) = stream.split();
    let mut read = Vec::new();
    let write = async {
        writer.write_all(&data).await.unwrap();
        writer.close().await.unwrap();
    };
    join(write, reader.read_to_end(&mut read)).await.1.unwrap();
    assert!(read == data);
}

const ADDRESSES: [&str; 2] = [LOCALHOST, "/ip6/::1/udp/0/quic-v1"];

#[tokio::test]
async fn libp2p_quic_is_dialled() {
    within(async {
        for address in ADDRESSES {
            let (mut dialer, mut listener) = (node(), stock());
            let (near, far) = connect(&mut dialer, &mut listener, address).await;
            exchange(near, far).await;
        }
    })
    .await;
}

#[tokio::test]
async fn libp2p_quic_dials() {
    within(async {
        for address in ADDRESSES {
            let (mut dialer, mut listener) = (stock(), node());
            let (near, far) = connect(&mut dialer, &mut listener, address).await;
            exchange(near, far).await;
        }
    })
    .await;
}

#[tokio::test]
async fn itself_is_dialled_with_every_kind_of_key() {
    within(async {
        for key in [Keypair::generate_ed25519(), Keypair::generate_secp256k1(), Keypair::generate_ecdsa()] {
            let mut listener = (key.public().to_peer_id(), Transport::new(Config::new(&key)).unwrap());
            let mut dialer = node();
            let (near, far) = connect(&mut dialer, &mut listener, LOCALHOST).await;
            exchange(near, far).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_dropped_here_is_reset_for_libp2p_quic() {
    within(async {
        let (mut dialer, mut listener) = (node(), stock());
        let (mut near, mut far) = connect(&mut dialer, &mut listener, LOCALHOST).await;
        let (near_stream, mut far_stream) = stream_pair(&mut near, &mut far).await;
        drop(near_stream);
        let error = far_stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn swarms_run_on_it() {
    within(async {
        let swarm = || {
            let key = Keypair::generate_ed25519();
            let transport = Transport::new(Config::new(&key)).unwrap();
            let transport = transport.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed();
            let config = swarm::Config::with_tokio_executor();
            Swarm::new(transport, ping::Behaviour::default(), key.public().to_peer_id(), config)
        };
        let (mut dialer, mut listener) = (swarm(), swarm());
        listener.listen_on("/ip4/0.0.0.0/udp/0/quic-v1".parse().unwrap()).unwrap();
        let address = loop {
            let event = listener.select_next_some().await;
            if let SwarmEvent::NewListenAddr { address, .. } = event
                && address.to_string().contains("127.0.0.1")
            {
                break address;
            }
        };
        dialer.dial(address.with(Protocol::P2p(*listener.local_peer_id()))).unwrap();
        let (mut pinged, mut closed) = (0, 0);
        while closed < 2 {
            let event = tokio::select! {
                event = dialer.select_next_some() => event,
                event = listener.select_next_some() => event,
            };
            match event {
                SwarmEvent::Behaviour(ping::Event { result, peer, .. }) => {
                    result.unwrap();
                    pinged += 1;
                    if pinged == 2 {
                        let _ = listener.disconnect_peer_id(peer);
                        let _ = dialer.disconnect_peer_id(peer);
                    }
                }
                SwarmEvent::ConnectionClosed { .. } => closed += 1,
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                SwarmEvent::IncomingConnectionError { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
    })
    .await;
}
