//! Private keys in files.

use std::path::Path;

use super::{
    guard::guard,
    strings::text,
    types::{CStrArg, p2p_error, p2p_status},
};
use crate::identity::{self, forms::Form};

/// Writes the private key in the file identity_file, which may have any form that the option identity.file takes, to the
/// new file destination, made with mode 0600. format is named as by `ipfs key export`: "libp2p-protobuf-cleartext", as
/// identity.file is made and `ipfs key import` takes it, "pem-pkcs8-cleartext", which openssl reads, too, or "base64", as
/// Identity.PrivKey of Kubo's configuration has it. Nothing is ever overwritten. Errors: P2P_ERROR_BAD_KEY with the file
/// and what is wrong with it, P2P_ERROR_INVALID_ARGUMENT for another format.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_key_export(
    identity_file: CStrArg<'_>,
    format: CStrArg<'_>,
    destination: CStrArg<'_>,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let (from, form) = (text(identity_file, "identity_file")?, Form::parse(text(format, "format")?)?);
        identity::export(Path::new(from), form, Path::new(text(destination, "destination")?))
    })
}
