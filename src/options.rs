//! THE table of options. Names, types, ranges, defaults and their one-line manual stand here once; the setter's checks,
//! the sentences for bad values and `docs/OPTIONS.md` come from it.
//!
//! A value in force comes from, strongest first: a live `set`, the options of the mount, those of its node, the environment
//! variable `P2PMOUNT_<NAME>` (dots and dashes as underscores, read once when the node is opened), the default.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use crate::{
    address,
    error::{Error, Result, Status, quote},
};

/// Where an option may be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    Process,
    Node,
    Listener,
    Forward,
    Queue,
}

impl Scope {
    pub fn name(self) -> &'static str {
        match self {
            Scope::Process => "process",
            Scope::Node => "node",
            Scope::Listener => "listener",
            Scope::Forward => "forward",
            Scope::Queue => "queue",
        }
    }
}

/// What a value looks like.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    /// Milliseconds, or a number with `ms`, `s`, `m` or `h`.
    Duration {
        min: Duration,
        max: Duration,
    },
    /// Bytes, or a number with `KiB`, `MiB` or `GiB`.
    Size {
        min: i64,
        max: i64,
    },
    Choice(&'static [&'static str]),
    /// Comma separated, in order of preference, at least one.
    Choices(&'static [&'static str]),
    Path,
    /// Comma separated peer ids, possibly none, or `*` for everyone.
    Peers,
    /// Comma separated listening multiaddrs; empty for none, `auto` for what fits `network`.
    Multiaddrs,
}

impl Kind {
    /// The values allowed, as the sentence for a bad one and the manual say it.
    pub fn allowed(self) -> String {
        match self {
            Kind::Bool => "true or false".into(),
            Kind::Int { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Duration { min, max } => {
                format!("milliseconds or a time such as 500ms, 30s, 5m, from {} to {}", Time(min), Time(max))
            }
            Kind::Size { min, max } => format!("bytes or a size such as 64KiB, 16MiB, from {min} to {max}"),
            Kind::Choice(names) => format!("one of {}", names.join(", ")),
            Kind::Choices(names) => format!("one or more of {}, comma separated", names.join(", ")),
            Kind::Path => "a path".into(),
            Kind::Peers => "comma separated peer ids, or * for everyone".into(),
            Kind::Multiaddrs => "auto, or comma separated multiaddrs such as /ip4/127.0.0.1/tcp/0".into(),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::Int { .. } => "int",
            Kind::Duration { .. } => "duration",
            Kind::Size { .. } => "size",
            Kind::Choice(_) => "choice",
            Kind::Choices(_) => "choices",
            Kind::Path => "path",
            Kind::Peers => "peers",
            Kind::Multiaddrs => "multiaddrs",
        }
    }
}

/// One option.
#[derive(Debug)]
pub struct Spec {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub scopes: &'static [Scope],
    /// Can be changed with `p2p_set` while in use.
    pub live: bool,
    /// Its value is never shown.
    pub secret: bool,
    pub doc: &'static str,
}

impl Spec {
    /// The environment variable that overrides the default.
    pub fn variable(&self) -> String {
        format!("P2PMOUNT_{}", self.name.to_uppercase().replace(['.', '-'], "_"))
    }

