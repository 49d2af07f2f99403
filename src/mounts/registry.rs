//! The mounts of a node: made, listed, found by filters, closed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use libp2p::PeerId;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::{Kind, Mount, MountEnd, PreparedForward, Reason, Shared, State, forward, listener};
use crate::{
    address::AddressFilter,
    error::{Error, Result, Status},
    network::Admission as _,
    options::Options,
    protocol::ProtocolName,
    rows::Row,
};

/// The mounts of a node, the oldest first.
#[derive(Default)]
pub struct Mounts {
    all: RwLock<Vec<Arc<Mount>>>,
    /// Changed under the lock of `all`, so that no mount is added after the last ones were taken.
    shut: AtomicBool,
    /// Held while an option of the node is changed and passed on.
    changing: Mutex<()>,
}

/// Which mounts to close: those that fit every filter given.
#[derive(Default)]
pub struct Filters<'a> {
    pub protocol: Option<&'a str>,
    /// A forward's bound listen address, or `/p2p/<own id>` for listeners.
    pub listen: Option<&'a str>,
    /// `/p2p/<peer id>` for forwards, a listener's target address.
    pub target: Option<&'a str>,
    /// Every mount; excludes the filters.
    pub all: bool,
    /// Only mounts of this kind.
    pub kind: Option<Kind>,
    /// Reset their live streams, too.
    pub streams: bool,
}

impl Mounts {
    pub fn listen(&self, shared: &Arc<Shared>, protocol: &str, target: &str, options: &Options) -> Result<Arc<Mount>> {
        let mut all = self.all.write();
        self.check_open()?;
        let mount = listener::listen(shared, protocol, target, options)?;
        all.push(mount.clone());
        Ok(mount)
    }

    /// Adds a forward that is bound already, unless `cancelled` fires before.
    pub async fn forward(
        &self,
        shared: &Arc<Shared>,
        prepared: PreparedForward,
        cancelled: &CancellationToken,
    ) -> Result<Arc<Mount>> {
        let add = |mount: &Arc<Mount>| {
            let mut all = self.all.write();
            self.check_open()?;
            if cancelled.is_cancelled() {
                return Err(Error::cancelled(mount));
            }
            // What the node was told since the forward was prepared.
            let node = shared.options.read().clone();
            mount.options.write().inherit_all(&node);
            all.push(mount.clone());
            Ok(())
        };
        prepared.start(shared, add, cancelled).await
    }

    fn check_open(&self) -> Result<()> {
        if self.shut.load(Ordering::Relaxed) { Err(Error::closed("the node")) } else { Ok(()) }
    }

    /// From now on no mount is added; returns those that are there.
    pub fn shut(&self) -> Vec<Arc<Mount>> {
        let all = self.all.write();
        self.shut.store(true, Ordering::Relaxed);
        all.clone()
    }

    pub fn rows(&self, shared: &Shared, kind: Kind) -> Vec<Row> {
        let mounts: Vec<_> = self.all.read().iter().filter(|mount| mount.kind() == kind).cloned().collect();
        shared.streams.mount_rows(&mounts)
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.all.read().iter().filter(|mount| mount.kind() == kind).count()
    }

