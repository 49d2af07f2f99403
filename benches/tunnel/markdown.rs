//! The table of the README.

use std::fmt::Write as _;

use crate::{
    figures::FIGURES,
    report::{Report, shown},
    system::Kind,
};

/// Title, figures that stand in one cell, decimals.
static COLUMNS: &[(&str, &[&str], usize)] = &[
    ("MB/s to, from", &["up_1", "down_1"], 0),
    ("processor s/GB", &["cpu_up_1", "cpu_down_1"], 2),
    ("round trip us", &["rtt_p50"], 0),
    ("new connections/s, 1 and 32 at a time", &["conn_1", "conn_32"], 0),
    ("memory MB, listening, forwarding", &["memory_listen", "memory_forward"], 0),
    ("KiB per stream", &["many_listen", "many_forward"], 0),
    ("streams that live, opened in s", &["many_alive", "many_time"], 1),
];

pub fn table(report: &Report) -> String {
    let mut text = String::from("| |");
    for (title, ..) in COLUMNS {
        let _ = write!(text, " {title} |");
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(COLUMNS.len()));
    for system in &report.plan.systems {
        let Some(label) = system.label() else { continue };
        let label = if system.kind() == Kind::Own { format!("**{label}**") } else { label.to_owned() };
        let _ = write!(text, "| {label} |");
        for (_, keys, decimals) in COLUMNS {
            let cells = keys.iter().filter_map(|key| FIGURES.iter().find(|figure| figure.key == *key)).map(|figure| {
                let value = report.median(system.name(), figure);
                // Whole numbers of things stay whole, and memory is told in MB.
                match figure.key {
                    "memory_listen" | "memory_forward" => shown(value.map(|kib| kib * 1024.0 / 1e6), *decimals),
                    "many_alive" => shown(value, 0),
                    _ => shown(value, *decimals),
                }
            });
            let _ = write!(text, " {} |", cells.collect::<Vec<_>>().join(", "));
        }
        text.push('\n');
    }
    text
}
