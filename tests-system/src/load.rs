//! Work on a mount, done by other processes, that notices every failed call and every wrong byte.
//!
//! The program `load` is put into the scene and started from the mount: its own pages, its working
//! directory and its open files are on what the test breaks.

pub mod actor;
mod asker;
pub mod content;
mod mapping;
mod nudge;
mod plan;
mod process;
pub mod record;
pub mod scene;

pub use asker::Asker;
pub use nudge::Threads;
pub use plan::Plan;
pub use process::{Load, Summary};
