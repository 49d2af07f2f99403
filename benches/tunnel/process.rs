//! A process of a tunnel, with those that it starts: watched, and killed on every way out.

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// Longest time for a process to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two looks whether a port is open.
const LOOK: Duration = Duration::from_millis(2);
/// The unit of times in `/proc`, the same on every architecture that Linux's ABI fixes at 100 Hz.
const TICKS_PER_SECOND: f64 = 100.0;

pub struct Process {
    child: Child,
    /// From its start to being ready.
    pub ready: Duration,
}

impl Process {
    /// Starts a process that says `ADDRESS MICROSECONDS` when it is ready and ends with its input (see [`serve`]). Returns
    /// the address, too.
    pub fn serving(mut command: Command) -> Result<(Process, String)> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut process = Process { child, ready: Duration::ZERO };
        let output = process.child.stdout.take().ok_or("no output")?;
        let line = first_line(output, "");
        let (address, micros) = line
            .trim()
            .split_once(' ')
            .ok_or_else(|| format!("{} did not get ready", command.get_program().display()))?;
        process.ready = Duration::from_micros(micros.parse()?);
        Ok((process, address.to_owned()))
    }

    /// Starts a program that is not ours, and that the system ends if this process dies.
    pub fn foreign(program: &str, arguments: &[String]) -> Result<Process> {
        let child = foreign(program, arguments).stderr(Stdio::null()).spawn()?;
        Ok(Process { child, ready: Duration::ZERO })
    }

    /// Such a program that is ready when it says `beginning`, on its output for errors. Returns the rest of that line, too.
    pub fn saying(program: &str, arguments: &[String], beginning: &'static str) -> Result<(Process, String)> {
        let began = Instant::now();
        let child = foreign(program, arguments).stderr(Stdio::piped()).spawn()?;
        let mut process = Process { child, ready: Duration::ZERO };
        let output = process.child.stderr.take().ok_or("no output")?;
        let line = first_line(output, beginning);
        let rest = line.strip_prefix(beginning).ok_or_else(|| format!("{program} did not get ready"))?;
        process.ready = began.elapsed();
        Ok((process, rest.to_owned()))
    }

    /// Waits until the program accepts connections at `address`.
    pub fn wait_for(&mut self, address: SocketAddr, began: Instant) -> Result<()> {
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("ended before it was ready: {status}").into());
            }
            if began.elapsed() > READY_TIMEOUT {
                return Err("did not get ready".into());
            }
            std::thread::sleep(LOOK);
        }
        self.ready = began.elapsed();
        Ok(())
    }

    /// The process and all below it.
    fn tree(&self) -> Vec<u32> {
        let mut tree = vec![self.child.id()];
        let mut at = 0;
        while let Some(id) = tree.get(at) {
            let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            tree.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            at += 1;
        }
        tree
    }

    /// The sum of what `read` finds in a file of `/proc` of each process. One that has just ended counts nothing.
    fn sum(&self, file: &str, read: impl Fn(&str) -> Option<f64>) -> Result<f64> {
        let texts = self.tree().into_iter().filter_map(|id| std::fs::read_to_string(format!("/proc/{id}/{file}")).ok());
        let values: Vec<f64> = texts.filter_map(|text| read(&text)).collect();
        if values.is_empty() { Err("a process of the tunnel has ended".into()) } else { Ok(values.into_iter().sum()) }
    }

    /// Resident memory in KiB. Pages that several processes share count in each.
    pub fn memory(&self) -> Result<f64> {
        self.sum("status", |status| {
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse().ok()
        })
    }

    /// Seconds of processor time so far, with that of children that have ended: fields 14 to 17 of proc_pid_stat(5).
    pub fn processor(&self) -> Result<f64> {
        self.sum("stat", |stat| {
            // The name, in parentheses, is field 2 and may hold spaces.
            let fields = stat.rsplit_once(") ")?.1.split(' ').skip(14 - 3).take(4);
            let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
            (ticks.len() == 4).then(|| ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
        })
    }

    /// Seconds of processor time of the threads that live, to the nanosecond: for what is nearly nothing.
    pub fn fine_processor(&self) -> Result<f64> {
        let mut sum = 0.0;
        for id in self.tree() {
            for thread in std::fs::read_dir(format!("/proc/{id}/task"))? {
                let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
                sum += text.split(' ').next().ok_or("schedstat is empty")?.parse::<f64>()? / 1e9;
            }
        }
        Ok(sum)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for id in self.tree().into_iter().skip(1) {
            if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
                let _ = kill_process(id, Signal::KILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn foreign(program: &str, arguments: &[String]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The first line that begins so; nothing if it does not come in time. What else comes is read and forgotten.
fn first_line(output: impl Read + Send + 'static, beginning: &'static str) -> String {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
            if line.starts_with(beginning) {
                let _ = sender.send(line);
            }
        }
    });
    receiver.recv_timeout(READY_TIMEOUT).unwrap_or_default()
}

/// Says in a process of the benchmark that it is ready, and waits until there is no more use for it.
pub fn serve(address: &str, started: Instant) -> Result<()> {
    println!("{address} {}", started.elapsed().as_micros());
    // The input also ends if the benchmark dies.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// An address that was free just now, for programs that cannot be asked which one they took.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Where `program` is, also among those of the administrator.
pub fn find(program: &str) -> Result<String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
    let found = path.split(':').map(|directory| format!("{directory}/{program}"));
    let found = found.into_iter().find(|path| std::path::Path::new(path).is_file());
    found.ok_or_else(|| format!("{program} is not installed").into())
}

/// What `program` prints, on both outputs.
pub fn printed(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}
