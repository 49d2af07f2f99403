//! Places where the tests can force a panic, to see that it is contained. Without the feature `fault-injection` nothing of
//! it is compiled in.

/// Panics if a test armed `place`, once.
#[inline]
pub fn point(place: &str) {
    #[cfg(feature = "fault-injection")]
    armed::strike(place);
    #[cfg(not(feature = "fault-injection"))]
    let _ = place;
}

#[cfg(feature = "fault-injection")]
pub use armed::arm;

#[cfg(feature = "fault-injection")]
mod armed {
    use parking_lot::Mutex;

    static ARMED: Mutex<Option<String>> = Mutex::new(None);

    /// The next pass of `place` panics.
    pub fn arm(place: &str) {
        *ARMED.lock() = Some(place.to_owned());
    }

    pub fn strike(place: &str) {
        let hit = ARMED.lock().take_if(|armed| armed == place).is_some();
        assert!(!hit, "fault injected at {place}");
    }
}
