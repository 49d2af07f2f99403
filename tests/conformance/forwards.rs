//! Forwards that verify, reconnect, and take their options from the environment.

use super::*;

#[test]
fn a_verified_forward_is_made_only_if_it_works() {
    for given in [TCP, QUIC] {
        let _limit = limit(60);
        let pair = Pair::open(given);
        let target = Target::new();
        let verify = &[("verify", "true"), ("open.timeout", "15s")];
        let peer = pair.far.address();
        let listen = format!("{}:0", own_ip());
        let make = || forward(&pair.near, ["p2p-test", &listen, &peer], verify);
        let error = assert_error(make(), Status::ProtocolRefused, "does not offer protocol /x/p2p-test");
        assert!(error.message.starts_with("forward /x/p2p-test on 127."), "{error}");
        pair.far.expose("p2p-test", &target.text(), &[]);
        let mount = make().unwrap();
        assert_eq!(text(&pair.near.forwards()[0], "state"), "connected");
        // What verifying opened ends at once.
        assert!(expect_probe_end(target.accept()));
        wait_until("the probe has gone", || int(&pair.far.listeners()[0], "streams") == 0);
        assert_eq!(text(&pair.far.listeners()[0], "error"), "", "a probe is no error");
        let (client, server) = connect(mount.address().parse().unwrap(), &target);
        assert_carries(client, server);
        block(pair.near.close_mount(&mount, true));
        pair.far.close_now();
        if given == TCP {
            let error = assert_error(make(), Status::Unreachable, "is unreachable: /ip4/127.0.0.1/tcp/");
            assert!(error.message.ends_with("Connection refused"), "{error}");
        }
        assert!(pair.near.forwards().is_empty());
    }
}

/// The connection that a verification made at the target ends in order, without a byte.
fn expect_probe_end(mut probe: TcpStream) -> bool {
    probe.read(&mut [0]).unwrap() == 0
}

#[test]
fn verifying_takes_no_longer_than_its_timeout_and_leaves_nothing() {
    let _limit = limit(30);
    let node = TestNode::open(&[]);
    let hole = BlackHole::new();
    let silent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let quic = format!("/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{PEER}", silent.local_addr().unwrap().port());
    for peer in [hole.peer(), quic] {
        let address = SocketAddr::from((own_ip(), 20202));
        let start = Instant::now();
        let verify = &[("verify", "true"), ("open.timeout", "300ms")];
        let made = forward(&node, ["p2p-test", &address.to_string(), &peer], verify);
        let took = start.elapsed();
        assert_error(made, Status::TimedOut, "could be opened within 300 ms");
        assert!((250..3_000).contains(&took.as_millis()), "{took:?}");
        assert!(node.forwards().is_empty() && freed(address));
    }
}

#[test]
fn a_forward_connects_again_when_its_peer_is_back() {
    for given in [TCP, QUIC] {
        let _limit = limit(60);
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        let host = own_ip();
        let open = |address: String| {
            let identity = ("identity.file", key.to_str().unwrap());
            TestNode::open(&[given, &[identity, ("listen.addresses", &address)]].concat())
        };
        let far = open(if given == TCP { format!("/ip4/{host}/tcp/0") } else { format!("/ip4/{host}/udp/0/quic-v1") });
        let echo = Target::echo();
        far.expose("p2p-test", &echo.text(), &[]);
        let near = TestNode::open(given);
        let events = near.events(kind::MOUNT);
        let (_, address) = near.forward_to("p2p-test", &far.address(), &[]);
        events.wait_state("idle");
        assert_echoes(address);
        events.wait_state("connecting");
        events.wait_state("connected");
        let home = far.address();
        let id = far.id_text();
        drop(far);
        let lost = events.wait_state("disconnected");
        let sentence = format!("the connection to peer {id} was lost");
        assert!(text(&lost, "message").starts_with(&sentence), "{lost:?}");
        let error = text(&near.forwards()[0], "error");
        assert!(error.contains(&id), "{error}");
        let far = open(home.split("/p2p/").next().unwrap().to_owned());
        far.expose("p2p-test", &echo.text(), &[]);
        // By itself: no client asks for it.
        events.wait_state("connected");
        assert_eq!(near.peer_rows().len(), 1);
        assert_echoes(address);
    }
}

#[test]
fn a_forward_that_shall_not_reconnect_waits_for_the_next_client() {
    let _limit = limit(60);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let open = |address: &str| {
        let identity = ("identity.file", key.to_str().unwrap());
        TestNode::open(&[TCP, &[identity, ("listen.addresses", address)]].concat())
    };
    let far = open(&format!("/ip4/{}/tcp/0", own_ip()));
    let echo = Target::echo();
    far.expose("p2p-test", &echo.text(), &[]);
    let near = TestNode::open(TCP);
    let (_, address) = near.forward_to("p2p-test", &far.address(), &[("reconnect", "false")]);
    assert_echoes(address);
    let events = near.events(kind::MOUNT | kind::PEER);
    let home = far.address();
    drop(far);
    events.wait_state("disconnected");
    let far = open(home.split("/p2p/").next().unwrap());
    far.expose("p2p-test", &echo.text(), &[]);
    thread::sleep(Duration::from_millis(1500));
    assert!(near.peer_rows().is_empty());
    assert_echoes(address);
}

#[test]
fn the_environment_gives_defaults_which_options_override() {
    let _limit = limit(30);
    let environment = |name: &str| match name {
        "P2PMOUNT_NETWORK" => Some("local".to_owned()),
        "P2PMOUNT_TRANSPORTS" => Some("tcp".to_owned()),
        "P2PMOUNT_OPEN_TIMEOUT" => Some("300ms".to_owned()),
        "P2PMOUNT_STREAMS_PER_MOUNT" => Some("7".to_owned()),
        _ => None,
    };
    let node = block(Node::open(&options(&[("streams.per_mount", "9")]), &environment)).unwrap();
    assert_eq!(node.get("network").unwrap(), ("local".into(), Source::Environment));
    assert_eq!(node.get("open.timeout").unwrap(), ("300ms".into(), Source::Environment));
    assert_eq!(node.get("streams.per_mount").unwrap(), ("9".into(), Source::Options));
    assert!(node.addresses().iter().all(|address| address.to_string().contains("/tcp/")));
    // It holds for the mounts, too.
    let hole = BlackHole::new();
    let made = forward(&node, ["p2p-test", "0", &hole.peer()], &[("verify", "true")]);
    assert_error(made, Status::TimedOut, "could be opened within 300 ms");
    block(node.close(Some(Duration::ZERO)));

    let bad = |name: &str| (name == "P2PMOUNT_TRANSPORTS").then(|| "pigeon".to_owned());
    let error = block(Node::open(&options(&[("network", "local")]), &bad)).err().unwrap();
    assert_eq!(error.status, Status::BadOption);
    let sentence = "environment variable P2PMOUNT_TRANSPORTS: option transports: 'pigeon' is not one or more of tcp, quic, ws, \
                    comma separated";
    assert_eq!(error.message, sentence);
}
