//! Options of what is in use: of the process, a node, a mount.

use std::time::Duration;

use parking_lot::RwLock;
use tokio::runtime::Handle;

use super::{
    guard::{guard, handle_out},
    handles::{self, Object},
    host,
    strings::text,
    types::{CStrArg, p2p_error, p2p_snapshot, p2p_status},
};
use crate::{
    error::{Error, Result, Status},
    logging::{self, Level},
    options::{Options, Scope, Source, Values},
    process::{self, PerProcess},
    rows::Row,
};

static PROCESS: PerProcess<RwLock<Values>> = PerProcess::new();

/// The options of the process, from the environment at first.
fn process_values() -> Result<&'static RwLock<Values>> {
    PROCESS.get_or_try_init(|| {
        let values = Values::resolve(Scope::Process, &Options::new(), &host::environment)?;
        for name in ["busy_poll", "descriptors.reserve", "log.fd", "log.level"] {
            apply(&values, name)?;
        }
        Ok(RwLock::new(values))
    })
}

/// The library's runtime, started when it is first needed.
pub fn runtime() -> Result<Handle> {
    let threads = process_values()?.read().size("threads");
    host::with_signals_blocked(|| process::runtime(threads))
}

/// Makes a value of the process effective.
fn apply(values: &Values, name: &str) -> Result<()> {
    match name {
        "busy_poll" => process::set_busy_poll(Duration::from_micros(values.size(name) as u64)),
        "descriptors.reserve" => process::descriptors().set_reserve(values.size(name)),
        "log.level" => logging::set_level(Level::parse(values.text(name)).unwrap_or(Level::Off))?,
        "log.fd" => {
            let descriptor = values.int(name);
            let output = match i32::try_from(descriptor) {
                Ok(-1) | Err(_) => None,
                Ok(descriptor) => Some(host::duplicate(descriptor).map_err(|error| error.context("option log.fd"))?),
            };
            host::with_signals_blocked(|| logging::set_output(output))?;
        }
        "threads" if process::threads() > 0 => {
            return Err(Error::new(
                Status::BadOption,
                "option threads cannot be changed any more; set it before the first node is opened",
            ));
        }
        _ => {}
    }
    Ok(())
}

/// Changes an option that the table marks as live, of a node or mount in use, or with handle 0 of the process (logging).
/// What is set for a node holds for its mounts, too, unless they have a value of their own. A change of peers.allow or
/// peers.deny also ends the streams that are no longer admitted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_set(
    handle: u64,
    name: CStrArg<'_>,
    value: CStrArg<'_>,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let (name, value) = (text(name, "name")?, text(value, "value")?);
        if handle == 0 {
            let mut values = process_values()?.write();
            let mut changed = values.clone();
            changed.set_live(name, value)?;
            apply(&changed, name)?;
            *values = changed;
            return Ok(());
        }
        match handles::find(handle, "handle")? {
            Object::Node(node) => node.set(name, value),
            Object::Mount(node, mount) => node.set_mount(&mount, name, value),
            _ => Err(no_options(handle)),
        }
    })
}

/// Tells the value of an option in force for a node or mount, or with handle 0 for the process: a snapshot of one row with
/// the fields name, value and source.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_get(
    handle: u64,
    name: CStrArg<'_>,
    snapshot: *mut p2p_snapshot,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let snapshot = handle_out(snapshot, "snapshot")?;
        let name = text(name, "name")?;
        let (value, source): (String, Source) = match handle {
            0 => process_values()?.read().get(name)?,
            _ => match handles::find(handle, "handle")? {
                Object::Node(node) => node.get(name)?,
                Object::Mount(_, mount) => mount.options().get(name)?,
                _ => return Err(no_options(handle)),
            },
        };
        let row = Row::new("option").text("name", name).text("value", value).text("source", source.name());
        snapshot.set(handles::add(Object::Snapshot(vec![row].into()), 0));
        Ok(())
    })
}

fn no_options(handle: u64) -> Error {
    Error::new(
        Status::BadHandle,
        format!("handle is {handle}, which is not a handle of a node or mount, nor 0 for the process"),
    )
}
