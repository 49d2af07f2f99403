//! What can go wrong with a QUIC endpoint or connection, in words for the operator.

use std::{fmt, io, net::SocketAddr, time::Duration};

use libp2p::{PeerId, core::transport::TransportError};
use quinn::{ConnectError, ConnectionError};

/// A failure of the QUIC transport. Every sentence names the address it is about, where there is one.
#[derive(Debug)]
pub enum Error {
    /// The TLS certificate or settings could not be made.
    Tls(String),
    /// No UDP socket on this local address.
    Bind { local: SocketAddr, error: io::Error },
    /// The operating system does not tell its network interfaces, or the listening socket failed.
    Interfaces(io::Error),
    /// The listening socket failed for good.
    SocketLost { local: SocketAddr },
    /// The dial could not be started.
    Connect { remote: SocketAddr, error: ConnectError },
    /// The handshake failed.
    Handshake { remote: SocketAddr, error: ConnectionError },
    /// The handshake did not end in time.
    HandshakeTimedOut { remote: SocketAddr, after: Duration },
    /// Someone else answered.
    WrongPeer { remote: SocketAddr, expected: Box<PeerId>, actual: Box<PeerId> },
    /// The certificate is not one of libp2p.
    Certificate { remote: SocketAddr, reason: String },
    /// Hole punching needs a listener that can reach the address.
    NoListener { remote: SocketAddr },
    /// This address is being punched already.
    AlreadyPunching { remote: SocketAddr },
    /// The hole could not be punched: sending failed or the transport went away.
    Punch { remote: SocketAddr, error: io::Error },
    /// An established connection ended.
    Connection(ConnectionError),
}

/// TLS alert "no application protocol" (RFC 7301 section 3.2) as a QUIC error code (RFC 9001 section 4.8).
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

fn is_tls(code: quinn::TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Tls(reason) => write!(f, "QUIC: the TLS settings cannot be made: {reason}"),
            Error::Bind { local, error } => write!(f, "UDP address {local} cannot be used: {error}"),
            Error::Interfaces(error) => write!(f, "QUIC: the network interfaces cannot be watched: {error}"),
            Error::SocketLost { local } => write!(f, "UDP socket {local} failed"),
            Error::Connect { remote, error } => write!(f, "QUIC dial to {remote} cannot be started: {error}"),
            Error::Handshake { remote, error } => {
                write!(f, "QUIC handshake with {remote} failed: ")?;
                match error {
                    ConnectionError::VersionMismatch => f.write_str("it does not speak QUIC version 1"),
                    ConnectionError::TransportError(e) if u64::from(e.code) == NO_APPLICATION_PROTOCOL => {
                        f.write_str("it does not speak libp2p")
                    }
                    ConnectionError::ConnectionClosed(e) if u64::from(e.error_code) == NO_APPLICATION_PROTOCOL => {
                        f.write_str("it does not speak libp2p")
                    }
                    ConnectionError::TransportError(e) if is_tls(e.code) => {
                        write!(f, "its certificate or TLS message was refused here: {}", e.reason)
                    }
                    ConnectionError::ConnectionClosed(e) if is_tls(e.error_code) => {
                        write!(f, "it refused the certificate or TLS message of this node: {e}")
                    }
                    error => write!(f, "{error}"),
                }
            }
            Error::HandshakeTimedOut { remote, after } => {
                write!(f, "no QUIC connection with {remote} within {} s", after.as_secs_f32())
            }
            Error::WrongPeer { remote, expected, actual } => write!(f, "{remote} is peer {actual}, not {expected}"),
            Error::Certificate { remote, reason } => {
                write!(f, "the certificate of {remote} is not one of libp2p: {reason}")
            }
            Error::NoListener { remote } => {
                write!(f, "hole punching to {remote} needs a QUIC listen address of the same kind")
            }
            Error::AlreadyPunching { remote } => write!(f, "hole punching to {remote} is under way already"),
            Error::Punch { remote, error } => write!(f, "hole punching to {remote} failed: {error}"),
            Error::Connection(error) => write!(f, "QUIC connection lost: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The sentences above already contain the cause. That of the system is asked for its number, too.
        match self {
            Error::Bind { error, .. } | Error::Interfaces(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for TransportError<Error> {
    fn from(error: Error) -> Self {
        TransportError::Other(error)
    }
}
