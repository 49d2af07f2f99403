//! The table for people.

use std::fmt::Write as _;

use crate::{
    figures::{FIGURES, Figure, Sample, median},
    machine::Machine,
    plan::Plan,
    requirements::{Bound, LIBRARY, REQUIREMENTS},
    system::Kind,
};

pub struct Report<'a> {
    pub plan: &'a Plan,
    /// Names and versions of the systems.
    pub versions: &'a [(&'static str, String)],
    /// In the order of the plan's systems.
    pub rounds: &'a [Vec<Sample>],
    pub machine: &'a Machine,
}

/// What is required beside what was measured.
pub struct Verdict {
    pub what: String,
    pub required: String,
    pub measured: Option<f64>,
    pub reached: Option<bool>,
}

impl Report<'_> {
    pub fn median(&self, system: &str, figure: &Figure) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| self.value(round, system, figure)).collect())
    }

    /// The median of the ratios in each round, whose windows lie next to each other. It need not be that of the medians.
    pub fn ratio(&self, ours: &str, theirs: &str, figure: &Figure) -> Option<f64> {
        let ratios = self.rounds.iter().filter_map(|round| {
            let [ours, theirs] = [self.value(round, ours, figure)?, self.value(round, theirs, figure)?];
            (theirs > 0.0).then_some(ours / theirs)
        });
        median(ratios.collect())
    }

    fn value(&self, round: &[Sample], system: &str, figure: &Figure) -> Option<f64> {
        let at = self.plan.systems.iter().position(|other| other.name() == system)?;
        round.get(at)?.get(figure.key).copied()
    }

    /// Figures of this library, and of none, that were not measured in some round.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (system, at) in self.plan.systems.iter().zip(0..) {
            let wanted = |figure: &&Figure| match system.kind() {
                Kind::Own => true,
                Kind::Reference => system.name() == "raw" && figure.raw,
                Kind::Peer => false,
            };
            for figure in FIGURES.iter().filter(wanted) {
                if self.median(system.name(), figure).is_none()
                    || (system.kind() == Kind::Own
                        && self.rounds.iter().any(|round| !round[at].contains_key(figure.key)))
                {
                    missing.push(format!("{} {}", system.name(), figure.key));
                }
            }
        }
        missing
    }

    /// The machine, the medians, how this library stands to each other system, and what is required of it.
    pub fn table(&self) -> String {
        let mut text = self.origin();
        self.medians(&mut text);
        for own in self.plan.systems.iter().filter(|system| system.kind() == Kind::Own) {
            self.ratios(&mut text, own.name());
        }
        let _ = writeln!(text, "\n{:<58}{:>12}{:>10}", "required", "", "measured");
        for Verdict { what, required, measured, reached } in self.requirements() {
            let reached = reached.map_or("", |reached| if reached { "" } else { "  MISSED" });
            let _ = writeln!(text, "{what:<58}{required:>12}{:>10}{reached}", shown(measured, 2));
        }
        text
    }

    fn origin(&self) -> String {
        let Machine { processor, cores, kernel, memory, library, versions } = self.machine;
        let mut text = format!("\n{processor}, {cores} cores, {memory:.0} GB, Linux {kernel}\n");
        for versions in [versions, self.versions] {
            let names: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
            let _ = writeln!(text, "{}", names.join(", "));
        }
        if cfg!(debug_assertions) {
            text += "built without optimisation: the figures say nothing about the library\n";
        }
        if let Some(bytes) = library {
            let _ = writeln!(text, "libp2pmount.so, stripped: {:.2} MB", *bytes as f64 / 1e6);
        }
        text
    }

    fn medians(&self, text: &mut String) {
        let title = format!("medians of {} rounds", self.rounds.len());
        self.rows(text, &title, |name, figure| shown(self.median(name, figure), figure.decimals));
        *text +=
            "tcp, quic, plain: this library; plain: without encryption. baseline: libp2p's stock parts over TCP.\n";
    }

    /// A `<` marks where `ours` is the worse by a twentieth.
    fn ratios(&self, text: &mut String, ours: &str) {
        self.rows(text, &format!("{ours} divided by, in each round"), |theirs, figure| {
            let ratio = self.ratio(ours, theirs, figure).filter(|_| ours != theirs);
            let worse = ratio.is_some_and(|ratio| if figure.more_is_better { ratio < 0.95 } else { ratio > 1.05 });
            shown(ratio, 2) + if worse { "<" } else { " " }
        });
    }

    fn rows(&self, text: &mut String, title: &str, cell: impl Fn(&str, &Figure) -> String) {
        let _ = write!(text, "\n{title:<34}{:>8}", "");
        for system in &self.plan.systems {
            let _ = write!(text, "{:>11}", system.name());
        }
        text.push('\n');
        for figure in FIGURES {
            let cells: Vec<String> = self.plan.systems.iter().map(|system| cell(system.name(), figure)).collect();
            if cells.iter().all(|cell| cell.trim() == "-") {
                continue;
            }
            let _ = write!(text, "{:<34}{:>8}", figure.label, figure.unit);
            for cell in cells {
                let _ = write!(text, "{cell:>11}");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
    }

    pub fn requirements(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut add = |what: String, bound: &Bound, measured: Option<f64>| {
            let required = match bound {
                Bound::AtLeast(bound) => format!(">= {bound}"),
                Bound::AtMost(bound) => format!("<= {bound}"),
            };
            verdicts.push(Verdict { what, required, measured, reached: measured.map(|value| bound.holds(value)) });
        };
        for requirement in REQUIREMENTS {
            let ours = requirement.ours;
            for figure in requirement.figures() {
                match requirement.theirs {
                    Some(theirs) => {
                        let what = format!("{ours} / {theirs}: {}", figure.label);
                        add(what, &requirement.bound, self.ratio(ours, theirs, figure));
                    }
                    None => {
                        let what = format!("{ours}: {} {}", figure.label, figure.unit);
                        add(what.trim_end().to_owned(), &requirement.bound, self.median(ours, figure));
                    }
                }
            }
        }
        let library = self.machine.library.map(|bytes| bytes as f64 / 1e6);
        add("libp2pmount.so, stripped MB".into(), &Bound::AtMost(LIBRARY), library);
        verdicts
    }
}

/// A dash for what was not measured.
pub fn shown(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.decimals$}"))
}
