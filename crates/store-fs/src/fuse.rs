//! The transport over `/dev/fuse`.
//!
//! Two parts, which need not be one process. [`mount`](fn@mount) needs
//! privilege (or `fusermount3`, which has it): it opens `/dev/fuse`, mounts,
//! and keeps a [`MountHandle`] to unmount by. [`serve`](fn@serve) needs
//! nothing but the file descriptor: it reads requests and answers them, on as
//! many threads as it is told. [`Session`] is both for who does not part them.
//!
//! ```no_run
//! # fn run(filesystem: std::sync::Arc<store_fs::Filesystem>) -> Result<(), Box<dyn std::error::Error>> {
//! use store_fs::fuse::{MountOptions, ServeOptions, Session};
//!
//! let mut session = Session::start(
//!     "/mnt".as_ref(),
//!     filesystem,
//!     &MountOptions::default(),
//!     &ServeOptions::default(),
//! )?;
//! // Until somebody else unmounts it.
//! session.wait()?;
//! # Ok(())
//! # }
//! ```

mod backing;
mod data_path;
mod dead;
mod fault;
mod fusermount;
mod handle;
mod holders;
mod init;
mod mount;
mod mountinfo;
mod serve;
mod session;
mod wire;

pub use backing::BackingFiles;
pub use data_path::DataPath;
pub use dead::clear_dead;
pub use fault::{Effect, Fault, Moment, ParseFaultError};
pub use handle::{MountHandle, UnmountError};
pub use holders::Holder;
pub use init::Readdirplus;
pub use mount::{MountError, MountOptions, Mounted, mount};
pub use serve::{End, Invalidator, ServeError, ServeOptions, Serving, serve};
pub use session::{Session, StartError};
