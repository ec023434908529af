//! Messages of the `snix.castore.v1` protobuf package, generated from
//! `proto/castore.proto` (see `tests/codegen.rs`).
#![allow(missing_docs)]

include!("proto/snix.castore.v1.rs");
