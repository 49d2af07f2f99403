//! The two processes of a tunnel: started, watched, and killed on every way out.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::{ROLE, Result, System};

/// Longest time for a process to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(15);
/// The unit of times in `/proc`, the same on every architecture that Linux's ABI fixes at 100 Hz.
const TICKS_PER_SECOND: f64 = 100.0;

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

/// Says in a process of a tunnel that it is ready, and waits until the benchmark has no more use for it.
pub fn serve(address: &str, started: Instant) -> Result<()> {
    println!("{address} {}", started.elapsed().as_micros());
    // The input also ends if the benchmark dies.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A process of a tunnel.
pub struct Role {
    child: Child,
    /// What the other side needs to know.
    address: String,
    /// From its start to being ready.
    pub ready: Duration,
}

impl Role {
    fn start(system: System, side: Side, address: &str) -> Result<Role> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([ROLE, system.name(), side.name(), address]).env("P2PMOUNT_NETWORK", "local");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut role = Role { child, address: String::new(), ready: Duration::ZERO };
        let output = role.child.stdout.take().ok_or("no output")?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(output).read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = receiver.recv_timeout(READY_TIMEOUT).unwrap_or_default();
        let (address, micros) =
            line.trim().split_once(' ').ok_or_else(|| format!("the {} side did not get ready", side.name()))?;
        role.address = address.to_owned();
        role.ready = Duration::from_micros(micros.parse()?);
        Ok(role)
    }

    fn file(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.child.id());
        std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}").into())
    }

    /// Resident memory in KiB.
    pub fn memory(&self) -> Result<f64> {
        let status = self.file("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Seconds of processor time so far, `utime` and `stime` of proc_pid_stat(5).
    fn processor(&self) -> Result<f64> {
        let stat = self.file("stat")?;
        // The name, in parentheses, is field 2 and may hold spaces; the times are fields 14 and 15.
        let (_, rest) = stat.rsplit_once(") ").ok_or("no name in stat")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at - 3).ok_or("stat is short")?.parse()?) };
        Ok((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both sides of a tunnel.
pub struct Pair {
    pub listen: Role,
    pub forward: Role,
    /// Where clients connect.
    pub address: SocketAddr,
}

impl Pair {
    pub fn start(system: System, target: SocketAddr) -> Result<Pair> {
        let listen = Role::start(system, Side::Listen, &target.to_string())?;
        let forward = Role::start(system, Side::Forward, &listen.address)?;
        let address = forward.address.parse()?;
        Ok(Pair { listen, forward, address })
    }

    /// Seconds of processor time of both processes.
    pub fn processor(&self) -> Result<f64> {
        Ok(self.listen.processor()? + self.forward.processor()?)
    }
}
