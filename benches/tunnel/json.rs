//! The file for programs.

use std::fmt::{Display, Write as _};

use crate::{
    figures::{FIGURES, Figure},
    report::Report,
    system::{Kind, System},
};

/// Every figure of every round, the medians, and their ratios of this library's systems to all others.
pub fn text(report: &Report) -> String {
    let figures = |value: &dyn Fn(&Figure) -> Option<f64>| {
        object(FIGURES.iter().filter_map(|figure| Some((figure.key, number(value(figure)?)))))
    };
    let systems = || report.plan.systems.iter().copied();
    let rounds = report.rounds.iter().map(|round| {
        let samples = systems().zip(round);
        object(samples.map(|(system, sample)| (system.name(), figures(&|figure| sample.get(figure.key).copied()))))
    });
    let medians = systems().map(|system| (system.name(), figures(&|figure| report.median(system.name(), figure))));
    let ratios_of = |ours: &dyn System| {
        let others = systems().filter(|other| other.name() != ours.name());
        object(others.map(|other| (other.name(), figures(&|figure| report.ratio(ours.name(), other.name(), figure)))))
    };
    let own = systems().filter(|system| system.kind() == Kind::Own);
    let requirements = report.requirements().into_iter().map(|row| {
        object([
            ("what", quoted(&row.what)),
            ("required", quoted(&row.required)),
            ("measured", row.measured.map_or("null".into(), number)),
            ("reached", row.reached.map_or("null".into(), |reached| reached.to_string())),
        ])
    });
    let machine = report.machine;
    let text = object([
        (
            "machine",
            object([
                ("processor", quoted(&machine.processor)),
                ("cores", machine.cores.to_string()),
                ("kernel", quoted(&machine.kernel)),
                ("memory_gb", number(machine.memory)),
            ]),
        ),
        ("versions", object(machine.versions.iter().map(|(name, version)| (*name, quoted(version))))),
        ("systems", object(report.versions.iter().map(|(name, version)| (*name, quoted(version))))),
        ("optimised", (!cfg!(debug_assertions)).to_string()),
        ("library_bytes", machine.library.map_or("null".into(), |bytes| bytes.to_string())),
        ("window_ms", report.plan.window.as_millis().to_string()),
        ("many_streams", report.plan.many.to_string()),
        ("units", object(FIGURES.iter().map(|figure| (figure.key, quoted(figure.unit))))),
        ("medians", object(medians)),
        ("ratios", object(own.map(|ours| (ours.name(), ratios_of(ours))))),
        ("requirements", list(requirements)),
        ("rounds", list(rounds)),
    ]);
    text + "\n"
}

fn list(members: impl Iterator<Item = String>) -> String {
    format!("[{}]", members.collect::<Vec<_>>().join(",\n"))
}

fn number(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { "null".into() }
}

fn object<K: Display>(members: impl IntoIterator<Item = (K, String)>) -> String {
    let members: Vec<_> = members.into_iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("{{{}}}", members.join(",\n"))
}

/// A JSON string (RFC 8259, section 7).
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => drop(write!(out, "\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out + "\""
}
