//! dumbpipe: a QUIC connection of iroh for each stream. It has no option to leave out the relays and look-ups of its makers,
//! so it runs in a network namespace in which there is nobody else, and waits for them in vain: 5 seconds on each side.

use std::{net::SocketAddr, path::PathBuf, time::Instant};

use crate::{
    Result, isolation,
    machine::peers_directory,
    process::{Process, free_address, printed},
    system::{Kind, System},
    tunnel::Tunnel,
};

/// What stands before the ticket in what the listening side says.
const TICKET: &str = "dumbpipe connect-tcp ";

pub struct Dumbpipe;

impl System for Dumbpipe {
    fn name(&self) -> &'static str {
        "dumbpipe"
    }

    fn label(&self) -> Option<&'static str> {
        Some("dumbpipe (QUIC)")
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn isolated(&self) -> bool {
        true
    }

    fn version(&self) -> Result<String> {
        isolation::available()?;
        let text = printed(&program()?.display().to_string(), &["--version"])?;
        Ok(text.trim().trim_start_matches("dumbpipe ").to_owned())
    }

    fn start(&self, target: SocketAddr) -> Result<Tunnel> {
        let program = program()?.display().to_string();
        let arguments = ["listen-tcp", "--host", &target.to_string(), "--ipv4-addr", "127.0.0.1:0"].map(str::to_owned);
        let (listen, ticket) = Process::saying(&program, &arguments, TICKET)?;
        let address = free_address()?;
        let arguments = ["connect-tcp", "--addr", &address.to_string(), "--ipv4-addr", "127.0.0.1:0", &ticket];
        let began = Instant::now();
        let mut forward = Process::foreign(&program, &arguments.map(str::to_owned))?;
        forward.wait_for(address, began)?;
        Ok(Tunnel::new(listen, forward, address, None))
    }
}

fn program() -> Result<PathBuf> {
    let file = peers_directory()?.join("bin/dumbpipe");
    if file.is_file() { Ok(file) } else { Err("dumbpipe is not installed".into()) }
}
