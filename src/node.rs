//! A node's life: opened, connected, asked, closed.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use once_cell::sync::OnceCell;
use parking_lot::RwLock;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::{
    address::PeerAddress,
    error::{Error, Result, Status},
    events::{Hub, Queue, kind},
    identity::Identity,
    mounts::{Filters, Kind, Mount, Mounts, PreparedForward, Reason, Shared, prepare_forward},
    network::{Connection, Network, Observer},
    options::{Options, Scope, Source, TABLE, Values},
    process,
    rows::Row,
};

/// Longest time that closing waits for tasks that were told to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

static OPEN_NODES: process::PerProcess<AtomicUsize> = process::PerProcess::new();

fn open_nodes() -> &'static AtomicUsize {
    OPEN_NODES.get_or_init(AtomicUsize::default)
}

/// A node of the libp2p network with its mounts.
pub struct Node {
    id: u64,
    shared: Arc<Shared>,
    mounts: Mounts,
    /// Why the node is no longer usable.
    ended: OnceCell<Error>,
    closed: CancellationToken,
}

impl Node {
    /// Opens a node; it is ready when this returns. Must run on the runtime of [`process::runtime`].
    pub async fn open(options: &Options, environment: &(dyn Fn(&str) -> Option<String> + Sync)) -> Result<Arc<Node>> {
        let mut values = Values::resolve(Scope::Node, options, environment)?;
        let identity = match values.text("identity.file") {
            "" => Identity::generate(),
            path => Identity::load_or_create(path.as_ref())?,
        };
        let runtime = tokio::runtime::Handle::current();
        let hub = Arc::new(Hub::default());
        let watcher = Arc::new(Watcher { hub: hub.clone(), node: OnceCell::new() });
        let network = Network::start(&identity, &mut values, process::descriptors(), watcher.clone(), &runtime).await?;
        let shared = Shared {
            network,
            hub,
            streams: Arc::default(),
            options: RwLock::new(values),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime,
        };
        let node = Arc::new(Node {
            id: process::next_id(),
            shared: Arc::new(shared),
            mounts: Mounts::default(),
            ended: OnceCell::new(),
            closed: CancellationToken::new(),
        });
        let _ = watcher.node.set(Arc::downgrade(&node));
        open_nodes().fetch_add(1, Ordering::Relaxed);
        tracing::info!(peer = %node.peer_id(), "node opened");
        Ok(node)
    }

