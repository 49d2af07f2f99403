//! An endpoint of a mount on this machine's side: where a forward listens, or the target a listener dials.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    path::{Path, PathBuf},
};

use crate::error::{Error, Result, Status, quote};

/// Longest address that is looked at, in bytes.
const MAX_LEN: usize = 1000;
/// `sun_path` has 108 bytes on Linux, the last one for the NUL (unix(7)).
const MAX_UNIX_PATH: usize = 107;

/// A local endpoint. Two spellings of the same address are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LocalAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// Both loopback addresses, 127.0.0.1 and (where there is IPv6) ::1, on one port.
    Localhost(u16),
    /// A host name, in lower case. Never a listen address.
    Dns { name: String, port: u16, family: DnsFamily },
    /// A socket in the file system, by its absolute path.
    Unix(PathBuf),
}

/// Which of a name's addresses are meant: `/dns`, `/dns4` or `/dns6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsFamily {
    Any,
    V4,
    V6,
}

impl LocalAddress {
    /// Where a forward listens: an IP address, localhost or a Unix socket; port 0 means any free port.
    /// `8080` and `:8080` mean 127.0.0.1. Fails with [`Status::BadAddress`].
    pub fn parse_listen(text: &str) -> Result<Self> {
        let typed = Typed { what: "listen address", text };
        let address = typed.parse()?;
        if let LocalAddress::Dns { port, .. } = address {
            return Err(typed.bad(format!(
                "is a host name; listen on an IP address or on localhost, for example 127.0.0.1:{port}"
            )));
        }
        Ok(address)
    }

    /// What a listener dials for each stream: also a host name, never port 0 or a wildcard address.
    /// `8080` and `:8080` mean 127.0.0.1. Fails with [`Status::BadAddress`].
    pub fn parse_target(text: &str) -> Result<Self> {
        let typed = Typed { what: "target address", text };
        let address = typed.parse()?;
        if address.port() == Some(0) {
            return Err(typed.bad("has port 0; write the port of the service"));
        }
        if address.all_interfaces() {
            let one = match address {
                LocalAddress::Tcp(SocketAddr::V6(wildcard)) => format!("[::1]:{}", wildcard.port()),
                other => format!("127.0.0.1:{}", other.port().unwrap_or_default()),
            };
            return Err(typed.bad(format!("stands for all interfaces and can not be dialled; write {one}")));
        }
        Ok(address)
    }

    /// Any local endpoint, as a filter names one; `what` begins the sentence of a failure.
    pub(super) fn parse_any(what: &'static str, text: &str) -> Result<Self> {
        Typed { what, text }.parse()
    }

    /// The address as a multiaddr: `/ip4/127.0.0.1/tcp/8080`, `/dns/localhost/tcp/8080`, `/unix/run/service.sock`.
    pub fn to_multiaddr_text(&self) -> String {
        match self {
            LocalAddress::Tcp(SocketAddr::V4(a)) => format!("/ip4/{}/tcp/{}", a.ip(), a.port()),
            LocalAddress::Tcp(SocketAddr::V6(a)) if a.scope_id() != 0 => {
                format!("/ip6zone/{}/ip6/{}/tcp/{}", a.scope_id(), a.ip(), a.port())
            }
            LocalAddress::Tcp(SocketAddr::V6(a)) => format!("/ip6/{}/tcp/{}", a.ip(), a.port()),
            LocalAddress::Localhost(port) => format!("/dns/localhost/tcp/{port}"),
            LocalAddress::Dns { name, port, family } => format!("/{}/{name}/tcp/{port}", family.as_str()),
            LocalAddress::Unix(path) => format!("/unix{}", path.display()),
        }
    }

    /// Whether the address stands for every interface of the machine (`0.0.0.0`, `[::]`).
    pub fn all_interfaces(&self) -> bool {
        matches!(self, LocalAddress::Tcp(a) if a.ip().to_canonical().is_unspecified())
    }

    /// The port; a Unix socket has none.
    pub fn port(&self) -> Option<u16> {
        match self {
            LocalAddress::Tcp(a) => Some(a.port()),
            LocalAddress::Localhost(port) | LocalAddress::Dns { port, .. } => Some(*port),
            LocalAddress::Unix(_) => None,
        }
    }

    /// The same address on another port, such as the one that was really bound. A Unix socket stays as it is.
    #[must_use]
    pub fn with_port(mut self, new: u16) -> Self {
        match &mut self {
            LocalAddress::Tcp(a) => a.set_port(new),
            LocalAddress::Localhost(port) | LocalAddress::Dns { port, .. } => *port = new,
            LocalAddress::Unix(_) => {}
        }
        self
    }
}

