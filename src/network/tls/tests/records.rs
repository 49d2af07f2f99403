//! The record layer, against itself, against rustls, and against a peer that breaks the rules.

use std::{
    io::{ErrorKind, IoSlice},
    pin::Pin,
    sync::Arc,
};

use futures::{
    AsyncReadExt, AsyncWriteExt, FutureExt,
    future::{join, poll_fn, try_join},
};
use futures_rustls::{TlsAcceptor, TlsConnector};

use super::{
    super::{
        outgoing::Outgoing,
        record::{self, Content, MAX_RECORD},
    },
    *,
};

type Pipe = tokio_util::compat::Compat<tokio::io::DuplexStream>;

/// Both ends of a connection, the dialler's first, whose pipe holds `size` bytes each way.
async fn pair(size: usize) -> (Stream<Pipe>, Stream<Pipe>) {
    let (near_key, far_key) = keys();
    let (near, far) = (tls(&near_key), tls(&far_key));
    let (dialled, accepted) = tokio::io::duplex(size);
    let (near, far) = try_join(near.connect(dialled.compat()), far.accept(accepted.compat())).await.unwrap();
    (near.stream, far.stream)
}

/// Bytes that differ wherever one looks.
fn bytes(length: usize) -> Vec<u8> {
    (0..length as u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).take(length).collect()
}

/// Sends all of it, in pieces of these sizes by turns, some of them in two parts; then closes.
async fn send(stream: &mut (impl AsyncWrite + Unpin), data: &[u8], pieces: &[usize]) {
    let (mut at, mut sizes) = (0, pieces.iter().cycle());
    while at < data.len() {
        let piece = &data[at..data.len().min(at + sizes.next().unwrap())];
        let (first, second) = piece.split_at(piece.len() / 3);
        let slices = [IoSlice::new(first), IoSlice::new(&[]), IoSlice::new(second)];
        at += poll_fn(|cx| Pin::new(&mut *stream).poll_write_vectored(cx, &slices)).await.unwrap();
    }
    stream.close().await.unwrap();
}

/// What comes until the end, read with buffers of these sizes by turns.
async fn receive(stream: &mut (impl AsyncRead + Unpin), buffers: &[usize]) -> Vec<u8> {
    let mut received = Vec::new();
    for size in buffers.iter().cycle() {
        let mut buffer = vec![0; *size];
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            read => received.extend_from_slice(&buffer[..read]),
        }
    }
    received
}

#[tokio::test]
async fn every_byte_arrives_once_and_in_order_whatever_the_sizes() {
    let data = bytes(700_000);
    for size in [17, 1_000, 100_000, 1 << 20] {
        for (pieces, buffers) in [
            (&[1, 100_000, 16_384, 16_385, 3][..], &[5, 16_384, 16_385, 1, 200_000][..]),
            (&[500_000][..], &[64][..]),
            (&[97][..], &[500_000][..]),
        ] {
            let (mut near, mut far) = pair(size).await;
            let ((), received) = join(send(&mut near, &data, pieces), receive(&mut far, buffers)).await;
            assert!(received == data, "{} of {} bytes, pipe {size}", received.len(), data.len());
            let ((), received) = join(send(&mut far, &data, pieces), receive(&mut near, buffers)).await;
            assert!(received == data, "{} of {} bytes, pipe {size}", received.len(), data.len());
        }
    }
}

#[tokio::test]
async fn no_more_than_a_part_is_sealed_that_the_socket_does_not_take() {
    let data = bytes(600_000);
    for (size, expected) in [(1 << 20, 512 * 1024), (10_000, 256 * 1024)] {
        let (mut near, _far) = pair(size).await;
        let taken = poll_fn(|cx| Pin::new(&mut near).poll_write(cx, &data)).await.unwrap();
        assert_eq!(taken, expected, "pipe {size}");
    }
}

