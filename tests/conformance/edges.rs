//! What Kubo does not test: one-sided ends, stalls, refusals, numbers, many threads.

use super::*;

#[test]
fn each_direction_ends_on_its_own() {
    for given in [TCP, QUIC] {
        let _limit = limit(30);
        let pair = Pair::open(given);
        let target = Target::new();
        let address = pair.tunnel("p2p-test", &target.text());
        let (mut client, mut server) = connect(address, &target);
        client.half_close();
        expect_end(&mut server);
        server.write_all(b"reply").unwrap();
        drop(server);
        assert_eq!(read_to_end(&mut client), b"reply");

        let (mut client, mut server) = connect(address, &target);
        server.half_close();
        expect_end(&mut client);
        client.write_all(b"upload").unwrap();
        drop(client);
        assert_eq!(read_to_end(&mut server), b"upload");
    }
}

#[test]
fn a_client_of_an_unreachable_peer_is_reset_with_an_event() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let peer = pair.far.address();
    let (mount, address) = pair.near.forward_to("p2p-test", &peer, &[]);
    pair.far.close_now();
    let events = pair.near.events(kind::REFUSED | kind::MOUNT);
    assert_resets(address);
    let refused = events.wait_refused();
    let tried = peer.split("/p2p/").next().unwrap();
    let sentence = format!("peer {} is unreachable: {tried}: Connection refused", pair.far.id_text());
    assert_eq!(text(&refused, "message"), sentence);
    assert_eq!(int(&refused, "code"), i64::from(Status::Unreachable as i32));
    assert_eq!(int(&refused, "mount"), i64::try_from(mount.handle()).unwrap());
    let row = &pair.near.forwards()[0];
    assert_eq!((text(row, "state"), text(row, "error")), ("disconnected".into(), sentence));
    assert_eq!(int(row, "error_code"), i64::from(Status::Unreachable as i32));
}

#[test]
fn a_slow_reader_stops_its_sender_and_loses_nothing() {
    for given in [TCP, QUIC] {
        for from_client in [true, false] {
            let _limit = limit(60);
            let pair = Pair::open(given);
            let target = Target::new();
            let address = pair.tunnel("p2p-test", &target.text());
            let (client, server) = connect(address, &target);
            let (mut from, mut to) = if from_client { (client, server) } else { (server, client) };
            // Far more than the kernel's buffers and the stream's window together.
            let most = 64 << 20;
            from.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
            let data = bytes(most, 3);
            let mut sent = 0;
            while sent < most {
                match from.write(&data[sent..(sent + (64 << 10)).min(most)]) {
                    Ok(written) => sent += written,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                        break;
                    }
                }
            }
            println!("{given:?}: the sender stalled after {} KiB", sent >> 10);
            assert!(sent < most, "{sent} bytes were taken although nobody reads");
            drop(from);
            assert_eq!(digest(&read_to_end(&mut to)), digest(&data[..sent]));
        }
    }
}

#[test]
fn a_client_that_leaves_while_its_peer_is_dialled_leaves_nothing_behind() {
    let _limit = limit(30);
    let node = TestNode::open(TCP);
    let hole = BlackHole::new();
    let (mount, address) = node.forward_to("p2p-test", &hole.peer(), &[]);
    let gone = client(address);
    wait_until("the stream is being opened", || mount.streams() == 1);
    reset(gone);
    wait_until("the attempt is given up", || mount.streams() == 0);
    assert_eq!(int(&node.forwards()[0], "streams_total"), 0);
}

#[test]
fn opening_takes_no_longer_than_its_timeout() {
    let _limit = limit(30);
    let node = TestNode::open(TCP);
    let hole = BlackHole::new();
    let peer = hole.peer();
    let (_, address) = node.forward_to("p2p-test", &peer, &[("open.timeout", "400ms")]);
    let events = node.events(kind::REFUSED);
    let start = Instant::now();
    assert_resets(address);
    let took = start.elapsed();
    assert!((350..3_000).contains(&took.as_millis()), "{took:?}");
    let refused = events.wait_refused();
    assert_eq!(int(&refused, "code"), i64::from(Status::TimedOut as i32));
    let tried = peer.split("/p2p/").next().unwrap();
    let sentence = format!(
        "no stream for protocol /x/p2p-test to peer {PEER} could be opened within 400 ms; no answer from {tried}"
    );
    assert_eq!(text(&refused, "message"), sentence);
}

#[test]
fn a_target_that_does_not_answer_costs_its_timeout() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let full = FullTarget::new();
    let home = full.text();
    pair.far.expose("p2p-test", &home, &[("target.timeout", "300ms")]);
    let (_, address) = pair.near.forward_to("p2p-test", &pair.far.address(), &[]);
    let events = pair.far.events(kind::TARGET_REFUSED);
    let start = Instant::now();
    assert_resets(address);
    assert!(start.elapsed() < Duration::from_secs(5));
    let refused = events.wait_refused();
    assert_eq!(text(&refused, "message"), format!("target {home} cannot be connected to: no answer within 300 ms"));
}

