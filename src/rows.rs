//! What lists and events consist of: rows of named fields. One table of fields, of which `docs/FIELDS.md` is made.

use std::fmt::Write;

use once_cell::sync::OnceCell;

use crate::error::Error;

/// A field of a row.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub name_with_nul: &'static str,
    /// A number, in the unit that `doc` says; else text.
    pub int: bool,
    pub doc: &'static str,
}

macro_rules! int {
    ($name:literal, $doc:literal) => {
        Field { name: $name, name_with_nul: concat!($name, "\0"), int: true, doc: $doc }
    };
}

macro_rules! text {
    ($name:literal, $doc:literal) => {
        Field { name: $name, name_with_nul: concat!($name, "\0"), int: false, doc: $doc }
    };
}

/// Every field there is, sorted by name.
pub static FIELDS: &[Field] = &[
    text!("access", "Listener: who is admitted, \"open to all\" or how many peers are allowed and denied."),
    text!(
        "address",
        "A multiaddr: of a peer, the remote end of its best connection; of an own address, complete with /p2p/<peer id>."
    ),
    int!("age_ms", "Milliseconds since the stream or the connection was opened."),
    text!("agent", "What program the peer says it is (identify)."),
    int!("all_interfaces", "Forward: 1 if it accepts on all interfaces, not only on one address."),
    int!("bytes_in", "Bytes that came from the network for the local side."),
    int!("bytes_out", "Bytes that went from the local side to the network."),
    int!("code", "Status code (P2P_OK or P2P_ERROR_...) of what happened."),
    int!("connections", "Established connections."),
    int!("count", "How many events were lost."),
    text!("default", "Option: its default."),
    int!("descriptors", "Process: descriptors used by streams now."),
    int!("descriptors_max", "Process: most descriptors that streams may use."),
    text!("direction", "Peer: \"inbound\" or \"outbound\", who made its best connection."),
    text!("doc", "Option: what it does."),
    text!("error", "Mount: sentence of the last error, empty if there was none."),
    int!("error_code", "Mount: status code of the last error, 0 if there was none."),
    int!("event", "Event: its kind as a bit, P2P_EVENT_..."),
    int!("flags", "P2P_ERROR_FLAG_ bits of what happened, or of a mount's last error."),
    int!("forwards", "Node: its forwards."),
    int!("handles", "Process: open handles."),
    int!(
        "id",
        "Mount: its p2p_mount handle. Stream: its number in the node, from 0. Node: its handle's number in the process."
    ),
    text!("kind", "What the row describes."),
    text!("listen", "Forward: the bound listen address. Listener: \"/p2p/\" and the own peer id."),
    int!("listeners", "Node: its listeners."),
    int!("live", "Option: 1 if it can be changed while in use."),
    int!("log_dropped", "Process: log lines lost because the log's descriptor was full or closed."),
    text!("message", "Event: what happened, as a sentence."),
    int!("mount", "The p2p_mount handle concerned; 0 if there is none."),
    text!("name", "Option: its name."),
    text!("network", "Node: local, private or public."),
    int!("nodes", "Process: open nodes."),
    int!("operation", "Event: the p2p_operation that ended."),
    text!(
        "origin",
        "Stream: where it came from; forward: the client's address, listener: \"/p2p/\" and the remote peer id."
    ),
    text!("path", "\"direct\" or \"relayed\"."),
    text!("peer", "A peer id; of a node, its own."),
    int!("peers", "Node: connected peers."),
    text!("protocol", "Protocol name."),
    text!("reason", "Event: how the stream ended."),
    int!("rtt_us", "Peer: last round trip time in microseconds, -1 if not known yet."),
    text!("scope", "Option: where it may be given."),
    int!("secret", "Option: 1 if its value is never shown."),
    int!("sequence", "Event: its number in its queue, from 1."),
    text!("side", "Stream: \"listener\" or \"forward\", the kind of its mount."),
    text!("source", "Where a value came from: default, environment, options or set."),
    text!("state", "State of a mount, peer, address or node; see docs/concepts.md."),
    int!("stream", "Event: number of the stream in the node."),
    int!("streams", "Streams open now."),
    int!("streams_cut", "Mount: streams since it was made that the peer reset, or whose connection was lost."),
    int!("streams_total", "Mount: streams since it was made."),
    int!(
        "system_error",
        "The system's errno of what happened, or of a mount's last error; 0 if the failure was not the system's."
    ),
    text!("target", "Listener: the target address. Forward: \"/p2p/\" and the peer id. Stream: that of its mount."),
    int!("threads", "Process: worker threads of the runtime."),
    int!("time_ms", "Event: when, in milliseconds since 1970 (UTC)."),
    text!("transport", "\"tcp\", \"quic\" or \"ws\"."),
    text!("type", "Option: bool, int, duration, size, choice, choices, path, peers or multiaddrs."),
    text!("value", "Option: the value in force."),
    text!("version", "Process: version of the library."),
];

