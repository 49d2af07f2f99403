//! Encryption of TCP connections: TLS 1.3 and Noise, offered in the order of preference.

use std::io;

use futures::{AsyncRead, AsyncWrite, future::Either, io::BufReader};
use libp2p::{
    PeerId,
    core::{
        Endpoint,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    },
    identity::Keypair,
    noise,
};
use multistream_select::Negotiated;

use super::{
    protocols,
    tls::{self, Authenticated, Tls},
};
use crate::error::{Error, Result, Status};

/// libp2p's TLS handshake, libp2p specs `tls/tls.md`.
const TLS: &str = "/tls/1.0.0";
/// libp2p's Noise handshake, libp2p specs `noise/README.md`.
const NOISE: &str = "/noise";

/// Bytes read from the socket at a time. Noise itself would ask for 8 KiB.
const READ_AHEAD: usize = 128 * 1024;

/// What the node offers, the preferred first.
#[derive(Clone)]
pub struct Security {
    order: Vec<&'static str>,
    tls: Tls,
    noise: noise::Config,
    #[cfg(feature = "plaintext-bench")]
    plain: libp2p::plaintext::Config,
}

/// An encrypted connection whose other end is known.
pub struct Secured<C> {
    pub peer: PeerId,
    pub stream: Either<tls::Stream<C>, noise::Output<BufReader<C>>>,
    /// The handshake has agreed on the muxer, too.
    pub muxer_agreed: bool,
}

impl Security {
    /// `names` are `tls` and `noise`, as in the option `security`; `muxer` is offered within the handshake where it can be.
    pub fn new(keypair: &Keypair, names: &[String], muxer: &'static str) -> Result<Self> {
        let failed = |name: &str, error: &dyn std::fmt::Display| {
            Error::new(Status::BadKey, format!("{name} cannot use the node's key: {error}"))
        };
        Ok(Security {
            order: names.iter().map(|name| if name == "noise" { NOISE } else { TLS }).collect(),
            tls: Tls::new(keypair, muxer).map_err(|error| failed("TLS", &error))?,
            noise: noise::Config::new(keypair).map_err(|error| failed("Noise", &error))?,
            #[cfg(feature = "plaintext-bench")]
            plain: libp2p::plaintext::Config::new(keypair),
        })
    }

    /// Agrees on one of them, and goes through its handshake.
    pub async fn secure<C>(self, socket: C, end: Endpoint) -> io::Result<Secured<Negotiated<C>>>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (name, socket) = protocols::agree(socket, self.order, end).await?;
        if name == TLS {
            let Authenticated { peer, stream, muxer_agreed } = match end {
                Endpoint::Dialer => self.tls.connect(socket).await?,
                Endpoint::Listener => self.tls.accept(socket).await?,
            };
            return Ok(Secured { peer, stream: Either::Left(stream), muxer_agreed });
        }
        let socket = BufReader::with_capacity(READ_AHEAD, socket);
        let secured = match end {
            Endpoint::Dialer => self.noise.upgrade_outbound(socket, name).await,
            Endpoint::Listener => self.noise.upgrade_inbound(socket, name).await,
        };
        let (peer, stream) = secured.map_err(io::Error::other)?;
        Ok(Secured { peer, stream: Either::Right(stream), muxer_agreed: false })
    }
}

#[cfg(feature = "plaintext-bench")]
pub use plaintext::{disable_encryption, encryption_is_disabled};

/// TCP without encryption and without proof of the peer's identity, so that the benchmark can tell what these cost.
#[cfg(feature = "plaintext-bench")]
mod plaintext {
    use std::{
        io,
        sync::atomic::{AtomicBool, Ordering},
    };

    use futures::{AsyncRead, AsyncWrite};
    use libp2p::{
        PeerId,
        core::{
            Endpoint,
            upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
        },
        plaintext::Output,
    };

    use super::Security;

    static DISABLED: AtomicBool = AtomicBool::new(false);

    /// From now on the nodes of this process speak TCP in plain text, and nothing else.
    pub fn disable_encryption() {
        DISABLED.store(true, Ordering::Relaxed);
    }

    pub fn encryption_is_disabled() -> bool {
        DISABLED.load(Ordering::Relaxed)
    }

    impl Security {
        /// Tells the other end who this is, and believes what it says.
        pub async fn plain<C>(self, socket: C, end: Endpoint) -> io::Result<(PeerId, Output<C>)>
        where
            C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        {
            let plain = match end {
                Endpoint::Dialer => self.plain.upgrade_outbound(socket, "").await,
                Endpoint::Listener => self.plain.upgrade_inbound(socket, "").await,
            };
            plain.map_err(io::Error::other)
        }
    }
}
