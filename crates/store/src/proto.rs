//! Messages of the `snix.store.v1` protobuf package, generated from
//! `proto/pathinfo.proto` (see `tests/codegen.rs`).
#![allow(missing_docs)]

include!("proto/snix.store.v1.rs");
