//! One round. All systems are there from its beginning to its end, and everything is measured of one after the other before
//! anything else is measured: what is compared lies seconds apart, so that what else the machine does meets all of them.

use std::time::Instant;

use crate::{
    Result,
    figures::Sample,
    load::{Step, Subject},
    plan::Plan,
    scale,
    system::System,
};

/// A system in a round.
pub struct Entrant {
    pub system: &'static dyn System,
    /// Whether what takes long is measured, too.
    pub rare: bool,
    /// What was measured before an error stays here.
    pub sample: Sample,
    pub failures: Vec<String>,
}

impl Entrant {
    pub fn new(system: &'static dyn System, rare: bool) -> Entrant {
        Entrant { system, rare, sample: Sample::default(), failures: Vec::new() }
    }

    /// Takes note of an error.
    pub fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.failures.push(error.to_string())).ok()
    }
}

/// In the order of `entrants`.
pub async fn run(plan: &Plan, entrants: &mut [Entrant]) {
    let began = Instant::now();
    let mut subjects = Vec::new();
    for entrant in &mut *entrants {
        let subject = Subject::start(plan, entrant.system, entrant.rare).await;
        subjects.push(entrant.note(subject));
    }
    for step in Step::ALL {
        for (entrant, place) in entrants.iter_mut().zip(&mut subjects) {
            let Some(subject) = place else { continue };
            let measured = subject.take(*step, &mut entrant.sample).await;
            // What does not even start would keep the others waiting, a time limit for each figure.
            if entrant.note(measured).is_none() && matches!(step, Step::Start) {
                *place = None;
            }
        }
        eprint!(" {} {:.0} s,", step.name(), began.elapsed().as_secs_f64());
    }
    drop(subjects);
    for entrant in entrants.iter_mut().filter(|entrant| entrant.rare) {
        let measured = scale::measure(plan, entrant.system, &mut entrant.sample).await;
        entrant.note(measured);
    }
}
