//! A tunnel of two processes, from a port for clients to the target.

use std::{net::SocketAddr, process::Command, time::Duration};

use tempfile::TempDir;

use crate::{ROLE, Result, process::Process, system::System};

#[derive(Clone, Copy)]
pub enum Side {
    /// Next to the target.
    Listen,
    /// Where clients connect.
    Forward,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Listen => "listen",
            Side::Forward => "forward",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Side::Listen, Side::Forward].into_iter().find(|side| side.name() == name)
    }
}

pub struct Tunnel {
    /// `None`: there is no tunnel, clients connect to the target.
    pub pair: Option<Pair>,
    /// Where clients connect.
    pub address: SocketAddr,
}

/// The processes of both sides.
pub struct Pair {
    pub listen: Process,
    pub forward: Process,
    /// Files that they need, if they need any.
    _directory: Option<TempDir>,
}

impl Tunnel {
    /// No tunnel.
    pub fn straight(target: SocketAddr) -> Tunnel {
        Tunnel { pair: None, address: target }
    }

    pub fn new(listen: Process, forward: Process, address: SocketAddr, directory: Option<TempDir>) -> Tunnel {
        Tunnel { pair: Some(Pair { listen, forward, _directory: directory }), address }
    }

    /// A tunnel whose sides follow the benchmark's own convention: `command` makes the one that is given the address of
    /// the target or of the listening side.
    pub fn of_two(
        target: SocketAddr,
        directory: Option<TempDir>,
        command: impl Fn(Side, &str) -> Result<Command>,
    ) -> Result<Tunnel> {
        let (listen, peer) = Process::serving(command(Side::Listen, &target.to_string())?)?;
        let (forward, address) = Process::serving(command(Side::Forward, &peer)?)?;
        Ok(Tunnel::new(listen, forward, address.parse()?, directory))
    }

    /// A tunnel whose sides are this program, in the role of `system`.
    pub fn of_roles(system: &dyn System, target: SocketAddr) -> Result<Tunnel> {
        Tunnel::of_two(target, None, |side, address| role(&[system.name(), side.name(), address]))
    }
}

impl Pair {
    /// Seconds of processor time of both sides.
    pub fn processor(&self) -> Result<f64> {
        Ok(self.listen.processor()? + self.forward.processor()?)
    }

    /// Processor time of both sides in `time` of rest, in percent of one core.
    pub async fn idle(&self, time: Duration) -> Result<f64> {
        let before = self.listen.fine_processor()? + self.forward.fine_processor()?;
        tokio::time::sleep(time).await;
        let after = self.listen.fine_processor()? + self.forward.fine_processor()?;
        Ok((after - before) / time.as_secs_f64() * 100.0)
    }
}

/// This program again, in another role.
pub fn role(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ROLE).args(arguments).env("P2PMOUNT_NETWORK", "local");
    Ok(command)
}
