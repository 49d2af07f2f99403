//! What a tunnel costs, and what others cost that do the same: throughput, round trips, new connections, memory and processor
//! time. In each round the systems take turns figure by figure (`round.rs`), so that what else the machine does meets all of
//! them; the medians of the rounds count. What is compared: `system.rs`. What is measured: `figures.rs`. What should come out:
//! `requirements.rs`.
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
mod round;
mod scale;
mod socat;
mod ssh;
mod system;
mod target;
mod tunnel;

use std::process::ExitCode;

use figures::Sample;
use machine::Machine;
use plan::Plan;
use report::Report;
use round::Entrant;
use system::{Kind, SYSTEMS, System};

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
            let mut entrants = [Entrant::new(system(name)?, rare.parse()?)];
            runtime()?.block_on(round::run(&plan, &mut entrants));
            let [Entrant { sample, failures, .. }] = entrants;
            isolation::tell(&sample);
            if failures.is_empty() { Ok(()) } else { Err(failures.join("; ").into()) }
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
        // Others need long for some things; once has to do.
        let entrant = |system: &&'static dyn System| Entrant::new(*system, number == 1 || system.kind() == Kind::Own);
        let (mut isolated, mut others): (Vec<Entrant>, Vec<Entrant>) =
            order(&plan.systems, number).iter().map(entrant).partition(|entrant| entrant.system.isolated());
        runtime.block_on(round::run(&plan, &mut others));
        for entrant in &mut isolated {
            eprint!(" {}:", entrant.system.name());
            let measured = isolation::turn(entrant.system, plan.quick, entrant.rare, &mut entrant.sample);
            entrant.note(measured);
        }
        eprintln!();
        let mut round = vec![Sample::default(); plan.systems.len()];
        for entrant in others.into_iter().chain(isolated) {
            for failure in &entrant.failures {
                eprintln!("{}: {failure}", entrant.system.name());
            }
            if let Some(at) = plan.systems.iter().position(|system| system.name() == entrant.system.name()) {
                round[at] = entrant.sample;
            }
        }
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

/// What comes after another meets what that one leaves behind, such as ports that are still taken: the systems change places,
/// and every other round goes the other way.
fn order(systems: &[&'static dyn System], round: usize) -> Vec<&'static dyn System> {
    let mut order = systems.to_vec();
    order.rotate_left(round % systems.len().max(1));
    if round.is_multiple_of(2) {
        order.reverse();
    }
    order
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
