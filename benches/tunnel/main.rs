//! What a tunnel costs, and what others cost that do the same: throughput, round trips, new connections, memory and processor
//! time. The systems take turns round by round, so that what else the machine does meets all of them; the medians of the
//! rounds count. What is compared: `system.rs`. What is measured: `figures.rs`. What should come out: `requirements.rs`.
//!
//! `make bench` runs everything that it finds, `make bench-peers` installs what it does not find. `cargo test` runs one short
//! round without other programs and fails if a figure is missing.

mod baseline;
mod chart;
mod dumbpipe;
mod fairness;
mod figures;
mod isolation;
mod json;
mod kubo;
mod load;
mod machine;
mod markdown;
mod own;
mod plan;
mod process;
mod report;
mod requirements;
mod scale;
mod socat;
mod ssh;
mod system;
mod target;
mod tunnel;

use std::{process::ExitCode, time::Instant};

use figures::Sample;
use load::Subject;
use machine::Machine;
use plan::Plan;
use report::Report;
use system::{Kind, SYSTEMS, System};
use target::Target;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// First argument of the processes that the benchmark starts of itself.
const ROLE: &str = "role";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((first, rest)) if first == ROLE => play(rest).map(|()| true),
        _ => Plan::from_arguments(&arguments).and_then(|plan| plan.map_or(Ok(true), bench)),
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

/// A process that the benchmark starts: a target, one side of a tunnel, or a turn in isolation.
fn play(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let system = |name: &str| SYSTEMS.iter().copied().find(|system| system.name() == name).ok_or("unknown system");
    match arguments[..] {
        ["target"] => target::run(),
        ["turn", name, quick, rare] => {
            let plan = if quick.parse()? { Plan::quick() } else { Plan::full() };
            let mut sample = Sample::default();
            let measured = runtime()?.block_on(measure(&plan, system(name)?, rare.parse()?, &mut sample));
            isolation::tell(&sample);
            measured
        }
        [name, side, address] => {
            let side = tunnel::Side::from_name(side).ok_or("a side is listen or forward")?;
            system(name)?.role(side, address)
        }
        _ => Err("a role is target, turn SYSTEM QUICK RARE, or SYSTEM SIDE ADDRESS".into()),
    }
}

/// Every round, the report, the file of figures and the chart; false if one of this library's figures is missing.
fn bench(mut plan: Plan) -> Result<bool> {
    raise_descriptors()?;
    let mut versions = Vec::new();
    plan.systems.retain(|system| match system.version() {
        Ok(version) => {
            versions.push((system.name(), version));
            true
        }
        Err(reason) => {
            eprintln!("left out: {}: {reason} (make bench-peers)", system.name());
            false
        }
    });
    let runtime = runtime()?;
    let machine = Machine::look();
    let directory = machine::target_directory()?.join("bench");
    std::fs::create_dir_all(&directory)?;
    let mut rounds = Vec::new();
    for number in 1..=plan.rounds {
        eprint!("round {number} of {}:", plan.rounds);
        let mut round = vec![Sample::default(); plan.systems.len()];
        for turn in 0..plan.systems.len() {
            // What comes after another finds its ports still taken: the systems change places.
            let at = (turn + number - 1) % plan.systems.len();
            let system = plan.systems[at];
            // Others need long for some things; once has to do.
            let rare = number == 1 || system.kind() == Kind::Own;
            eprint!(" {}", system.name());
            let began = Instant::now();
            let measured = if system.isolated() {
                isolation::turn(system, plan.quick, rare, &mut round[at])
            } else {
                runtime.block_on(measure(&plan, system, rare, &mut round[at]))
            };
            if let Err(error) = measured {
                eprint!(" ({error})");
            }
            eprint!(" {:.0} s,", began.elapsed().as_secs_f64());
        }
        eprintln!();
        rounds.push(round);
        // After each round, so that a run that is broken off has not been in vain.
        let report = Report { plan: &plan, versions: &versions, rounds: &rounds, machine: &machine };
        std::fs::write(directory.join("tunnel.txt"), report.table())?;
        std::fs::write(directory.join("tunnel.json"), json::text(&report))?;
        std::fs::write(directory.join("tunnel.md"), markdown::table(&report))?;
    }
    let report = Report { plan: &plan, versions: &versions, rounds: &rounds, machine: &machine };
    print!("{}", report.table());
    println!("\n{}: tunnel.txt, this; tunnel.json, every round; tunnel.md, for the README", directory.display());
    if let Some(chart) = &plan.chart {
        std::fs::write(chart, chart::draw(&report))?;
        println!("chart: {}", chart.display());
    }
    let missing = report.missing();
    if !missing.is_empty() {
        eprintln!("tunnel: not every figure could be measured: {}", missing.join(", "));
    }
    Ok(missing.is_empty())
}

/// One turn of one system, with processes of its own. What was measured before an error stays in the sample.
async fn measure(plan: &Plan, system: &dyn System, rare: bool, sample: &mut Sample) -> Result<()> {
    let target = Target::start().await?;
    let tunnel = system.start(target.address)?;
    let subject = Subject { plan, address: tunnel.address, target: &target, pair: tunnel.pair.as_ref(), rare };
    let measured = subject.measure(sample).await;
    drop(tunnel);
    if rare {
        scale::measure(plan, system, sample).await?;
    }
    measured
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// One end of every stream of the load is open here, of most of them both.
fn raise_descriptors() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}
