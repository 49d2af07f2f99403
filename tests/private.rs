//! Private networks: nodes with the same key meet, nobody else does, and whoever fails is told why.

#[macro_use]
mod support;

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use p2pmount::{Error, Status};
use support::{
    PATIENCE, Pair, TCP, Target, TestNode, WS, at, block, bytes, client, digest, expect_end, limit, read_exact,
    read_to_end,
};
use tokio_util::sync::CancellationToken;

/// What needs no waiting on the loopback interface, even if the machine is busy.
const AT_ONCE: Duration = Duration::from_secs(2);

type Options<'a> = &'a [(&'a str, &'a str)];

on_paths! {
    [tcp TCP, ws WS] {
        what_goes_through_a_private_network_arrives_whole: 60,
        a_node_with_another_key_is_refused_and_told_why: 30,
        a_node_without_the_key_is_refused: 30,
        a_node_with_a_key_is_refused_where_there_is_none: 30,
    }
}

/// Keys of two networks, in files.
struct Keys {
    folder: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        let keys = Keys { folder: tempfile::tempdir().unwrap() };
        keys.write("own", &"5c".repeat(32));
        keys.write("other", &"a7".repeat(32));
        keys
    }

    fn write(&self, name: &str, hex: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("/key/swarm/psk/1.0.0/\n/base16/\n{hex}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[track_caller]
    fn try_open(&self, name: &str, given: Options) -> Result<TestNode, Error> {
        let path = self.folder.path().join(name);
        TestNode::try_open(&[given, &[("swarm.key", path.to_str().unwrap())]].concat())
    }

    #[track_caller]
    fn open(&self, name: &str, given: Options) -> TestNode {
        self.try_open(name, given).unwrap_or_else(|error| panic!("{error}"))
    }
}

#[track_caller]
fn connect(near: &TestNode, peer: &str) -> Error {
    at("connecting to a peer");
    let start = Instant::now();
    let error = block(near.connect(peer, Some(PATIENCE), &CancellationToken::new())).unwrap_err();
    println!("{error}");
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    assert_eq!(error.status, Status::Unreachable);
    error
}

/// The sentence about the only address of `far` ends in one of `reasons`.
#[track_caller]
fn assert_refused(near: &TestNode, far: &TestNode, reasons: &[&str]) {
    let (address, id) = (far.address(), far.id_text());
    let error = connect(near, &address);
    let bare = address.split("/p2p/").next().unwrap();
    let fits = reasons.iter().any(|reason| error.message == format!("peer {id} is unreachable: {bare}: {reason}"));
    assert!(fits, "'{error}' ends in none of {reasons:?}");
    assert!(near.peer_rows().is_empty() && far.peer_rows().is_empty());
}

const CLOSED: &str = "the peer closed the connection without a word; it may not have this node's private network key \
                      (option swarm.key), or have another";
const SILENT: &str = "the peer closed the connection without a word; it may speak no libp2p at this port, have no room, or be of a \
                      private network (option swarm.key)";
const ANOTHER: &str = "the peer has another private network key than this node (option swarm.key)";
const NONE: &str = "the peer has no private network key, and this node has one (option swarm.key)";
const STRANGE: &str =
    "what answers there does not speak libp2p, or is of a private network, whose key option swarm.key would give";

fn what_goes_through_a_private_network_arrives_whole(given: Options) {
    let keys = Keys::new();
    for security in ["tls", "noise"] {
        let given = [given, &[("security", security)]].concat();
        let pair = Pair { near: keys.open("own", &given), far: keys.open("own", &given) };
        let target = Target::new();
        let address = pair.tunnel("private", &target.text());
        for (run, size) in [0, 1, 1000, 200_000, 16 << 20].into_iter().enumerate() {
            let data = bytes(size, run);
            let mut client = client(address);
            let sending = std::thread::spawn(move || {
                client.write_all(data).unwrap();
                client.shutdown(std::net::Shutdown::Write).unwrap();
                client
            });
            let mut server = target.accept();
            assert_eq!(digest(&read_to_end(&mut server)), digest(data), "run {run}");
            server.write_all(b"thanks").unwrap();
            drop(server);
            let mut client = sending.join().unwrap();
            assert_eq!(read_exact(&mut client, 6), b"thanks");
            expect_end(&mut client);
        }
    }
}

fn a_node_with_another_key_is_refused_and_told_why(given: Options) {
    let keys = Keys::new();
    let (own, other) = (keys.open("own", given), keys.open("other", given));
    // Who is dialled sees the wrong key, and hangs up; the dialer may see it, too.
    assert_refused(&own, &other, &[CLOSED, ANOTHER]);
    assert_refused(&other, &own, &[CLOSED, ANOTHER]);
}

fn a_node_without_the_key_is_refused(given: Options) {
    let keys = Keys::new();
    let (member, stranger) = (keys.open("own", given), TestNode::open(given));
    // The member hangs up, and has perhaps said nothing before.
    if given == WS {
        // It hangs up during the handshake of the WebSocket.
        let error = connect(&stranger, &member.address());
        assert!(error.message.starts_with(&format!("peer {} is unreachable: ", member.id_text())), "{error}");
        assert!(stranger.peer_rows().is_empty() && member.peer_rows().is_empty());
    } else {
        assert_refused(&stranger, &member, &[SILENT, STRANGE]);
    }
}

fn a_node_with_a_key_is_refused_where_there_is_none(given: Options) {
    let keys = Keys::new();
    let (member, stranger) = (keys.open("own", given), TestNode::open(given));
    assert_refused(&member, &stranger, &[CLOSED, NONE]);
}

#[test]
fn a_program_that_says_hello_first_is_told_from_a_member() {
    let _limit = limit(20);
    let keys = Keys::new();
    let hello = b"\x13/multistream/1.0.0\n";
    let plain = Target::serving(|mut stream| {
        let _ = stream.write_all(hello);
        let _ = read_to_end(&mut stream);
    });
    let other = Target::serving(|mut stream| {
        let _ = stream.write_all(&[7; 64]);
        let _ = read_to_end(&mut stream);
    });
    let id = TestNode::open(TCP).id_text();
    let address = |target: &Target| {
        let place: std::net::SocketAddr = target.text().parse().unwrap();
        format!("/ip4/{}/tcp/{}", place.ip(), place.port())
    };
    for (node, target, reason) in [
        (keys.open("own", TCP), &plain, NONE),
        (keys.open("own", TCP), &other, ANOTHER),
        (TestNode::open(TCP), &other, STRANGE),
    ] {
        let address = address(target);
        let error = connect(&node, &format!("{address}/p2p/{id}"));
        assert_eq!(error.message, format!("peer {id} is unreachable: {address}: {reason}"));
    }
}

#[test]
fn a_private_network_does_without_quic() {
    let _limit = limit(20);
    let keys = Keys::new();
    let node = keys.open("own", &[]);
    let addresses: Vec<_> = node.addresses().iter().map(ToString::to_string).collect();
    assert!(!addresses.is_empty() && addresses.iter().all(|address| !address.contains("quic")), "{addresses:?}");
    assert_eq!(node.get("transports").unwrap().0, "tcp,ws");
    let public = TestNode::open(&[]);
    let quic = public.address_with("/quic-v1");
    let error = connect(&node, &quic);
    let bare = quic.split("/p2p/").next().unwrap();
    assert_eq!(
        error.message,
        format!(
            "peer {} is unreachable: {bare}: QUIC cannot carry the private network of option swarm.key",
            public.id_text()
        )
    );
    let refusal = |given: Options| {
        let error = keys.try_open("own", given).err().unwrap();
        assert_eq!(error.status, Status::BadOption);
        error.message
    };
    assert_eq!(
        refusal(&[("transports", "tcp,quic")]),
        "option transports: 'tcp,quic' has quic, but QUIC cannot carry the private network of option swarm.key; leave out \
         one of the two"
    );
    assert_eq!(
        refusal(&[("listen.addresses", "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1")]),
        "option listen.addresses: /ip4/127.0.0.1/udp/0/quic-v1 is one of QUIC, but QUIC cannot carry the private network of \
         option swarm.key"
    );
}

#[test]
fn a_bad_key_file_keeps_the_node_from_opening_and_shows_nothing_of_the_key() {
    let _limit = limit(20);
    let keys = Keys::new();
    let secret = "c0ffee".repeat(10);
    let short = keys.write("short", &secret);
    let error = keys.try_open("short", &[]).err().unwrap();
    assert_eq!(error.status, Status::BadKey);
    assert_eq!(
        error.message,
        format!(
            "swarm key file '{}' is damaged: what follows its second line is not 64 hexadecimal digits",
            short.display()
        )
    );
    fs::set_permissions(keys.folder.path().join("own"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = keys.try_open("own", &[]).err().unwrap();
    assert_eq!(error.status, Status::BadKey);
    assert!(error.message.contains("can be used by others (mode 0644)"), "{error}");
}
