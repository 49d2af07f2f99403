//! What is measured, in the order of the report.

use std::collections::BTreeMap;

/// The figures of one system in one round, by name.
pub type Sample = BTreeMap<&'static str, f64>;

pub struct Figure {
    /// The name in the file of figures.
    pub key: &'static str,
    pub label: &'static str,
    pub unit: &'static str,
    pub decimals: usize,
    pub more_is_better: bool,
    /// Plain TCP has it, too.
    pub raw: bool,
}

const fn more(key: &'static str, label: &'static str, unit: &'static str) -> Figure {
    Figure { key, label, unit, decimals: 0, more_is_better: true, raw: true }
}

const fn less(key: &'static str, label: &'static str, unit: &'static str, decimals: usize) -> Figure {
    Figure { key, label, unit, decimals, more_is_better: false, raw: false }
}

const fn also_raw(figure: Figure) -> Figure {
    Figure { raw: true, ..figure }
}

/// MB and GB are powers of ten, KiB is 1024 bytes. Processor time is that of both processes of the tunnel.
pub static FIGURES: &[Figure] = &[
    more("up_1", "to the target, 1 connection", "MB/s"),
    more("down_1", "from the target, 1 connection", "MB/s"),
    more("up_8", "to the target, 8 connections", "MB/s"),
    more("down_8", "from the target, 8 connections", "MB/s"),
    less("cpu_up_1", "processor, to, 1 connection", "s/GB", 2),
    less("cpu_down_1", "processor, from, 1 connection", "s/GB", 2),
    less("cpu_up_8", "processor, to, 8 connections", "s/GB", 2),
    less("cpu_down_8", "processor, from, 8 connections", "s/GB", 2),
    also_raw(less("rtt_p50", "64-byte round trip, median", "us", 0)),
    also_raw(less("rtt_p99", "64-byte round trip, 99 %", "us", 0)),
    more("conn_1", "new connections, 1 in flight", "1/s"),
    more("conn_32", "new connections, 32 in flight", "1/s"),
    less("cpu_conn_1", "processor, 1 in flight", "us/conn", 0),
    less("cpu_conn_32", "processor, 32 in flight", "us/conn", 0),
    also_raw(less("conn_failed_1", "failed, 1 in flight", "", 0)),
    also_raw(less("conn_failed_32", "failed, 32 in flight", "", 0)),
    less("ready_listen", "listening side ready", "ms", 1),
    less("ready_forward", "forwarding side ready", "ms", 1),
    less("first_byte", "its first byte there and back", "ms", 1),
    also_raw(less("left_open", "left open after the client's end", "", 0)),
    less("memory_listen", "memory when idle, listening", "KiB", 0),
    less("memory_forward", "memory when idle, forwarding", "KiB", 0),
    less("idle", "processor when idle, both", "%", 3),
    less("stream_listen", "memory per stream, listening", "KiB", 1),
    less("stream_forward", "memory per stream, forwarding", "KiB", 1),
    also_raw(less("streams_failed", "failed to open", "", 0)),
    also_raw(less("fair_alone", "100 at rest, round trip 99 %", "us", 0)),
    also_raw(less("fair_beside", "beside one at full speed, 99 %", "us", 0)),
    also_raw(less("fair_ratio", "so many times slower", "", 1)),
    less("after_listen", "memory after the load, listening", "KiB", 0),
    less("after_forward", "memory after the load, forwarding", "KiB", 0),
    more("many_open", "many streams, opened", ""),
    more("many_alive", "answering after a pause", ""),
    also_raw(less("many_time", "time to open them", "s", 2)),
    less("many_listen", "memory per stream, listening", "KiB", 1),
    less("many_forward", "memory per stream, forwarding", "KiB", 1),
];

/// The median of `values`; of an even number, the mean of the middle two.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[values.len() / 2 - 1] + upper) / 2.0 })
}

/// The value that `part` of the sorted `values` do not exceed.
pub fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    sorted.get(((sorted.len() as f64 * part) as usize).min(sorted.len().checked_sub(1)?)).copied()
}
