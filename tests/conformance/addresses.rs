//! Local addresses in every form, and those that cannot be bound.

use super::*;

/// Mounts may be on any interface; the node itself stays on the loopback interface.
const PRIVATE: &[(&str, &str)] = &[("network", "private"), ("listen.addresses", "/ip4/127.0.0.1/tcp/0")];

#[test]
fn localhost_listens_on_both_families_and_reaches_targets_on_either() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    for home in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), (Ipv6Addr::LOCALHOST, 0).into()] {
        let target = TargetAt(home).start();
        let name = if home.is_ipv4() { "four" } else { "six" };
        pair.far.expose(name, &format!("localhost:{}", target.address.port()), &[]);
        let mount = forward(&pair.near, [name, "localhost:0", &pair.far.address()], &[]).unwrap();
        let port: u16 = mount.address().strip_prefix("localhost:").unwrap().parse().unwrap();
        for from in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()] {
            let (client, server) = connect(from, &target);
            assert_carries(client, server);
        }
        let filters = format!("localhost:{port}");
        assert_eq!(pair.near.close_fitting(&Filters { listen: Some(&filters), ..Filters::default() }).unwrap(), 1);
        assert!(is_free((Ipv4Addr::LOCALHOST, port).into()) && is_free((Ipv6Addr::LOCALHOST, port).into()));
    }
}

#[test]
fn every_spelling_of_a_local_address_is_bound_and_dialled() {
    let _limit = limit(60);
    let pair = Pair::open(TCP);
    let peer = pair.far.address();
    let four = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let six = |port| SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    for (number, (spelling, home)) in [
        ("PORT", four(0)),
        (":PORT", four(0)),
        ("127.0.0.1:PORT", four(0)),
        ("[::1]:PORT", six(0)),
        ("/ip4/127.0.0.1/tcp/PORT", four(0)),
        ("/ip6/::1/tcp/PORT", six(0)),
        ("/dns4/localhost/tcp/PORT", four(0)),
        ("/dns6/localhost/tcp/PORT", six(0)),
        ("LOCALHOST:PORT", four(0)),
    ]
    .into_iter()
    .enumerate()
    {
        let target = TargetAt(home).start();
        let name = format!("spelling-{number}");
        pair.far.expose(&name, &spelling.replace("PORT", &target.address.port().to_string()), &[]);
        let mount = forward(&pair.near, [&name, &spelling.replace("PORT", "0"), &peer], &[]).unwrap();
        let port = mount.address().rsplit(':').next().unwrap().parse().unwrap();
        let (client, server) = connect(SocketAddr::new(home.ip(), port), &target);
        assert_carries(client, server);
    }
}

#[test]
fn all_interfaces_are_bound_only_when_spelled_and_are_listed_so() {
    let _limit = limit(30);
    let pair = Pair::open(PRIVATE);
    let echo = Target::echo();
    pair.far.expose("p2p-test", &echo.text(), &[]);
    let all = |listen: &str| {
        let mount = forward(&pair.near, ["p2p-test", listen, &pair.far.address()], &[]).unwrap();
        let row = pair.near.forwards().pop().unwrap();
        assert_echoes((Ipv4Addr::LOCALHOST, mount.address().rsplit(':').next().unwrap().parse().unwrap()).into());
        int(&row, "all_interfaces")
    };
    assert_eq!(["0", ":0", "localhost:0", "0.0.0.0:0", "[::]:0"].map(all), [0, 0, 0, 1, 1]);
    assert_error(listen(&pair.far, "other", "0.0.0.0:80", &[]), Status::BadAddress, "write 127.0.0.1:80");
}

#[test]
fn a_node_that_is_local_keeps_its_mounts_on_the_loopback_interface() {
    let _limit = limit(30);
    let node = TestNode::open(TCP);
    let peer = format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let error = assert_error(forward(&node, ["a", address, &peer], &[]), Status::BadAddress, "");
        let sentence = format!("listen address {address} is not a loopback address, and network=local allows no other");
        assert_eq!(error.message, sentence);
    }
    let error = assert_error(listen(&node, "a", "192.0.2.1:80", &[]), Status::BadAddress, "");
    assert_eq!(
        error.message,
        "target address 192.0.2.1:80 is not a loopback address, and network=local allows no other"
    );
    assert!(node.forwards().is_empty() && node.listeners().is_empty());
}

