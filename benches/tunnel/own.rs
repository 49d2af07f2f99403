//! This library.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use p2pmount::{
    Node, Options,
    options::{Scope, Values},
    process,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    process::serve,
    system::{Kind, System},
    tunnel::{Side, Tunnel},
};

const PROTOCOL: &str = "/x/bench";

pub enum Own {
    Tcp,
    Quic,
    /// Over TCP without encryption, to see what it costs. Only with the feature `plaintext-bench`.
    #[cfg(feature = "plaintext-bench")]
    Plain,
}

impl System for Own {
    fn name(&self) -> &'static str {
        match self {
            Own::Tcp => "tcp",
            Own::Quic => "quic",
            #[cfg(feature = "plaintext-bench")]
            Own::Plain => "plain",
        }
    }

    fn label(&self) -> Option<&'static str> {
        match self {
            Own::Tcp => Some("p2pmount, TCP"),
            Own::Quic => Some("p2pmount, QUIC"),
            #[cfg(feature = "plaintext-bench")]
            Own::Plain => None,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Own::Tcp | Own::Quic => Kind::Own,
            #[cfg(feature = "plaintext-bench")]
            Own::Plain => Kind::Reference,
        }
    }

    fn version(&self) -> Result<String> {
        Ok(env!("CARGO_PKG_VERSION").into())
    }

    fn start(&self, target: SocketAddr) -> Result<Tunnel> {
        Tunnel::of_roles(self, target)
    }

    /// `address` is the target of the listening side, the peer of the forwarding side. Options in the environment count, so
    /// that they can be compared, too.
    fn role(&self, side: Side, address: &str) -> Result<()> {
        let started = Instant::now();
        #[cfg(feature = "plaintext-bench")]
        if matches!(self, Own::Plain) {
            p2pmount::disable_encryption();
        }
        let transport = if matches!(self, Own::Quic) { "quic" } else { "tcp" };
        let environment = |name: &str| std::env::var(name).ok();
        let of_process = Values::resolve(Scope::Process, &Options::new(), &environment)?;
        process::set_busy_poll(Duration::from_micros(of_process.size("busy_poll") as u64));
        let options = Options::new().with("network", "local")?.with("transports", transport)?;
        let options = options.with("listen.addresses", listen_addresses(transport, side))?;
        let runtime = process::runtime(of_process.size("threads"))?;
        let node = runtime.block_on(Node::open(&options, &environment))?;
        let ready = match side {
            Side::Listen => {
                node.listen(PROTOCOL, address, &Options::new())?;
                node.addresses().first().ok_or("the node has no address")?.to_string()
            }
            Side::Forward => {
                let what = [PROTOCOL, "127.0.0.1:0", address];
                runtime.block_on(node.forward(what, &Options::new(), &CancellationToken::new()))?.listen_text()
            }
        };
        serve(&ready, started)
    }
}

/// The forwarding side only dials, as that of the baseline.
fn listen_addresses(transport: &str, side: Side) -> &'static str {
    match side {
        Side::Forward => "",
        Side::Listen if transport == "quic" => "/ip4/127.0.0.1/udp/0/quic-v1",
        Side::Listen => "/ip4/127.0.0.1/tcp/0",
    }
}
