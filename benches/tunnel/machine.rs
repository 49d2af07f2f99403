//! Where the figures come from.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::Result;

pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub kernel: String,
    /// In GB.
    pub memory: f64,
    /// Names and versions of what the library was built from.
    pub versions: Vec<(&'static str, String)>,
    /// The stripped shared library, in bytes, if it was built.
    pub library: Option<u64>,
}

impl Machine {
    pub fn look() -> Machine {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let library = target_directory().ok().map(|target| target.join("release/libp2pmount.so"));
        Machine {
            processor: processor_name().unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel,
            memory: memory().unwrap_or_default(),
            versions: versions(),
            library: library.and_then(|library| Some(std::fs::metadata(library).ok()?.len())),
        }
    }
}

fn processor_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? * 1024.0 / 1e9)
}

fn versions() -> Vec<(&'static str, String)> {
    let mut versions = vec![("p2pmount", env!("CARGO_PKG_VERSION").to_owned())];
    for (name, program, arguments) in
        [("commit", "git", &["rev-parse", "--short", "HEAD"][..]), ("rustc", "rustc", &["--version"])]
    {
        let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        if let Some(output) = output.ok().filter(|output| output.status.success()) {
            versions.push((name, String::from_utf8_lossy(&output.stdout).trim().to_owned()));
        }
    }
    for name in ["libp2p", "libp2p-stream", "libp2p-yamux", "yamux", "quinn", "tokio"] {
        if let Some(version) = locked(name) {
            versions.push((name, version.to_owned()));
        }
    }
    versions
}

/// The highest version of a package in the lock file.
pub fn locked(name: &str) -> Option<&'static str> {
    let packages = include_str!("../../Cargo.lock").split("[[package]]");
    let line = format!("name = \"{name}\"");
    let found = packages.filter(|package| package.lines().any(|other| other == line));
    found.last()?.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
}

/// The directory that cargo builds in: this program is `<target>/<profile>/deps/tunnel-<hash>`.
pub fn target_directory() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(3).map(Path::to_owned).ok_or("the program lies outside a target directory")?)
}

/// Where `scripts/bench-peers.sh` installs what is not part of the system.
pub fn peers_directory() -> Result<PathBuf> {
    Ok(target_directory()?.join("bench-peers"))
}