/// The short form, which parses back to an equal address.
impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalAddress::Tcp(a) => a.fmt(f),
            LocalAddress::Localhost(port) => write!(f, "localhost:{port}"),
            LocalAddress::Dns { name, port, family: DnsFamily::Any } => write!(f, "{name}:{port}"),
            LocalAddress::Dns { .. } => f.write_str(&self.to_multiaddr_text()),
            LocalAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl DnsFamily {
    fn as_str(self) -> &'static str {
        match self {
            DnsFamily::Any => "dns",
            DnsFamily::V4 => "dns4",
            DnsFamily::V6 => "dns6",
        }
    }
}

/// A text under examination, and what it is meant to be.
struct Typed<'a> {
    what: &'static str,
    text: &'a str,
}

impl Typed<'_> {
    fn bad(&self, why: impl fmt::Display) -> Error {
        Error::new(Status::BadAddress, format!("{} '{}' {why}", self.what, quote(self.text)))
    }

    fn parse(&self) -> Result<LocalAddress> {
        let text = self.text;
        if text.is_empty() {
            let message = format!("{} is empty; write for example 127.0.0.1:8080", self.what);
            return Err(Error::new(Status::BadAddress, message));
        }
        if text.len() > MAX_LEN {
            return Err(self.bad(format!("is {} bytes long; at most {MAX_LEN} are allowed", text.len())));
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
            return Err(self.bad(format!("has a control character at byte {at}")));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return self.unix(path);
        }
        if text == "/unix" || text.starts_with("/unix/") {
            return self.unix(&text["/unix".len()..]);
        }
        if text.contains(char::is_whitespace) {
            return Err(self.bad("has a space in it; write for example 127.0.0.1:8080"));
        }
        if text.starts_with('/') { self.multiaddr() } else { self.host_and_port() }
    }

    fn unix(&self, path: &str) -> Result<LocalAddress> {
        if path.starts_with('@') {
            return Err(
                self.bad("is an abstract socket; write the path of a socket file, for example unix:/run/app.sock")
            );
        }
        // unix:///run/app.sock is how URLs spell it; with two slashes the first name would be a host.
        let rest = path.trim_start_matches('/');
        if path.len() - rest.len() == 2 {
            return Err(self.bad(format!("has a host in its path; write unix:/{}", quote(rest))));
        }
        if !path.starts_with('/') {
            return Err(self.bad("has no absolute path; write for example unix:/run/app.sock"));
        }
        let path = format!("/{rest}");
        if path.ends_with('/') || Path::new(&path).file_name().is_none() {
            return Err(self.bad("names no socket file; write for example unix:/run/app.sock"));
        }
        if path.len() > MAX_UNIX_PATH {
            let len = path.len();
            return Err(
                self.bad(format!("has a path of {len} bytes; a Unix socket's path has at most {MAX_UNIX_PATH}"))
            );
        }
        Ok(LocalAddress::Unix(path.into()))
    }

    /// `/ip4/A/tcp/P`, `/ip6/A/tcp/P` (also behind `/ip6zone/N`), `/dns/N/tcp/P`, `/dns4/N/tcp/P`, `/dns6/N/tcp/P`.
    fn multiaddr(&self) -> Result<LocalAddress> {
        let mut parts = self.text.trim_end_matches('/').split('/').skip(1);
        let mut kind = parts.next().unwrap_or_default();
        let mut zone = 0;
        if kind == "ip6zone" {
            zone = self.zone(parts.next().unwrap_or_default())?;
            kind = parts.next().unwrap_or_default();
            if kind != "ip6" {
                return Err(self.bad("has no '/ip6' behind its '/ip6zone'"));
            }
        }
        let host = match (kind, parts.next()) {
            ("ip4" | "ip6" | "dns" | "dns4" | "dns6", Some(host)) => host,
            ("p2p" | "ipfs", _) => {
                return Err(
                    self.bad("names a peer, where an address of this machine is needed, such as 127.0.0.1:8080")
                );
            }
            ("tcp", Some(port)) => {
                return Err(self.bad(format!("has no host; write /ip4/127.0.0.1/tcp/{}", quote(port))));
            }
            _ => return Err(self.bad("is not of a known form; write for example /ip4/127.0.0.1/tcp/8080")),
        };
        let shown = format!("/{kind}/{}", quote(host));
        let port = match (parts.next(), parts.next()) {
            (Some("tcp"), Some(port)) => self.port(port)?,
            (None | Some("tcp"), _) => {
                return Err(self.bad(format!("has no port; write for example {shown}/tcp/8080")));
            }
            (Some("udp"), port) => {
                let port = quote(port.unwrap_or("8080"));
                return Err(self.bad(format!("is udp; only tcp is tunnelled: {shown}/tcp/{port}")));
            }
            (Some(other), _) => {
                return Err(self.bad(format!("has '/{}' where '/tcp/<port>' belongs", quote(other))));
            }
        };
        match parts.next() {
            None => {}
            Some("p2p" | "ipfs") => {
                return Err(self.bad(format!("has a peer id; it ends after the port: {shown}/tcp/{port}")));
            }
            Some(other) => {
                return Err(
                    self.bad(format!("goes on with '/{}'; it ends after the port: {shown}/tcp/{port}", quote(other)))
                );
            }
        }
        match kind {
            "ip4" => Ok(LocalAddress::Tcp((self.ip4(host)?, port).into())),
            "ip6" => Ok(LocalAddress::Tcp(SocketAddrV6::new(self.ip6(host)?, port, 0, zone).into())),
            "dns4" => self.named(host, port, DnsFamily::V4),
            "dns6" => self.named(host, port, DnsFamily::V6),
            _ => self.named(host, port, DnsFamily::Any),
        }
    }

    /// `8080`, `:8080`, `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `name:8080`.
    fn host_and_port(&self) -> Result<LocalAddress> {
        let text = self.text;
        let only_port = text.strip_prefix(':').unwrap_or(text);
        if !only_port.is_empty() && only_port.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(LocalAddress::Tcp((Ipv4Addr::LOCALHOST, self.port(only_port)?).into()));
        }
        if let Some((_, rest)) = text.split_once("://") {
            let host = rest.split('/').next().unwrap_or_default();
            return Err(self.bad(format!("is a URL; write only host and port: {}", quote(host))));
        }
        if let Some(rest) = text.strip_prefix('[') {
            let Some((host, rest)) = rest.split_once(']') else {
                return Err(self.bad("has no ']'; write for example [::1]:8080"));
            };
            let Some(port) = rest.strip_prefix(':') else {
                return Err(self.bad(format!("has no port; write for example [{}]:8080", quote(host))));
            };
            let (host, zone) = match host.split_once('%') {
                Some((host, zone)) => (host, self.zone(zone)?),
                None => (host, 0),
            };
            return Ok(LocalAddress::Tcp(SocketAddrV6::new(self.ip6(host)?, self.port(port)?, 0, zone).into()));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(self.bad(format!("has no port; write for example {}:8080", quote(text))));
        };
        if host.contains(':') {
            return Err(self.bad("is an IPv6 address without brackets; write for example [::1]:8080"));
        }
        let port = self.port(port)?;
        match host.parse::<Ipv4Addr>() {
            Ok(ip) => Ok(LocalAddress::Tcp((IpAddr::V4(ip), port).into())),
            Err(_) if host == "*" => {
                Err(self.bad(format!("has no host; for all interfaces write 0.0.0.0:{port} or [::]:{port}")))
            }
            Err(_) => self.named(host, port, DnsFamily::Any),
        }
    }

    /// `localhost` is never looked up: it is the loopback addresses.
    fn named(&self, name: &str, port: u16, family: DnsFamily) -> Result<LocalAddress> {
        if !name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case("localhost") {
            check_host_name(name).map_err(|why| self.bad(why))?;
            return Ok(LocalAddress::Dns { name: name.to_ascii_lowercase(), port, family });
        }
        Ok(match family {
            DnsFamily::Any => LocalAddress::Localhost(port),
            DnsFamily::V4 => LocalAddress::Tcp((Ipv4Addr::LOCALHOST, port).into()),
            DnsFamily::V6 => LocalAddress::Tcp((Ipv6Addr::LOCALHOST, port).into()),
        })
    }

    fn ip4(&self, text: &str) -> Result<Ipv4Addr> {
        text.parse().map_err(|_| self.bad(format!("has '{}', which is not an IPv4 address", quote(text))))
    }

    fn ip6(&self, text: &str) -> Result<Ipv6Addr> {
        text.parse().map_err(|_| self.bad(format!("has '{}', which is not an IPv6 address", quote(text))))
    }

    fn port(&self, text: &str) -> Result<u16> {
        if text.is_empty() {
            return Err(self.bad("has no port; it ends with a number from 0 to 65535"));
        }
        // Not left to `parse` alone, which takes "+80".
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(self.bad(format!("has the port '{}', which is not a number", quote(text))));
        }
        text.parse().map_err(|_| self.bad(format!("has port {}; the highest is 65535", quote(text))))
    }

    /// The number of a network interface, for link-local addresses.
    fn zone(&self, text: &str) -> Result<u32> {
        match text.parse() {
            Ok(zone) if zone != 0 => Ok(zone),
            _ => Err(self.bad(format!("has the zone '{}'; write the number of the network interface", quote(text)))),
        }
    }
}

/// Whether `name` can be a host's name (RFC 1123, section 2.1, and the underscores in use). The error continues a sentence.
pub(super) fn check_host_name(name: &str) -> Result<(), String> {
    if !name.is_ascii() {
        return Err(format!("has the host '{}'; write its ASCII form, which begins with xn--", quote(name)));
    }
    let labels = name.strip_suffix('.').unwrap_or(name);
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if labels.len() > 253 || !labels.split('.').all(label_ok) {
        return Err(format!("has the host '{}', which is not a host name", quote(name)));
    }
    // No top-level domain is a number: this is a misspelt IPv4 address, which some resolvers would guess at.
    let last = labels.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X") {
        return Err(format!("has '{}', which is not an IPv4 address", quote(name)));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
