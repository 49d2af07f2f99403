//! The environment of a cargo or make that is started from a test.

use std::{env, process::Command};

/// Takes away what the outer make and cargo say about their own work: it is not meant for the inner ones, and makes build
/// scripts of dependencies, and then everything, run again.
pub fn clean(command: &mut Command) {
    let set = "MAKEFLAGS MFLAGS MAKELEVEL CARGO_MAKEFLAGS RUSTFLAGS RUSTC_BOOTSTRAP LD_LIBRARY_PATH OUT_DIR";
    for name in set.split(' ') {
        command.env_remove(name);
    }
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
}
