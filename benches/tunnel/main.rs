//! What a tunnel costs: throughput, round trips, new connections, memory and processor time of this library over TCP and over
//! QUIC, beside plain loopback TCP and beside a minimal tunnel made of libp2p's stock parts. The four take turns round by
//! round, so that what else the machine does meets all of them; the medians of the rounds count.
//!
//! `cargo bench --bench tunnel -- [--rounds N] [--quick]`. `cargo test` runs one short round and fails if a figure is missing.

mod baseline;
mod figures;
mod load;
mod machine;
mod node;
mod pair;
mod report;
mod target;

use std::{process::ExitCode, time::Duration};

use figures::Sample;
use load::Subject;
use pair::Pair;
use target::Target;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// First argument of the processes that the benchmark starts of itself.
const ROLE: &str = "role";
const USAGE: &str = "usage: cargo bench --bench tunnel -- [--rounds N] [--quick]";

/// What is compared, in the order of the report.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// The load goes straight to the target.
    Raw,
    Tcp,
    Quic,
    Baseline,
}

impl System {
    pub const ALL: [System; 4] = [System::Raw, System::Tcp, System::Quic, System::Baseline];

    pub fn name(self) -> &'static str {
        match self {
            System::Raw => "raw",
            System::Tcp => "tcp",
            System::Quic => "quic",
            System::Baseline => "baseline",
        }
    }
}

/// How much is measured.
pub struct Plan {
    pub rounds: usize,
    /// Before each window of throughput.
    pub warm_up: Duration,
    pub window: Duration,
    /// Open at once when memory is measured.
    pub streams: usize,
}

impl Plan {
    fn full(rounds: usize) -> Self {
        Plan { rounds, warm_up: Duration::from_millis(500), window: Duration::from_secs(1), streams: 400 }
    }

    fn quick(rounds: usize) -> Self {
        Plan { rounds, warm_up: Duration::from_millis(50), window: Duration::from_millis(150), streams: 40 }
    }

    /// `None`: `cargo test` asks for tests of other names, or for a list.
    fn from_arguments(arguments: &[String]) -> Result<Option<Plan>> {
        let [mut bench, mut quick, mut rounds] = [false, false, false].map(|_| None::<usize>);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--bench" => bench = Some(1),
                "--quick" => quick = Some(1),
                "--rounds" => {
                    let number = rest.next().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
                    rounds = Some(number.ok_or(USAGE)?);
                }
                _ if bench.is_some() || quick.is_some() || rounds.is_some() => return Err(USAGE.into()),
                "--list" => return Ok(None),
                filter if !filter.starts_with('-') && !"tunnel".contains(filter) => return Ok(None),
                _ => {}
            }
        }
        let quick = quick.is_some() || (bench.is_none() && rounds.is_none());
        Ok(Some(if quick { Plan::quick(rounds.unwrap_or(1)) } else { Plan::full(rounds.unwrap_or(5)) }))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((first, rest)) if first == ROLE => play(rest).map(|()| true),
        _ => Plan::from_arguments(&arguments).and_then(|plan| plan.map_or(Ok(true), |plan| bench(&plan))),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tunnel: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One side of a tunnel, until the benchmark closes this process's input.
fn play(arguments: &[String]) -> Result<()> {
    let [system, side, address] = arguments else { return Err("a role is SYSTEM SIDE ADDRESS".into()) };
    let side = pair::Side::from_name(side).ok_or("a side is listen or forward")?;
    match System::ALL.into_iter().find(|known| known.name() == system) {
        Some(System::Baseline) => baseline::run(side, address),
        Some(system @ (System::Tcp | System::Quic)) => node::run(system.name(), side, address),
        Some(System::Raw) | None => Err(format!("{system} is not a tunnel").into()),
    }
}

/// Every round, the report and the file of figures; false if one of this library's figures is missing.
fn bench(plan: &Plan) -> Result<bool> {
    raise_descriptors()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rounds = Vec::new();
    for number in 1..=plan.rounds {
        eprint!("round {number} of {}:", plan.rounds);
        let mut round = vec![Sample::default(); System::ALL.len()];
        // What comes after another finds its ports still taken: the tunnels change places.
        let mut order = System::ALL;
        order[1..].rotate_left((number - 1) % 3);
        for system in order {
            eprint!(" {}", system.name());
            if let Err(error) = runtime.block_on(measure(plan, system, &mut round[system as usize])) {
                eprint!(" ({error})");
            }
        }
        eprintln!();
        rounds.push(round);
    }
    let report = report::Report { plan, rounds: &rounds, machine: machine::Machine::look() };
    print!("{}", report.table());
    let file = machine::target_directory()?.join("bench/tunnel.json");
    report.write(&file)?;
    println!("every round: {}", file.display());
    let missing = report.missing();
    if !missing.is_empty() {
        eprintln!("tunnel: not every figure could be measured: {}", missing.join(", "));
    }
    Ok(missing.is_empty())
}

/// One turn of one system, with processes of its own. What was measured before an error stays in the sample.
async fn measure(plan: &Plan, system: System, sample: &mut Sample) -> Result<()> {
    let target = Target::start().await?;
    let pair = if system == System::Raw { None } else { Some(Pair::start(system, target.address)?) };
    let address = pair.as_ref().map_or(target.address, |pair| pair.address);
    Subject { plan, address, target: &target, pair: pair.as_ref() }.measure(sample).await
}

/// Both ends of every stream of the load are open here.
fn raise_descriptors() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}
