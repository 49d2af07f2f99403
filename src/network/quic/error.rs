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
    /// Someone else answered; `actual` is `None` when the handshake was broken off before it was known.
    WrongPeer { remote: SocketAddr, expected: Box<PeerId>, actual: Option<Box<PeerId>> },
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

impl Error {
    /// The error of a failed handshake with `remote`, which was to be `expected`.
    pub(super) fn handshake(remote: SocketAddr, expected: Option<PeerId>, error: ConnectionError) -> Self {
        match (&error, expected) {
            // The certificate check of libp2p's TLS fails with this reason for one cause only.
            (ConnectionError::TransportError(e), Some(expected))
                if e.reason.contains("ApplicationVerificationFailure") =>
            {
                Error::WrongPeer { remote, expected: expected.into(), actual: None }
            }
            _ => Error::Handshake { remote, error },
        }
    }
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
            Error::WrongPeer { remote, expected, actual: None } => write!(f, "{remote} is not peer {expected}"),
            Error::WrongPeer { remote, expected, actual: Some(actual) } => {
                write!(f, "{remote} is peer {actual}, not {expected}")
            }
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
        // The sentence above already contains the cause; a source would make report chains say it twice.
        None
    }
}

impl From<Error> for TransportError<Error> {
    fn from(error: Error) -> Self {
        TransportError::Other(error)
    }
}
