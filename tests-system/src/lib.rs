//! The harness of the system tests: everything around `store-mountd` that a test needs in order
//! to treat it badly, and nothing of its code.
//!
//! The tests in `tests/` drive the built program through its command line only. They need root,
//! `/dev/fuse` and loop devices, and fail loudly where these are missing. `cargo xtask test` runs
//! them with reduced counts, `cargo xtask soak` with the full ones (see [`counts`]).
//!
//! Every guard ([`Mounted`](mountd::Mounted), [`Manager`](systemd::Manager),
//! [`LossyDisk`](lossy_disk::LossyDisk), …) undoes in its `Drop` what it did, so a failing test
//! leaves no mount, loop device or process behind.

pub mod counts;
pub mod fuse_device;
pub mod load;
pub mod loop_mount;
pub mod lossy_disk;
pub mod mountd;
pub mod nar;
pub mod rng;
pub mod scratch;
pub mod systemd;
pub mod tree;
