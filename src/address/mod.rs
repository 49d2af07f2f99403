//! The forms of addresses people type, parsed and printed: endpoints on this machine ([`local`]) and peers ([`peer`]).

mod filter;
mod local;
mod peer;

pub use filter::AddressFilter;
pub use local::{DnsFamily, LocalAddress};
pub use peer::{PeerAddress, has_dns, is_loopback, parse_listen_multiaddrs, parse_peer_id, transport_name};
