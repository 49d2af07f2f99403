//! Two relays in a row, without encryption: what the copying alone costs. socat starts a process for each connection.

use std::{net::SocketAddr, time::Instant};

use crate::{
    Result,
    process::{Process, find, free_address, printed},
    system::{Kind, System},
    tunnel::Tunnel,
};

/// Bytes that are moved at a time. With the default of 8 KiB it is about half as fast.
const BUFFER: usize = 128 * 1024;

pub struct Socat;

impl System for Socat {
    fn name(&self) -> &'static str {
        "socat"
    }

    fn label(&self) -> Option<&'static str> {
        Some("two socat relays (no encryption)")
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn version(&self) -> Result<String> {
        let text = printed(&find("socat")?, &["-V"])?;
        let version = text.lines().find_map(|line| line.strip_prefix("socat version ")).ok_or("unknown version")?;
        Ok(version.split(' ').next().unwrap_or_default().to_owned())
    }

    fn start(&self, target: SocketAddr) -> Result<Tunnel> {
        let (listen, middle) = relay(target)?;
        let (forward, address) = relay(middle)?;
        Ok(Tunnel::new(listen, forward, address, None))
    }
}

fn relay(to: SocketAddr) -> Result<(Process, SocketAddr)> {
    let address = free_address()?;
    let listen = format!("TCP4-LISTEN:{},bind={},fork,reuseaddr,backlog=4096,nodelay", address.port(), address.ip());
    let arguments = ["-b".to_owned(), BUFFER.to_string(), listen, format!("TCP4:{to},nodelay")];
    let began = Instant::now();
    let mut process = Process::foreign(&find("socat")?, &arguments)?;
    process.wait_for(address, began)?;
    Ok((process, address))
}