#[tokio::test]
async fn what_fills_records_of_its_own_begins_with_a_new_one() {
    const OVERHEAD: usize = record::HEADER + 1 + record::TAG;
    let (mut near, mut far) = pair(1 << 20).await;
    let sizes = [12, 60_000, 5, 7, 49_152, 16_384, 1];
    let data = bytes(sizes.iter().sum());
    let mut rest = &data[..];
    let slices: Vec<_> = sizes.iter().map(|size| IoSlice::new(rest.split_off(..*size).unwrap())).collect();
    let taken = poll_fn(|cx| Pin::new(&mut near).poll_write_vectored(cx, &slices)).await.unwrap();
    assert_eq!(taken, data.len());
    near.close().await.unwrap();
    drop(near.socket);
    let mut sealed = Vec::new();
    far.socket.read_to_end(&mut sealed).await.unwrap();
    let (mut lengths, mut at) = (Vec::new(), 0);
    while let Some(length) = record::length(&sealed[at..]).unwrap() {
        lengths.push(length - OVERHEAD);
        at += length;
    }
    // The last one says that nothing follows.
    assert_eq!(lengths, [12, 16_384, 16_384, 16_384, 10_848 + 5 + 7, 16_384, 16_384, 16_384, 16_384, 1, 2]);
    let (mut ours, theirs) = tokio::io::duplex(1 << 20);
    tokio::io::AsyncWriteExt::write_all(&mut ours, &sealed).await.unwrap();
    far.socket = theirs.compat();
    assert!(receive(&mut far, &[1_000]).await == data);
}

#[tokio::test]
async fn rustls_is_understood_in_both_roles_and_when_it_takes_new_keys() {
    let (own_key, stock_key) = keys();
    let data = bytes(300_000);
    let (own, name) = (tls(&own_key), ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));

    let (dialled, accepted) = tokio::io::duplex(50_000);
    let stock = TlsAcceptor::from(Arc::new(server(&stock_key).unwrap()));
    let stock = async { stock.accept(accepted.compat()).await };
    let (own_end, mut stock) = try_join(own.connect(dialled.compat()), stock).await.unwrap();
    let mut own_end = own_end.stream;
    own_end.limit = 3;
    stock.get_mut().1.refresh_traffic_keys().unwrap();
    let ((), received) = join(send(&mut own_end, &data, &[40_000]), receive(&mut stock, &[9_000])).await;
    assert!(received == data);
    let ((), received) = join(send(&mut stock, &data, &[40_000]), receive(&mut own_end, &[9_000])).await;
    assert!(received == data);

    let (dialled, accepted) = tokio::io::duplex(50_000);
    let stock = TlsConnector::from(Arc::new(client(&stock_key).unwrap()));
    let stock = async { stock.connect(name, dialled.compat()).await };
    let (mut stock, own_end) = try_join(stock, own.accept(accepted.compat())).await.unwrap();
    let mut own_end = own_end.stream;
    own_end.limit = 3;
    stock.get_mut().1.refresh_traffic_keys().unwrap();
    let ((), received) = join(send(&mut stock, &data, &[40_000]), receive(&mut own_end, &[9_000])).await;
    assert!(received == data);
    let ((), received) = join(send(&mut own_end, &data, &[40_000]), receive(&mut stock, &[9_000])).await;
    assert!(received == data);
}

#[tokio::test]
async fn tickets_of_a_server_are_passed_over() {
    let (own_key, stock_key) = keys();
    let mut config = server(&stock_key).unwrap();
    config.send_tls13_tickets = 4;
    let (dialled, accepted) = tokio::io::duplex(50_000);
    let stock = TlsAcceptor::from(Arc::new(config));
    let own = tls(&own_key);
    let (own, mut stock) =
        try_join(own.connect(dialled.compat()), async { stock.accept(accepted.compat()).await }).await.unwrap();
    stock.write_all(b"data").await.unwrap();
    stock.flush().await.unwrap();
    let mut buffer = [0; 4];
    let mut own = own.stream;
    own.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"data");
}

