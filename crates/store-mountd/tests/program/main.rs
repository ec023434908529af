//! The program as a user meets it: the real binary, real files, a real
//! `/dev/fuse`.

mod config;
mod failures;
mod gc;
mod golden;
mod harness;
mod help;
mod imports;
mod journal;
mod manager;
mod mounts;
mod nar;
mod notify;
mod outputs;
mod reader;
mod status;
mod supervisor;
mod upgrade;
mod users;