#[test]
fn closing_mounts_and_nodes_during_traffic_ends_every_connection() {
    for given in [TCP, QUIC] {
        let _limit = limit(60);
        let pair = Pair::open(given);
        let echo = Target::echo();
        let address = pair.tunnel("p2p-test", &echo.text());
        let busy: Vec<_> = (0..8)
            .map(|number| {
                let mut stream = client(address);
                thread::spawn(move || {
                    let data = bytes(100_000, number);
                    let mut back = vec![0; data.len()];
                    let mut rounds = 0;
                    // What comes before the end is right; the end is an error.
                    while stream.write_all(data).is_ok() && stream.read_exact(&mut back).is_ok() {
                        assert_eq!(digest(&back), digest(data));
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        wait_until("all are busy", || {
            let streams = pair.near.streams();
            streams.len() == 8 && streams.iter().all(|row| int(row, "bytes_in") > 100_000)
        });
        pair.near.close_fitting(&Filters { all: true, ..Filters::default() }).unwrap();
        assert_eq!(pair.near.streams().len(), 8);
        let start = Instant::now();
        pair.far.close_now();
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        for stream in busy {
            assert!(stream.join().unwrap() > 0);
        }
        wait_until("no stream is left", || pair.near.streams().is_empty());
    }
}

#[test]
fn a_thousand_streams_are_open_at_once() {
    for given in [TCP, QUIC] {
        let _limit = limit(90);
        let pair = Pair::open(given);
        let target = Target::new();
        let address = pair.tunnel("p2p-test", &target.text());
        let mut ends = Vec::new();
        for number in 0..1000_u32 {
            let (mut client, server) = connect(address, &target);
            client.write_all(&number.to_be_bytes()).unwrap();
            ends.push((client, server));
        }
        wait_until("all are listed", || pair.near.streams().len() == 1000);
        assert_eq!(pair.far.streams().len(), 1000);
        assert_eq!(int(&pair.near.forwards()[0], "streams"), 1000);
        // All of them are alive, and each leads to its own client.
        for (number, (client, server)) in ends.iter_mut().enumerate() {
            assert_eq!(read_exact(server, 4), u32::try_from(number).unwrap().to_be_bytes());
            server.write_all(&[1]).unwrap();
            server.half_close();
            assert_eq!(read_to_end(client), [1]);
        }
        drop(ends);
        wait_until("no stream is left", || pair.near.streams().is_empty() && pair.far.streams().is_empty());
        let row = &pair.far.listeners()[0];
        assert_eq!(["bytes_in", "bytes_out", "streams_total"].map(|name| int(row, name)), [4000, 1000, 1000]);
    }
}

#[test]
fn lists_closes_forwards_and_clients_from_many_threads_do_not_disturb_each_other() {
    let _limit = limit(60);
    let pair = Pair::open(TCP);
    let echo = Target::echo();
    let steady = pair.tunnel("steady", &echo.text());
    let peer = pair.far.address();
    let stop = AtomicBool::new(false);
    let (served, listed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let running = || !stop.load(Ordering::Acquire);
    thread::scope(|scope| {
        for number in 0..3 {
            let (pair, peer) = (&pair, &peer);
            scope.spawn(move || {
                let name = format!("changing-{number}");
                while running() {
                    let listener = pair.far.expose(&name, "127.0.0.1:9", &[]);
                    let (forward, address) = pair.near.forward_to(&name, peer, &[]);
                    let _ = TcpStream::connect(address);
                    let filters = Filters { protocol: Some(&name), streams: true, ..Filters::default() };
                    assert_eq!(pair.near.close_fitting(&filters).unwrap(), 1);
                    block(pair.far.close_mount(&listener, true));
                    drop((forward, listener));
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while running() {
                    assert_echoes(steady);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for node in [&pair.near, &pair.far] {
            let listed = &listed;
            scope.spawn(move || {
                while running() {
                    let steady = |row: &p2pmount::rows::Row| text(row, "protocol") == "/x/steady";
                    assert_eq!(
                        [node.forwards(), node.listeners()].concat().iter().filter(|row| steady(row)).count(),
                        1
                    );
                    for row in node.streams() {
                        assert!(int(&row, "id") >= 0);
                    }
                    node.peer_rows();
                    listed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        at("many threads");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Release);
    });
    println!("{served:?} clients were served, {listed:?} lists made");
    assert!(served.into_inner() > 20 && listed.into_inner() > 20);
    assert_eq!((pair.near.forwards().len(), pair.far.listeners().len()), (1, 1));
}
