//! libp2p's TLS 1.3 handshake (libp2p specs, `tls/tls.md`), for TCP and QUIC.
//!
//! The certificates are those of libp2p-tls. The settings are not: its own put ChaCha20 before AES, which is the slower
//! where the processor has instructions for AES, and write the keys of every session to the file that the environment
//! variable SSLKEYLOGFILE of the host process names.

mod handshake;
mod outgoing;
mod record;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{PeerId, identity::Keypair, tls::certificate};
use rustls::{
    ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    SupportedCipherSuite,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider,
        aws_lc_rs::{
            self,
            cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256},
        },
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

pub use stream::Stream;

/// The application protocol of libp2p: the muxer, if there is a choice, is agreed on later.
const LIBP2P: &[u8] = b"libp2p";

/// A node's settings for TLS over TCP.
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    muxer: &'static str,
}

/// A connection whose other end is known.
pub struct Authenticated<C> {
    pub peer: PeerId,
    pub stream: Stream<C>,
    /// The handshake has agreed on the muxer, too.
    pub muxer_agreed: bool,
}

impl Tls {
    /// `muxer` is offered within the handshake (libp2p specs, `connections/inlined-muxer-negotiation.md`).
    pub fn new(keypair: &Keypair, muxer: &'static str) -> Result<Self, String> {
        let (mut client, mut server) = (client(keypair)?, server(keypair)?);
        client.alpn_protocols.insert(0, muxer.into());
        server.alpn_protocols.insert(0, muxer.into());
        // For the record layer.
        (client.enable_secret_extraction, server.enable_secret_extraction) = (true, true);
        Ok(Tls { client: Arc::new(client), server: Arc::new(server), muxer })
    }

    /// The handshake of the side that dialled.
    pub async fn connect<C>(&self, socket: C) -> io::Result<Authenticated<C>>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        // Of an address rustls sends no server name, as the specification wants it.
        let name = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let role = handshake::client(self.client.clone(), name).map_err(io::Error::other)?;
        self.authenticate(role, socket).await
    }

    /// The handshake of the side that was dialled.
    pub async fn accept<C>(&self, socket: C) -> io::Result<Authenticated<C>>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let role = handshake::server(self.server.clone()).map_err(io::Error::other)?;
        self.authenticate(role, socket).await
    }

    async fn authenticate<C>(&self, role: impl handshake::Role, mut socket: C) -> io::Result<Authenticated<C>>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let look =
            |session: &CommonState| Ok((peer_id(session)?, session.alpn_protocol() == Some(self.muxer.as_bytes())));
        let ((peer, muxer_agreed), established) = handshake::drive(role, &mut socket, look).await?;
        Ok(Authenticated { peer, stream: Stream::new(socket, established)?, muxer_agreed })
    }
}

/// The owner of the certificate that the handshake has verified.
fn peer_id(session: &CommonState) -> io::Result<PeerId> {
    let Some([certificate]) = session.peer_certificates() else {
        return Err(io::Error::other("the peer has shown no certificate"));
    };
    Ok(certificate::parse(certificate).map_err(io::Error::other)?.peer_id())
}

/// Settings for dialling, with a certificate of their own.
pub fn client(keypair: &Keypair) -> Result<ClientConfig, String> {
    let provider = provider();
    let certificate = own_certificate(keypair, &provider)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier))
        .with_client_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![LIBP2P.to_vec()];
    // A session that is resumed shows no certificate.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Settings for being dialled, with a certificate of their own.
pub fn server(keypair: &Keypair) -> Result<ServerConfig, String> {
    let provider = provider();
    let certificate = own_certificate(keypair, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(Arc::new(Verifier))
        .with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![LIBP2P.to_vec()];
    // rust-libp2p asks for ChaCha20 first whatever its processor can do.
    config.ignore_client_order = true;
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A certificate for the node's key. rustls itself would refuse one with an extension that it does not know.
fn own_certificate(keypair: &Keypair, provider: &CryptoProvider) -> Result<SingleCertAndKey, String> {
    let (certificate, key) = certificate::generate(keypair).map_err(|error| error.to_string())?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(vec![certificate], key).into())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: cipher_suites(has_aes()), ..aws_lc_rs::default_provider() })
}

/// The one that the processor is fastest at first.
fn cipher_suites(aes: bool) -> Vec<SupportedCipherSuite> {
    match aes {
        true => vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256],
        false => vec![TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384],
    }
}

/// Whether the processor has instructions for AES-GCM.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// Accepts what libp2p demands: exactly one certificate, signed by itself, with an extension that binds it to the key of
/// the peer id. Whether it is the peer that was asked for is for those to say who dialled it.
#[derive(Debug)]
struct Verifier;

impl Verifier {
    fn verify(certificate: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        if !others.is_empty() {
            return Err(rustls::Error::General("the peer has shown more than one certificate".into()));
        }
        certificate::parse(certificate)?;
        Ok(())
    }

    fn verify_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        certificate::parse(certificate)?.verify_signature(signed.scheme, message, signed.signature())?;
        Ok(HandshakeSignatureValid::assertion())
    }

    /// The schemes that `verify_signature` knows, elliptic curves before RSA as the specification wants it.
    fn schemes() -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
        ]
    }

    fn refuse_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("libp2p has no TLS before 1.3".into()))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Verifier::verify(certificate, others)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Verifier::refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Verifier::verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Verifier::schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Verifier::verify(certificate, others)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Verifier::refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Verifier::verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Verifier::schemes()
    }
}
