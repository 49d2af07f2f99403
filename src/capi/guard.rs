//! The door of every export: one way in for arguments, one way out for errors, no way out for panics.

use std::{
    ffi::c_char,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use super::{
    host,
    types::{p2p_error, p2p_status},
};
use crate::error::{Error, MESSAGE_MAX, Result, Status, shorten};

/// Runs `call`, writes what happened to `error` (which may be NULL) and returns its code.
pub fn guard(error: *mut p2p_error, call: impl FnOnce() -> Result<()>) -> p2p_status {
    host::prepare();
    let result = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(Error::new(Status::Internal, "an internal error was contained; this is a defect of the library"))
    });
    report(error, result.err())
}

fn report(error: *mut p2p_error, failure: Option<Error>) -> p2p_status {
    let code = failure.as_ref().map_or(Status::Ok, |failure| failure.status) as i32;
    if error.is_null() {
        return code;
    }
    let mut filled = p2p_error { code, system_error: 0, flags: 0, reserved: 0, message: [0; 1008] };
    if let Some(failure) = failure {
        filled.system_error = failure.system_error;
        filled.flags = failure.flags();
        let text = shorten(&failure.message.replace('\0', ""), MESSAGE_MAX);
        for (to, from) in filled.message.iter_mut().zip(text.bytes()) {
            *to = from as c_char;
        }
    }
    // SAFETY: not NULL, so by the contract of every function it points to memory of the caller for one p2p_error.
    unsafe { error.write(filled) };
    code
}

/// A place where a result belongs; written on success only.
pub struct Out<T>(*mut T);

/// Checks that `place` is not NULL.
pub fn out<T>(place: *mut T, name: &str) -> Result<Out<T>> {
    if place.is_null() {
        return Err(Error::new(
            Status::InvalidArgument,
            format!("{name} is NULL; it must point to where the result goes"),
        ));
    }
    Ok(Out(place))
}

/// A place for a handle, which is 0 until it is written.
pub fn handle_out(place: *mut u64, name: &str) -> Result<Out<u64>> {
    let out = out(place, name)?;
    // SAFETY: not NULL, so by the contract it points to memory of the caller for one handle.
    unsafe { place.write(0) };
    Ok(out)
}

impl<T> Out<T> {
    pub fn set(self, value: T) {
        // SAFETY: checked by `out`; the caller keeps the place for the length of the call.
        unsafe { self.0.write(value) };
    }
}

/// A timeout in milliseconds: -1 is for ever.
pub fn timeout(milliseconds: i32, name: &str) -> Result<Option<Duration>> {
    match u64::try_from(milliseconds) {
        Ok(milliseconds) => Ok(Some(Duration::from_millis(milliseconds))),
        Err(_) if milliseconds == -1 => Ok(None),
        Err(_) => Err(Error::new(
            Status::InvalidArgument,
            format!("{name} is {milliseconds}; it must be -1 for ever, 0 for not at all, or milliseconds"),
        )),
    }
}

/// Refuses bits that are not in `known`.
pub fn bits(given: u32, known: u32, name: &str) -> Result<()> {
    match given & !known {
        0 => Ok(()),
        unknown => Err(Error::new(
            Status::InvalidArgument,
            format!("{name} has bits that this version does not know: 0x{unknown:x}"),
        )),
    }
}
