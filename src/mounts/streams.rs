//! The streams of a node: their table, how many there may be, how one ends.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::poll_fn,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Instant,
};

use futures::task::AtomicWaker;
use libp2p::PeerId;
use parking_lot::{Mutex, RwLock};

use super::{
    Kind, Mount,
    splice::{Bytes, End},
};
use crate::{
    error::{Error, Result, Status},
    network::Connection,
    options::Values,
    rows::Row,
};

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Finished,
    LocalReset,
    PeerReset,
    ConnectionLost,
    Requested,
    NodeClosed,
    AccessWithdrawn,
    Internal,
}

impl Reason {
    pub fn text(self) -> &'static str {
        match self {
            Reason::Finished => "finished",
            Reason::LocalReset => "reset by the local side",
            Reason::PeerReset => "reset by the peer",
            Reason::ConnectionLost => "connection lost",
            Reason::Requested => "closed by request",
            Reason::NodeClosed => "node closed",
            Reason::AccessWithdrawn => "access withdrawn",
            Reason::Internal => "internal error",
        }
    }

    /// Whether it is the mount's last error. What this side did is not, and a lost connection is told with its cause.
    pub fn is_trouble(self) -> bool {
        matches!(self, Reason::PeerReset | Reason::Internal)
    }

    /// Whether the peer or the network ended it before its time.
    pub fn is_cut(self) -> bool {
        matches!(self, Reason::PeerReset | Reason::ConnectionLost)
    }

    /// What happened to stream `id`, which had `received` so many bytes from the peer; `None` if all went well.
    pub fn error(self, id: u64, kind: Kind, received: u64) -> Option<Error> {
        let (status, what) = match self {
            Reason::Finished => return None,
            Reason::LocalReset => (Status::Reset, "was reset by the local side"),
            Reason::PeerReset if received == 0 && kind == Kind::Forward => {
                let what = "was reset by the peer before anything came from it; its target may be down, or a limit of its \
                            own reached";
                (Status::Reset, what)
            }
            Reason::PeerReset => (Status::Reset, "was reset by the peer"),
            Reason::ConnectionLost => (Status::Reset, "was cut because its connection was lost"),
            Reason::Requested => (Status::Closed, "was closed by request"),
            Reason::NodeClosed => (Status::Closed, "was cut because the node was closed"),
            Reason::AccessWithdrawn => (Status::Reset, "was cut because its peer is no longer admitted"),
            Reason::Internal => (Status::Internal, "was ended by an internal error; this is a defect of the library"),
        };
        Some(Error::new(status, format!("stream {id} {what}")))
    }
}

impl From<End> for Reason {
    fn from(end: End) -> Self {
        match end {
            End::Finished => Reason::Finished,
            End::LocalReset => Reason::LocalReset,
            End::PeerReset => Reason::PeerReset,
            End::ConnectionLost => Reason::ConnectionLost,
        }
    }
}

/// Lets a stream be ended from outside, from before it is opened.
pub struct Ending {
    mount: u64,
    peer: PeerId,
    asked: OnceLock<Reason>,
    /// The stream's task.
    task: AtomicWaker,
}

impl Ending {
    /// Asks the stream to end; it is reset.
    pub fn end(&self, reason: Reason) {
        // Whoever asks first is right.
        let _ = self.asked.set(reason);
        self.task.wake();
    }

    /// Returns why when somebody wants the stream to end. Only the stream's own task may wait for it.
    pub async fn asked(&self) -> Reason {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            self.asked.get().map_or(Poll::Pending, |reason| Poll::Ready(*reason))
        })
        .await
    }
}

