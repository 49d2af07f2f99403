//! A node in a process of its own, which can be killed.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    process::{ChildStdout, Command, Stdio},
};

use super::{TestNode, at, echo_server, raise_descriptors};

const VARIABLE: &str = "P2PMOUNT_TEST_CHILD";

/// The other process; killed when dropped.
pub struct Child {
    process: std::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Where its node, or its echo server, is reached.
    pub address: String,
    /// Where its forward listens, if it was asked for one.
    pub forward: String,
}

impl Child {
    /// Runs the test `child_process` of this test program in another process: a node with the given options that exposes
    /// `target` ("listen"), or forwards to the peer `target` ("forward"), under the protocol `child`; or an "echo" server.
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
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut child = Child { process, lines, address: String::new(), forward: String::new() };
        (child.address, child.forward) = (child.value("address="), child.value("forward="));
        child
    }

    /// The next value of this name that it tells.
    #[track_caller]
    fn value(&mut self, name: &str) -> String {
        let told = self.lines.find_map(|line| line.unwrap().split_once(name).map(|(_, value)| value.to_owned()));
        told.unwrap_or_else(|| panic!("the other process ended without telling {name}"))
    }

    /// Streams that its node lists, and that its mount counts.
    #[track_caller]
    pub fn streams(&mut self) -> (usize, usize) {
        self.process.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let (listed, counted) = (self.value("listed="), self.value("counted="));
        (listed.parse().unwrap(), counted.parse().unwrap())
    }

    pub fn id(&self) -> u32 {
        self.process.id()
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
    raise_descriptors();
    // It ends with the process that started it, too.
    let asked = std::io::stdin().lines();
    if what == "echo" {
        println!("\naddress={}\nforward=", echo_server());
        return asked.for_each(drop);
    }
    let node = TestNode::open(&given);
    let mut forward = String::new();
    let mount = match what {
        "listen" => node.expose("child", target, &[]),
        "forward" => {
            let (mount, address) = node.forward_to("child", target, &[]);
            forward = address.to_string();
            mount
        }
        other => panic!("{other}"),
    };
    println!("\naddress={}\nforward={forward}", node.address());
    for _ in asked {
        println!("\nlisted={}\ncounted={}", node.streams().len(), mount.streams());
    }
}
