//! A program that prints lines and runs until its input ends.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Longest time for a line, and for the end.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (said, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        Running { child, lines }
    }

    /// The next line it prints.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("another line")
    }

    /// Ends its input; it must end by itself then, with status 0.
    pub fn end(mut self) {
        drop(self.child.stdin.take());
        // Its output ends with it.
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
        let status = self.child.try_wait().expect("a status").unwrap_or_else(|| {
            thread::sleep(Duration::from_millis(500));
            self.child.try_wait().expect("a status").expect("its end")
        });
        assert!(status.success(), "{status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