/// The field called `name`.
pub fn field(name: &str) -> Option<&'static Field> {
    FIELDS.binary_search_by_key(&name, |field| field.name).ok().map(|at| &FIELDS[at])
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Text(String),
    Int(i64),
}

/// One row. Reading a number as text gives its decimal form.
#[derive(Clone, Debug, Default)]
pub struct Row {
    cells: Vec<(&'static Field, Cell, OnceCell<String>)>,
}

impl Row {
    pub fn new(kind: &str) -> Self {
        Row::default().text("kind", kind)
    }

    #[must_use]
    pub fn text(self, name: &str, value: impl Into<String>) -> Self {
        self.cell(name, Cell::Text(value.into().replace('\0', "")))
    }

    #[must_use]
    pub fn int(self, name: &str, value: impl TryInto<i64>) -> Self {
        self.cell(name, Cell::Int(value.try_into().unwrap_or(i64::MAX)))
    }

    /// What went wrong: the same four fields as in `p2p_error`; zero and empty if nothing did.
    #[must_use]
    pub fn failure(self, error: Option<&Error>) -> Self {
        self.int("code", error.map_or(0, |error| error.status as i32))
            .int("system_error", error.map_or(0, |error| error.system_error))
            .int("flags", error.map_or(0, Error::flags))
            .text("message", error.map_or("", |error| &*error.message))
    }

    #[must_use]
    fn cell(mut self, name: &str, cell: Cell) -> Self {
        let known = field(name);
        debug_assert!(
            known.is_some_and(|field| field.int == matches!(cell, Cell::Int(_))),
            "field {name} is not in the table"
        );
        if let Some(field) = known {
            self.cells.push((field, cell, OnceCell::new()));
        }
        self
    }

    pub fn get(&self, name: &str) -> Option<&Cell> {
        self.cells.iter().find(|(field, ..)| field.name == name).map(|(_, cell, _)| cell)
    }

    /// The value as text that ends in NUL and lives as long as the row.
    pub fn text_with_nul(&self, name: &str) -> Option<&str> {
        let (_, cell, rendered) = self.cells.iter().find(|(field, ..)| field.name == name)?;
        Some(rendered.get_or_init(|| match cell {
            Cell::Text(text) => format!("{text}\0"),
            Cell::Int(number) => format!("{number}\0"),
        }))
    }

    /// The fields of this row, in order.
    pub fn fields(&self) -> impl Iterator<Item = &'static Field> + '_ {
        self.cells.iter().map(|(field, ..)| *field)
    }
}

/// `docs/FIELDS.md`.
pub fn manual() -> String {
    let mut page = String::from(
        "# Fields of lists and events\n\nGenerated from the table in `src/rows.rs`; `make header` writes it anew.\n\n\
         Read with `p2p_row_text` (every field, numbers in decimal) and `p2p_row_int` (numbers). `p2p_row_field` walks the fields of a \
         row. New versions add fields.\n\n| field | type | meaning |\n|---|---|---|\n",
    );
    for field in FIELDS {
        let _ = writeln!(page, "| `{}` | {} | {} |", field.name, if field.int { "int64" } else { "text" }, field.doc);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_by_name() {
        assert!(FIELDS.is_sorted_by_key(|field| field.name));
    }

    #[test]
    fn a_number_reads_as_text_too() {
        let row = Row::new("stream").int("bytes_in", 7).text("peer", "a\0b");
        assert_eq!(row.get("bytes_in"), Some(&Cell::Int(7)));
        assert_eq!(row.text_with_nul("bytes_in"), Some("7\0"));
        assert_eq!(row.text_with_nul("peer"), Some("ab\0"));
        assert_eq!(row.get("target"), None);
        assert_eq!(row.fields().map(|field| field.name).collect::<Vec<_>>(), ["kind", "bytes_in", "peer"]);
    }
}
