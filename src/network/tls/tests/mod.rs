mod records;

use ::aws_lc_rs::aead::{AES_128_GCM, Algorithm, CHACHA20_POLY1305};
use futures::future::try_join;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use rustls::CipherSuite;
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::*;

fn keys() -> (Keypair, Keypair) {
    (Keypair::generate_ed25519(), Keypair::generate_ed25519())
}

fn pipe() -> (impl AsyncRead + AsyncWrite + Unpin + Send, impl AsyncRead + AsyncWrite + Unpin + Send) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    (near.compat(), far.compat())
}

const MUXER: &str = "/yamux/1.0.0";

fn tls(key: &Keypair) -> Tls {
    Tls::new(key, MUXER).unwrap()
}

fn fastest() -> &'static Algorithm {
    if has_aes() { &AES_128_GCM } else { &CHACHA20_POLY1305 }
}

#[test]
fn aes_comes_first_where_the_processor_has_it_and_nothing_is_left_out() {
    let names = |aes| cipher_suites(aes).iter().map(|suite| suite.suite()).collect::<Vec<_>>();
    assert_eq!(names(true)[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(names(false)[0], CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    assert!([true, false].map(names).iter().all(|names| names.len() == 3));
}

#[test]
fn no_session_key_is_written_anywhere() {
    let (key, _) = keys();
    assert!(format!("{:?}", client(&key).unwrap().key_log).contains("NoKeyLog"));
    assert!(format!("{:?}", server(&key).unwrap().key_log).contains("NoKeyLog"));
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is_and_take_the_fastest_cipher() {
    let (near_key, far_key) = keys();
    let (near, far) = (tls(&near_key), tls(&far_key));
    let (dialled, accepted) = pipe();
    let (to_far, to_near) = try_join(near.connect(dialled), far.accept(accepted)).await.unwrap();
    assert_eq!([to_near.peer, to_far.peer], [near_key.public().to_peer_id(), far_key.public().to_peer_id()]);
    assert_eq!(to_far.stream.algorithm(), fastest());
}

#[tokio::test]
async fn the_muxer_is_agreed_on_within_the_handshake_if_both_have_it() {
    let (near_key, far_key) = keys();
    for (muxer, agreed) in [(MUXER, true), ("/another/1.0.0", false)] {
        let (near, far) = (tls(&near_key), Tls::new(&far_key, muxer).unwrap());
        let (dialled, accepted) = pipe();
        let (to_far, to_near) = try_join(near.connect(dialled), far.accept(accepted)).await.unwrap();
        assert_eq!([to_far.muxer_agreed, to_near.muxer_agreed], [agreed, agreed]);
    }
}

#[tokio::test]
async fn libp2p_tls_is_understood_in_both_roles() {
    let (own_key, stock_key) = keys();
    let own = tls(&own_key);
    let stock = || libp2p::tls::Config::new(&stock_key).unwrap();

    let (dialled, accepted) = pipe();
    let accepting = async { stock().upgrade_inbound(accepted, "").await.map_err(io::Error::other) };
    let (to_stock, (own_id, _)) = try_join(own.connect(dialled), accepting).await.unwrap();
    assert!(!to_stock.muxer_agreed);
    assert_eq!([own_id, to_stock.peer], [own_key.public().to_peer_id(), stock_key.public().to_peer_id()]);

    let (dialled, accepted) = pipe();
    let dialling = async { stock().upgrade_outbound(dialled, "").await.map_err(io::Error::other) };
    let ((own_id, _), to_stock) = try_join(dialling, own.accept(accepted)).await.unwrap();
    assert_eq!([own_id, to_stock.peer], [own_key.public().to_peer_id(), stock_key.public().to_peer_id()]);
    assert_eq!(to_stock.stream.algorithm(), fastest());
}
