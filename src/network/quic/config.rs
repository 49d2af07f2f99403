//! Settings of the QUIC transport and their translation for quinn.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use libp2p::identity::Keypair;
use quinn::{
    EndpointConfig, MtuDiscoveryConfig, VarInt,
    crypto::{
        CryptoError, HmacKey,
        rustls::{QuicClientConfig, QuicServerConfig},
    },
    rustls,
};
use quinn_proto::HashedConnectionIdGenerator;

use super::{congestion, error::Error, mtu, stream};
use crate::network::{tls, yamux::Budget};

/// Makes the TLS settings of one dial.
pub type ClientTls = Arc<dyn Fn() -> Result<rustls::ClientConfig, String> + Send + Sync>;
/// Makes the TLS settings for inbound connections.
pub type ServerTls = Arc<dyn Fn() -> Result<rustls::ServerConfig, String> + Send + Sync>;

/// Settings of a [`Transport`](super::Transport). Sizes are bytes.
#[derive(Clone)]
pub struct Config {
    /// Bidirectional streams the peer may have open in one connection. Unidirectional ones are never allowed. The peer is
    /// told [`Config::first_streams`] at first: each stream that could come takes memory before it does.
    pub max_concurrent_streams: u32,
    /// What the peer may send ahead of the reader of one stream.
    pub stream_receive_window: u32,
    /// What the peer may send ahead of the readers of all streams of a connection, as long as they are few. With more there
    /// is room for the window of each, so that readers who stall never stall others, while the budget has it.
    pub connection_receive_window: u32,
    /// The node's bound on receive windows.
    pub budget: Arc<Budget>,
    /// Most that is kept of a connection's sent data until the peer acknowledges it. What is kept follows what may be in
    /// flight.
    pub send_window: u64,
    /// Silence after which a connection is lost; the smaller value of both ends counts.
    pub max_idle_timeout: Duration,
    /// Silence after which a sign of life is sent.
    pub keep_alive_interval: Duration,
    /// Longest time for a handshake, and for a hole to be punched.
    pub handshake_timeout: Duration,
    /// Longest time closing a connection waits for the acknowledgement of what its ended streams sent.
    pub close_timeout: Duration,
    /// Send and receive buffer asked for each UDP socket. The operating system may give less.
    pub socket_buffer_size: usize,
    /// Probe for packets larger than 1200 bytes.
    pub mtu_discovery: bool,
    /// Hand several packets to the operating system in one call, where it can.
    pub segmentation_offload: bool,
    keypair: Keypair,
    client_tls: ClientTls,
    server_tls: ServerTls,
}

impl Config {
    /// The defaults for the node with this key.
    pub fn new(keypair: &Keypair) -> Self {
        let (client_key, server_key) = (keypair.clone(), keypair.clone());
        Config {
            max_concurrent_streams: 16384,
            // The peer hears of more whenever an eighth of it was consumed.
            stream_receive_window: 8 << 20,
            connection_receive_window: 128 << 20,
            budget: Arc::new(Budget::new(4 << 30)),
            send_window: 32 << 20,
            max_idle_timeout: Duration::from_secs(30),
            keep_alive_interval: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(3),
            socket_buffer_size: 7 << 20,
            mtu_discovery: true,
            segmentation_offload: true,
            keypair: keypair.clone(),
            // Whose certificate it is the transport compares itself: TLS would only say that it is another one.
            client_tls: Arc::new(move || tls::client(&client_key)),
            server_tls: Arc::new(move || tls::server(&server_key)),
        }
    }

    /// The same with other TLS settings: how the tests make a peer that breaks the rules.
    #[cfg(test)]
    pub fn with_tls(mut self, client: ClientTls, server: ServerTls) -> Self {
        self.client_tls = client;
        self.server_tls = server;
        self
    }

    /// The streams that the peer may open before it has shown that it wants many.
    pub(super) fn first_streams(&self) -> u32 {
        self.max_concurrent_streams.min(256)
    }

