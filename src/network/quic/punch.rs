//! The listener's side of hole punching
//! (<https://github.com/libp2p/specs/blob/master/relay/DCUtR.md>, "The Protocol", QUIC).

use std::{collections::HashMap, convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::channel::oneshot;
use quinn::rustls::crypto::aws_lc_rs;
use tokio::time::{Instant, sleep, timeout_at};

use super::{error::Error, port::Port};

/// Size of a punching packet.
const PACKET: usize = 64;

/// The addresses being punched, each with the dial that waits for a connection from there.
#[derive(Default)]
pub(super) struct Punches(HashMap<SocketAddr, oneshot::Sender<quinn::Connecting>>);

impl Punches {
    /// Announces that a connection from `remote` is waited for.
    pub fn expect(&mut self, remote: SocketAddr) -> Result<oneshot::Receiver<quinn::Connecting>, Error> {
        self.0.retain(|_, waiting| !waiting.is_canceled());
        if self.0.contains_key(&remote) {
            return Err(Error::AlreadyPunching { remote });
        }
        let (sender, receiver) = oneshot::channel();
        self.0.insert(remote, sender);
        Ok(receiver)
    }

    /// Hands an inbound connection to the dial that waits for it; gives it back when there is none.
    pub fn offer(&mut self, connecting: quinn::Connecting) -> Option<quinn::Connecting> {
        match self.0.remove(&connecting.remote_address()) {
            Some(waiting) => waiting.send(connecting).err(),
            None => Some(connecting),
        }
    }
}

/// Sends random packets to `remote` until a connection from there comes in.
pub(super) async fn punch(
    port: Arc<Port>,
    remote: SocketAddr,
    incoming: oneshot::Receiver<quinn::Connecting>,
    limit: Duration,
) -> Result<quinn::Connecting, Error> {
    let failed = |error| Error::Punch { remote, error };
    let wait = async {
        tokio::select! {
            connecting = incoming => connecting.map_err(|_| io::Error::other("the transport was closed")),
            Err(error) = send_packets(&port, remote) => Err(error),
        }
    };
    match timeout_at(Instant::now() + limit, wait).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(Error::HandshakeTimedOut { remote, after: limit }),
    }
}

async fn send_packets(port: &Port, remote: SocketAddr) -> io::Result<Infallible> {
    let random = aws_lc_rs::default_provider().secure_random;
    let mut packet = [0; PACKET];
    loop {
        random.fill(&mut packet).map_err(|_| io::Error::other("no random numbers"))?;
        port.socket.send_to(&packet, remote).await?;
        // 10 to 200 ms, as the specification asks.
        sleep(Duration::from_millis(10 + u64::from(u16::from_le_bytes([packet[0], packet[1]])) % 191)).await;
    }
}
