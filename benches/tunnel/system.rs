//! What is compared. A system is a file of its own that says how its tunnel is started, and a row of [`SYSTEMS`].

use std::net::SocketAddr;

use crate::{
    Result,
    baseline::Baseline,
    dumbpipe::Dumbpipe,
    kubo::Kubo,
    own::Own,
    socat::Socat,
    ssh::Ssh,
    tunnel::{Side, Tunnel},
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This library, as it is shipped.
    Own,
    /// Always there, to compare with.
    Reference,
    /// Another program, which may not be installed.
    Peer,
}

pub trait System: Sync {
    /// On the command line and in the file of figures.
    fn name(&self) -> &'static str;
    /// In the chart, if it belongs there.
    fn label(&self) -> Option<&'static str>;
    fn kind(&self) -> Kind;
    /// What was measured, or the reason why it cannot be.
    fn version(&self) -> Result<String>;
    fn start(&self, target: SocketAddr) -> Result<Tunnel>;
    /// Whether it would call home from anywhere but a network namespace of its own.
    fn isolated(&self) -> bool {
        false
    }
    /// Plays one side in a process of its own, if the sides are this program: until the benchmark has no more use for it.
    fn role(&self, _side: Side, _address: &str) -> Result<()> {
        Err(format!("{} is not played by this program", self.name()).into())
    }
}

/// In the order of the report. The first has no tunnel.
pub static SYSTEMS: &[&dyn System] = &[
    &Raw,
    &Own::Tcp,
    &Own::Quic,
    #[cfg(feature = "plaintext-bench")]
    &Own::Plain,
    &Baseline,
    &Socat,
    &Ssh::Gcm,
    &Ssh::Default,
    &Kubo::Tls,
    &Kubo::Noise,
    &Kubo::Quic,
    &Dumbpipe,
];

/// The load goes straight to the target.
struct Raw;

impl System for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn label(&self) -> Option<&'static str> {
        None
    }

    fn kind(&self) -> Kind {
        Kind::Reference
    }

    fn version(&self) -> Result<String> {
        Ok("loopback TCP".into())
    }

    fn start(&self, target: SocketAddr) -> Result<Tunnel> {
        Ok(Tunnel::straight(target))
    }
}
