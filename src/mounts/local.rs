//! Sockets of this machine: what clients connect to, what targets listen on.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use socket2::{Domain, SockAddr, Type};

use super::{
    socket::{Listener, Socket},
    streams::Origin,
};
use crate::{
    address::{DnsFamily, LocalAddress},
    error::{Error, Result, Status, describe},
};

/// Clients that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;
/// Longest time that binding a Unix socket waits for others who bind in the same directory.
const DIRECTORY_TURN: Duration = Duration::from_millis(200);
/// First and longest pause before a Unix target whose queue of clients is full is tried again.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);
const QUEUE_PAUSE_LONGEST: Duration = Duration::from_millis(50);

/// One end of a local connection. Dropped before `finish`, it is reset: the other end sees ECONNRESET, not an end of file.
pub struct LocalStream {
    socket: Socket,
    finished: AtomicBool,
}

impl LocalStream {
    fn new(socket: Socket) -> Self {
        LocalStream { socket, finished: AtomicBool::new(false) }
    }

    /// See [`Socket::follow`].
    pub fn follow(&mut self) {
        self.socket.follow();
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_read_vectored(cx, &mut [IoSliceMut::new(buffer)])
    }

    pub fn poll_read_vectored(&self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        self.socket.poll_read(cx, buffers)
    }

    pub fn poll_write_vectored(&self, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.socket.poll_write(cx, bytes)
    }

    /// Ends the direction towards the other end; what was written before is still delivered.
    pub fn shut_down_write(&self) -> io::Result<()> {
        self.socket.system().shutdown(Shutdown::Write)
    }

    /// Returns when the other end has reset the connection.
    pub async fn was_reset(&self) {
        self.socket.was_reset().await;
    }

    /// Both directions have ended: closing it is a plain close.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }
}

impl Drop for LocalStream {
    fn drop(&mut self) {
        if self.socket.is_tcp() && !*self.finished.get_mut() {
            // A linger time of zero makes close send RST (tcp(7), socket(7)). Unix sockets have no such thing.
            let _ = self.socket.system().set_linger(Some(Duration::ZERO));
        }
    }
}

/// A bound listen address: several sockets where `localhost` has two families.
pub struct LocalListener {
    pub sockets: Vec<Acceptor>,
    /// What was really bound.
    pub address: LocalAddress,
}

/// One listening socket.
pub enum Acceptor {
    Tcp(Listener),
    Unix(Listener, SocketFile),
}

impl LocalListener {
    /// Binds at once or says why not. Needs a runtime.
    pub fn bind(wanted: &LocalAddress) -> Result<LocalListener> {
        match wanted {
            LocalAddress::Tcp(address) => {
                let (acceptor, bound) = bind_tcp(*address).map_err(|error| cannot_bind(wanted, &error))?;
                Ok(LocalListener { sockets: vec![acceptor], address: LocalAddress::Tcp(bound) })
            }
            LocalAddress::Localhost(port) => bind_localhost(*port).map_err(|error| cannot_bind(wanted, &error)),
            LocalAddress::Unix(path) => {
                let (acceptor, address) = bind_unix(path)?;
                Ok(LocalListener { sockets: vec![acceptor], address })
            }
            LocalAddress::Dns { .. } => Err(Error::new(
                Status::BadAddress,
                format!("listen address {wanted} is a name; give an IP address or localhost"),
            )),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<(Acceptor, SocketAddr)> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // A tunnel must not add delay of its own; without the option it still works. On Linux what is accepted inherits it.
    let _ = socket.set_tcp_nodelay(true);
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok((Acceptor::Tcp(Listener::new(socket)?), bound))
}

/// 127.0.0.1 and, where there is IPv6, ::1 on the same port.
fn bind_localhost(port: u16) -> io::Result<LocalListener> {
    let mut tries = 0;
    loop {
        let (v4, bound) = bind_tcp((Ipv4Addr::LOCALHOST, port).into())?;
        let address = LocalAddress::Localhost(bound.port());
        match bind_tcp((Ipv6Addr::LOCALHOST, bound.port()).into()) {
            Ok((v6, _)) => return Ok(LocalListener { sockets: vec![v4, v6], address }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tries += 1;
                // A port chosen for one family may be taken in the other.
                if port != 0 || tries == 16 {
                    return Err(error);
                }
            }
            Err(_) => return Ok(LocalListener { sockets: vec![v4], address }),
        }
    }
}

fn cannot_bind(address: &LocalAddress, error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::AddrInUse {
        let mut made = Error::new(Status::AddressInUse, format!("listen address {address} is already in use"));
        made.system_error = error.raw_os_error().unwrap_or(0);
        return made;
    }
    Error::system(Status::System, format_args!("listen address {address} cannot be bound"), error)
}

fn bind_unix(path: &Path) -> Result<(Acceptor, LocalAddress)> {
    let address = LocalAddress::Unix(path.to_owned());
    let failed = |error: io::Error| cannot_bind(&address, &error);
    // Otherwise one of two that bind the same path could take the other's fresh socket for a dead one.
    let _turn = lock_directory(path);
    if let Ok(found) = std::fs::symlink_metadata(path) {
        let in_use =
            |why: &str| Error::new(Status::AddressInUse, format!("listen address {address} is already in use: {why}"));
        if !found.file_type().is_socket() {
            return Err(in_use("a file that is not a socket has this name"));
        }
        match probe(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)?
            }
            _ => return Err(in_use("a program listens on this socket")),
        }
    }
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.bind(&SockAddr::unix(path).map_err(failed)?).map_err(failed)?;
    // Between bind and listen nobody can connect, so the mode is never wider than this.
    let file = SocketFile::claim(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    let listener = Listener::new(socket).map_err(failed)?;
    Ok((Acceptor::Unix(listener, file), address))
}

/// Keeps other programs and threads that bind sockets with this library out of the directory of `path` while it lives. Where
/// the directory cannot be opened, binding says why; one that somebody keeps locked is not waited for long.
fn lock_directory(path: &Path) -> Option<File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = File::open(parent).ok()?;
    let deadline = Instant::now() + DIRECTORY_TURN;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(directory),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => return None,
        }
    }
}

