//! The frame header of yamux version 0 (HashiCorp's `spec.md`, section "Framing").

use std::{fmt, io};

use crate::network::frames;

/// Length of a frame header in bytes.
pub(super) const HEADER: usize = 12;
/// Receive window of every new stream in bytes ("Flow Control"); fixed by the specification.
pub(super) const INITIAL_WINDOW: u32 = 256 * 1024;

pub(super) const SYN: u16 = 1;
pub(super) const ACK: u16 = 2;
pub(super) const FIN: u16 = 4;
pub(super) const RST: u16 = 8;

/// Go-away codes ("Session termination").
pub(super) const GO_AWAY_NORMAL: u32 = 0;
pub(super) const GO_AWAY_PROTOCOL_ERROR: u32 = 1;

/// Frame types ("Type Field").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data = 0,
    WindowUpdate = 1,
    Ping = 2,
    GoAway = 3,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Data => "data",
            Kind::WindowUpdate => "window",
            Kind::Ping => "ping",
            Kind::GoAway => "go-away",
        }
    }
}

/// Flags by their names, as in `SYN|FIN`.
struct Flags(u16);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (flag, name) in [(SYN, "SYN"), (ACK, "ACK"), (FIN, "FIN"), (RST, "RST")] {
            if self.0 & flag != 0 {
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        Ok(())
    }
}

/// A decoded header. `length` is a number of bytes, a window increment, a ping value, a go-away code or, in a window
/// update with RST, an error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) flags: u16,
    pub(super) stream: u32,
    pub(super) length: u32,
}

impl Header {
    pub(super) fn new(kind: Kind, flags: u16, stream: u32, length: u32) -> Self {
        Self { kind, flags, stream, length }
    }

    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Tells the frame log; `way` is "sent" or "received".
    pub(super) fn log(&self, connection: u64, way: &'static str) {
        tracing::trace!(
            target: frames::TARGET,
            connection,
            stream = self.stream,
            kind = self.kind.name(),
            flags = %Flags(self.flags),
            length = self.length,
            "yamux {way}"
        );
    }

    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[1] = self.kind as u8;
        bytes[2..4].copy_from_slice(&self.flags.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_be_bytes());
        bytes[8..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Decodes the header. Unknown flags are ignored.
    pub(super) fn decode(bytes: &[u8; HEADER]) -> Result<Self, Violation> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = *bytes;
        if version != 0 {
            return Err(Violation(format!("unknown version {version}")));
        }
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::WindowUpdate,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            other => return Err(Violation(format!("unknown frame type {other}"))),
        };
        Ok(Self {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }
}

/// How the remote broke the protocol; ends the connection.
#[derive(Debug)]
pub(super) struct Violation(pub(super) String);

impl From<Violation> for io::Error {
    fn from(violation: Violation) -> Self {
        let text = format!("yamux: the remote broke the protocol: {}", violation.0);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}
