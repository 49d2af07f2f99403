//! Words for what goes wrong on the way to a peer.

use std::{error::Error, io};

use libp2p::{
    Multiaddr, PeerId,
    core::transport::TransportError,
    swarm::{DialError, ListenError},
};
use multistream_select::NegotiationError;

/// Every address that was tried with its reason, or what kept the node from trying.
pub fn describe_dial(peer: &PeerId, error: &DialError) -> String {
    match error {
        DialError::LocalPeerId { address } => format!("{address} is this node itself"),
        DialError::NoAddresses => "no address is known".into(),
        DialError::DialPeerConditionFalse(_) | DialError::Aborted => "the dial was given up".into(),
        DialError::WrongPeerId { obtained, address } => format!("{} is peer {obtained}, not {peer}", short(address)),
        DialError::Denied { cause } => limit(cause),
        DialError::Transport(tried) => {
            let each = tried.iter().map(|(address, error)| match error {
                TransportError::MultiaddrNotSupported(_) => {
                    format!("{}: not a transport that the node has", short(address))
                }
                TransportError::Other(error) => format!("{}: {}", short(address), root_cause(error)),
            });
            each.collect::<Vec<_>>().join("; ")
        }
    }
}

fn limit(cause: &(dyn Error + 'static)) -> String {
    let options = "options connections.max, connections.per_peer, connections.pending";
    format!("a limit of this node forbids it: {} ({options})", root_cause(cause))
}

/// An address without the peer id, whom the sentence names already.
pub fn short(address: &Multiaddr) -> String {
    let text = address.to_string();
    text.split("/p2p/").next().unwrap_or(&text).to_owned()
}

/// Why an inbound connection was not made.
pub fn describe_listen(error: &ListenError) -> String {
    match error {
        ListenError::Denied { cause } => limit(cause),
        ListenError::LocalPeerId { .. } => "it is this node itself".into(),
        ListenError::Transport(TransportError::Other(error)) => root_cause(error),
        other => root_cause(other),
    }
}

/// The innermost cause: the outer ones say only which layer passed it on.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let cause = causes(error).last().unwrap_or(error);
    let text = cause.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// Whether the peer refused the protocol of a stream.
pub fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| matches!(cause.downcast_ref(), Some(NegotiationError::Failed)))
}

/// The operating system's number at the bottom of `error`, if there is one.
pub fn root_errno(error: &(dyn Error + 'static)) -> Option<i32> {
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).filter_map(io::Error::raw_os_error).last()
}

/// `error` and what caused it, the outermost first. An `io::Error` that wraps another hides it from `source`.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    fn next<'a>(error: &&'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
        let error: &'a (dyn Error + 'static) = *error;
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    }
    std::iter::successors(Some(error), next)
}
