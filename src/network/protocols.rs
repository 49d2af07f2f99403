//! Agreeing on what a connection speaks (multiformats' multistream-select 1.0).

use std::io;

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::Endpoint;
use multistream_select::{Negotiated, Version, dialer_select_proto, listener_select_proto};

/// One of `names`, the preferred first. The dialer's only proposal travels with what follows it.
pub async fn agree<C>(socket: C, names: Vec<&'static str>, end: Endpoint) -> io::Result<(&'static str, Negotiated<C>)>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    Ok(match end {
        Endpoint::Dialer => dialer_select_proto(socket, names, Version::V1Lazy).await?,
        Endpoint::Listener => listener_select_proto(socket, names).await?,
    })
}
