//! A service manager for tests: systemd's side of sd_notify(3), its watchdog, its store of file
//! descriptors, and what it does when a service dies, is stopped or reloaded.

mod fd_store;
mod launch;
mod notify;
mod service;
mod unit;

pub use notify::{Message, Record};
pub use service::{Exit, Manager};
pub use unit::Unit;
