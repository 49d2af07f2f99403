//! The table for people and the file for programs.

use std::{
    fmt::{Display, Write as _},
    path::Path,
};

use crate::{
    Plan, Result, System,
    figures::{FIGURES, Figure, Sample, median},
    machine::Machine,
};

pub struct Report<'a> {
    pub plan: &'a Plan,
    /// In the order of [`System::ALL`].
    pub rounds: &'a [Vec<Sample>],
    pub machine: Machine,
}

impl Report<'_> {
    fn median(&self, system: System, figure: &Figure) -> Option<f64> {
        let at = System::ALL.iter().position(|other| *other == system)?;
        median(self.rounds.iter().filter_map(|round| round.get(at)?.get(figure.key).copied()).collect())
    }

    /// Figures of this library that were not measured in some round.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (system, at) in System::ALL.iter().zip(0..) {
            let wanted = |figure: &&Figure| *system != System::Raw || figure.raw;
            for figure in FIGURES.iter().filter(wanted) {
                if *system != System::Baseline && self.rounds.iter().any(|round| !round[at].contains_key(figure.key)) {
                    missing.push(format!("{} {}", system.name(), figure.key));
                }
            }
        }
        missing
    }

    /// Medians, and how the two transports stand to the baseline; a `<` marks where they are the worse by a twentieth.
    pub fn table(&self) -> String {
        let Machine { processor, cores, kernel, library, versions } = &self.machine;
        let mut text = format!("\n{processor}, {cores} cores, Linux {kernel}\n");
        let names: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let _ = writeln!(text, "{}", names.join(", "));
        if cfg!(debug_assertions) {
            text += "built without optimisation: the figures say nothing about the library\n";
        }
        if let Some(bytes) = library {
            let _ = writeln!(text, "libp2pmount.so, stripped: {:.2} MB", *bytes as f64 / 1e6);
        }
        let _ = write!(text, "\n{:<34}{:>8}", format!("medians of {} rounds", self.rounds.len()), "");
        for system in System::ALL {
            let _ = write!(text, "{:>10}", system.name());
        }
        text += "   tcp/base  quic/base\n";
        for figure in FIGURES {
            let _ = write!(text, "{:<34}{:>8}", figure.label, figure.unit);
            for system in System::ALL {
                let _ = write!(text, "{:>10}", shown(self.median(system, figure), figure.decimals));
            }
            for system in [System::Tcp, System::Quic] {
                let ratio = self.ratio(system, figure);
                let worse = ratio.is_some_and(|ratio| if figure.more_is_better { ratio < 0.95 } else { ratio > 1.05 });
                let _ = write!(text, "{:>10}{}", shown(ratio, 2), if worse { '<' } else { ' ' });
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text + "tcp, quic: this library. base: libp2p's stock parts over TCP. <: worse than the baseline.\n"
    }

    fn ratio(&self, system: System, figure: &Figure) -> Option<f64> {
        let [ours, theirs] = [self.median(system, figure)?, self.median(System::Baseline, figure)?];
        (theirs > 0.0).then_some(ours / theirs)
    }

    /// Writes every figure of every round as JSON.
    pub fn write(&self, file: &Path) -> Result<()> {
        let figures = |value: &dyn Fn(&Figure) -> Option<f64>| {
            let present = FIGURES.iter().filter_map(|figure| Some((figure.key, number(value(figure)?))));
            object(present)
        };
        let rounds = self.rounds.iter().map(|round| {
            let samples = System::ALL.iter().zip(round);
            object(samples.map(|(system, sample)| (system.name(), figures(&|figure| sample.get(figure.key).copied()))))
        });
        let medians = System::ALL.map(|system| (system.name(), figures(&|figure| self.median(system, figure))));
        let ratios =
            [System::Tcp, System::Quic].map(|system| (system.name(), figures(&|figure| self.ratio(system, figure))));
        let machine = &self.machine;
        let text = object([
            (
                "machine",
                object([
                    ("processor", quoted(&machine.processor)),
                    ("cores", machine.cores.to_string()),
                    ("kernel", quoted(&machine.kernel)),
                ]),
            ),
            ("versions", object(machine.versions.iter().map(|(name, version)| (*name, quoted(version))))),
            ("optimised", (!cfg!(debug_assertions)).to_string()),
            ("library_bytes", machine.library.map_or("null".into(), |bytes| bytes.to_string())),
            ("window_ms", self.plan.window.as_millis().to_string()),
            ("units", object(FIGURES.iter().map(|figure| (figure.key, quoted(figure.unit))))),
            ("medians", object(medians)),
            ("ratios_to_baseline", object(ratios)),
            ("rounds", format!("[{}]", rounds.collect::<Vec<_>>().join(",\n"))),
        ]);
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory)?;
        }
        Ok(std::fs::write(file, text + "\n")?)
    }
}

fn shown(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.decimals$}"))
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
