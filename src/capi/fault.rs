//! Forced panics, for tests only.

use super::{
    guard::guard,
    strings::text,
    types::{CStrArg, p2p_status},
};

/// The next pass of a place (entry, copy, mount, driver) panics, once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_test_fault(place: CStrArg<'_>) -> p2p_status {
    guard(std::ptr::null_mut(), || {
        crate::fault::arm(text(place, "place")?);
        Ok(())
    })
}
