//! Encryption of TCP connections: TLS 1.3 and Noise, offered in the order of preference.

use std::io;

use futures::{
    AsyncRead, AsyncWrite, FutureExt,
    future::{BoxFuture, Either},
};
use futures_rustls::TlsStream;
use libp2p::{
    PeerId,
    core::{
        UpgradeInfo,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    },
    identity::Keypair,
    noise,
};

use super::tls::Tls;
use crate::error::{Error, Result, Status};

/// libp2p's TLS handshake, libp2p specs `tls/tls.md`.
const TLS: &str = "/tls/1.0.0";
/// libp2p's Noise handshake, libp2p specs `noise/README.md`.
const NOISE: &str = "/noise";

/// What the node offers, the preferred first.
#[derive(Clone)]
pub struct Security {
    order: Vec<&'static str>,
    tls: Tls,
    noise: noise::Config,
}

type Secured<C> = Either<TlsStream<C>, noise::Output<C>>;

impl Security {
    /// `names` are `tls` and `noise`, as in the option `security`.
    pub fn new(keypair: &Keypair, names: &[String]) -> Result<Self> {
        let failed = |name: &str, error: &dyn std::fmt::Display| {
            Error::new(Status::BadKey, format!("{name} cannot use the node's key: {error}"))
        };
        Ok(Security {
            order: names.iter().map(|name| if name == "noise" { NOISE } else { TLS }).collect(),
            tls: Tls::new(keypair).map_err(|error| failed("TLS", &error))?,
            noise: noise::Config::new(keypair).map_err(|error| failed("Noise", &error))?,
        })
    }
}

impl UpgradeInfo for Security {
    type Info = &'static str;
    type InfoIter = std::vec::IntoIter<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.order.clone().into_iter()
    }
}

impl<C> InboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_inbound(self, socket: C, name: &'static str) -> Self::Future {
        async move {
            if name == TLS {
                let (peer, stream) = self.tls.accept(socket).await?;
                Ok((peer, Either::Left(stream)))
            } else {
                let (peer, stream) = self.noise.upgrade_inbound(socket, name).await.map_err(io::Error::other)?;
                Ok((peer, Either::Right(stream)))
            }
        }
        .boxed()
    }
}

impl<C> OutboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_outbound(self, socket: C, name: &'static str) -> Self::Future {
        async move {
            if name == TLS {
                let (peer, stream) = self.tls.connect(socket).await?;
                Ok((peer, Either::Left(stream)))
            } else {
                let (peer, stream) = self.noise.upgrade_outbound(socket, name).await.map_err(io::Error::other)?;
                Ok((peer, Either::Right(stream)))
            }
        }
        .boxed()
    }
}
