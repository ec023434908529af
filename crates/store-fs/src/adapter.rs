//! The core as a `fuse-backend-rs` filesystem: decode, call, log, reply.

mod abi;
pub(crate) mod grants;
mod opens;
mod requests;

use std::{
    io,
    sync::{Arc, OnceLock},
};

use fuse_backend_rs::abi::fuse_abi::FsOptions;

pub use self::opens::Backing;
use self::{grants::Grant, opens::OpenFiles};
use crate::{
    StateError,
    core::{Filesystem, FsError, NodeId, Op},
};

/// A [`Filesystem`] as `fuse-backend-rs`' `Server` takes it.
#[derive(Debug)]
pub struct Adapter {
    filesystem: Arc<Filesystem>,
    wanted: FsOptions,
    opens: OnceLock<Opens>,
    files: OpenFiles,
}

/// What is said when files and directories are opened. Unless the transport
/// says otherwise, everything is answered and nothing is backed.
#[derive(Debug, Default)]
pub struct Opens {
    /// Files are opened without asking: OPEN is answered ENOSYS, which the
    /// kernel has to know to be no error.
    pub unasked_files: bool,
    /// So are directories. The kernel then caches every listing for good, and
    /// the transport has to make it drop that of the root.
    pub unasked_directories: bool,
    /// Lets the kernel read files of the store by itself.
    pub backing: Option<Arc<dyn Backing>>,
}

impl Adapter {
    /// Serves `filesystem`, asking the kernel for those of the `wanted`
    /// abilities that it has. Files that are open stay so.
    ///
    /// # Errors
    /// If the filesystem's state contradicts itself.
    pub fn new(filesystem: Arc<Filesystem>, wanted: FsOptions) -> Result<Self, StateError> {
        let files = OpenFiles::new(filesystem.state())?;
        Ok(Self {
            filesystem,
            wanted,
            opens: OnceLock::new(),
            files,
        })
    }

    /// Says what opens are answered, before the connection is set up. A second
    /// time it does nothing.
    pub fn decide(&self, opens: Opens) {
        let opens = self.opens.get_or_init(|| opens);
        if let Some(backing) = &opens.backing {
            self.files.take_back_unused(&**backing);
        }
    }

    /// RELEASE.
    pub(crate) fn close(&self, handle: u64) {
        self.filesystem.count(Op::Release);
        self.take_back(handle);
    }

    fn take_back(&self, handle: u64) {
        if let Some(backing) = &self.opens().backing {
            self.files.release(handle, &**backing);
        }
    }

    /// FORGET, or part of BATCH_FORGET.
    pub(crate) fn forget_node(&self, node: u64, count: u64) {
        self.filesystem.forget(NodeId(node), count);
    }

    /// Counts a request before it is handled.
    pub(crate) fn count(&self, op: Op) {
        self.filesystem.count(op);
    }

    /// Takes back what this thread granted since [`grants::begin`]: the kernel
    /// did not take the answer.
    pub(crate) fn revoke(&self) {
        for grant in grants::end() {
            match grant {
                Grant::Lookup(node) => self.filesystem.forget(node, 1),
                Grant::Open(handle) => self.take_back(handle),
            }
        }
    }

    pub(crate) fn filesystem(&self) -> &Filesystem {
        &self.filesystem
    }

    pub(crate) fn opens(&self) -> &Opens {
        self.opens.get_or_init(Opens::default)
    }

    /// READ, straight into the reply.
    ///
    /// # Errors
    /// If the contents cannot be had.
    pub fn read_into(&self, node: u64, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.call(Op::Read, "read", node, |fs, node| {
            fs.read(node, buf, offset)
        })
    }

    /// Counts, calls and logs.
    fn call<T>(
        &self,
        op: Op,
        name: &'static str,
        node: u64,
        call: impl FnOnce(&Filesystem, NodeId) -> Result<T, FsError>,
    ) -> io::Result<T> {
        self.filesystem.count(op);
        let node = NodeId(node);
        call(&self.filesystem, node).map_err(|error| {
            error.log(name, node);
            io::Error::from_raw_os_error(error.errno())
        })
    }
}
