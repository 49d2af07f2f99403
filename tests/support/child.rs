//! A node in a process of its own, which can be killed.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

use super::{TestNode, at};

const VARIABLE: &str = "P2PMOUNT_TEST_CHILD";

/// The other process; killed when dropped.
pub struct Child {
    process: std::process::Child,
    /// Where its node is reached.
    pub address: String,
    /// Where its forward listens, if it was asked for one.
    pub forward: String,
}

impl Child {
    /// Runs the test `child_process` of this test program in another process: a node with the given options that exposes
    /// `target`, or forwards to the peer `target`, under the protocol `child`.
    #[track_caller]
    pub fn start(what: &str, target: &str, given: &[(&str, &str)]) -> Self {
        at("starting the other process");
        let words: Vec<String> = given.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_process", "--ignored", "--nocapture", "--test-threads=1"])
            .env(VARIABLE, format!("{what} {target} {}", words.join(" ")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut value = |name: &str| {
            lines.find_map(|line| line.unwrap().split_once(name).map(|(_, value)| value.to_owned())).unwrap()
        };
        let (address, forward) = (value("address="), value("forward="));
        Child { process, address, forward }
    }

    /// SIGKILL: the process says goodbye to nobody.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the test `child_process` does: nothing, except in a process that `Child::start` made.
pub fn run_child() {
    let Ok(request) = std::env::var(VARIABLE) else { return };
    let mut words = request.split(' ').filter(|word| !word.is_empty());
    let (what, target) = (words.next().unwrap(), words.next().unwrap());
    let given: Vec<_> = words.filter_map(|word| word.split_once('=')).collect();
    let node = TestNode::open(&given);
    let mut forward = String::new();
    match what {
        "listen" => drop(node.expose("child", target, &[])),
        "forward" => forward = node.forward_to("child", target, &[]).1.to_string(),
        other => panic!("{other}"),
    }
    println!("\naddress={}\nforward={forward}", node.address());
    // Ends with the process that started it, too.
    let _ = std::io::stdin().read(&mut [0]);
}
