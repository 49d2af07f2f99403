//! `ssh -L` to an `sshd` of our own, with keys of its own: nothing of the user's configuration counts.

use std::{net::SocketAddr, path::Path, time::Instant};

use crate::{
    Result,
    process::{Process, find, free_address, printed},
    system::{Kind, System},
    tunnel::Tunnel,
};

pub enum Ssh {
    /// The cipher that the two agree on by themselves.
    Default,
    /// The fastest on processors with instructions for AES.
    Gcm,
}

impl System for Ssh {
    fn name(&self) -> &'static str {
        match self {
            Ssh::Default => "ssh",
            Ssh::Gcm => "ssh-gcm",
        }
    }

    fn label(&self) -> Option<&'static str> {
        match self {
            Ssh::Default => Some("ssh -L, default cipher"),
            Ssh::Gcm => Some("ssh -L, aes128-gcm"),
        }
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn version(&self) -> Result<String> {
        for program in ["sshd", "ssh-keygen"] {
            find(program)?;
        }
        if rustix::process::getuid().is_root() && !Path::new("/run/sshd").is_dir() {
            return Err("sshd as root wants the directory /run/sshd".into());
        }
        let text = printed(&find("ssh")?, &["-V"])?;
        Ok(text.trim().split([' ', ',']).next().unwrap_or_default().to_owned())
    }

    fn start(&self, target: SocketAddr) -> Result<Tunnel> {
        let directory = tempfile::tempdir()?;
        let file = |name: &str| directory.path().join(name).display().to_string();
        for key in ["host", "user"] {
            printed(&find("ssh-keygen")?, &["-q", "-t", "ed25519", "-N", "", "-f", &file(key)])?;
        }
        let server = free_address()?;
        let config = [
            format!("ListenAddress {server}"),
            format!("HostKey {}", file("host")),
            format!("AuthorizedKeysFile {}", file("user.pub")),
            "PidFile none".into(),
            "UsePAM no".into(),
            "StrictModes no".into(),
            "PasswordAuthentication no".into(),
            "PermitRootLogin prohibit-password".into(),
        ];
        std::fs::write(file("config"), config.join("\n") + "\n")?;
        let began = Instant::now();
        let arguments = ["-D", "-f", &file("config")].map(str::to_owned);
        let mut listen = Process::foreign(&find("sshd")?, &arguments)?;
        listen.wait_for(server, began)?;

        let address = free_address()?;
        let mut arguments = ["-F", "/dev/null", "-N", "-i", &file("user")].map(str::to_owned).to_vec();
        let options = [
            "UserKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=no",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "ExitOnForwardFailure=yes",
        ];
        arguments.extend(options.into_iter().flat_map(|option| ["-o".to_owned(), option.to_owned()]));
        if matches!(self, Ssh::Gcm) {
            arguments.extend(["-c", "aes128-gcm@openssh.com"].map(str::to_owned));
        }
        arguments.extend(["-p".to_owned(), server.port().to_string()]);
        arguments.extend(["-L".to_owned(), format!("{address}:{target}"), server.ip().to_string()]);
        let began = Instant::now();
        let mut forward = Process::foreign(&find("ssh")?, &arguments)?;
        forward.wait_for(address, began)?;
        Ok(Tunnel::new(listen, forward, address, Some(directory)))
    }
}
