//! The inputs of the fuzzer that are kept, and others that chance makes.

use std::{fs, path::Path, sync::mpsc, thread};

use super::{model::Random, *};
use crate::network::yamux::fuzzing;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 2] = [("bytes", fuzzing::bytes), ("frames", fuzzing::frames)];

/// Runs the input on a thread of its own, which may not take long.
fn run(what: &str, target: fn(&[u8]), input: &[u8]) {
    let input = input.to_vec();
    let (done, wait) = mpsc::channel();
    let running = thread::spawn(move || {
        target(&input);
        let _ = done.send(());
    });
    match wait.recv_timeout(Duration::from_secs(30)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        _ => running.join().unwrap_or_else(|_| panic!("{what} fails")),
    }
}

#[test]
fn the_inputs_that_are_kept_break_nothing() {
    for (name, target) in TARGETS {
        for folder in ["seeds", "regressions"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder).join(name);
            let mut count = 0;
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                run(&path.display().to_string(), target, &fs::read(&path).unwrap());
                count += 1;
            }
            assert!(count > 0, "nothing is in {}", folder.display());
        }
    }
}

#[test]
fn inputs_made_by_chance_break_nothing() {
    for (name, target) in TARGETS {
        for seed in 0..1000 {
            let mut random = Random::new(seed);
            let length = random.below(600);
            let input: Vec<u8> = (0..length).map(|_| (random.next() >> 32) as u8).collect();
            run(&format!("{name}, seed {seed},"), target, &input);
        }
    }
}
