//! Options by name.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    guard::{guard, handle_out},
    handles::{self, Object},
    strings::text,
    types::{CStrArg, p2p_error, p2p_options, p2p_status},
};
use crate::options::Options;

/// Makes an empty set of options, to be freed with p2p_options_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_options_new(options: *mut p2p_options, error: *mut p2p_error) -> p2p_status {
    guard(error, || {
        let options = handle_out(options, "options")?;
        options.set(handles::add(Object::Options(Arc::new(Mutex::new(Options::new()))), 0));
        Ok(())
    })
}

/// Sets an option; docs/OPTIONS.md has them all. An unknown name or a bad value gives P2P_ERROR_BAD_OPTION and a sentence
/// with what is allowed. Setting an option again replaces its value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_options_set(
    options: p2p_options,
    name: CStrArg<'_>,
    value: CStrArg<'_>,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let options = handles::options_object(options)?;
        let (name, value) = (text(name, "name")?, text(value, "value")?);
        let mut options = options.lock();
        options.set(name, value)
    })
}

/// Frees a set of options. Nodes and mounts made with it keep their own copy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_options_free(options: p2p_options) -> p2p_status {
    guard(std::ptr::null_mut(), || handles::close(options, handles::OPTIONS, |_| Ok(())))
}
