//! Who may use a listener.

use std::{collections::HashSet, sync::Arc};

use arc_swap::ArcSwap;
use libp2p::PeerId;

use crate::{
    address,
    network::Admission,
    options::{Values, peer_list},
};

/// The access list of a listener; replaced as a whole when it changes.
pub struct Access {
    lists: ArcSwap<Lists>,
}

struct Lists {
    /// `None` admits everyone.
    allow: Option<HashSet<PeerId>>,
    deny: HashSet<PeerId>,
}

impl Access {
    pub fn new(options: &Values) -> Self {
        Access { lists: ArcSwap::new(Arc::new(Lists::new(options))) }
    }

    /// Takes the lists from the options again.
    pub fn update(&self, options: &Values) {
        self.lists.store(Arc::new(Lists::new(options)));
    }

    /// For lists of listeners.
    pub fn describe(&self) -> String {
        let lists = self.lists.load();
        match (&lists.allow, lists.deny.len()) {
            (None, 0) => "open to all".into(),
            (None, denied) => format!("open to all but {denied}"),
            (Some(allowed), _) if allowed.is_empty() => "open to nobody".into(),
            (Some(allowed), denied) => format!("allow {}, deny {denied}", allowed.len()),
        }
    }
}

impl Admission for Access {
    fn admits(&self, peer: &PeerId) -> bool {
        let lists = self.lists.load();
        !lists.deny.contains(peer) && lists.allow.as_ref().is_none_or(|allow| allow.contains(peer))
    }
}

impl Lists {
    /// Ids are compared decoded, so every spelling of one is the same. The options have checked them.
    fn new(options: &Values) -> Self {
        let ids = |name| peer_list(options.text(name)).filter_map(|id| address::parse_peer_id(id).ok()).collect();
        let everyone = options.list("peers.allow").any(|part| part.trim() == "*");
        Lists { allow: (!everyone).then(|| ids("peers.allow")), deny: ids("peers.deny") }
    }
}
