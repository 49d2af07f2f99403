//! WebSocket (RFC 6455) over TCP: the `/ws` of a multiaddr. It carries the same bytes as a TCP connection, for paths on which
//! only HTTP passes; encryption is inside, as over TCP.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_tungstenite::{
    WebSocketStream, accept_async_with_config, client_async_with_config,
    tungstenite::{Bytes, Error, Message, error::ProtocolError, protocol::WebSocketConfig},
};
use futures::{AsyncRead, AsyncWrite, Sink, Stream as _};
use libp2p::{
    Multiaddr,
    core::{
        ConnectedPoint,
        transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent},
    },
    multiaddr::Protocol,
};

/// Most bytes sent in one frame: what is written together travels together.
const FRAME: usize = 64 * 1024;
/// Largest message taken. libp2p's encryptions send records of at most 64 KiB, and some programs several at a time; larger ones
/// would have to be kept in memory before anybody has said who he is.
const MESSAGE_MAX: usize = 1 << 20;
/// Bytes read from the socket at a time.
const READ_AHEAD: usize = 64 * 1024;

/// `address` without its `/ws`, and the path asked for; `None` if it is of another transport.
fn split(address: &Multiaddr) -> Option<(Multiaddr, String)> {
    let mut below = address.clone();
    let path = loop {
        match below.pop()? {
            Protocol::P2p(_) => {}
            Protocol::Ws(path) => break path.into_owned(),
            _ => return None,
        }
    };
    if let Some(Protocol::Sni(_)) = below.iter().last() {
        below.pop();
    }
    Some((below, path))
}

/// What the HTTP request asks for. `/sni/NAME` before `/ws` is the name that was looked up for the address: servers that
/// stand before several others go by it.
fn uri(address: &Multiaddr) -> String {
    let (mut host, mut port) = (String::new(), 0);
    for part in address {
        match part {
            Protocol::Ip4(ip) => host = ip.to_string(),
            Protocol::Ip6(ip) => host = format!("[{ip}]"),
            Protocol::Sni(name) => host = name.into_owned(),
            Protocol::Tcp(number) => port = number,
            _ => {}
        }
    }
    let path = split(address).map_or_else(String::new, |(_, path)| path);
    format!("ws://{host}:{port}/{}", path.trim_start_matches('/'))
}

/// The `/ws` addresses of a TCP transport. Its sockets still have to go through [`handshake`].
pub struct WebSocket<T>(pub T);

impl<T: Transport + Unpin> Transport for WebSocket<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        match split(&address) {
            Some((below, _)) => self.0.listen_on(id, below),
            None => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        match split(&address) {
            Some((below, _)) => self.0.dial(below, options),
            None => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        let ws = |address: Multiaddr| address.with(Protocol::Ws("/".into()));
        let mut event = ready!(Pin::new(&mut self.0).poll(cx));
        match &mut event {
            TransportEvent::NewAddress { listen_addr, .. } | TransportEvent::AddressExpired { listen_addr, .. } => {
                *listen_addr = ws(mem::replace(listen_addr, Multiaddr::empty()));
            }
            TransportEvent::Incoming { local_addr, send_back_addr, .. } => {
                for address in [local_addr, send_back_addr] {
                    *address = ws(mem::replace(address, Multiaddr::empty()));
                }
            }
            _ => {}
        }
        Poll::Ready(event)
    }
}

/// The HTTP handshake on a TCP connection. Whoever dialled asks for it, also when both ends did to punch a hole.
pub async fn handshake<C>(socket: C, point: &ConnectedPoint) -> io::Result<Stream<C>>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_AHEAD)
        .write_buffer_size(FRAME)
        // A peer that only pings, and reads no answer, would fill the memory with them.
        .max_write_buffer_size(4 * FRAME)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    let dialled = match point {
        ConnectedPoint::Dialer { address, role_override, .. } if role_override.is_dialer() => Some(address),
        _ => None,
    };
    let socket = match dialled {
        Some(address) => client_async_with_config(uri(address), socket, Some(config)).await.map(|(socket, _)| socket),
        None => accept_async_with_config(socket, Some(config)).await,
    };
    match socket {
        Ok(socket) => Ok(Stream { socket, received: Bytes::new(), ended: false, pending: Vec::new() }),
        Err(Error::Io(error)) => Err(error),
        Err(Error::Http(answer)) => Err(io::Error::other(format!(
            "a web server answers there with HTTP status {}, not with a WebSocket",
            answer.status().as_u16()
        ))),
        Err(Error::Protocol(ProtocolError::HandshakeIncomplete)) => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the connection was closed before the WebSocket handshake was over",
        )),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("no WebSocket is spoken there: {error}"))),
    }
}

