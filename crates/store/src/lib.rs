//! Store paths over castore.
//!
//! A [`PathInfo`] says what is in a store path: the root of its contents in a
//! [`castore`], the NAR's hash and size, references and signatures. Path infos
//! are kept by a [`PathInfoService`]. [`nar`] turns contents into NAR archives
//! and back, [`import`] brings trees and store paths in, [`binary_cache`] reads
//! the caches that Nix makes, [`verify`] checks everything anew, and [`gc`]
//! removes paths and frees their space.

mod closure;
mod error;
mod path_info;
mod tree_path;

pub mod binary_cache;
pub mod gc;
pub mod import;
pub mod nar;
pub mod pathinfoservice;
pub mod proto;
pub mod verify;

pub use closure::{Describes, closure};
pub use error::Error;
pub use path_info::{Metadata, PathInfo, PathInfoError};
pub use pathinfoservice::PathInfoService;

use tree_path::tree_path;