#[tokio::test]
async fn keys_are_replaced_before_they_are_used_up_and_when_the_peer_asks_for_it() {
    let (mut near, mut far) = pair(1 << 20).await;
    (near.limit, far.limit) = (4, u64::MAX);
    let data = bytes(1_000_000);
    let ((), received) = join(send(&mut near, &data, &[16_384]), receive(&mut far, &[16_384])).await;
    assert!(received == data);
    assert!(near.writing.key.used() <= 5);

    let (mut near, mut far) = pair(1 << 20).await;
    far.write_all(b"under the first key").await.unwrap();
    assert!(far.writing.key.used() == 1);
    let wanted = sealed(&mut near, Content::Handshake, &[24, 0, 0, 1, 1]);
    near.socket.write_all(&wanted).await.unwrap();
    near.writing.key = super::super::record::Key::new(near.next_to_send().unwrap()).unwrap();
    near.write_all(b"new").await.unwrap();
    let mut buffer = [0; 64];
    assert_eq!(far.read(&mut buffer).await.unwrap(), 3);
    far.write_all(b", and under the next").await.unwrap();
    // The second key has sealed one record: the first has sealed the message that ends it.
    assert!(far.writing.key.used() == 1);
    far.close().await.unwrap();
    assert_eq!(receive(&mut near, &[64]).await, b"under the first key, and under the next");
}

#[tokio::test]
async fn an_end_and_a_lost_connection_are_told_apart() {
    let (mut near, mut far) = pair(1_000).await;
    near.close().await.unwrap();
    assert_eq!(far.read(&mut [0; 9]).await.unwrap(), 0);
    assert_eq!(far.read(&mut [0; 9]).await.unwrap(), 0);
    assert_eq!(near.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);

    let (near, mut far) = pair(1_000).await;
    drop(near);
    let error = far.read(&mut [0; 9]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::UnexpectedEof, "the peer closed the connection without a word; it may have crashed".into())
    );
}

/// What `far` says when it reads these bytes, and what `near` hears of it then.
async fn broken(change: impl FnOnce(&mut Stream<Pipe>) -> Vec<u8>) -> [String; 2] {
    let (mut near, mut far) = pair(1 << 20).await;
    let record = change(&mut near);
    near.socket.write_all(&record).await.unwrap();
    let mut buffer = vec![0; 1 << 17];
    let first = far.read(&mut buffer).await.unwrap_err();
    let again = far.read(&mut buffer).await.unwrap_err();
    assert_eq!([first.kind(), again.kind()], [ErrorKind::InvalidData; 2], "{first}");
    let heard = near.read(&mut buffer).now_or_never().expect("an alert").unwrap_err();
    [first.to_string(), heard.to_string()]
}