    pub fn scope_names(&self) -> String {
        self.scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(", ")
    }
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = seconds(24 * 3600);
use Scope::{Forward, Listener, Node, Process, Queue};

/// Every option there is, sorted by name.
pub static TABLE: &[Spec] = &[
    Spec {
        name: "buffers.max",
        kind: Kind::Size { min: 1 << 20, max: 1 << 40 },
        default: "4GiB",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Most bytes the node may promise its peers as receive windows, all connections together; beyond it a new stream on a TCP connection is refused, and windows stop growing. The first connection.window of each QUIC connection does not count.",
    },
    Spec {
        name: "busy_poll",
        kind: Kind::Int { min: 0, max: 1000 },
        default: "100",
        scopes: &[Process],
        live: true,
        secret: false,
        doc: "Microseconds for which the runtime's thread looks for what comes next before it sleeps, while small messages follow each other within that time: a round trip then takes about two thirds of the time and half as much processor time again. Others that want the processor have it in between, but what is used counts: under a quota of processor time, or if the host runs its threads with real-time priority, set 0, which is never. Only with one worker thread and at least two processors.",
    },
    Spec {
        name: "connection.backlog",
        kind: Kind::Int { min: 1, max: 8000 },
        default: "256",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Streams of a TCP connection that may wait to be accepted: of those that the node opens more wait for their turn; of those that the peer opens twice as many may wait, and more are reset. Kubo accepts 256.",
    },
    Spec {
        name: "connection.frame",
        kind: Kind::Size { min: 1 << 10, max: (64 << 10) - 12 },
        default: "65524",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Largest frame of data sent on a TCP connection. Streams take turns frame by frame; smaller ones cost more processor time.",
    },
    Spec {
        name: "connection.idle_timeout",
        kind: Kind::Duration { min: seconds(1), max: DAY },
        default: "5m",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "A connection without streams is closed after this time, unless a forward keeps it.",
    },
    Spec {
        name: "connection.keep_alive",
        kind: Kind::Duration { min: seconds(1), max: DAY },
        default: "30s",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "A TCP connection on which nothing came for this long is pinged by the muxer, and closed if nothing comes for as long again. This also keeps NATs from forgetting it.",
    },
    Spec {
        name: "connection.streams",
        kind: Kind::Int { min: 0, max: 8000 },
        default: "0",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Most streams opened on one connection; beyond it further connections to the peer are made, up to connections.per_peer, then new streams wait. 0 is 8,000 if the peer is another p2pmount. If not, it is 500 on TCP, since many libp2p programs drop a connection at stream 513, and 250 on QUIC, where they allow 256.",
    },
    Spec {
        name: "connection.window",
        kind: Kind::Size { min: 1 << 20, max: 1 << 32 },
        default: "128MiB",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Most bytes that a connection may have on their way to local readers, all its streams together: on a TCP connection those beyond the first 256 KiB of each stream; a QUIC connection gets more while its streams are so many that each could not have its own window.",
    },
    Spec {
        name: "connections.max",
        kind: Kind::Int { min: 0, max: 1_000_000 },
        default: "0",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Most established connections to peers; 0 is a quarter of the descriptors left to the library, at most 1,024.",
    },
    Spec {
        name: "connections.pending",
        kind: Kind::Int { min: 1, max: 100_000 },
        default: "256",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Most inbound connections whose handshake is not finished; never more than an eighth of the descriptors left to the library.",
    },
    Spec {
        name: "connections.per_peer",
        kind: Kind::Int { min: 1, max: 1000 },
        default: "8",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Most connections with one peer. Kubo accepts 8.",
    },
    Spec {
        name: "connections.spread",
        kind: Kind::Int { min: 0, max: 64 },
        default: "0",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Connections to one busy peer over which streams are spread before any is full: one connection keeps one worker thread busy. 0 is one per worker thread, and with a single one, unless threads says so, two over TCP or WebSocket while several streams move much: the second connection moves on a thread of its own. Never more than connections.per_peer.",
    },
    Spec {
        name: "descriptors.reserve",
        kind: Kind::Int { min: 0, max: 1_000_000 },
        default: "64",
        scopes: &[Process],
        live: true,
        secret: false,
        doc: "File descriptors under the process's limit that the library leaves to its host.",
    },
    Spec {
        name: "identity.file",
        kind: Kind::Path,
        default: "",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "File of the node's private key, made with mode 0600 if missing (Ed25519 in libp2p's protobuf encoding), never overwritten. It may also be base64 of that, PKCS #8 in PEM, as `ipfs key export` and openssl write them, or Kubo's file config; RSA, secp256k1 and ECDSA (P-256) will do, too. p2p_key_export turns one form into another; empty for a new Ed25519 key each time.",
    },
    Spec {
        name: "listen.addresses",
        kind: Kind::Multiaddrs,
        default: "auto",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Multiaddrs on which the node accepts peers; auto is TCP and QUIC, as far as transports has them, each on a free port of the loopback interface (network=local) or of all interfaces, or WebSocket with transports=ws; empty: the node only dials. A WebSocket is /ip4/0.0.0.0/tcp/8080/ws.",
    },
    Spec {
        name: "log.fd",
        kind: Kind::Int { min: -1, max: i32::MAX as i64 },
        default: "-1",
        scopes: &[Process],
        live: true,
        secret: false,
        doc: "Descriptor to whose duplicate log lines are written; -1 for none.",
    },
    Spec {
        name: "log.level",
        kind: Kind::Choice(&["off", "error", "warn", "info", "debug", "trace"]),
        default: "off",
        scopes: &[Process],
        live: true,
        secret: false,
        doc: "How much is logged.",
    },
    Spec {
        name: "network",
        kind: Kind::Choice(&["public", "private", "local"]),
        default: "public",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "How far the node reaches: local is the loopback interface only, also for targets and listen addresses, without any name look-up; private contacts only what it is told to; public behaves as private in this version.",
    },
    Spec {
        name: "open.timeout",
        kind: Kind::Duration { min: MILLISECOND, max: DAY },
        default: "30s",
        scopes: &[Node, Forward],
        live: true,
        secret: false,
        doc: "Longest time for opening a stream, dialling the peer included.",
    },
    Spec {
        name: "peers.allow",
        kind: Kind::Peers,
        default: "*",
        scopes: &[Node, Listener],
        live: true,
        secret: false,
        doc: "Peers that a listener admits; * admits everyone, an empty list nobody.",
    },
    Spec {
        name: "peers.deny",
        kind: Kind::Peers,
        default: "",
        scopes: &[Node, Listener],
        live: true,
        secret: false,
        doc: "Peers that a listener refuses; stronger than peers.allow.",
    },
    Spec {
        name: "ping.interval",
        kind: Kind::Duration { min: MILLISECOND, max: DAY },
        default: "15s",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Time between pings on each connection.",
    },
    Spec {
        name: "ping.timeout",
        kind: Kind::Duration { min: MILLISECOND, max: DAY },
        default: "10s",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Time for a ping to be answered; a connection on which no ping was answered for ping.interval plus twice this time is closed as dead.",
    },
    Spec {
        name: "protocol.custom",
        kind: Kind::Bool,
        default: "false",
        scopes: &[Node, Listener, Forward],
        live: false,
        secret: false,
        doc: "Allows protocol names outside /x/.",
    },
    Spec {
        name: "queue.capacity",
        kind: Kind::Int { min: 1, max: 1_000_000 },
        default: "1024",
        scopes: &[Node, Queue],
        live: false,
        secret: false,
        doc: "Most events that wait in a queue; beyond it the oldest events of streams and peers go first.",
    },
    Spec {
        name: "reconnect",
        kind: Kind::Bool,
        default: "true",
        scopes: &[Node, Forward],
        live: true,
        secret: false,
        doc: "A forward that has been connected once makes the connection anew when it is lost, at growing intervals.",
    },
    Spec {
        name: "report-peer-id",
        kind: Kind::Bool,
        default: "false",
        scopes: &[Listener],
        live: true,
        secret: false,
        doc: "The listener writes the base58 peer id of the origin and a newline to the target before anything else, as Kubo's option of this name.",
    },
    Spec {
        name: "security",
        kind: Kind::Choices(&["tls", "noise"]),
        default: "tls,noise",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Encryption of TCP and WebSocket connections, in order of preference. QUIC always uses TLS 1.3.",
    },
    Spec {
        name: "stream.window",
        kind: Kind::Size { min: 256 << 10, max: 1 << 30 },
        default: "16MiB",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Most bytes that a stream may have on their way to a local reader. A TCP connection's streams begin with 256 KiB and grow towards it as the path needs it; those of a QUIC connection have half of it from the beginning. Throughput is bounded by the window divided by the round-trip time.",
    },
    Spec {
        name: "streams.max",
        kind: Kind::Int { min: 0, max: 1_000_000 },
        default: "0",
        scopes: &[Node],
        live: true,
        secret: false,
        doc: "Most streams of the node; 0 for no limit but the descriptors.",
    },
    Spec {
        name: "streams.per_mount",
        kind: Kind::Int { min: 0, max: 1_000_000 },
        default: "0",
        scopes: &[Node, Listener, Forward],
        live: true,
        secret: false,
        doc: "Most streams of one mount; 0 for no limit of its own.",
    },
    Spec {
        name: "streams.per_peer",
        kind: Kind::Int { min: 0, max: 1_000_000 },
        default: "0",
        scopes: &[Node],
        live: true,
        secret: false,
        doc: "Most streams with one peer, both directions together; 0 for no limit of its own.",
    },
    Spec {
        name: "swarm.key",
        kind: Kind::Path,
        default: "",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "File with the key of a private network, in the form of Kubo's swarm.key (/base16/, /base64/ or /bin/), which its owner alone may be able to use: only nodes with the same key can connect, over TCP and WebSocket. QUIC cannot carry it: by default it is then off, and beside a transports that names it an error. Empty for no private network.",
    },
    Spec {
        name: "target.timeout",
        kind: Kind::Duration { min: MILLISECOND, max: DAY },
        default: "10s",
        scopes: &[Node, Listener],
        live: true,
        secret: false,
        doc: "Longest time for connecting to a listener's target.",
    },
    Spec {
        name: "threads",
        kind: Kind::Int { min: 0, max: 64 },
        default: "0",
        scopes: &[Process],
        live: true,
        secret: false,
        doc: "Worker threads of the process's one runtime; 0 is half the processors, at most 4. If that is one of two or three processors, a second is started once streams of one peer move much at the same time, see connections.spread; it stays, with three descriptors of its own. Takes effect if set before the first node is opened.",
    },
    Spec {
        name: "transports",
        kind: Kind::Choices(&["tcp", "quic", "ws"]),
        default: "tcp,quic,ws",
        scopes: &[Node],
        live: false,
        secret: false,
        doc: "Transports the node has, the preferred first: where a peer has addresses of several, the others are dialled a quarter of a second later. ws is WebSocket, for paths on which only HTTP passes; with others beside it the node listens on it only where listen.addresses says so. What is said of TCP connections holds for it, too.",
    },
    Spec {
        name: "verify",
        kind: Kind::Bool,
        default: "false",
        scopes: &[Forward],
        live: false,
        secret: false,
        doc: "A forward is made only if the peer can be reached and offers the protocol; the target sees one client that leaves without a word.",
    },
];

/// The option called `name`.
pub fn find(name: &str) -> Result<&'static Spec> {
    TABLE.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let near = TABLE.iter().map(|spec| (distance(spec.name, name), spec.name)).min();
        let near = near.filter(|(distance, known)| 2 * distance < known.len().max(name.len()));
        let near = near.map_or(String::new(), |(_, known)| format!("the nearest name is '{known}', "));
        Error::new(
            Status::BadOption,
            format!(
                "option '{}' does not exist; {near}all of them are in docs/OPTIONS.md and in the list of options",
                quote(name)
            ),
        )
    })
}