/// Who a stream was opened for. Written out only where somebody wants to read it.
#[derive(Clone, Debug)]
pub enum Origin {
    Peer(PeerId),
    Client(SocketAddr),
    /// Of its clients only the path of the socket is known.
    Unix(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Peer(peer) => write!(f, "/p2p/{peer}"),
            Origin::Client(address) => address.fmt(f),
            Origin::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A stream whose both halves are set up.
pub struct LiveStream {
    /// Counts from 0 in each node, as in Kubo.
    pub id: u64,
    pub mount: Arc<Mount>,
    pub origin: Origin,
    pub connection: Arc<Connection>,
    pub bytes: Bytes,
    pub ending: Arc<Ending>,
    opened: Instant,
}

impl LiveStream {
    pub fn peer(&self) -> PeerId {
        self.connection.peer
    }

    pub fn row(&self) -> Row {
        let [received, sent] = self.bytes.totals();
        Row::new("stream")
            .int("id", self.id)
            .int("mount", self.mount.handle())
            .text("side", self.mount.kind().name())
            .text("protocol", self.mount.protocol().as_str())
            .text("origin", self.origin.to_string())
            .text("target", self.mount.target_text())
            .text("peer", self.peer().to_string())
            .int("bytes_in", received)
            .int("bytes_out", sent)
            .int("age_ms", self.opened.elapsed().as_millis())
            .text("path", self.connection.path())
            .text("transport", self.connection.transport())
    }

    /// What an event about this stream says.
    pub fn event(&self, kind: &str) -> Row {
        Row::new(kind)
            .int("stream", self.id)
            .int("mount", self.mount.handle())
            .text("protocol", self.mount.protocol().as_str())
            .text("peer", self.peer().to_string())
            .text("origin", self.origin.to_string())
            .text("target", self.mount.target_text())
            .text("path", self.connection.path())
            .text("transport", self.connection.transport())
    }
}

/// The streams of a node.
#[derive(Default)]
pub struct StreamTable {
    live: RwLock<BTreeMap<u64, Arc<LiveStream>>>,
    next: AtomicU64,
    next_permit: AtomicU64,
    counts: Mutex<Counts>,
    /// Of every stream from before it is opened until it is gone.
    endings: Mutex<HashMap<u64, Arc<Ending>>>,
    /// Woken whenever a permit comes back.
    ended: tokio::sync::Notify,
}

#[derive(Default)]
struct Counts {
    all: usize,
    peers: HashMap<PeerId, usize>,
}

impl StreamTable {
    pub fn add(&self, permit: &Permit, origin: Origin, connection: Arc<Connection>) -> Arc<LiveStream> {
        let stream = Arc::new(LiveStream {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            mount: permit.mount.clone(),
            origin,
            connection,
            bytes: Bytes::default(),
            ending: permit.ending.clone(),
            opened: Instant::now(),
        });
        self.live.write().insert(stream.id, stream.clone());
        stream
    }

    /// Takes a stream out of the table and adds its bytes to its mount, as one step for whoever lists both.
    pub fn settle(&self, stream: &LiveStream) {
        let mut live = self.live.write();
        live.remove(&stream.id);
        stream.mount.settle(stream.bytes.totals());
    }

    /// Rows of mounts, with the bytes of their live streams included.
    pub fn mount_rows(&self, mounts: &[Arc<Mount>]) -> Vec<Row> {
        let live = self.live.read();
        let mut totals: HashMap<u64, [u64; 2]> = HashMap::new();
        for stream in live.values() {
            let total = totals.entry(stream.mount.id()).or_default();
            let [received, sent] = stream.bytes.totals();
            *total = [total[0] + received, total[1] + sent];
        }
        mounts.iter().map(|mount| mount.row(totals.get(&mount.id()).copied().unwrap_or_default())).collect()
    }

    pub fn get(&self, id: u64) -> Option<Arc<LiveStream>> {
        self.live.read().get(&id).cloned()
    }

    /// All live streams, the oldest first.
    pub fn all(&self) -> Vec<Arc<LiveStream>> {
        self.live.read().values().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.live.read().len()
    }

    /// Ends the streams of one mount with the peers that `whose` picks, those that are still being opened included.
    pub fn end_mount(&self, mount: &Mount, whose: impl Fn(&PeerId) -> bool, reason: Reason) {
        self.end_where(|ending| ending.mount == mount.id() && whose(&ending.peer), reason);
    }

    pub fn end_all(&self, reason: Reason) {
        self.end_where(|_| true, reason);
    }

    fn end_where(&self, which: impl Fn(&Ending) -> bool, reason: Reason) {
        let endings: Vec<_> = self.endings.lock().values().filter(|ending| which(ending)).cloned().collect();
        for ending in endings {
            ending.end(reason);
        }
    }

    /// Leave for one more stream, counted until it is dropped; `Status::Limit` says which limit forbids it.
    pub fn permit(self: &Arc<Self>, mount: &Arc<Mount>, peer: PeerId, node: &Values) -> Result<Permit> {
        let limit = |name: &str, values: &Values| Some(values.size(name)).filter(|most| *most > 0);
        let refuse = |name: &str, most: usize, whose: &str| {
            Error::new(Status::Limit, format!("{whose} has {most} streams, the most that {name} allows"))
        };
        let mut counts = self.counts.lock();
        if let Some(most) = limit("streams.max", node).filter(|most| counts.all >= *most) {
            return Err(refuse("streams.max", most, "the node"));
        }
        let with_peer = counts.peers.get(&peer).copied().unwrap_or(0);
        if let Some(most) = limit("streams.per_peer", node).filter(|most| with_peer >= *most) {
            return Err(refuse("streams.per_peer", most, &format!("peer {peer}")));
        }
        if let Some(most) = limit("streams.per_mount", &mount.options()).filter(|most| mount.streams() >= *most) {
            return Err(refuse("streams.per_mount", most, &mount.to_string()));
        }
        counts.all += 1;
        *counts.peers.entry(peer).or_default() += 1;
        drop(counts);
        mount.count_stream(true);
        let ending = Ending { mount: mount.id(), peer, asked: OnceLock::new(), task: AtomicWaker::new() };
        let permit = Permit {
            table: self.clone(),
            mount: mount.clone(),
            peer,
            id: self.next_permit.fetch_add(1, Ordering::Relaxed),
            ending: Arc::new(ending),
        };
        self.endings.lock().insert(permit.id, permit.ending.clone());
        // Whoever closes the mount says so before ending its streams, so one of the two sees the other.
        if mount.is_closed() { Err(Error::closed(mount)) } else { Ok(permit) }
    }

    /// Returns when no stream is open or being opened.
    pub async fn drained(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.counts.lock().all == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// Counts a stream from before it is opened until it is gone.
pub struct Permit {
    table: Arc<StreamTable>,
    mount: Arc<Mount>,
    peer: PeerId,
    id: u64,
    pub ending: Arc<Ending>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.table.endings.lock().remove(&self.id);
        let mut counts = self.table.counts.lock();
        counts.all -= 1;
        if let Some(count) = counts.peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.peers.remove(&self.peer);
            }
        }
        drop(counts);
        self.mount.count_stream(false);
        self.table.ended.notify_waiters();
    }
}
