//! The chart, as SVG: its colours stand out from light and from dark, its background is the page's.

use std::fmt::Write as _;

use crate::{
    figures::FIGURES,
    report::Report,
    system::{Kind, System},
};

struct Panel {
    title: &'static str,
    /// The names of its two bars, and their figures.
    bars: [(&'static str, &'static str); 2],
    decimals: usize,
}

const fn panel(title: &'static str, bars: [(&'static str, &'static str); 2], decimals: usize) -> Panel {
    Panel { title, bars, decimals }
}

static PANELS: [Panel; 4] = [
    panel("MB/s, 1 connection", [("to the target", "up_1"), ("from it", "down_1")], 0),
    panel("MB/s, 8 connections", [("to the target", "up_8"), ("from it", "down_8")], 0),
    panel("processor, s/GB (less: better)", [("to the target", "cpu_up_1"), ("from it", "cpu_down_1")], 2),
    panel("new connections per second", [("one at a time", "conn_1"), ("32 in flight", "conn_32")], 0),
];

const TEXT: &str = "#6e7781";
const OWN: &str = "#3b82f6";
const OTHER: &str = "#8c959f";
/// Of the second bar.
const FAINT: &str = "0.6";

/// Pixels.
const LABELS: f64 = 200.0;
const PANEL: f64 = 215.0;
const BARS: f64 = 145.0;
const TOP: f64 = 62.0;
const ROW: f64 = 32.0;
const BAR: f64 = 11.0;

pub fn draw(report: &Report) -> String {
    let shown = |system: &&'static dyn System| system.label().is_some();
    let systems: Vec<_> = report.plan.systems.iter().copied().filter(shown).collect();
    let small_print = small_print(report);
    let width = LABELS + PANEL * PANELS.len() as f64;
    let bottom = TOP + ROW * systems.len() as f64;
    let height = bottom + 16.0 + 14.0 * small_print.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{TEXT}\">\n\
         <title>p2pmount and others: throughput, processor time, new connections</title>\n"
    );
    for (system, row) in systems.iter().zip(0..) {
        let weight = if system.kind() == Kind::Own { "bold" } else { "normal" };
        let label = escaped(system.label().unwrap_or_default());
        write(&mut svg, 0.0, TOP + ROW * f64::from(row) + 16.0, &format!("font-weight=\"{weight}\""), &label);
    }
    for (panel, column) in PANELS.iter().zip(0..) {
        draw_panel(&mut svg, report, &systems, panel, LABELS + PANEL * f64::from(column));
    }
    for (line, at) in small_print.iter().zip(1..) {
        write(&mut svg, 0.0, bottom + 4.0 + 14.0 * f64::from(at), "font-size=\"10\"", &escaped(line));
    }
    svg + "</svg>\n"
}

fn draw_panel(svg: &mut String, report: &Report, systems: &[&dyn System], panel: &Panel, left: f64) {
    write(svg, left, 16.0, "font-weight=\"bold\"", panel.title);
    let values = panel.bars.map(|(_, key)| {
        let figure = FIGURES.iter().find(|figure| figure.key == key);
        systems.iter().map(|system| report.median(system.name(), figure?)).collect::<Vec<_>>()
    });
    let most = values.iter().flatten().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    for (at, ((name, _), values)) in panel.bars.iter().zip(&values).enumerate() {
        let opacity = if at == 0 { "1" } else { FAINT };
        let legend = left + 95.0 * at as f64;
        rectangle(svg, [legend, 26.0, 9.0, 9.0], OTHER, opacity);
        write(svg, legend + 13.0, 35.0, "font-size=\"10\"", name);
        for ((value, system), row) in values.iter().zip(systems).zip(0..) {
            let top = TOP + ROW * f64::from(row) + (BAR + 1.0) * at as f64;
            let width = value.unwrap_or_default() / most * BARS;
            let colour = if system.kind() == Kind::Own { OWN } else { OTHER };
            rectangle(svg, [left, top, width, BAR], colour, opacity);
            let text = value.map_or("not measured".into(), |value| format!("{value:.*}", panel.decimals));
            write(svg, left + width + 4.0, top + BAR - 2.0, "font-size=\"10\"", &text);
        }
    }
}

fn small_print(report: &Report) -> Vec<String> {
    let machine = report.machine;
    let versions: Vec<_> = report.plan.systems.iter().filter(|system| system.label().is_some()).collect();
    let mut names: Vec<String> = Vec::new();
    for system in versions {
        let version = report.versions.iter().find(|(name, _)| *name == system.name());
        let name = system.name().split('-').next().unwrap_or_default();
        let name = if system.kind() == Kind::Own { "p2pmount" } else { name };
        let text = format!("{name} {}", version.map_or("", |(_, version)| version));
        if !names.contains(&text) {
            names.push(text);
        }
    }
    let raw = |key| {
        let value = report.median("raw", FIGURES.iter().find(|figure| figure.key == key)?)?;
        Some(format!("{value:.0}"))
    };
    let mut lines = vec![
        format!(
            "{}, {} cores, {:.0} GB, Linux {}. Medians of {} rounds in which the systems took turns; load, tunnel and \
             target share the machine.",
            machine.processor,
            machine.cores,
            machine.memory,
            machine.kernel,
            report.rounds.len()
        ),
        names.join(", ") + ". Processor time: both sides of the tunnel, 1 connection.",
    ];
    if let (Some(up), Some(down), Some(new)) = (raw("up_1"), raw("down_1"), raw("conn_1")) {
        lines.push(format!("Without any tunnel: {up} MB/s, {down} MB/s, {new} connections per second one at a time."));
    }
    lines
}

fn write(svg: &mut String, x: f64, y: f64, style: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{text}</text>");
}

fn rectangle(svg: &mut String, [x, y, width, height]: [f64; 4], colour: &str, opacity: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\" \
         opacity=\"{opacity}\"/>"
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