    /// The settings of a connection to `remote`.
    pub(super) fn transport(&self, remote: SocketAddr) -> Arc<quinn::TransportConfig> {
        let mut config = quinn::TransportConfig::default();
        config
            .max_concurrent_bidi_streams(self.first_streams().into())
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(self.stream_receive_window.into())
            .receive_window(self.connection_receive_window.into())
            .send_window(self.send_window.min(stream::SEND_WINDOW))
            .congestion_controller_factory(Arc::new(congestion::Factory))
            .max_idle_timeout(self.max_idle_timeout.try_into().ok())
            .keep_alive_interval(Some(self.keep_alive_interval))
            .enable_segmentation_offload(self.segmentation_offload)
            .datagram_receive_buffer_size(None)
            // The spin bit would show the round-trip time to everybody on the path.
            .allow_spin(false);
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(mtu::largest(remote));
        config.mtu_discovery_config(self.mtu_discovery.then_some(discovery));
        Arc::new(config)
    }

    /// The settings of a dial to `remote`. Each has its own certificate, so no session can be resumed without its check.
    pub(super) fn client(&self, remote: SocketAddr) -> Result<quinn::ClientConfig, Error> {
        let tls = (self.client_tls)().map_err(Error::Tls)?;
        let tls = QuicClientConfig::try_from(tls).map_err(|e| Error::Tls(e.to_string()))?;
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(self.transport(remote));
        Ok(config)
    }

    /// The settings for inbound connections, without those that each has of its own.
    pub(super) fn server(&self) -> Result<quinn::ServerConfig, Error> {
        let tls = (self.server_tls)().map_err(Error::Tls)?;
        let tls = QuicServerConfig::try_from(tls).map_err(|e| Error::Tls(e.to_string()))?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        // A libp2p connection keeps the address it was made with.
        config.migration(false);
        Ok(config)
    }

    /// The settings of the endpoint on a local UDP port that stays the same when the node restarts, or of one whose port
    /// is chosen anew (`None`).
    ///
    /// A restarted node recognises connection ids of its former self and tells the peers at once that the connection
    /// is gone (stateless reset, RFC 9000 section 10.3) instead of letting them wait for the idle timeout. The keys
    /// differ from port to port: with a shared one, one port could be made to reset connections of the other.
    pub(super) fn endpoint(&self, port: Option<u16>) -> EndpointConfig {
        let keys = port.and_then(|port| {
            let ids = self.keypair.derive_secret(format!("p2pmount quic connection ids {port}").as_bytes())?;
            let reset = ResetKey { keypair: self.keypair.clone(), port };
            Some((u64::from_le_bytes(*ids.first_chunk()?), reset))
        });
        // An RSA key derives no secrets: such a node lets its peers wait.
        let mut config = match keys {
            Some((ids, reset)) => {
                let mut config = EndpointConfig::new(Arc::new(reset));
                config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
                config
            }
            None => EndpointConfig::default(),
        };
        config.supported_versions(vec![1]);
        // The value is a lawful one.
        let _ = config.max_udp_payload_size(mtu::LARGEST);
        config
    }
}

/// Makes the token that ends a connection from its connection id, the same after a restart of the node.
struct ResetKey {
    keypair: Keypair,
    port: u16,
}

impl ResetKey {
    fn token(&self, data: &[u8]) -> [u8; 32] {
        let mut label = format!("p2pmount quic stateless reset {} ", self.port).into_bytes();
        label.extend_from_slice(data);
        // Never empty: a key that derives no secrets gets no `ResetKey`.
        self.keypair.derive_secret(&label).unwrap_or_default()
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        signature.copy_from_slice(&self.token(data));
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // Every byte is compared, so that the time tells nothing about where they differ.
        let token = self.token(data);
        let difference = token.iter().zip(signature).fold(0, |all, (a, b)| all | (a ^ b));
        if signature.len() == token.len() && difference == 0 { Ok(()) } else { Err(CryptoError) }
    }
}