/// A value that has been checked against its option.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Bool(bool),
    Int(i64),
    Duration(Duration),
    Text,
}

/// Who gave a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    Environment,
    Options,
    Set,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::Environment => "environment",
            Source::Options => "options",
            Source::Set => "set",
        }
    }
}

fn check(spec: &Spec, text: &str) -> Result<Value> {
    let bad = || {
        Error::new(Status::BadOption, format!("option {}: '{}' is not {}", spec.name, quote(text), spec.kind.allowed()))
    };
    let named = |error: Error| Error::new(Status::BadOption, format!("option {}: {}", spec.name, error.message));
    match spec.kind {
        Kind::Bool => match text {
            "true" | "1" | "yes" | "on" => Ok(Value::Bool(true)),
            "false" | "0" | "no" | "off" => Ok(Value::Bool(false)),
            _ => Err(bad()),
        },
        Kind::Int { min, max } => {
            let number: i64 = text.parse().map_err(|_| bad())?;
            (min..=max).contains(&number).then_some(Value::Int(number)).ok_or_else(bad)
        }
        Kind::Duration { min, max } => {
            let time = parse_duration(text).ok_or_else(bad)?;
            (min..=max).contains(&time).then_some(Value::Duration(time)).ok_or_else(bad)
        }
        Kind::Size { min, max } => {
            let size = parse_size(text).ok_or_else(bad)?;
            (min..=max).contains(&size).then_some(Value::Int(size)).ok_or_else(bad)
        }
        Kind::Choice(names) => names.contains(&text).then_some(Value::Text).ok_or_else(bad),
        Kind::Choices(names) => {
            let parts: Vec<&str> = text.split(',').collect();
            let distinct = parts.iter().enumerate().all(|(at, part)| !parts[..at].contains(part));
            (distinct && parts.iter().all(|part| names.contains(part))).then_some(Value::Text).ok_or_else(bad)
        }
        Kind::Path => match text.contains('\0') || text.len() > 4000 {
            true => Err(bad()),
            false => Ok(Value::Text),
        },
        Kind::Peers => {
            for peer in peer_list(text) {
                address::parse_peer_id(peer).map_err(named)?;
            }
            Ok(Value::Text)
        }
        Kind::Multiaddrs => {
            if !text.is_empty() && text != "auto" {
                address::parse_listen_multiaddrs(text).map_err(named)?;
            }
            Ok(Value::Text)
        }
    }
}