    pub fn get(&self, id: u64) -> Option<Arc<Mount>> {
        self.all.read().iter().find(|mount| mount.id() == id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Mount>> {
        self.all.read().clone()
    }

    /// The mounts that fit the filters, forwards first.
    pub fn find(&self, shared: &Shared, filters: &Filters<'_>) -> Result<Vec<Arc<Mount>>> {
        let given = filters.protocol.is_some() || filters.listen.is_some() || filters.target.is_some();
        if filters.all && given {
            return Err(Error::new(
                Status::InvalidArgument,
                "P2P_CLOSE_ALL cannot be combined with a protocol, listen address or target",
            ));
        }
        if !filters.all && !given {
            return Err(Error::new(
                Status::InvalidArgument,
                "nothing says which mounts to close; give a protocol, a listen address or a target, or P2P_CLOSE_ALL",
            ));
        }
        // A name outside /x/ can only belong to a mount that was allowed to have it.
        let protocol = filters.protocol.map(|name| ProtocolName::parse(name, true)).transpose()?;
        let listen = filters.listen.map(AddressFilter::parse_listen).transpose()?;
        let target = filters.target.map(AddressFilter::parse_target).transpose()?;
        let own = shared.network.peer_id();
        let fits = |mount: &&Arc<Mount>| {
            filters.kind.is_none_or(|kind| mount.kind() == kind)
                && protocol.as_ref().is_none_or(|protocol| mount.protocol() == protocol)
                && listen.as_ref().is_none_or(|listen| listens_on(mount, listen, &own))
                && target.as_ref().is_none_or(|target| leads_to(mount, target))
        };
        let mut found: Vec<_> = self.all.read().iter().filter(fits).cloned().collect();
        found.sort_by_key(|mount| (mount.kind() == Kind::Listener, mount.id()));
        Ok(found)
    }

    /// Closes mounts and returns when their ports are free. Live streams run on, unless a reason to end them is given.
    pub async fn close(&self, shared: &Shared, mounts: &[Arc<Mount>], streams: Option<Reason>) {
        for mount in mounts {
            mount.close();
            self.all.write().retain(|other| other.id() != mount.id());
            if let Some(reason) = streams {
                shared.streams.end_mount(mount, |_| true, reason);
            }
        }
        for mount in mounts {
            mount.released.cancelled().await;
        }
    }

    /// Every mount has failed with its node.
    pub fn fail(&self, error: &Error) {
        for mount in self.all() {
            mount.closed.cancel();
            mount.set_state(State::Failed, Some(error.clone()));
        }
    }

    pub fn peer_changed(&self, peer: &PeerId, connected: bool, reason: &str) {
        for mount in self.all() {
            if matches!(mount.end(), MountEnd::Forward { peer: other, .. } if other == peer) {
                forward::peer_changed(&mount, connected, reason);
            }
        }
    }

    /// Changes an option of a mount while it is in use.
    pub fn set(&self, shared: &Shared, mount: &Mount, name: &str, value: &str) -> Result<()> {
        mount.options.write().set_live(name, value)?;
        apply(shared, mount, name);
        Ok(())
    }

    /// Changes an option of the node: mounts that have no value of their own take it over. One change after the other, so that
    // the last one is the last everywhere.
    pub fn set_all(&self, shared: &Shared, name: &str, value: &str) -> Result<()> {
        let _turn = self.changing.lock();
        shared.options.write().set_live(name, value)?;
        self.inherit(shared, name);
        Ok(())
    }

    fn inherit(&self, shared: &Shared, name: &str) {
        // A copy: no lock of a mount's options is ever taken before the node's is free.
        let node = shared.options.read().clone();
        for mount in self.all() {
            if mount.options.write().inherit(name, &node) {
                apply(shared, &mount, name);
            }
        }
    }
}

/// Makes a changed option effective where it is not read at each use.
fn apply(shared: &Shared, mount: &Mount, name: &str) {
    if let (MountEnd::Listener { access, .. }, true) = (&mount.end, name.starts_with("peers.")) {
        access.update(&mount.options.read());
        shared.network.offers_changed();
        shared.streams.end_mount(mount, |peer| !access.admits(peer), Reason::AccessWithdrawn);
    }
}

fn listens_on(mount: &Mount, filter: &AddressFilter, own: &PeerId) -> bool {
    match (&mount.end, filter) {
        (MountEnd::Listener { .. }, AddressFilter::Peer(peer)) => peer == own,
        (MountEnd::Forward { listen, .. }, AddressFilter::Local(address)) => listen == address,
        _ => false,
    }
}

fn leads_to(mount: &Mount, filter: &AddressFilter) -> bool {
    match (&mount.end, filter) {
        (MountEnd::Listener { target, .. }, AddressFilter::Local(address)) => target == address,
        (MountEnd::Forward { peer, .. }, AddressFilter::Peer(other)) => peer == other,
        _ => false,
    }
}
