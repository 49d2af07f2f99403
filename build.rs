//! What the linker must know about the shared library, whichever way it is built. `rustc-link-arg`, because the crate type
//! comes from the command line; programs and tests, which get the arguments too, are not affected.

/// The number in `libp2pmount.so.N`: P2P_ABI_VERSION of `src/capi`.
const ABI_VERSION: u32 = 0;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        // cargo-c, which sets the feature `capi`, names the library itself.
        if std::env::var_os("CARGO_FEATURE_CAPI").is_none() {
            println!("cargo::rustc-link-arg=-Wl,-soname,libp2pmount.so.{ABI_VERSION}");
        }
        // The library's threads outlive any handle: its code must stay mapped after dlclose.
        println!("cargo::rustc-link-arg=-Wl,-z,nodelete");
    }
}
