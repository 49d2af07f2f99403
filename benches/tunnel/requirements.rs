//! What this library has to reach, against others in the same run and by itself.

use crate::figures::Figure;

pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub fn holds(&self, value: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => value >= *bound,
            Bound::AtMost(bound) => value <= *bound,
        }
    }
}

pub struct Requirement {
    pub ours: &'static str,
    /// The ratio to this system counts; `None`: the figure itself.
    pub theirs: Option<&'static str>,
    pub keys: &'static [&'static str],
    pub bound: Bound,
}

impl Requirement {
    pub fn figures(&self) -> impl Iterator<Item = &'static Figure> {
        self.keys.iter().filter_map(|key| crate::figures::FIGURES.iter().find(|figure| figure.key == *key))
    }
}

/// The size of the library, stripped, in MB.
pub const LIBRARY: f64 = 12.0;

const BULK: &[&str] = &["up_1", "down_1", "up_8", "down_8"];
const BULK_CPU: &[&str] = &["cpu_up_1", "cpu_down_1", "cpu_up_8", "cpu_down_8"];

const fn against(theirs: &'static str, keys: &'static [&'static str], bound: Bound) -> Requirement {
    Requirement { ours: "tcp", theirs: Some(theirs), keys, bound }
}

const fn quic(theirs: &'static str, bound: Bound) -> Requirement {
    Requirement { ours: "quic", theirs: Some(theirs), keys: BULK, bound }
}

const fn alone(ours: &'static str, keys: &'static [&'static str], bound: Bound) -> Requirement {
    Requirement { ours, theirs: None, keys, bound }
}

pub static REQUIREMENTS: &[Requirement] = &[
    against("kubo-tls", BULK, Bound::AtLeast(2.0)),
    against("ssh-gcm", BULK, Bound::AtLeast(1.3)),
    against("socat", BULK, Bound::AtLeast(0.7)),
    against("plain", BULK, Bound::AtLeast(0.9)),
    against("kubo-tls", BULK_CPU, Bound::AtMost(0.45)),
    against("kubo-tls", &["rtt_p50", "rtt_p99"], Bound::AtMost(0.7)),
    against("kubo-tls", &["conn_1"], Bound::AtLeast(2.5)),
    against("kubo-tls", &["conn_32"], Bound::AtLeast(2.0)),
    alone("tcp", &["conn_failed_1", "conn_failed_32"], Bound::AtMost(0.0)),
    quic("kubo-quic", Bound::AtLeast(4.0)),
    quic("dumbpipe", Bound::AtLeast(1.3)),
    alone("tcp", &["fair_ratio"], Bound::AtMost(10.0)),
    alone("tcp", &["many_open", "many_alive"], Bound::AtLeast(10_000.0)),
    alone("tcp", &["many_time"], Bound::AtMost(2.0)),
    alone("tcp", &["many_listen", "many_forward"], Bound::AtMost(10.0)),
    alone("tcp", &["idle"], Bound::AtMost(0.05)),
    alone("tcp", &["memory_listen", "memory_forward"], Bound::AtMost(15_000.0)),
];