    /// A number that no other node of the process has.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn peer_id(&self) -> PeerId {
        self.shared.network.peer_id()
    }

    /// The listening addresses, complete with the peer id: what another node takes as a peer.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.shared.network.addresses()
    }

    /// The error of every call on a node that is closing, closed or has failed.
    pub fn check(&self) -> Result<()> {
        match self.ended.get() {
            Some(error) if error.status == Status::Closed && !self.closed.is_cancelled() => {
                Err(Error::new(Status::Closed, "the node is being closed"))
            }
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn end_error(&self) -> Error {
        self.ended.get().cloned().unwrap_or_else(|| Error::closed("the node"))
    }

    /// Returns when `peer` (any of its written forms) is connected. `timeout` `None` waits for ever, zero only looks.
    pub async fn connect(&self, peer: &str, timeout: Option<Duration>, cancelled: &CancellationToken) -> Result<()> {
        let PeerAddress { peer, addresses } = self.check_peer(peer)?;
        let network = &self.shared.network;
        network.add_addresses(peer, addresses);
        if timeout == Some(Duration::ZERO) {
            return match network.is_connected(&peer) {
                true => Ok(()),
                false => Err(Error::new(Status::TimedOut, format!("peer {peer} is not connected"))),
            };
        }
        tokio::select! {
            biased;
            () = self.shared.closing.cancelled() => Err(self.end_error()),
            () = cancelled.cancelled() => Err(Error::cancelled(format_args!("connecting to peer {peer}"))),
            result = network.connect(peer, timeout) => result.map_err(|error| self.or_end_error(error)),
        }
    }

    /// Reads what is typed for a peer, and refuses one to whom this node can never connect.
    pub fn check_peer(&self, peer: &str) -> Result<PeerAddress> {
        self.check()?;
        let parsed = PeerAddress::parse(peer)?;
        if parsed.peer == self.peer_id() {
            return Err(Error::new(Status::BadPeer, format!("peer {peer} is this node itself")));
        }
        self.shared.network.check_reachable(&parsed.peer, &parsed.addresses)?;
        Ok(parsed)
    }

    /// Exposes `target` under `protocol`.
    pub fn listen(&self, protocol: &str, target: &str, options: &Options) -> Result<Arc<Mount>> {
        self.check()?;
        self.mounts.listen(&self.shared, protocol, target, options)
    }

    /// Forwards clients of a local address to a peer: `[protocol, listen address, peer]`.
    pub async fn forward(
        &self,
        what: [&str; 3],
        options: &Options,
        cancelled: &CancellationToken,
    ) -> Result<Arc<Mount>> {
        let prepared = self.prepare_forward(what, options)?;
        self.start_forward(prepared, cancelled).await
    }

    /// The part of [`Node::forward`] that needs no peer: checks everything and binds the listen address. Must run on the runtime
    /// of [`process::runtime`].
    pub fn prepare_forward(&self, what: [&str; 3], options: &Options) -> Result<PreparedForward> {
        self.check()?;
        prepare_forward(&self.shared, what, options)
    }

    /// The rest of [`Node::forward`].
    pub async fn start_forward(&self, prepared: PreparedForward, cancelled: &CancellationToken) -> Result<Arc<Mount>> {
        let made = self.mounts.forward(&self.shared, prepared, cancelled).await;
        made.map_err(|error| self.or_end_error(error))
    }

    /// Why the node ended, if that is why something failed.
    fn or_end_error(&self, error: Error) -> Error {
        if error.status == Status::Closed { self.end_error() } else { error }
    }

    /// Closes the mounts that fit; returns them once their ports are free.
    pub async fn close_mounts(&self, filters: &Filters<'_>) -> Result<Vec<Arc<Mount>>> {
        self.check()?;
        let found = self.mounts.find(&self.shared, filters)?;
        self.mounts.close(&self.shared, &found, filters.streams.then_some(Reason::Requested)).await;
        Ok(found)
    }

    /// Closes one mount; returns once its ports are free.
    pub async fn close_mount(&self, mount: &Arc<Mount>, streams: bool) {
        self.mounts.close(&self.shared, std::slice::from_ref(mount), streams.then_some(Reason::Requested)).await;
    }

    pub fn mount(&self, id: u64) -> Option<Arc<Mount>> {
        self.mounts.get(id)
    }

    /// Resets one stream, also while the node is closing and drains.
    pub fn close_stream(&self, id: u64) -> Result<()> {
        let stream = self.shared.streams.get(id);
        let stream = stream.ok_or_else(|| {
            let gone = Error::new(Status::NotFound, format!("there is no stream {id}; it may have ended already"));
            self.ended.get().cloned().unwrap_or(gone)
        })?;
        stream.ending.end(Reason::Requested);
        Ok(())
    }

    pub fn subscribe(&self, kinds: u32, options: &Options) -> Result<Arc<Queue>> {
        self.check()?;
        let values = self.shared.options.read().child(Scope::Queue, options)?;
        Ok(self.shared.hub.subscribe(kinds, values.size("queue.capacity")))
    }

    pub fn unsubscribe(&self, queue: &Arc<Queue>) {
        self.shared.hub.unsubscribe(queue);
    }

    /// Closing the node waits until this is dropped, before its queues end.
    pub fn task(&self) -> TaskTrackerToken {
        self.shared.tasks.token()
    }

    pub fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    pub fn mount_rows(&self, kind: Kind) -> Vec<Row> {
        self.mounts.rows(&self.shared, kind)
    }

    /// The live streams, of one mount or of all.
    pub fn stream_rows(&self, mount: Option<&Mount>) -> Vec<Row> {
        let streams = self.shared.streams.all();
        let fits = |id| mount.is_none_or(|mount| mount.id() == id);
        streams.iter().filter(|stream| fits(stream.mount.id())).map(|stream| stream.row()).collect()
    }

    pub fn peer_rows(&self) -> Vec<Row> {
        let connected = self.shared.network.connections();
        connected.iter().filter_map(|connections| Some(peer_row(connections.first()?, connections))).collect()
    }

    pub fn address_rows(&self) -> Vec<Row> {
        self.addresses().iter().map(|address| Row::new("address").text("address", address.to_string())).collect()
    }

    pub fn row(&self) -> Row {
        let connections = self.shared.network.connections();
        let state = match self.ended.get() {
            None => "open",
            Some(error) if error.status == Status::Closed => "closing",
            Some(_) => "failed",
        };
        Row::new("node")
            .int("id", self.id)
            .text("peer", self.peer_id().to_string())
            .text("state", state)
            .text("network", self.shared.options.read().text("network"))
            .int("listeners", self.mounts.count(Kind::Listener))
            .int("forwards", self.mounts.count(Kind::Forward))
            .int("streams", self.shared.streams.len())
            .int("peers", connections.len())
            .int("connections", connections.iter().map(Vec::len).sum::<usize>())
    }

    /// Changes an option of the node while it is in use, also for its mounts that have no value of their own.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.check()?;
        self.mounts.set_all(&self.shared, name, value)
    }

    pub fn get(&self, name: &str) -> Result<(String, Source)> {
        self.shared.options.read().get(name)
    }

    pub fn set_mount(&self, mount: &Arc<Mount>, name: &str, value: &str) -> Result<()> {
        self.check()?;
        self.mounts.set(&self.shared, mount, name, value)
    }

    /// Stops accepting, lets streams finish for at most `drain` (`None`: as long as they take), resets the rest and closes
    /// everything. Returns when the ports are free.
    pub async fn close(&self, drain: Option<Duration>) {
        self.close_with(drain, &CancellationToken::new(), || {}).await;
    }

    /// [`Node::close`] whose draining `hurry` ends early; `last` runs just before the queues get no more events.
    pub async fn close_with(&self, drain: Option<Duration>, hurry: &CancellationToken, last: impl FnOnce()) {
        let first = self.ended.set(Error::closed("the node")).is_ok();
        if first {
            self.report("closing", None);
        }
        self.shared.closing.cancel();
        let mounts = self.mounts.shut();
        self.mounts.close(&self.shared, &mounts, None).await;
        if first {
            let time = async {
                match drain {
                    Some(time) => tokio::time::sleep(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.streams.drained() => {}
                () = time => {}
                () = hurry.cancelled() => {}
            }
        }
        self.shared.streams.end_all(Reason::NodeClosed);
        self.tasks_ended().await;
        self.shared.network.shut_down().await;
        self.report("closed", None);
        if !self.closed.is_cancelled() {
            open_nodes().fetch_sub(1, Ordering::Relaxed);
        }
        self.closed.cancel();
        last();
        self.shared.hub.close();
        tracing::info!(peer = %self.peer_id(), "node closed");
    }

    /// The network has stopped: everything ends, every waiter is told why.
    fn fail(self: &Arc<Self>, error: Error) {
        tracing::error!("the node failed: {error}");
        if self.ended.set(error.clone()).is_err() {
            return;
        }
        self.mounts.fail(&error);
        self.shared.closing.cancel();
        self.shared.streams.end_all(Reason::Internal);
        self.report("failed", Some(&error));
        let node = self.clone();
        self.shared.runtime.spawn(async move {
            // The last events of streams and operations come before the queues end.
            node.tasks_ended().await;
            node.shared.hub.close();
        });
    }

    /// Returns when all tasks, which were told to end, have done so.
    async fn tasks_ended(&self) {
        self.shared.tasks.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.shared.tasks.wait()).await.is_err() {
            tracing::error!("{} tasks of the node did not end in time", self.shared.tasks.len());
        }
    }

    fn report(&self, state: &str, error: Option<&Error>) {
        self.shared.hub.emit(kind::NODE, || {
            Row::new("node").text("state", state).text("peer", self.peer_id().to_string()).failure(error)
        });
    }
}

fn peer_row(best: &Connection, all: &[Arc<Connection>]) -> Row {
    Row::new("peer")
        .text("peer", best.peer.to_string())
        .text("address", best.address.to_string())
        .text("direction", if best.outbound { "outbound" } else { "inbound" })
        .text("transport", best.transport())
        .text("path", best.path())
        .int("connections", all.len())
        .int("streams", all.iter().map(|connection| connection.streams()).sum::<usize>())
        .int("rtt_us", best.shared.rtt_us.load(Ordering::Relaxed))
        .text("agent", best.shared.agent.lock().clone())
        .int("age_ms", best.opened.elapsed().as_millis())
}

/// The table of options as rows.
pub fn option_rows() -> Vec<Row> {
    let rows = TABLE.iter().map(|spec| {
        Row::new("option")
            .text("name", spec.name)
            .text("type", spec.kind.name())
            .text("default", spec.default)
            .text("scope", spec.scope_names())
            .int("live", u8::from(spec.live))
            .int("secret", u8::from(spec.secret))
            .text("doc", spec.doc)
    });
    rows.collect()
}

/// The library in this process as a row; `handles` is what the C boundary has given out.
pub fn process_row(handles: usize) -> Row {
    Row::new("process")
        .text("version", env!("CARGO_PKG_VERSION"))
        .int("nodes", open_nodes().load(Ordering::Relaxed))
        .int("handles", handles)
        .int("threads", process::threads())
        .int("log_dropped", crate::logging::dropped())
        .int("descriptors", process::descriptors().used())
        .int("descriptors_max", process::descriptors().max())
}

/// Turns what happens in the network into events and states of mounts.
struct Watcher {
    hub: Arc<Hub>,
    node: OnceCell<Weak<Node>>,
}

impl Watcher {
    fn node(&self) -> Option<Arc<Node>> {
        self.node.get()?.upgrade()
    }
}

impl Observer for Watcher {
    fn peer_connected(&self, connection: &Connection) {
        self.hub.emit(kind::PEER, || {
            Row::new("peer")
                .text("state", "connected")
                .text("peer", connection.peer.to_string())
                .text("address", connection.address.to_string())
                .text("direction", if connection.outbound { "outbound" } else { "inbound" })
                .text("transport", connection.transport())
                .text("path", connection.path())
        });
        if let Some(node) = self.node() {
            node.mounts.peer_changed(&connection.peer, true, "");
        }
    }

    fn peer_disconnected(&self, peer: &PeerId, reason: &str) {
        self.hub.emit(kind::PEER, || {
            Row::new("peer").text("state", "disconnected").text("peer", peer.to_string()).text("message", reason)
        });
        if let Some(node) = self.node() {
            node.mounts.peer_changed(peer, false, reason);
        }
    }

    fn address_changed(&self, address: &Multiaddr, new: bool) {
        self.hub.emit(kind::ADDRESS, || {
            Row::new("address").text("state", if new { "new" } else { "gone" }).text("address", address.to_string())
        });
    }

    fn connection_refused(&self, error: &Error) {
        self.hub.emit(kind::REFUSED, || Row::new("refused").failure(Some(error)));
    }

    fn failed(&self, error: Error) {
        if let Some(node) = self.node() {
            node.fail(error);
        }
    }
}