/// The peer ids of a `Kind::Peers` value that is not `*`.
pub fn peer_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty() && *part != "*")
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(unit)?))
}

fn parse_size(text: &str) -> Option<i64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: i64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms if ms % 3_600_000 == 0 => write!(f, "{}h", ms / 3_600_000),
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

/// Edit distance, to name the nearest option when one is misspelt.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

/// The options a caller hands to a node, a mount or a subscription. Names and values are checked when they are set.
#[derive(Clone, Default, Debug)]
pub struct Options {
    values: BTreeMap<&'static str, (String, Value)>,
}

impl Options {
    pub fn new() -> Self {
        Options::default()
    }

    /// Sets an option; refuses unknown names and bad values (`Status::BadOption`).
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let spec = find(name)?;
        self.values.insert(spec.name, (value.to_owned(), check(spec, value)?));
        Ok(())
    }

    /// `set`, for chaining.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self> {
        self.set(name, value)?;
        Ok(self)
    }
}

/// The values in force in one place: every option that may be given there, and for a node those of its mounts and queues.
#[derive(Clone, Debug)]
pub struct Values {
    scope: Scope,
    values: BTreeMap<&'static str, (String, Value, Source)>,
    /// What was given here, not inherited.
    own: BTreeSet<&'static str>,
}