fn sealed(near: &mut Stream<Pipe>, content: Content, plain: &[u8]) -> Vec<u8> {
    let mut record = Outgoing::new();
    near.writing.key.seal(content, [plain], &mut record).unwrap();
    record.unwritten().to_vec()
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_is_told_so() {
    let changed = |at: usize| {
        move |near: &mut Stream<Pipe>| {
            let mut record = sealed(near, Content::Data, b"some bytes");
            record[at] ^= 1;
            record
        }
    };
    let alert = |number: u8| format!("the peer ended TLS with alert {number}");
    // Content type, length (of which less comes then), content, tag.
    for (record, sentence, number) in [
        (broken(changed(0)).await, "a TLS record that is not encrypted", 10),
        (broken(changed(5)).await, "a TLS record is not what the peer has sealed", 20),
        (broken(changed(5 + 11 + 3)).await, "a TLS record is not what the peer has sealed", 20),
        (broken(|_| vec![23, 3, 3, 0x41, 1]).await, "a TLS record that is too long", 22),
        (broken(|_| vec![23, 3, 3, 0, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await, "too short", 20),
        (broken(|near| sealed(near, Content::Data, &[7; 16_385])).await, "a TLS record that is too long", 22),
        (broken(|near| sealed(near, Content::Alert, b"?")).await, "a TLS alert that is none", 50),
        (broken(|near| sealed(near, Content::Handshake, b"")).await, "an empty TLS message", 10),
        (
            broken(|near| sealed(near, Content::Handshake, &[1, 0, 0, 0])).await,
            "a TLS message that has no place here",
            10,
        ),
        (broken(|near| sealed(near, Content::Handshake, &[24, 0, 0, 1, 2])).await, "a TLS key update that is none", 47),
        // Something behind the message that changes the keys.
        (broken(|near| sealed(near, Content::Handshake, &[24, 0, 0, 1, 0, 4])).await, "that has no place here", 10),
        (broken(|near| sealed(near, Content::Handshake, &[4, 1, 0, 1])).await, "a TLS message that is too long", 50),
    ] {
        assert!(record[0].contains(sentence), "{record:?}");
        assert_eq!(record[1], alert(number), "{record:?}");
    }
}

#[tokio::test]
async fn a_handshake_message_may_come_in_pieces_and_a_record_without_content_is_no_end() {
    let (mut near, mut far) = pair(1 << 20).await;
    for piece in [&[4, 0][..], &[0, 3, 1], &[2], &[3, 4, 0, 0, 0]] {
        let record = sealed(&mut near, Content::Handshake, piece);
        near.socket.write_all(&record).await.unwrap();
    }
    let record = sealed(&mut near, Content::Data, b"");
    near.socket.write_all(&record).await.unwrap();
    near.write_all(b"data").await.unwrap();
    let mut buffer = [0; 9];
    assert_eq!(far.read(&mut buffer).await.unwrap(), 4);
}

#[tokio::test]
async fn what_came_before_a_broken_record_is_read_first() {
    let (mut near, mut far) = pair(1 << 20).await;
    let mut records = sealed(&mut near, Content::Data, b"good");
    records.extend_from_slice(&[23, 3, 3, 0xff, 0xff]);
    near.socket.write_all(&records).await.unwrap();
    let mut buffer = vec![0; 1 << 17];
    assert_eq!(far.read(&mut buffer).await.unwrap(), 4);
    assert!(far.read(&mut buffer).await.unwrap_err().to_string().contains("too long"));
}

#[tokio::test]
async fn a_peer_that_sends_everything_but_data_is_stopped() {
    for plain in [&[24, 0, 0, 1, 0][..], &[4, 0, 0, 0]] {
        let (mut near, mut far) = pair(1 << 20).await;
        for _ in 0..40 {
            let record = sealed(&mut near, Content::Handshake, plain);
            if plain[0] == 24 {
                near.writing.key = super::super::record::Key::new(near.next_to_send().unwrap()).unwrap();
            }
            near.socket.write_all(&record).await.unwrap();
        }
        let error = far.read(&mut [0; 9]).await.unwrap_err();
        assert_eq!(error.to_string(), "the peer sent one TLS record without data after the other");
    }
    let (mut near, mut far) = pair(1 << 20).await;
    for (content, plain) in [(Content::Handshake, &[4, 0, 0, 9, 1][..]), (Content::Data, b"between")] {
        let record = sealed(&mut near, content, plain);
        near.socket.write_all(&record).await.unwrap();
    }
    let error = far.read(&mut [0; 9]).await.unwrap_err();
    assert_eq!(error.to_string(), "the peer sent something else in the middle of a TLS message");
}

/// What either role says when the other end begins its handshake like this, and then ends or waits.
async fn refuses(bytes: &[u8], waits: bool) -> [String; 2] {
    let (key, _) = keys();
    let tls = tls(&key);
    let mut said = [String::new(), String::new()];
    for (role, said) in said.iter_mut().enumerate() {
        let (own, other) = tokio::io::duplex(1 << 26);
        let mut other = other.compat();
        other.write_all(bytes).await.unwrap();
        let other = waits.then_some(other);
        let own = own.compat();
        let result = if role == 0 { tls.connect(own).await } else { tls.accept(own).await };
        *said = result.err().unwrap().to_string();
        drop(other);
    }
    said
}

#[tokio::test]
async fn a_handshake_that_breaks_the_rules_is_an_error_and_nothing_worse() {
    let record = |content: u8, bytes: &[u8]| {
        let [high, low] = (bytes.len() as u16).to_be_bytes();
        [&[content, 3, 1, high, low], bytes].concat()
    };
    // A message that is too long; the beginning of one, then something else; one that is none with another behind it.
    refuses(&record(22, &[1, 1, 0, 0]), true).await;
    refuses(&[record(22, &[1]), record(23, &[0; 40])].concat(), true).await;
    refuses(&[record(22, &[2]), record(21, &[2, 40])].concat(), true).await;
    refuses(&record(22, &[1, 0, 0, 1, 0, 1, 0, 0, 1, 0]), true).await;
    refuses(&record(22, &[2, 0, 0, 1, 0, 2, 0, 0, 1, 0]), true).await;
    refuses(&record(22, &[]), true).await;
    refuses(&record(20, &[1]), false).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[22, 4, 1, 0, 4, 1, 1, 0, 0]] {
        assert_eq!(refuses(bytes, true).await, ["the peer does not speak TLS"; 2]);
    }
    assert_eq!(refuses(&[], false).await[1], "the peer closed the connection during the TLS handshake");
    // A message of which more comes for ever, in pieces of a byte.
    let pieces: Vec<u8> =
        [&[1, 0, 255, 255][..], &[0; 60_000]].concat().iter().flat_map(|byte| record(22, &[*byte])).collect();
    assert_eq!(refuses(&pieces, true).await[1], "the peer's TLS handshake has no end");
}

#[tokio::test]
async fn padding_is_taken_off() {
    let (mut near, mut far) = pair(1 << 20).await;
    let record = near.writing.key.seal_padded(b"data", 1_000);
    near.socket.write_all(&record).await.unwrap();
    let mut buffer = [0; 2_000];
    assert_eq!(far.read(&mut buffer).await.unwrap(), 4);
    assert_eq!(&buffer[..4], b"data");
}

#[tokio::test]
async fn a_connection_at_rest_holds_no_buffer() {
    let data = bytes(2_000_000);
    let (mut near, mut far) = pair(10_000).await;
    let transfer = async {
        near.write_all(&data).await.unwrap();
        near.flush().await.unwrap();
    };
    let mut received = vec![0; data.len()];
    let ((), result) = join(transfer, far.read_exact(&mut received)).await;
    result.unwrap();
    assert!(received == data);
    assert!(far.read(&mut [0; 100]).now_or_never().is_none());
    assert_eq!([near.writing.held(), near.reading.held(), far.writing.held(), far.reading.held()], [0; 4]);
}

#[tokio::test]
async fn only_who_reads_ahead_holds_more_than_a_record() {
    let data = bytes(400_000);
    for ahead in [false, true] {
        let (mut near, mut far) = pair(1 << 20).await;
        if ahead {
            far.read_ahead();
        }
        near.write_all(&data).await.unwrap();
        near.flush().await.unwrap();
        let mut received = Vec::new();
        let mut most = 0;
        while received.len() < data.len() {
            let mut part = [0; 20_000];
            let count = far.read(&mut part).await.unwrap();
            received.extend_from_slice(&part[..count]);
            most = most.max(far.reading.held());
            assert_eq!(far.has_read_ahead(), far.reading.held() > MAX_RECORD);
        }
        assert!(received == data);
        assert_eq!(most > MAX_RECORD, ahead, "{most} bytes held");
        assert!(far.read(&mut [0; 100]).now_or_never().is_none());
        assert_eq!(far.reading.held(), 0);
    }
}
