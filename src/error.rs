//! One error type, one status code for each kind of failure.
//!
//! A sentence names the thing that failed first and says what would be right. Long names are shortened in the middle, so
//! that the sentence always fits the C structure.

use std::{borrow::Cow, fmt, io};

/// What kind of failure it was. The numbers are part of the C ABI and are never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Status {
    Ok = 0,
    InvalidArgument = 1,
    BadHandle = 2,
    BadOption = 3,
    BadAddress = 4,
    BadProtocol = 5,
    BadPeer = 6,
    BadKey = 7,
    AddressInUse = 8,
    AlreadyRegistered = 9,
    NotFound = 10,
    Unreachable = 11,
    ProtocolRefused = 12,
    TargetRefused = 13,
    TimedOut = 14,
    Cancelled = 15,
    Closed = 16,
    Limit = 17,
    Reset = 18,
    Forked = 19,
    System = 20,
    Internal = 21,
}

impl Status {
    /// Every status, in the order of its number: the table behind `p2p_status_name` and the manual.
    pub const ALL: [Status; 22] = [
        Status::Ok,
        Status::InvalidArgument,
        Status::BadHandle,
        Status::BadOption,
        Status::BadAddress,
        Status::BadProtocol,
        Status::BadPeer,
        Status::BadKey,
        Status::AddressInUse,
        Status::AlreadyRegistered,
        Status::NotFound,
        Status::Unreachable,
        Status::ProtocolRefused,
        Status::TargetRefused,
        Status::TimedOut,
        Status::Cancelled,
        Status::Closed,
        Status::Limit,
        Status::Reset,
        Status::Forked,
        Status::System,
        Status::Internal,
    ];
}

/// Longest sentence that fits `p2p_error.message` with its NUL.
pub const MESSAGE_MAX: usize = 1007;
/// Longest name that is quoted whole in a sentence.
const QUOTED_MAX: usize = 200;

/// Bits of [`Error::flags`], part of the C ABI.
pub const FLAG_TEMPORARY: u32 = 1;
pub const FLAG_TIMED_OUT: u32 = 2;

/// A failure: its kind, a sentence for people, and the operating system's number where there was one.
#[derive(Clone, Debug)]
pub struct Error {
    pub status: Status,
    pub message: String,
    /// `errno`, or 0.
    pub system_error: i32,
    /// Trying again later can help.
    pub temporary: bool,
}

impl Error {
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        let temporary = matches!(
            status,
            Status::Unreachable | Status::TimedOut | Status::Limit | Status::TargetRefused | Status::Reset
        );
        Error { status, message: message.into(), system_error: 0, temporary }
    }

    /// A failure of the operating system: `what` failed because of `error`.
    pub fn system(status: Status, what: impl fmt::Display, error: &io::Error) -> Self {
        let mut made = Error::new(status, format!("{what}: {}", describe(error)));
        made.system_error = error.raw_os_error().unwrap_or(0);
        made
    }

    /// The same failure with the sentence put behind `what`.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    #[must_use]
    pub fn temporary(mut self, temporary: bool) -> Self {
        self.temporary = temporary;
        self
    }

    /// What programs may want to know beside the status.
    pub fn flags(&self) -> u32 {
        let bit = |flag, set| if set { flag } else { 0 };
        bit(FLAG_TEMPORARY, self.temporary) | bit(FLAG_TIMED_OUT, self.status == Status::TimedOut)
    }

    /// Whoever asked for it took that back.
    pub fn cancelled(what: impl fmt::Display) -> Self {
        Error::new(Status::Cancelled, format!("{what} was cancelled"))
    }

    /// The node or mount was closed while the call ran.
    pub fn closed(what: impl fmt::Display) -> Self {
        Error::new(Status::Closed, format!("{what} was closed"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The words of an operating system error without Rust's "(os error N)": the number has a field of its own.
pub fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// `name` as it is quoted in a sentence: control characters escaped, shortened in the middle when it is long.
pub fn quote(name: &str) -> Cow<'_, str> {
    let clean: Cow<'_, str> = if name.chars().any(char::is_control) {
        name.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect::<String>()
            .into()
    } else {
        name.into()
    };
    if clean.len() <= QUOTED_MAX { clean } else { shorten(&clean, QUOTED_MAX).into() }
}

/// `text` cut in the middle to at most `max` bytes, on character boundaries.
pub fn shorten(text: &str, max: usize) -> String {
    const MARK: &str = "...";
    if text.len() <= max {
        return text.to_owned();
    }
    let keep = max.saturating_sub(MARK.len());
    let head = floor_boundary(text, keep - keep / 2);
    let tail = ceil_boundary(text, text.len() - keep / 2);
    format!("{}{MARK}{}", &text[..head], &text[tail..])
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_numbered_as_listed() {
        for (number, status) in Status::ALL.iter().enumerate() {
            assert_eq!(*status as i32, number as i32);
        }
    }

    #[test]
    fn long_names_are_shortened_in_the_middle_on_character_boundaries() {
        let name = "ä".repeat(500);
        let quoted = quote(&name);
        assert!(
            quoted.len() <= QUOTED_MAX && quoted.contains("...") && quoted.starts_with('ä') && quoted.ends_with('ä')
        );
        assert_eq!(quote("short"), "short");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(quote("a\nb\0"), "a\\nb\\u{0}");
    }

    #[test]
    fn system_errors_keep_their_number_beside_the_sentence() {
        let error = Error::system(Status::System, "key file /k", &io::Error::from_raw_os_error(13));
        assert_eq!(error.system_error, 13);
        assert_eq!(error.message, "key file /k: Permission denied");
    }
}
