//! The C ABI of `include/p2pmount.h`, and the only `unsafe` code of the crate.
//!
//! Every export is one call of [`guard::guard`]: it refuses handles inherited through a fork, contains panics and fills the
//! caller's error. `types` to `operation` hold the exports, one file per object; `handles`, `guard`, `strings` and `host` are
//! what they stand on.
//!
//! `cbindgen` reads the exports literally (a test compares the header), `safer_ffi` types the strings, and a test has it prove
//! that every signature is C-safe.

#![allow(clippy::missing_safety_doc, non_camel_case_types)]
// In C the contract of a function stands in its documentation; the pointers are checked for NULL and trusted otherwise.

pub mod event;
#[cfg(feature = "fault-injection")]
pub mod fault;
mod guard;
mod handles;
mod host;
pub mod key;
pub mod list;
pub mod mounts;
pub mod node;
pub mod operation;
pub mod options;
pub mod settings;
mod strings;
pub mod types;
pub mod version;

#[cfg(test)]
mod signatures;
