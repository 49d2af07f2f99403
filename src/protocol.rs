//! The name a service has on the network.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::error::{Error, Result, Status, quote};

/// Longest protocol name in bytes: multistream-select messages are at most 1,024 bytes with their line end and length.
pub const MAX_LEN: usize = 1022;
/// Where a name belongs that does not say otherwise (as in Kubo).
const PREFIX: &str = "/x/";

/// A protocol's full name, checked; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProtocolName(Arc<str>);

impl ProtocolName {
    /// `my-protocol` means `/x/my-protocol`, `/x/...` is taken as it is, and any other absolute name needs `custom`
    /// (the option `protocol.custom`). Fails with [`Status::BadProtocol`].
    pub fn parse(name: &str, custom: bool) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::new(Status::BadProtocol, "protocol name is empty; write for example my-protocol"));
        }
        let bad = |why: String| Error::new(Status::BadProtocol, format!("protocol name '{}' {why}", quote(name)));
        // The line end closes a name on the wire, and the others would only make two names look alike.
        if let Some((at, _)) = name.char_indices().find(|(_, c)| c.is_control()) {
            return Err(bad(format!("has a control character at byte {at}; only printable characters are allowed")));
        }
        let full = if name.starts_with('/') { name.to_owned() } else { format!("{PREFIX}{name}") };
        if full.len() > MAX_LEN {
            return Err(bad(format!("is {} bytes long; at most {MAX_LEN} are allowed", full.len())));
        }
        if full == PREFIX || full == "/" {
            return Err(bad(format!("names nothing after '{full}'; write for example /x/my-protocol")));
        }
        if !custom && !full.starts_with(PREFIX) {
            return Err(bad(format!("is outside '{PREFIX}'; set protocol.custom=true to allow it")));
        }
        Ok(ProtocolName(full.into()))
    }

    /// The full name, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ProtocolName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ProtocolName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, custom: bool) -> String {
        let error = ProtocolName::parse(name, custom).unwrap_err();
        assert_eq!(error.status, Status::BadProtocol);
        error.message
    }

    #[test]
    fn short_names_are_put_below_x() {
        for (typed, full) in [
            ("my-protocol", "/x/my-protocol"),
            ("/x/a", "/x/a"),
            ("/x//", "/x//"),
            ("x/a", "/x/x/a"),
            ("a b", "/x/a b"),
        ] {
            for custom in [false, true] {
                assert_eq!(ProtocolName::parse(typed, custom).unwrap().as_str(), full);
            }
        }
    }

    #[test]
    fn other_absolute_names_need_the_option() {
        assert_eq!(
            refusal("/foo", false),
            "protocol name '/foo' is outside '/x/'; set protocol.custom=true to allow it"
        );
        assert_eq!(refusal("/x", false), "protocol name '/x' is outside '/x/'; set protocol.custom=true to allow it");
        assert_eq!(ProtocolName::parse("/foo", true).unwrap().as_str(), "/foo");
    }

    #[test]
    fn names_that_can_not_travel_are_refused() {
        assert_eq!(refusal("", true), "protocol name is empty; write for example my-protocol");
        assert_eq!(
            refusal("/x/a\nb", true),
            "protocol name '/x/a\\nb' has a control character at byte 4; only printable characters are allowed"
        );
        assert_eq!(
            refusal("/x/", true),
            "protocol name '/x/' names nothing after '/x/'; write for example /x/my-protocol"
        );
        assert_eq!(refusal("/", true), "protocol name '/' names nothing after '/'; write for example /x/my-protocol");
    }

    #[test]
    fn the_longest_name_has_1022_bytes_with_its_prefix() {
        assert_eq!(ProtocolName::parse(&"a".repeat(1019), false).unwrap().as_str().len(), MAX_LEN);
        let message = refusal(&"a".repeat(1020), false);
        assert!(message.ends_with("is 1023 bytes long; at most 1022 are allowed"), "{message}");
    }
}
