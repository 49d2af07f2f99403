//! The handshake: rustls's, one record at a time, so that what follows it is left to the record layer (`stream.rs`).

use std::{io, sync::Arc};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use rustls::{
    ClientConfig, CommonState, ConnectionTrafficSecrets, Error, ExtractedSecrets, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    kernel::KernelConnection,
    pki_types::ServerName,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, UnbufferedStatus},
};

use super::record;

/// Read from the socket at a time.
const READ: usize = 4 * 1024;
/// More than this is not kept of a message that is not all there: the largest that rustls takes, and its records.
const MAX_SHOWN: usize = 64 * 1024 + 2 * record::MAX_RECORD;

/// What the record layer needs of a connection whose handshake is over.
pub(super) struct Established {
    pub(super) secrets: ExtractedSecrets,
    pub(super) schedule: Box<dyn Schedule>,
    /// How many records a key may seal (RFC 8446, 5.5).
    pub(super) limit: u64,
    /// Received behind the handshake.
    pub(super) received: Vec<u8>,
}

/// Where the next keys come from (RFC 8446, 7.2).
pub(super) trait Schedule: Send + Sync {
    fn next_to_send(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error>;
    fn next_to_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error>;
}

impl<Data: Send + Sync> Schedule for KernelConnection<Data> {
    fn next_to_send(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.update_tx_secret()
    }

    fn next_to_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.update_rx_secret()
    }
}

/// One end of a handshake.
pub(super) trait Role {
    /// Takes what has come from the other end; says how much of it is done with, and what is to be done next.
    fn step(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> (usize, Result<Next, Error>);
    fn session(&self) -> &CommonState;
    fn finish(self) -> Result<(ExtractedSecrets, Box<dyn Schedule>), Error>;
}

pub(super) enum Next {
    Again,
    Send,
    Receive,
    Done,
    /// The other end has said that it is gone.
    Closed,
}

pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<impl Role, Error> {
    UnbufferedClientConnection::new(config, name)
}

pub(super) fn server(config: Arc<ServerConfig>) -> Result<impl Role, Error> {
    UnbufferedServerConnection::new(config)
}

impl Role for UnbufferedClientConnection {
    fn step(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> (usize, Result<Next, Error>) {
        step(self.process_tls_records(incoming), outgoing)
    }

    fn session(&self) -> &CommonState {
        self
    }

    fn finish(self) -> Result<(ExtractedSecrets, Box<dyn Schedule>), Error> {
        let (secrets, schedule) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Box::<KernelConnection<ClientConnectionData>>::new(schedule)))
    }
}

impl Role for UnbufferedServerConnection {
    fn step(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> (usize, Result<Next, Error>) {
        step(self.process_tls_records(incoming), outgoing)
    }

    fn session(&self) -> &CommonState {
        self
    }

    fn finish(self) -> Result<(ExtractedSecrets, Box<dyn Schedule>), Error> {
        let (secrets, schedule) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Box::<KernelConnection<ServerConnectionData>>::new(schedule)))
    }
}

fn step<Data>(status: UnbufferedStatus<'_, '_, Data>, outgoing: &mut Vec<u8>) -> (usize, Result<Next, Error>) {
    let next = status.state.map(|state| match state {
        ConnectionState::EncodeTlsData(mut data) => {
            encode(outgoing, |room| data.encode(room));
            Next::Again
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Next::Send
        }
        ConnectionState::WriteTraffic(_) => Next::Done,
        ConnectionState::PeerClosed | ConnectionState::Closed => Next::Closed,
        // Nobody sends early data, and what comes behind the handshake is not shown to it.
        _ => Next::Receive,
    });
    (status.discard, next)
}

/// Appends what `encode` writes into the room that it asks for.
fn encode(outgoing: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let start = outgoing.len();
    loop {
        match encode(&mut outgoing[start..]) {
            Ok(written) => return outgoing.truncate(start + written),
            Err(EncodeError::InsufficientSize(needed)) => outgoing.resize(start + needed.required_size, 0),
            Err(EncodeError::AlreadyEncoded) => return,
        }
    }
}

/// Goes through the handshake; `look` at the session when it is over.
pub(super) async fn drive<C, T>(
    mut role: impl Role,
    socket: &mut C,
    look: impl FnOnce(&CommonState) -> io::Result<T>,
) -> io::Result<(T, Established)>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = Vec::new();
    // As much of it rustls has been shown: whole records, and no more than it asks for.
    let mut shown = 0;
    let mut outgoing = Vec::new();
    loop {
        let (done, next) = role.step(&mut received[..shown], &mut outgoing);
        received.drain(..done);
        shown -= done;
        match next.map_err(invalid) {
            Ok(Next::Again) => {}
            Ok(Next::Send) => {
                socket.write_all(&outgoing).await?;
                socket.flush().await?;
                outgoing.clear();
            }
            Ok(Next::Receive) if shown > MAX_SHOWN => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer's TLS handshake has no end"));
            }
            Ok(Next::Receive) => shown += receive(socket, &mut received, shown).await?,
            Ok(Next::Done) => break,
            Ok(Next::Closed) => return Err(ended()),
            Err(error) => {
                // Why, for the other end; whether it still listens is its affair.
                // Rustls must not look for more in a buffer that is not the one it knows.
                while role.session().wants_write() && matches!(role.step(&mut [], &mut outgoing), (_, Ok(Next::Again)))
                {
                }
                if socket.write_all(&outgoing).await.is_ok() {
                    let _ = socket.flush().await;
                }
                return Err(error);
            }
        }
    }
    let found = look(role.session())?;
    let limit = match role.session().negotiated_cipher_suite() {
        Some(rustls::SupportedCipherSuite::Tls13(suite)) => suite.common.confidentiality_limit,
        None => return Err(io::Error::other("no cipher was agreed on")),
    };
    let (secrets, schedule) = role.finish().map_err(invalid)?;
    received.shrink_to_fit();
    Ok((found, Established { secrets, schedule, limit, received }))
}

/// Waits until a whole record is there from `start` on; returns its length.
async fn receive<C: AsyncRead + Unpin>(socket: &mut C, received: &mut Vec<u8>, start: usize) -> io::Result<usize> {
    loop {
        // The type of the content, the upper half of the version.
        if let [kind, version, ..] = received[start..]
            && (!(20..=23).contains(&kind) || version != 3)
        {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer does not speak TLS"));
        }
        if let Some(length) = record::length(&received[start..])? {
            return Ok(length);
        }
        let end = received.len();
        received.resize(end + READ, 0);
        let read = socket.read(&mut received[end..]).await?;
        received.truncate(end + read);
        if read == 0 {
            return Err(ended());
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection during the TLS handshake")
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
