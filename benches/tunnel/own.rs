//! A process of a tunnel made with this library.

use std::time::Instant;

use p2pmount::{
    Node, Options,
    options::{Scope, Values},
    process,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    pair::{Side, serve},
};

const PROTOCOL: &str = "/x/bench";

/// `address` is the target of the listening side, the peer of the forwarding side. Options in the environment count, so that
/// they can be compared, too.
pub fn run(transport: &str, side: Side, address: &str) -> Result<()> {
    let started = Instant::now();
    let environment = |name: &str| std::env::var(name).ok();
    let threads = Values::resolve(Scope::Process, &Options::new(), &environment)?.size("threads");
    let options = Options::new().with("network", "local")?.with("transports", transport)?;
    let options = options.with("listen.addresses", listen_addresses(transport, side))?;
    let runtime = process::runtime(threads)?;
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

/// The forwarding side only dials, as that of the baseline.
fn listen_addresses(transport: &str, side: Side) -> &'static str {
    match side {
        Side::Forward => "",
        Side::Listen if transport == "quic" => "/ip4/127.0.0.1/udp/0/quic-v1",
        Side::Listen => "/ip4/127.0.0.1/tcp/0",
    }
}
