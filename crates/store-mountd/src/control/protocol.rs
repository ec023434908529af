//! What is said over the control socket: a line of JSON for each request, and
//! one for its answer.
//!
//! ```text
//! → {"request":"status"}
//! ← {"status":{"mountpoint":"/nix/store", …}}
//! → {"request":"unmount","detach":false}
//! ← {"refused":"/nix/store is in use by …"}
//! ```
//!
//! A program that is to be upgraded to comes as an open file with its line
//! (SCM_RIGHTS): what has a name for the caller need not have one for who
//! serves, whose root may be an initramfs that was left.
//!
//! Versions of the program may differ between the two ends. Fields that one
//! does not know it ignores, those that it misses are empty.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// How the mount is.
    Status,
    /// Which requests are being handled.
    InFlight,
    /// Go on with another program: the file that comes with the request, or the
    /// newest version of what runs.
    Upgrade {
        /// What the file was called.
        #[serde(default)]
        program: Option<PathBuf>,
    },
    /// Unmount.
    Unmount {
        /// If the mount is in use, take it out of the tree.
        #[serde(default)]
        detach: bool,
    },
    /// Entries of the mount's root are gone from the store.
    Removed {
        /// Their names.
        names: Vec<String>,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Response {
    /// How the mount is.
    Status(Box<Status>),
    /// Which requests are being handled.
    InFlight(Vec<InFlight>),
    /// It was done; this can be told to the user.
    Done(String),
    /// It was not done, and why.
    Refused(String),
}

/// How a mount is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Status {
    pub(crate) mountpoint: PathBuf,
    pub(crate) store: PathBuf,
    /// Device and inode of the store's directory: its path may not be the same
    /// for everybody.
    pub(crate) store_identity: Option<(u64, u64)>,
    /// `starting`, `serving`, `replacing`, `upgrading`, `detached`.
    pub(crate) phase: String,
    /// Why the mount may not answer at the moment.
    pub(crate) waits_for: Option<String>,
    /// Store paths, when the worker started.
    pub(crate) paths: u64,
    pub(crate) supervisor: Process,
    pub(crate) worker: Option<Worker>,
    /// Workers that died, and were followed by another.
    pub(crate) restarts: u64,
    /// What the last of them died of.
    pub(crate) last_death: Option<String>,
    /// When the next one is started, if there is none.
    pub(crate) retry_in_seconds: Option<f64>,
    /// Workers that were replaced by another program.
    pub(crate) upgrades: u64,
    /// Inodes that the kernel holds.
    pub(crate) inodes: u64,
    /// Bytes answered to reads.
    pub(crate) bytes_served: u64,
    /// Requests that failed for want of sound contents.
    pub(crate) errors: u64,
    /// Requests by operation.
    pub(crate) requests: BTreeMap<String, u64>,
    /// Caches of the worker by name.
    pub(crate) caches: BTreeMap<String, Cache>,
    /// The requests that are being handled.
    pub(crate) in_flight: Vec<InFlight>,
}

/// A process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) version: String,
    pub(crate) uptime_seconds: f64,
}

/// The process that answers the kernel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Worker {
    #[serde(flatten)]
    pub(crate) process: Process,
    /// Counted from 1.
    pub(crate) number: u64,
    /// Whether it answers yet.
    pub(crate) serving: bool,
    pub(crate) data_path: String,
}

/// What a cache was good for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Cache {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

/// A request of the kernel that is being handled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct InFlight {
    /// The kernel's number of it.
    pub(crate) unique: u64,
    pub(crate) operation: String,
    pub(crate) node: u64,
    /// The thread that asks; 0 if the kernel itself does.
    pub(crate) pid: u32,
    pub(crate) seconds: f64,
    /// The digest of what is being looked for in the store.
    pub(crate) waits_on: Option<String>,
}