/// A WebSocket as the stream of bytes that it carries. It ends as TCP does: what was written before the end arrives before it,
/// and a connection that breaks gives the error of its socket.
pub struct Stream<C> {
    socket: WebSocketStream<C>,
    /// Of the last message what has not been read yet.
    received: Bytes,
    ended: bool,
    /// The frame that is being filled.
    pending: Vec<u8>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Stream<C> {
    /// Hands the frame over, if there is one.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.pending.is_empty() {
            let mut socket = Pin::new(&mut self.socket);
            ready!(socket.as_mut().poll_ready(cx)).map_err(broken)?;
            socket.start_send(Message::Binary(mem::take(&mut self.pending).into())).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Puts as much of `bytes` into the frame as fits.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let size = bytes.len().min(FRAME - self.pending.len());
        self.pending.extend_from_slice(&bytes[..size]);
        size
    }
}

fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::AlreadyClosed | Error::ConnectionClosed | Error::Protocol(ProtocolError::SendAfterClosing) => {
            io::ErrorKind::BrokenPipe.into()
        }
        error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        while self.received.is_empty() && !self.ended {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.received = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                // Without a closing frame it is the end of the TCP connection. What was encrypted tells whether it came in order.
                Some(Ok(Message::Close(_)) | Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)))
                | None => self.ended = true,
                Some(Ok(_)) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the peer sends text in its WebSocket, which libp2p never does",
                    )));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let size = buffer.len().min(self.received.len());
        buffer[..size].copy_from_slice(&self.received.split_to(size));
        Poll::Ready(Ok(size))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.pending.len() == FRAME {
            ready!(self.poll_send(cx))?;
        }
        if self.pending.capacity() == 0 {
            let wanted = parts.iter().map(|part| part.len()).sum::<usize>();
            self.pending.reserve_exact(wanted.min(FRAME));
        }
        Poll::Ready(Ok(parts.iter().map(|part| self.fill(part)).sum()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.poll_send(cx)) {
            // The peer has closed its end meanwhile, and takes no more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.pending.clear(),
            result => result?,
        }
        ready!(Pin::new(&mut self.socket).poll_close(cx)).map_err(broken)?;
        Pin::new(self.socket.get_mut()).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
    use libp2p::core::{Endpoint, transport::PortUse};
    use tokio::io::DuplexStream;
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;

    type Socket = Compat<DuplexStream>;

    fn sockets() -> (Socket, Socket) {
        let (near, far) = tokio::io::duplex(10_000);
        (near.compat(), far.compat())
    }

    fn dialled(address: &str) -> ConnectedPoint {
        ConnectedPoint::Dialer {
            address: address.parse().unwrap(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::New,
        }
    }

    fn accepted() -> ConnectedPoint {
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1/ws".parse().unwrap();
        ConnectedPoint::Listener { local_addr: address.clone(), send_back_addr: address }
    }

    /// Both ends after the handshake.
    async fn pair() -> (Stream<Socket>, Stream<Socket>) {
        let (near, far) = sockets();
        let (near_point, far_point) = (dialled("/ip4/127.0.0.1/tcp/1/ws"), accepted());
        let (near, far) = tokio::join!(handshake(near, &near_point), handshake(far, &far_point));
        (near.unwrap(), far.unwrap())
    }

    /// One end, and a client of another program.
    async fn with_client() -> (Stream<Socket>, WebSocketStream<Socket>) {
        let (near, far) = sockets();
        let point = accepted();
        let (near, far) = tokio::join!(handshake(near, &point), client_async_with_config("ws://[::1]:7/x", far, None));
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn what_was_written_arrives_before_the_end_either_way() {
        for turned in [false, true] {
            let (near, far) = pair().await;
            let (mut near, mut far) = if turned { (far, near) } else { (near, far) };
            let sent: Vec<u8> = (0..1_000_003_u32).map(|number| (number % 251) as u8).collect();
            let sending = async {
                // In pieces of every size, the last ones without a flush.
                let (mut rest, mut size) = (&sent[..], 1);
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(size.min(rest.len()));
                    near.write_all(piece).await.unwrap();
                    (rest, size) = (after, size * 3 % 200_001);
                }
                near.close().await.unwrap();
            };
            let receiving = async {
                let mut came = Vec::new();
                far.read_to_end(&mut came).await.unwrap();
                came
            };
            let ((), came) = tokio::join!(sending, receiving);
            assert!(came == sent, "{} bytes came", came.len());
            // Whoever has closed hears of the other's end, too.
            far.close().await.unwrap();
            assert_eq!(near.read(&mut [0; 10]).await.unwrap(), 0);
            assert_eq!(
                near.write(b"late").await.err().map_or(io::ErrorKind::BrokenPipe, |e| e.kind()),
                io::ErrorKind::BrokenPipe
            );
        }
    }

    #[tokio::test]
    async fn small_pieces_that_are_written_together_travel_in_one_frame() {
        let (mut near, mut client) = with_client().await;
        for _ in 0..100 {
            near.write_all(b"piece").await.unwrap();
        }
        let parts = [IoSlice::new(b"and "), IoSlice::new(b""), IoSlice::new(b"more")];
        assert_eq!(near.write_vectored(&parts).await.unwrap(), 8);
        near.flush().await.unwrap();
        let message = client.next().await.unwrap().unwrap();
        assert_eq!(message, Message::Binary(["piece".repeat(100), "and more".into()].concat().into_bytes().into()));
    }

    #[tokio::test]
    async fn a_ping_is_answered_and_the_data_around_it_is_whole() {
        let (mut near, mut client) = with_client().await;
        for message in
            [Message::Binary(vec![1; 10].into()), Message::Ping(vec![7].into()), Message::Binary(vec![2; 5].into())]
        {
            client.send(message).await.unwrap();
        }
        let mut came = [0; 15];
        near.read_exact(&mut came).await.unwrap();
        assert_eq!(came[..], [vec![1; 10], vec![2; 5]].concat());
        // The answer goes out with the next look for more.
        let mut more = [0];
        let (_, answer) = tokio::join!(futures::future::poll_immediate(near.read(&mut more)), client.next());
        assert_eq!(answer.unwrap().unwrap(), Message::Pong(vec![7].into()));
    }

    #[tokio::test]
    async fn a_connection_without_a_closing_frame_ends_as_tcp_does() {
        let (mut near, far) = pair().await;
        drop(far);
        assert_eq!(near.read(&mut [0; 10]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn text_and_messages_without_measure_are_refused() {
        let (mut near, mut client) = with_client().await;
        client.send(Message::Text("hello".into())).await.unwrap();
        let error = near.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.to_string(), "the peer sends text in its WebSocket, which libp2p never does");

        let (mut near, mut client) = with_client().await;
        let sending = tokio::spawn(async move { client.send(Message::Binary(vec![0; MESSAGE_MAX + 1].into())).await });
        let error = near.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        drop(near);
        let _ = sending.await;
    }

    #[tokio::test]
    async fn the_one_who_plays_the_server_when_both_have_dialled_accepts() {
        let (near, far) = sockets();
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1/ws".parse().unwrap();
        let turned = ConnectedPoint::Dialer { address, role_override: Endpoint::Listener, port_use: PortUse::Reuse };
        let point = dialled("/ip4/127.0.0.1/tcp/1/ws");
        let (near, far) = tokio::join!(handshake(near, &point), handshake(far, &turned));
        assert!(near.is_ok() && far.is_ok());
    }

    #[test]
    fn the_request_names_the_place_that_was_written() {
        for (address, wanted) in [
            ("/ip4/127.0.0.1/tcp/80/ws", "ws://127.0.0.1:80/"),
            ("/ip6/::1/tcp/8080/ws/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA", "ws://[::1]:8080/"),
            ("/ip4/127.0.0.1/tcp/80/x-parity-ws/%2Fa%2Fb", "ws://127.0.0.1:80/a/b"),
            ("/ip4/127.0.0.1/tcp/80/sni/name.example/ws", "ws://name.example:80/"),
        ] {
            let address: Multiaddr = address.parse().unwrap();
            assert_eq!(uri(&address), wanted);
            let below = split(&address).unwrap().0;
            assert!(matches!(below.iter().last(), Some(Protocol::Tcp(_))), "{below}");
        }
        assert!(split(&"/ip4/127.0.0.1/tcp/80".parse().unwrap()).is_none());
    }
}
