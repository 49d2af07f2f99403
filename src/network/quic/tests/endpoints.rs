use std::{
    collections::HashSet,
    net::{IpAddr, UdpSocket},
    sync::Arc,
    time::Instant,
};

use futures::future::join;
use libp2p::core::transport::TransportError;
use quinn::rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};

use super::{
    super::{Error, address},
    *,
};

fn port_of(address: &Multiaddr) -> u16 {
    address::parse(address).unwrap().0.port()
}

#[tokio::test]
async fn a_wildcard_stands_for_each_interface_and_port_0_for_a_real_one() {
    within(async {
        for (wildcard, loopback) in [("/ip4/0.0.0.0/udp/0/quic-v1", "127.0.0.1"), ("/ip6/::/udp/0/quic-v1", "::1")] {
            let (_, mut transport) = node();
            let (id, first) = listen(&mut transport, wildcard).await;
            let loopback: IpAddr = loopback.parse().unwrap();
            let mut seen = HashSet::from([first.clone()]);
            while !seen.contains(&address::format((loopback, port_of(&first)).into())) {
                let TransportEvent::NewAddress { listen_addr, listener_id } = next(&mut transport).await else {
                    panic!("only addresses are due");
                };
                assert_eq!(listener_id, id);
                assert!(seen.insert(listen_addr), "an address was reported twice");
            }
            for address in &seen {
                let socket = address::parse(address).unwrap().0;
                assert!(socket.port() == port_of(&first) && socket.port() != 0 && !socket.ip().is_unspecified());
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_removed_listener_frees_its_port_at_once() {
    within(async {
        let (_, mut transport) = node();
        let (id, address) = listen(&mut transport, LOCALHOST).await;
        assert!(UdpSocket::bind(("127.0.0.1", port_of(&address))).is_err());
        assert!(transport.remove_listener(id));
        UdpSocket::bind(("127.0.0.1", port_of(&address))).unwrap();
        let TransportEvent::ListenerClosed { listener_id, reason: Ok(()) } = next(&mut transport).await else {
            panic!()
        };
        assert_eq!(listener_id, id);
        // The same port again.
        assert_eq!(listen(&mut transport, &address.to_string()).await.1, address);
        assert!(!transport.remove_listener(ListenerId::next()));
    })
    .await;
}

#[tokio::test]
async fn a_removed_listener_with_connections_closes_them_before_it_reports_its_end() {
    within(async {
        let mut pair = Pair::new().await;
        let id = pair.listener.1.listeners[0].id;
        let port = pair.listener.1.listeners[0].port.local().port();
        let start = Instant::now();
        pair.listener.1.remove_listener(id);
        while !matches!(next(&mut pair.listener.1).await, TransportEvent::ListenerClosed { .. }) {}
        UdpSocket::bind(("127.0.0.1", port)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(2));
        let error = pair.near_stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
        assert!(start.elapsed() < Duration::from_secs(5), "the peer was not told");
    })
    .await;
}

#[tokio::test]
async fn a_used_port_is_refused_in_plain_words() {
    within(async {
        let used = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (_, mut transport) = node();
        let address = address::format(used.local_addr().unwrap());
        let Err(TransportError::Other(error)) = transport.listen_on(ListenerId::next(), address) else { panic!() };
        let text = error.to_string();
        assert!(text.contains(&used.local_addr().unwrap().to_string()) && text.contains("in use"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn other_addresses_are_left_to_other_transports() {
    let (_, mut transport) = node();
    for text in ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1/webtransport", "/dns/localhost/udp/1/quic-v1"] {
        let address: Multiaddr = text.parse().unwrap();
        let result = transport.listen_on(ListenerId::next(), address.clone());
        assert!(matches!(result, Err(TransportError::MultiaddrNotSupported(a)) if a == address));
        let result = transport.dial(address.clone(), DIAL);
        assert!(matches!(result, Err(TransportError::MultiaddrNotSupported(a)) if a == address));
    }
}

#[tokio::test]
async fn a_dial_port_that_has_failed_is_replaced() {
    within(async {
        let ((_, mut dialer), (_, mut listener)) = (node(), node());
        let (_, address) = listen(&mut listener, LOCALHOST).await;
        let before = seen_port(&mut dialer, &mut listener, &address, PortUse::Reuse).await;
        dialer.dialers[0].as_ref().unwrap().endpoint.close(0u32.into(), b"");
        let error = dialer.dial(address.clone(), DIAL).unwrap().await.err().unwrap();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        assert_ne!(seen_port(&mut dialer, &mut listener, &address, PortUse::Reuse).await, before);
    })
    .await;
}

/// Dials `listener` from `dialer` and returns the port the listener sees.
async fn seen_port(dialer: &mut Transport, listener: &mut Transport, address: &Multiaddr, port_use: PortUse) -> u16 {
    let dialled = dialer.dial(address.clone(), DialOpts { port_use, ..DIAL }).unwrap();
    let (near, far) = join(dialled, accept(listener)).await;
    near.unwrap();
    port_of(&far.unwrap().2)
}

#[tokio::test]
async fn dials_leave_from_the_listening_port_where_there_is_one() {
    within(async {
        for (wildcard, loopback) in [
            ("/ip4/0.0.0.0/udp/0/quic-v1", LOCALHOST),
            ("/ip6/::/udp/0/quic-v1", "/ip6/::1/udp/0/quic-v1"),
            (LOCALHOST, LOCALHOST),
        ] {
            let ((_, mut dialer), (_, mut listener)) = (node(), node());
            let (_, address) = listen(&mut listener, loopback).await;
            let before = seen_port(&mut dialer, &mut listener, &address, PortUse::Reuse).await;
            assert_eq!(seen_port(&mut dialer, &mut listener, &address, PortUse::Reuse).await, before);
            let (id, own) = listen(&mut dialer, wildcard).await;
            assert_eq!(seen_port(&mut dialer, &mut listener, &address, PortUse::Reuse).await, port_of(&own));
            let new = seen_port(&mut dialer, &mut listener, &address, PortUse::New).await;
            assert!(new != port_of(&own) && new != before);
            dialer.remove_listener(id);
            assert_eq!(seen_port(&mut dialer, &mut listener, &address, PortUse::Reuse).await, before);
        }
    })
    .await;
}

#[tokio::test]
async fn a_loopback_listener_is_not_used_for_other_destinations() {
    within(async {
        let (_, mut transport) = node();
        listen(&mut transport, LOCALHOST).await;
        let listener = &transport.listeners[0];
        assert!(listener.can_dial("127.0.0.2:1".parse().unwrap()));
        assert!(!listener.can_dial("192.0.2.1:1".parse().unwrap()));
        assert!(!listener.can_dial("[::1]:1".parse().unwrap()));
    })
    .await;
}

#[tokio::test]
async fn the_wrong_peer_fails_the_handshake() {
    within(async {
        let (mut dialer, mut listener) = (node(), node());
        let (_, address) = listen(&mut listener.1, LOCALHOST).await;
        let expected = Keypair::generate_ed25519().public().to_peer_id();
        let dialled = dial(&mut dialer.1, &address, expected);
        let (near, far) = join(dialled, accept(&mut listener.1)).await;
        let error = near.err().unwrap();
        assert!(matches!(error, Error::WrongPeer { expected: ref e, .. } if **e == expected), "{error}");
        assert!(error.to_string().ends_with(&format!("is peer {}, not {expected}", listener.0)), "{error}");
        drop(far);
        // Without a peer id anybody is welcome.
        let dialled = dialer.1.dial(address, DIAL).unwrap();
        let (near, far) = join(dialled, accept(&mut listener.1)).await;
        assert_eq!((near.unwrap().0, far.unwrap().0), (listener.0, dialer.0));
    })
    .await;
}

#[tokio::test]
async fn silence_ends_a_dial_at_its_time_limit() {
    within(async {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (peer, mut transport) = node_with(|config| config.handshake_timeout = Duration::from_millis(200));
        let start = Instant::now();
        let error = dial(&mut transport, &address::format(silent.local_addr().unwrap()), peer).await.err().unwrap();
        assert!(matches!(error, Error::HandshakeTimedOut { .. }), "{error}");
        assert!(start.elapsed() >= Duration::from_millis(200) && start.elapsed() < Duration::from_secs(5));
        assert!(error.to_string().ends_with("within 0.2 s"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_is_not_of_libp2p_is_named_as_such() {
    within(async {
        let key = Keypair::generate_ed25519();
        let server_key = key.clone();
        let other_protocol = move || {
            let mut config = libp2p::tls::make_server_config(&server_key).map_err(|e| e.to_string())?;
            config.alpn_protocols = vec![b"h3".to_vec()];
            Ok(config)
        };
        let client_key = key.clone();
        let client = Arc::new(move || libp2p::tls::make_client_config(&client_key, None).map_err(|e| e.to_string()));
        let mut other = Transport::new(Config::new(&key).with_tls(client, Arc::new(other_protocol))).unwrap();
        let (_, address) = listen(&mut other, LOCALHOST).await;
        let (_, mut transport) = node();
        let dialled = dial(&mut transport, &address, key.public().to_peer_id());
        let (near, far) = join(dialled, accept(&mut other)).await;
        for error in [near.err().unwrap(), far.err().unwrap()] {
            assert!(error.to_string().ends_with("it does not speak libp2p"), "{error}");
        }
    })
    .await;
}

/// Presents two certificates, where libp2p asks for exactly one.
#[derive(Debug)]
struct Chain(Arc<CertifiedKey>);

impl ResolvesServerCert for Chain {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_of_libp2p_is_refused_in_plain_words() {
    within(async {
        let key = Keypair::generate_ed25519();
        let server_key = key.clone();
        let server = move || {
            let (certificate, private) = libp2p::tls::certificate::generate(&server_key).map_err(|e| e.to_string())?;
            let key = aws_lc_rs::sign::any_ecdsa_type(&private).map_err(|e| e.to_string())?;
            let chain = CertifiedKey::new(vec![certificate.clone(), certificate], key);
            let provider = Arc::new(aws_lc_rs::default_provider());
            let mut config = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&TLS13])
                .map_err(|e| e.to_string())?
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(Chain(Arc::new(chain))));
            config.alpn_protocols = vec![b"libp2p".to_vec()];
            Ok(config)
        };
        let client_key = key.clone();
        let client = Arc::new(move || libp2p::tls::make_client_config(&client_key, None).map_err(|e| e.to_string()));
        let mut other = Transport::new(Config::new(&key).with_tls(client, Arc::new(server))).unwrap();
        let (_, address) = listen(&mut other, LOCALHOST).await;
        let (_, mut transport) = node();
        let dialled = dial(&mut transport, &address, key.public().to_peer_id());
        let (near, far) = join(dialled, accept(&mut other)).await;
        let error = near.err().unwrap().to_string();
        assert!(error.contains("refused here") && error.contains("more than one certificate"), "{error}");
        let error = far.err().unwrap().to_string();
        assert!(error.contains("refused the certificate"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn holes_are_punched_until_the_connection_comes_in() {
    within(async {
        let (mut punching, mut dialling) = (node(), node());
        let (_, near_address) = listen(&mut punching.1, LOCALHOST).await;
        let (_, far_address) = listen(&mut dialling.1, LOCALHOST).await;
        let role = Endpoint::Listener;
        let punch = |transport: &mut Transport, peer| {
            transport.dial(far_address.clone().with(Protocol::P2p(peer)), DialOpts { role, ..DIAL })
        };
        let punched = punch(&mut punching.1, dialling.0).unwrap();
        let again = punch(&mut punching.1, dialling.0);
        assert!(matches!(again, Err(TransportError::Other(Error::AlreadyPunching { .. }))));
        let dialled = dial(&mut dialling.1, &near_address, punching.0);
        let both = join(punched, dialled);
        tokio::select! {
            event = next(&mut punching.1) => panic!("{event:?} is no matter of the swarm"),
            (punched, dialled) = both => {
                let ((near_id, mut near), (far_id, mut far)) = (punched.unwrap(), dialled.unwrap());
                assert_eq!((near_id, far_id), (dialling.0, punching.0));
                stream_pair(&mut near, &mut far).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn punching_packets_are_random_and_keep_coming_from_the_listening_port() {
    within(async {
        let (peer, mut transport) = node();
        let nat = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (_, address) = listen(&mut transport, LOCALHOST).await;
        let remote = address::format(nat.local_addr().unwrap()).with(Protocol::P2p(peer));
        let options = DialOpts { role: Endpoint::Listener, ..DIAL };
        let punching = tokio::spawn(transport.dial(remote.clone(), options).unwrap());
        let (mut first, mut second) = ([0; 100], [0; 100]);
        let (length, from) = nat.recv_from(&mut first).await.unwrap();
        assert_eq!((length, from.port()), (64, port_of(&address)));
        nat.recv_from(&mut second).await.unwrap();
        assert_ne!(first, second);
        punching.abort();
        assert!(punching.await.is_err());
        // The attempt given up is no obstacle to the next.
        drop(transport.dial(remote, options).unwrap());
        let (_, mut no_listener) = node();
        let result = no_listener.dial(address, options);
        assert!(matches!(result, Err(TransportError::Other(Error::NoListener { .. }))));
    })
    .await;
}