impl Values {
    /// The values of a node or of the process: `options` over the environment (asked through `lookup`) over the defaults.
    pub fn resolve(scope: Scope, options: &Options, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Values> {
        let mut values = Values { scope, values: BTreeMap::new(), own: BTreeSet::new() };
        let belongs = |spec: &&Spec| (scope == Process) == (spec.scopes == [Process]);
        for spec in TABLE.iter().filter(belongs) {
            let variable = spec.variable();
            let (text, value, source) = match lookup(&variable) {
                Some(text) => {
                    let value = check(spec, &text)
                        .map_err(|error| error.context(format!("environment variable {variable}")))?;
                    (text, value, Source::Environment)
                }
                None => (spec.default.to_owned(), check(spec, spec.default)?, Source::Default),
            };
            values.values.insert(spec.name, (text, value, source));
        }
        values.apply(options)?;
        Ok(values)
    }

    /// The values of a mount or queue of this node.
    pub fn child(&self, scope: Scope, options: &Options) -> Result<Values> {
        let mut child = Values { scope, values: BTreeMap::new(), own: BTreeSet::new() };
        for spec in TABLE.iter().filter(|spec| spec.scopes.contains(&scope)) {
            if let Some(value) = self.values.get(spec.name) {
                child.values.insert(spec.name, value.clone());
            }
        }
        child.apply(options)?;
        Ok(child)
    }

    fn apply(&mut self, options: &Options) -> Result<()> {
        for (name, (text, value)) in &options.values {
            let spec = find(name)?;
            if !spec.scopes.contains(&self.scope) {
                return Err(self.out_of_scope(spec));
            }
            self.values.insert(name, (text.clone(), value.clone(), Source::Options));
            self.own.insert(name);
        }
        Ok(())
    }

    fn out_of_scope(&self, spec: &Spec) -> Error {
        Error::new(
            Status::BadOption,
            format!(
                "option {} is not one of a {}; it belongs to: {}",
                spec.name,
                self.scope.name(),
                spec.scope_names()
            ),
        )
    }

    /// Changes a value while it is in use; only what the table marks as live.
    pub fn set_live(&mut self, name: &str, text: &str) -> Result<()> {
        let spec = find(name)?;
        if !spec.scopes.contains(&self.scope) {
            return Err(self.out_of_scope(spec));
        }
        let value = check(spec, text)?;
        if !spec.live {
            return Err(Error::new(
                Status::BadOption,
                format!("option {name} cannot be changed any more; give it when the {} is made", self.scope.name()),
            ));
        }
        self.values.insert(spec.name, (text.to_owned(), value, Source::Set));
        self.own.insert(spec.name);
        Ok(())
    }

    /// Takes over a value that has changed in the node, unless there is an own one; true if it did.
    pub fn inherit(&mut self, name: &str, node: &Values) -> bool {
        let Ok(spec) = find(name) else { return false };
        match node.values.get(spec.name) {
            Some(value) if spec.scopes.contains(&self.scope) && !self.own.contains(spec.name) => {
                self.values.insert(spec.name, value.clone());
                true
            }
            _ => false,
        }
    }

    /// [`Values::inherit`] for every option that can be changed in use.
    pub fn inherit_all(&mut self, node: &Values) {
        for spec in TABLE.iter().filter(|spec| spec.live) {
            self.inherit(spec.name, node);
        }
    }

    /// Puts another value in the place of a default that does not go with what was given.
    pub fn adapt(&mut self, name: &str, text: &str) -> Result<()> {
        let spec = find(name)?;
        self.values.insert(spec.name, (text.to_owned(), check(spec, text)?, Source::Default));
        Ok(())
    }

    /// The value in force as text, and who gave it; a secret's text is hidden.
    pub fn get(&self, name: &str) -> Result<(String, Source)> {
        let spec = find(name)?;
        match self.values.get(spec.name) {
            Some((_, _, source)) if spec.secret => Ok(("(secret)".into(), *source)),
            Some((text, _, source)) => Ok((text.clone(), *source)),
            None => Err(self.out_of_scope(spec)),
        }
    }

    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", |(text, ..)| text)
    }

