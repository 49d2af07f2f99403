//! Nodes as the tests use them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::Deref,
    process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use p2pmount::{
    Error, Mount, Node, Options,
    events::{Queue, kind},
    mounts::{Filters, Kind},
    process as library,
    rows::{Cell, Row},
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, at};

pub const TCP: &[(&str, &str)] = &[("transports", "tcp")];
pub const QUIC: &[(&str, &str)] = &[("transports", "quic")];
pub const WS: &[(&str, &str)] = &[("transports", "ws")];

pub fn runtime() -> Handle {
    library::runtime(0).unwrap()
}

pub fn block<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

/// Runs `what` on another thread, which notes the same places as this one would.
pub fn in_background<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn(what)
}

pub fn options(given: &[(&str, &str)]) -> Options {
    let mut options = Options::new();
    for (name, value) in given {
        options.set(name, value).unwrap();
    }
    options
}

/// A loopback address that no other test uses: a port of it that was closed is still free later.
pub fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = process::id().wrapping_mul(61).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let [_, b, c, d] = number.to_be_bytes();
    Ipv4Addr::new(127, b | 1, c, d.clamp(1, 254))
}

pub fn text(row: &Row, name: &str) -> String {
    match row.get(name) {
        Some(Cell::Text(text)) => text.clone(),
        other => panic!("field {name} of {row:?} is {other:?}"),
    }
}

pub fn int(row: &Row, name: &str) -> i64 {
    match row.get(name) {
        Some(Cell::Int(number)) => *number,
        other => panic!("field {name} of {row:?} is {other:?}"),
    }
}

/// A row in one line, for reports of failures.
fn shown(row: &Row) -> String {
    let fields = row.fields().filter_map(|field| {
        let value = row.text_with_nul(field.name)?.trim_end_matches('\0');
        (!value.is_empty() && field.name != "time_ms").then(|| format!("{}={value}", field.name))
    });
    fields.collect::<Vec<_>>().join(" ")
}

/// Fields of all rows, as text.
pub fn rows(rows: &[Row], fields: &[&str]) -> Vec<Vec<String>> {
    rows.iter().map(|row| fields.iter().map(|field| text(row, field)).collect()).collect()
}

/// A node that is closed when dropped.
pub struct TestNode {
    node: Arc<Node>,
    /// What is told if the test fails.
    story: Arc<Queue>,
}

impl Deref for TestNode {
    type Target = Arc<Node>;

    fn deref(&self) -> &Arc<Node> {
        &self.node
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("node {} has {} streams; what happened there:", self.peer_id(), self.streams().len());
            for row in Events(self.story.clone()).drain().into_iter().take(30) {
                eprintln!("  {}", shown(&row));
            }
        }
        at("closing a node");
        self.close_now();
    }
}

