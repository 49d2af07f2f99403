//! Where peers can be reached: what was given for them and what has worked, kept for as long as the node lives.

use std::collections::HashMap;

use libp2p::{Multiaddr, PeerId};
use parking_lot::RwLock;

/// The addresses of each peer, the oldest first.
#[derive(Default)]
pub struct AddressBook {
    peers: RwLock<HashMap<PeerId, Vec<Multiaddr>>>,
}

impl AddressBook {
    /// Adds the addresses that are not known yet, and returns them.
    pub fn add(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        if addresses.is_empty() {
            return addresses;
        }
        let mut peers = self.peers.write();
        let known = peers.entry(peer).or_default();
        let before = known.len();
        for address in addresses {
            if !known.contains(&address) {
                known.push(address);
            }
        }
        known[before..].to_vec()
    }

    pub fn get(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.peers.read().get(peer).cloned().unwrap_or_default()
    }

    pub fn knows(&self, peer: &PeerId) -> bool {
        self.peers.read().contains_key(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_new_once() {
        let (book, peer) = (AddressBook::default(), PeerId::random());
        let [first, second] =
            ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"].map(|text| text.parse::<Multiaddr>().unwrap());
        assert!(!book.knows(&peer) && book.get(&peer).is_empty());
        assert!(book.add(peer, vec![]).is_empty() && !book.knows(&peer));
        assert_eq!(book.add(peer, vec![first.clone(), first.clone()]), vec![first.clone()]);
        assert_eq!(book.add(peer, vec![first.clone(), second.clone()]), vec![second.clone()]);
        assert_eq!(book.get(&peer), vec![first, second]);
    }
}
