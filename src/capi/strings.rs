//! Strings across the boundary.

use std::ffi::c_char;

use super::types::CStrArg;
use crate::error::{Error, Result, Status};

/// Longest string that is taken; nothing meant is longer.
const LONGEST: usize = 64 * 1024;

/// A string that must be there. (`char_p::Ref::to_str` would trust the bytes to be UTF-8.)
pub fn text<'a>(argument: CStrArg<'a>, name: &str) -> Result<&'a str> {
    optional(argument, name)?
        .ok_or_else(|| Error::new(Status::InvalidArgument, format!("{name} is NULL; it must be a string")))
}

/// A string that may be NULL.
pub fn optional<'a>(argument: CStrArg<'a>, name: &str) -> Result<Option<&'a str>> {
    let Some(argument) = argument else { return Ok(None) };
    let bytes = argument.to_bytes();
    if bytes.len() > LONGEST {
        return Err(Error::new(
            Status::InvalidArgument,
            format!("{name} is {} bytes long; at most {LONGEST} are taken", bytes.len()),
        ));
    }
    std::str::from_utf8(bytes).map(Some).map_err(|error| {
        Error::new(Status::InvalidArgument, format!("{name} is not UTF-8: byte {} does not fit", error.valid_up_to()))
    })
}

/// Writes `text` and a NUL to a caller's buffer, or nothing if it does not fit.
pub fn write(text: &str, buffer: *mut c_char, size: usize) -> Result<()> {
    if buffer.is_null() {
        return Err(Error::new(Status::InvalidArgument, "buffer is NULL; it must point to where the text goes"));
    }
    if size <= text.len() {
        return Err(Error::new(
            Status::InvalidArgument,
            format!("buffer has {size} bytes, the text needs {} with its NUL", text.len() + 1),
        ));
    }
    // SAFETY: not NULL and, by the contract, `size` bytes of the caller, of which this writes no more.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buffer, text.len());
        buffer.add(text.len()).write(0);
    }
    Ok(())
}