impl TestNode {
    /// A node on the loopback interface.
    #[track_caller]
    pub fn open(given: &[(&str, &str)]) -> Self {
        Self::try_open(given).unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    pub fn try_open(given: &[(&str, &str)]) -> Result<Self, Error> {
        at("opening a node");
        let mut options = options(&[("network", "local")]);
        for (name, value) in given {
            options.set(name, value).unwrap();
        }
        let node = block(Node::open(&options, &|_| None))?;
        let few = Options::new().with("queue.capacity", "40")?;
        let story = node.subscribe(kind::ALL - kind::ADDRESS - kind::STREAM_OPENED, &few)?;
        Ok(TestNode { node, story })
    }

    /// Ends everything at once.
    pub fn close_now(&self) {
        block(self.close(Some(Duration::ZERO)));
    }

    pub fn id_text(&self) -> String {
        self.peer_id().to_string()
    }

    /// The first address with this in it, complete with the peer id.
    #[track_caller]
    pub fn address_with(&self, what: &str) -> String {
        let addresses: Vec<_> = self.addresses().iter().map(ToString::to_string).collect();
        addresses
            .iter()
            .find(|address| address.contains(what))
            .unwrap_or_else(|| panic!("{what} is in none of {addresses:?}"))
            .clone()
    }

    /// Where others reach this node.
    #[track_caller]
    pub fn address(&self) -> String {
        self.address_with("/ip4/")
    }

    #[track_caller]
    pub fn events(&self, kinds: u32) -> Events {
        Events(self.subscribe(kinds, &Options::new()).unwrap())
    }

    pub fn listeners(&self) -> Vec<Row> {
        self.mount_rows(Kind::Listener)
    }

    pub fn forwards(&self) -> Vec<Row> {
        self.mount_rows(Kind::Forward)
    }

    pub fn streams(&self) -> Vec<Row> {
        self.stream_rows(None)
    }

    /// The number of mounts closed.
    pub fn close_fitting(&self, filters: &Filters<'_>) -> Result<usize, Error> {
        at("closing mounts");
        block(self.close_mounts(filters)).map(|closed| closed.len())
    }

    #[track_caller]
    pub fn expose(&self, protocol: &str, target: &str, given: &[(&str, &str)]) -> Arc<Mount> {
        listen(self, protocol, target, given).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A forward on a free port, and where it listens.
    #[track_caller]
    pub fn forward_to(&self, protocol: &str, peer: &str, given: &[(&str, &str)]) -> (Arc<Mount>, SocketAddr) {
        let mount = forward(self, [protocol, "127.0.0.1:0", peer], given).unwrap_or_else(|error| panic!("{error}"));
        let address = mount.address().parse().unwrap();
        (mount, address)
    }
}

pub fn listen(node: &Node, protocol: &str, target: &str, given: &[(&str, &str)]) -> Result<Arc<Mount>, Error> {
    node.listen(protocol, target, &options(given))
}

#[track_caller]
pub fn forward(node: &Node, what: [&str; 3], given: &[(&str, &str)]) -> Result<Arc<Mount>, Error> {
    at("making a forward");
    block(node.forward(what, &options(given), &CancellationToken::new()))
}

/// A forwarding node and a listening one.
pub struct Pair {
    pub near: TestNode,
    pub far: TestNode,
}

impl Pair {
    #[track_caller]
    pub fn open(given: &[(&str, &str)]) -> Self {
        Pair { near: TestNode::open(given), far: TestNode::open(given) }
    }

    /// Exposes `target` at the far node and forwards a port of the near one to it.
    #[track_caller]
    pub fn tunnel(&self, protocol: &str, target: &str) -> SocketAddr {
        self.far.expose(protocol, target, &[]);
        self.near.forward_to(protocol, &self.far.address(), &[]).1
    }
}

/// The events of a node.
pub struct Events(pub Arc<Queue>);

impl Events {
    /// The next event that fits; those before it are dropped.
    #[track_caller]
    pub fn wait(&self, what: &str, fits: impl Fn(&Row) -> bool) -> Row {
        at(what);
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.0.next(Some(deadline.saturating_duration_since(Instant::now()))) {
                Ok(row) if fits(&row) => return row,
                Ok(row) => seen.push(shown(&row)),
                Err(error) => panic!("{what}: {error}; seen were {seen:#?}"),
            }
        }
    }

    /// The next change to `state`.
    #[track_caller]
    pub fn wait_state(&self, state: &str) -> Row {
        self.wait(state, |row| row.get("state") == Some(&Cell::Text(state.to_owned())))
    }

    /// Everything that waits now.
    pub fn drain(&self) -> Vec<Row> {
        std::iter::from_fn(|| self.0.next(Some(Duration::ZERO)).ok()).collect()
    }

    /// The next refusal of a client or stream.
    #[track_caller]
    pub fn wait_refused(&self) -> Row {
        self.wait("a refusal", |row| {
            [kind::REFUSED, kind::TARGET_REFUSED].iter().any(|kind| int(row, "event") == i64::from(*kind))
        })
    }
}
