//! Which protocols are offered, and to whom. Read on every poll of every connection, so reading is one load.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use libp2p::{PeerId, StreamProtocol};
use parking_lot::RwLock;
use tokio::sync::mpsc;

use super::TunnelStream;

/// Decides who may open streams of a protocol. Asked again for every stream, so it may change its mind.
pub trait Admission: Send + Sync {
    fn admits(&self, peer: &PeerId) -> bool;
}

/// A stream that a peer opened.
pub struct Inbound {
    pub stream: TunnelStream,
}

#[derive(Clone)]
struct Entry {
    admission: Arc<dyn Admission>,
    sender: mpsc::UnboundedSender<Inbound>,
}

/// The protocols of a node.
#[derive(Default)]
pub struct Registry {
    protocols: RwLock<HashMap<StreamProtocol, Entry>>,
    version: AtomicU64,
}

/// A registered protocol: where its streams arrive. Dropping it takes the protocol back.
pub struct Registration {
    registry: Arc<Registry>,
    protocol: StreamProtocol,
    /// Not bounded: whoever registered takes every stream at once, and then asks whether a limit forbids it.
    pub streams: mpsc::UnboundedReceiver<Inbound>,
}

impl Registry {
    /// Offers `protocol`; `None` if it is offered already.
    pub fn register(self: &Arc<Self>, protocol: StreamProtocol, admission: Arc<dyn Admission>) -> Option<Registration> {
        let (sender, streams) = mpsc::unbounded_channel();
        let mut protocols = self.protocols.write();
        if protocols.contains_key(&protocol) {
            return None;
        }
        protocols.insert(protocol.clone(), Entry { admission, sender });
        self.changed();
        Some(Registration { registry: self.clone(), protocol, streams })
    }

    /// Says that what an `Admission` answers has changed.
    pub fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The protocols that `peer` may open.
    pub fn offered_to(&self, peer: &PeerId) -> Arc<[StreamProtocol]> {
        let protocols = self.protocols.read();
        protocols
            .iter()
            .filter(|(_, entry)| entry.admission.admits(peer))
            .map(|(protocol, _)| protocol.clone())
            .collect()
    }

    /// Hands an inbound stream over. One that nobody takes is dropped, which resets it.
    pub fn deliver(&self, protocol: &StreamProtocol, stream: TunnelStream) {
        let peer = stream.peer();
        let entry = self.protocols.read().get(protocol).cloned();
        match entry.filter(|entry| entry.admission.admits(&peer)) {
            None => {
                tracing::debug!(%peer, %protocol, "stream refused: the protocol is not offered to this peer any more")
            }
            Some(entry) => {
                if entry.sender.send(Inbound { stream }).is_err() {
                    tracing::debug!(%peer, %protocol, "stream refused: its listener was closed");
                }
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.protocols.write().remove(&self.protocol);
        self.registry.changed();
    }
}