    pub fn bool(&self, name: &str) -> bool {
        matches!(self.values.get(name), Some((_, Value::Bool(true), _)))
    }

    pub fn int(&self, name: &str) -> i64 {
        match self.values.get(name) {
            Some((_, Value::Int(number), _)) => *number,
            _ => 0,
        }
    }

    /// A count or size, never negative.
    pub fn size(&self, name: &str) -> usize {
        usize::try_from(self.int(name)).unwrap_or(0)
    }

    pub fn duration(&self, name: &str) -> Duration {
        match self.values.get(name) {
            Some((_, Value::Duration(time), _)) => *time,
            _ => Duration::ZERO,
        }
    }

    pub fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        self.text(name).split(',').filter(|part| !part.is_empty())
    }
}

/// `docs/OPTIONS.md`.
pub fn manual() -> String {
    let mut page = String::from(
        "# Options\n\nGenerated from the table in `src/options.rs`; `make header` writes it anew.\n\n\
         An option is given by name, as text, to `p2p_options_set`; `p2p_set` changes the ones marked live while they are in use, and \
         `p2p_get` tells the value in force and where it came from. What is given for a node is the default of its mounts and queues. \
         The environment variable replaces the default and is read once, when the node is opened.\n\n\
         | option | values | default | belongs to | live | environment |\n|---|---|---|---|---|---|\n",
    );
    for spec in TABLE {
        let default = if spec.default.is_empty() { "(empty)".to_owned() } else { format!("`{}`", spec.default) };
        page += &format!(
            "| `{}` | {} | {default} | {} | {} | `{}` |\n",
            spec.name,
            spec.kind.allowed(),
            spec.scope_names(),
            if spec.live { "yes" } else { "no" },
            spec.variable(),
        );
    }
    for spec in TABLE {
        page += &format!("\n## `{}`\n\n{}\n", spec.name, spec.doc);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_allowed() {
        assert!(TABLE.is_sorted_by_key(|spec| spec.name));
        for spec in TABLE {
            check(spec, spec.default).unwrap();
            assert!(!spec.scopes.is_empty() && spec.doc.ends_with('.'), "{}", spec.name);
        }
    }

    #[test]
    fn a_misspelt_name_is_answered_with_the_nearest() {
        let error = Options::new().set("open.timout", "1").unwrap_err();
        assert_eq!(error.status, Status::BadOption);
        assert_eq!(
            error.message,
            "option 'open.timout' does not exist; the nearest name is 'open.timeout', all of them are in docs/OPTIONS.md and in \
             the list of options"
        );
        let error = Options::new().set("nope", "1").unwrap_err();
        assert_eq!(
            error.message,
            "option 'nope' does not exist; all of them are in docs/OPTIONS.md and in the list of options"
        );
    }

    #[test]
    fn a_bad_value_is_answered_with_the_allowed_ones() {
        let sentence = |name: &str, value: &str| Options::new().set(name, value).unwrap_err().message;
        assert_eq!(sentence("network", "wide"), "option network: 'wide' is not one of public, private, local");
        assert_eq!(sentence("verify", "maybe"), "option verify: 'maybe' is not true or false");
        assert_eq!(
            sentence("queue.capacity", "0"),
            "option queue.capacity: '0' is not a whole number from 1 to 1000000"
        );
        assert_eq!(
            sentence("open.timeout", "5 days"),
            "option open.timeout: '5 days' is not milliseconds or a time such as 500ms, 30s, 5m, from 1ms to 24h"
        );
        assert_eq!(
            sentence("transports", "tcp,tcp"),
            "option transports: 'tcp,tcp' is not one or more of tcp, quic, ws, comma separated"
        );
        assert!(sentence("peers.allow", "nobody").starts_with("option peers.allow: "));
        assert!(sentence("listen.addresses", "/ip4/1.2.3.4").starts_with("option listen.addresses: "));
    }

    #[test]
    fn times_and_sizes_take_units() {
        let options = Options::new().with("open.timeout", "5m").unwrap().with("buffers.max", "16MiB").unwrap();
        let values = Values::resolve(Node, &options, &none).unwrap();
        assert_eq!(values.duration("open.timeout"), seconds(300));
        assert_eq!(values.size("buffers.max"), 16 << 20);
    }

    #[test]
    fn the_environment_overrides_defaults_and_is_overridden_by_options() {
        let env = |name: &str| (name == "P2PMOUNT_OPEN_TIMEOUT").then(|| "7s".to_owned());
        let values = Values::resolve(Node, &Options::new(), &env).unwrap();
        assert_eq!(values.get("open.timeout").unwrap(), ("7s".into(), Source::Environment));
        let values = Values::resolve(Node, &Options::new().with("open.timeout", "8s").unwrap(), &env).unwrap();
        assert_eq!(values.get("open.timeout").unwrap(), ("8s".into(), Source::Options));
        let bad = |name: &str| (name == "P2PMOUNT_NETWORK").then(|| "moon".to_owned());
        let error = Values::resolve(Node, &Options::new(), &bad).unwrap_err();
        assert_eq!(
            error.message,
            "environment variable P2PMOUNT_NETWORK: option network: 'moon' is not one of public, private, local"
        );
    }

    #[test]
    fn a_mount_inherits_from_its_node_and_refuses_what_is_not_its_own() {
        let node = Values::resolve(Node, &Options::new().with("open.timeout", "8s").unwrap(), &none).unwrap();
        let forward = node.child(Forward, &Options::new()).unwrap();
        assert_eq!(forward.duration("open.timeout"), seconds(8));
        let error = node.child(Listener, &Options::new().with("verify", "true").unwrap()).unwrap_err();
        assert_eq!(error.message, "option verify is not one of a listener; it belongs to: forward");
    }

    #[test]
    fn a_live_change_of_the_node_reaches_mounts_without_a_value_of_their_own() {
        let mut node = Values::resolve(Node, &Options::new(), &none).unwrap();
        let mut plain = node.child(Forward, &Options::new()).unwrap();
        let mut own = node.child(Forward, &Options::new().with("open.timeout", "8s").unwrap()).unwrap();
        node.set_live("open.timeout", "9s").unwrap();
        assert!(plain.inherit("open.timeout", &node) && !own.inherit("open.timeout", &node));
        assert_eq!((plain.duration("open.timeout"), own.duration("open.timeout")), (seconds(9), seconds(8)));
    }

    #[test]
    fn only_live_options_change_while_in_use() {
        let mut node = Values::resolve(Node, &Options::new(), &none).unwrap();
        node.set_live("open.timeout", "9s").unwrap();
        assert_eq!(node.get("open.timeout").unwrap(), ("9s".into(), Source::Set));
        let error = node.set_live("network", "local").unwrap_err();
        assert_eq!(error.message, "option network cannot be changed any more; give it when the node is made");
    }
}