/// Connects without waiting: a program whose queue is full answers, too (EAGAIN).
fn probe(path: &Path) -> io::Result<()> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// The file of a Unix socket, removed when dropped if it is still the one that was made.
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn claim(path: &Path) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_owned(), identity: (found.dev(), found.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Acceptor {
    /// The next client.
    pub async fn accept(&self) -> io::Result<(LocalStream, Origin)> {
        match self {
            Acceptor::Tcp(listener) => {
                let (socket, from) = Socket::accept_tcp(listener).await?;
                Ok((LocalStream::new(socket), Origin::Client(from)))
            }
            Acceptor::Unix(listener, file) => {
                let socket = Socket::accept_unix(listener).await?;
                Ok((LocalStream::new(socket), Origin::Unix(file.path.clone())))
            }
        }
    }
}

/// Connects to a target within `time`.
pub async fn connect(target: &LocalAddress, time: Duration) -> Result<LocalStream> {
    let refused = |reason: String, number: Option<i32>| {
        let mut error = Error::new(Status::TargetRefused, format!("target {target} cannot be connected to: {reason}"));
        error.system_error = number.unwrap_or(0);
        error
    };
    match tokio::time::timeout(time, connect_any(target)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(refused(describe(&error), error.raw_os_error())),
        Err(_) => Err(refused(format!("no answer within {} ms", time.as_millis()), None)),
    }
}

/// A program whose queue of clients is full answers EAGAIN at once, where TCP would let them wait.
async fn connect_unix(path: &Path) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    let mut pause = QUEUE_PAUSE;
    loop {
        match Socket::connect(&address).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(pause).await,
            result => return result,
        }
        pause = (pause * 2).min(QUEUE_PAUSE_LONGEST);
    }
}

async fn connect_any(target: &LocalAddress) -> io::Result<LocalStream> {
    let candidates: Vec<SocketAddr> = match target {
        LocalAddress::Unix(path) => return Ok(LocalStream::new(connect_unix(path).await?)),
        LocalAddress::Tcp(address) => vec![*address],
        LocalAddress::Localhost(port) => {
            [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].map(|ip| (ip, *port).into()).to_vec()
        }
        LocalAddress::Dns { name, port, family } => {
            let found = tokio::net::lookup_host((name.as_str(), *port)).await?;
            let fits = |address: &SocketAddr| match family {
                DnsFamily::Any => true,
                DnsFamily::V4 => address.is_ipv4(),
                DnsFamily::V6 => address.is_ipv6(),
            };
            found.filter(fits).collect()
        }
    };
    let mut first = None;
    for candidate in candidates {
        match Socket::connect(&candidate.into()).await {
            Ok(socket) => {
                // A tunnel must not add delay of its own; without the option the stream still works.
                let _ = socket.system().set_tcp_nodelay(true);
                return Ok(LocalStream::new(socket));
            }
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn neither_clients_nor_targets_are_delayed() {
        let listener = LocalListener::bind(&LocalAddress::parse_listen("127.0.0.1:0").unwrap()).unwrap();
        let [acceptor] = &listener.sockets[..] else { panic!("one address, one socket") };
        let (target, client) = tokio::join!(connect(&listener.address, Duration::from_secs(10)), acceptor.accept());
        for stream in [target.unwrap(), client.unwrap().0] {
            assert!(stream.socket.is_tcp() && stream.socket.system().tcp_nodelay().unwrap());
        }
    }
}