#[test]
fn names_are_not_looked_up_on_the_local_network() {
    let _limit = limit(30);
    let node = TestNode::open(TCP);
    let sentence = "names are not looked up with network=local";
    assert_error(listen(&node, "p2p-test", "service.example:80", &[]), Status::BadAddress, sentence);
    let bound = forward(&node, ["p2p-test", "service.example:80", &format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}")], &[]);
    assert_error(bound, Status::BadAddress, "is a host name; listen on an IP address or on localhost");
    let far = forward(&node, ["p2p-test", "0", &format!("/ip4/192.0.2.1/tcp/1/p2p/{PEER}")], &[]);
    assert_error(far, Status::BadAddress, "is not a loopback address, and network=local allows no other");
}

#[test]
fn unix_sockets_work_on_both_sides_for_their_owner_alone() {
    for given in [TCP, QUIC] {
        let _limit = limit(30);
        let pair = Pair::open(given);
        let folder = tempfile::tempdir().unwrap();
        let (service, socket) = (folder.path().join("service.sock"), folder.path().join("forward.sock"));
        let server = UnixListener::bind(&service).unwrap();
        pair.far.expose("p2p-test", &format!("unix:{}", service.display()), &[]);
        let listen = format!("/unix{}", socket.display());
        let mount = forward(&pair.near, ["p2p-test", &listen, &pair.far.address()], &[]).unwrap();
        assert_eq!(mount.address(), format!("unix:{}", socket.display()));
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

        let mut client = UnixStream::connect(&socket).unwrap();
        at("waiting for the service's next connection");
        let (mut accepted, _) = server.accept().unwrap();
        for stream in [&client, &accepted] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
        }
        let data = bytes(1 << 20, 1);
        let mut got = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                client.write_all(data).unwrap();
                client.shutdown(std::net::Shutdown::Write).unwrap();
            });
            accepted.read_to_end(&mut got).unwrap();
        });
        assert_eq!(digest(&got), digest(data));
        accepted.write_all(b"reply").unwrap();
        drop(accepted);
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        assert_eq!(reply, "reply");

        let origin = format!("unix:{}", socket.display());
        assert_eq!(pair.near.close_fitting(&Filters { listen: Some(&origin), ..Filters::default() }).unwrap(), 1);
        assert!(!socket.exists() && service.exists());
    }
}

#[test]
fn a_dead_socket_file_is_replaced_and_anything_else_is_in_use() {
    let _limit = limit(30);
    let node = TestNode::open(TCP);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p2p.sock");
    let listen = format!("unix:{}", path.display());
    let peer = format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}");
    let bind = || forward(&node, ["p2p-test", &listen, &peer], &[]);
    let in_use = |why| format!("listen address {listen} is already in use: {why}");

    drop(UnixListener::bind(&path).unwrap());
    let mount = bind().unwrap();
    UnixStream::connect(&path).unwrap();
    assert_error(bind(), Status::AddressInUse, &in_use("a program listens on this socket"));
    block(node.close_mount(&mount, false));
    assert!(!path.exists());

    let other = UnixListener::bind(&path).unwrap();
    assert_error(bind(), Status::AddressInUse, &in_use("a program listens on this socket"));
    drop(other);
    fs::remove_file(&path).unwrap();

    fs::write(&path, "not a socket").unwrap();
    assert_error(bind(), Status::AddressInUse, &in_use("a file that is not a socket has this name"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "not a socket");
    fs::remove_file(&path).unwrap();

    // Somebody else's by the time the forward is closed: left alone.
    let mount = bind().unwrap();
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    block(node.close_mount(&mount, false));
    assert!(path.exists());

    let missing = forward(&node, ["p2p-test", "unix:/nowhere/p2p.sock", &peer], &[]);
    let error = assert_error(missing, Status::System, "");
    assert_eq!(error.message, "listen address unix:/nowhere/p2p.sock cannot be bound: No such file or directory");
}

#[test]
fn an_address_that_cannot_be_bound_is_told_at_once() {
    let _limit = limit(30);
    let node = TestNode::open(PRIVATE);
    let peer = format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    for (listen, shown) in [
        (format!("{port}"), format!("127.0.0.1:{port}")),
        (format!("/ip4/127.0.0.1/tcp/{port}"), format!("127.0.0.1:{port}")),
        (format!("0.0.0.0:{port}"), format!("0.0.0.0:{port}")),
        (format!("localhost:{port}"), format!("localhost:{port}")),
    ] {
        let error = assert_error(forward(&node, ["a", &listen, &peer], &[]), Status::AddressInUse, "");
        assert_eq!(error.message, format!("listen address {shown} is already in use"));
    }
    let error = assert_error(forward(&node, ["a", "192.0.2.1:0", &peer], &[]), Status::System, "");
    assert_eq!(error.message, "listen address 192.0.2.1:0 cannot be bound: Cannot assign requested address");
    assert_eq!(error.system_error, libc::EADDRNOTAVAIL);
    assert!(node.forwards().is_empty());
}
