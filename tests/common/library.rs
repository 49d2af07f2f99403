//! The shared library as programs in other languages load it, and how such programs are run: within a time limit, on the
//! loopback interface only.
//!
//! * `P2PMOUNT_TEST_LIBRARY`: path of a built library to test instead (it needs the feature `fault-injection` for the tests
//!   that force panics; without it they are left out).
//! * `P2PMOUNT_TEST_CFLAGS`: appended when C programs are compiled, for example `-fsanitize=address`.
//! * `P2PMOUNT_TEST_WRAPPER`: put before each program, for example `valgrind --leak-check=full --error-exitcode=9 -q`.
//! * `P2PMOUNT_TEST_SLOW`: factor for every time limit; 10 with a wrapper and 3 with a sanitizer if not set.

#[path = "environment.rs"]
mod environment;

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

/// The root of the project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the tests build programs; the library lies there, too, under its file name and under its soname.
pub fn workshop() -> &'static Path {
    static WORKSHOP: OnceLock<PathBuf> = OnceLock::new();
    WORKSHOP.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        fs::create_dir_all(&path).unwrap();
        path
    })
}

/// The shared library, built when it is first asked for.
pub fn shared_library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let built = match setting("P2PMOUNT_TEST_LIBRARY") {
            Some(path) => root().join(path),
            None => build(),
        };
        // A copy: another build with other features overwrites the one in the target directory.
        let soname = format!("libp2pmount.so.{}", env!("CARGO_PKG_VERSION_MAJOR"));
        for name in ["libp2pmount.so", &soname] {
            let part = workshop().join(format!("{name}.{}", std::process::id()));
            fs::copy(&built, &part).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
            fs::rename(&part, workshop().join(name)).unwrap();
        }
        workshop().join("libp2pmount.so")
    })
}

/// The library can be told to panic.
pub fn has_fault_injection() -> bool {
    let name = b"p2p_test_fault";
    fs::read(shared_library()).unwrap().windows(name.len()).any(|bytes| bytes == name)
}

fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["rustc", "--locked", "--lib", "--crate-type", "cdylib", "--features", "fault-injection"]);
    cargo.args(["--message-format", "json-render-diagnostics", "--target-dir"]).arg(target).current_dir(root());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    environment::clean(&mut cargo);
    let output = cargo.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "the library does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    let artifacts = said.lines().filter(|line| line.contains("\"compiler-artifact\""));
    let mut paths = artifacts.flat_map(|line| line.split('"')).filter(|part| part.ends_with("/libp2pmount.so"));
    PathBuf::from(paths.next_back().expect("cargo names the library that it built"))
}

/// An environment variable that is set and not empty.
pub fn setting(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The words of an environment variable.
pub fn words(name: &str) -> Vec<String> {
    let text = setting(name).map(|value| value.into_string().unwrap()).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Factor for time limits.
pub fn slow() -> u32 {
    match setting("P2PMOUNT_TEST_SLOW") {
        Some(factor) => factor.to_string_lossy().parse().expect("P2PMOUNT_TEST_SLOW is a number"),
        None if setting("P2PMOUNT_TEST_WRAPPER").is_some() => 10,
        None if words("P2PMOUNT_TEST_CFLAGS").iter().any(|flag| flag.starts_with("-fsanitize")) => 3,
        None => 1,
    }
}

/// What a program left behind.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program to its end, or kills it and all it started after `limit` (times [`slow`]) and panics. `name` tells its
/// output files from those of others.
pub fn run(name: &str, command: &mut Command, limit: Duration) -> Ended {
    let limit = limit * slow();
    let paths = ["stdout", "stderr"].map(|end| workshop().join(format!("{name}.{end}")));
    for (variable, _) in env::vars_os() {
        let text = variable.to_string_lossy();
        if text.starts_with("P2PMOUNT_") && !text.starts_with("P2PMOUNT_TEST_") {
            command.env_remove(&variable);
        }
    }
    command.env("P2PMOUNT_NETWORK", "local").env("P2PMOUNT_TEST_SLOW", slow().to_string());
    command.env("P2PMOUNT_LIBRARY", shared_library()).current_dir(workshop()).process_group(0);
    command.stdin(Stdio::null()).stdout(File::create(&paths[0]).unwrap()).stderr(File::create(&paths[1]).unwrap());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() >= deadline {
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            child.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(10));
    };
    let [stdout, stderr] = paths.map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned());
    match status {
        Some(status) => Ended { status, stdout, stderr },
        None => panic!("{name} did not end within {limit:?}\nstdout:\n{stdout}\nstderr:\n{stderr}"),
    }
}

impl Ended {
    /// The program ended with status 0; panics with all that it said otherwise.
    pub fn must_succeed(&self, name: &str) {
        let Ended { status, stdout, stderr } = self;
        let how = match status.signal() {
            Some(signal) => format!("was killed by signal {signal}"),
            None => format!("ended with status {}", status.code().unwrap_or(-1)),
        };
        assert!(status.success(), "{name} {how}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        println!("{stdout}");
    }
}
