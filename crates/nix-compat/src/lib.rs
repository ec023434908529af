//! The formats Nix stores and exchanges: hashes, store paths, NAR archives, narinfo files, signatures,
//! registration text and `nix path-info` JSON.
//!
//! Everything here is pure and synchronous: bytes in, values out, over [`std::io::Read`] and
//! [`std::io::Write`] where a format is streamed. Nothing opens a file or a socket. Input is taken to be
//! hostile: every parser refuses what it cannot represent and never allocates by a length it was told.
//!
//! What Nix does was read from the sources of Nix 2.26.3; each module names the files, and says where it
//! is stricter than Nix.

#![forbid(unsafe_code)]

pub mod ca;
pub mod hash;
pub mod nar;
pub mod narinfo;
pub mod nixbase32;
mod number;
pub mod path_info_json;
pub mod registration;
pub mod signature;
pub mod store_path;

pub use ca::ContentAddress;
pub use hash::{HashAlgo, NixHash};
pub use narinfo::NarInfo;
pub use store_path::{STORE_DIR, StorePath};
