//! What is measured, and for how long: the command line.

use std::{path::PathBuf, time::Duration};

use crate::{
    Result,
    system::{Kind, SYSTEMS, System},
};

pub const USAGE: &str =
    "usage: cargo bench --bench tunnel -- [--rounds N] [--quick] [--only NAME,NAME...] [--chart FILE]";

/// How much is measured.
pub struct Plan {
    pub systems: Vec<&'static dyn System>,
    pub rounds: usize,
    /// Everything short, and without other programs unless they are named.
    pub quick: bool,
    /// Before each window of throughput.
    pub warm_up: Duration,
    pub window: Duration,
    /// For which the processor time of an idle tunnel is counted.
    pub idle: Duration,
    /// Open at once when memory is measured.
    pub streams: usize,
    /// Open at once when it is to be very many.
    pub many: usize,
    /// Opening them, or the hundreds for other figures, may take so long; what is not open then does not open.
    pub patience: Duration,
    /// How long the many rest.
    pub pause: Duration,
    /// Where the chart goes, if one is wanted.
    pub chart: Option<PathBuf>,
}

impl Plan {
    /// 10,000 streams: twice as many would be the hard limit of descriptors on many systems.
    pub fn full() -> Self {
        Plan {
            systems: SYSTEMS.to_vec(),
            rounds: 5,
            quick: false,
            warm_up: Duration::from_millis(250),
            window: Duration::from_millis(700),
            idle: Duration::from_secs(2),
            // As many as QUIC with its usual limit of 256 takes.
            streams: 200,
            many: 10_000,
            patience: Duration::from_secs(8),
            pause: Duration::from_secs(1),
            chart: None,
        }
    }

    pub fn quick() -> Self {
        Plan {
            systems: SYSTEMS.iter().copied().filter(|system| system.kind() != Kind::Peer).collect(),
            rounds: 1,
            quick: true,
            warm_up: Duration::from_millis(50),
            window: Duration::from_millis(150),
            idle: Duration::from_millis(100),
            streams: 40,
            many: 300,
            patience: Duration::from_secs(5),
            pause: Duration::from_millis(50),
            chart: None,
        }
    }

    /// `None`: `cargo test` asks for tests of other names, or for a list.
    pub fn from_arguments(arguments: &[String]) -> Result<Option<Plan>> {
        // Those of `cargo bench` and of the usage. Others come from `cargo test`, for a harness that this program has not.
        let ours = ["--bench", "--quick", "--rounds", "--only", "--chart"];
        if !arguments.iter().any(|argument| ours.contains(&argument.as_str())) {
            let other = |argument: &String| {
                argument == "--list" || (!argument.starts_with('-') && !"tunnel".contains(argument.as_str()))
            };
            return Ok((!arguments.iter().any(other)).then(Plan::quick));
        }
        let quick = arguments.iter().any(|argument| argument == "--quick");
        let mut plan = if quick { Plan::quick() } else { Plan::full() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--bench" | "--quick" => {}
                "--rounds" => {
                    let number = rest.next().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
                    plan.rounds = number.ok_or(USAGE)?;
                }
                "--only" => plan.systems = chosen(rest.next().ok_or(USAGE)?)?,
                "--chart" => plan.chart = Some(rest.next().ok_or(USAGE)?.into()),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(Some(plan))
    }
}

fn chosen(names: &str) -> Result<Vec<&'static dyn System>> {
    let known = |name: &str| SYSTEMS.iter().copied().find(|system| system.name() == name);
    for name in names.split(',') {
        if known(name).is_none() {
            let all: Vec<_> = SYSTEMS.iter().map(|system| system.name()).collect();
            return Err(format!("{name} is none of {}", all.join(", ")).into());
        }
    }
    Ok(SYSTEMS.iter().copied().filter(|system| names.split(',').any(|name| name == system.name())).collect())
}
