mod engine;
mod interrupt;
mod pool;
mod released;
mod resume;
mod worker;

use std::{
    io,
    os::fd::OwnedFd,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use self::{
    engine::{Engine, write_all},
    pool::Pool,
};
use super::{DataPath, Fault, Readdirplus, init::wanted, wire};
use crate::{
    Filesystem,
    adapter::{Adapter, Backing},
    core::NodeId,
    state::desk::Desks,
};

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// How many requests are handled at a time, as long as none of them has to
    /// wait for long.
    pub threads: usize,
    /// How many requests are handled at a time, those included that wait: for
    /// each that does, another thread serves.
    pub max_threads: usize,
    /// When listings bring nodes along.
    pub readdirplus: Readdirplus,
    /// How contents are read.
    pub data_path: DataPath,
    /// Makes files known to the kernel; without it, this process does so by
    /// itself if it may.
    pub backing: Option<Arc<dyn Backing>>,
    /// For tests: something bad that is to happen.
    pub fault: Option<Fault>,
    /// For tests: does without FUSE_NOTIFY_RESEND, as before Linux 6.9.
    pub no_resend: bool,
}

impl Default for ServeOptions {
    /// Twice as many threads as there are processors, since some wait for the
    /// store, but at least 4 and at most 16.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads: (2 * processors).clamp(4, 16),
            max_threads: 2048,
            readdirplus: Readdirplus::default(),
            data_path: DataPath::default(),
            backing: None,
            fault: None,
            no_resend: false,
        }
    }
}

/// How serving came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The filesystem was unmounted, and nobody uses it any more.
    Unmounted,
    /// The connection was aborted.
    Aborted,
}

/// Why serving ended otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// `/dev/fuse` cannot be read.
    #[error("cannot read a request from /dev/fuse: {0}")]
    Read(#[from] io::Error),
    /// It was said already why.
    #[error("the connection ended before")]
    Ended,
}

/// The threads that serve a connection. They end with the connection; dropping
/// this does not end them.
#[derive(Debug)]
pub struct Serving {
    /// `None` once the end was waited for.
    pool: Option<Arc<Pool>>,
}

impl Serving {
    /// Waits until the connection is set up, for at most `timeout`; answers
    /// whether it is.
    pub fn is_ready_within(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        (self.engine()).is_some_and(|engine| engine.wait_decided(deadline))
    }

    /// How contents are read: what was chosen, or what could be had instead.
    /// `None` until the connection is set up, and after its end.
    pub fn data_path(&self) -> Option<DataPath> {
        self.engine()?.decided()
    }

    /// What tells the kernel that entries of the mount's root are no more.
    /// `None` after the end was waited for.
    pub fn invalidator(&self) -> Option<Invalidator> {
        let pool = self.pool.as_ref()?;
        Some(Invalidator {
            engine: Arc::clone(pool.engine()),
        })
    }

    /// Whether the connection ended.
    pub fn has_ended(&self) -> bool {
        self.pool.as_ref().is_none_or(|pool| pool.has_ended())
    }

    /// Waits until the connection ends. Threads that wait for the store then
    /// are not waited for: nobody wants their answers.
    ///
    /// # Errors
    /// If it ended for another reason than an unmount or abort.
    pub fn wait(&mut self) -> Result<End, ServeError> {
        match self.pool.take() {
            Some(pool) => pool.wait(),
            None => Err(ServeError::Ended),
        }
    }

    fn engine(&self) -> Option<&Engine> {
        self.pool.as_ref().map(|pool| &**pool.engine())
    }
}

/// Tells the kernel what is no more.
#[derive(Debug, Clone)]
pub struct Invalidator {
    engine: Arc<Engine>,
}

impl Invalidator {
    /// Makes the kernel forget an entry of the mount's root, which is no more.
    /// Who uses it keeps it; what is mounted below it is unmounted. It waits for
    /// lookups in the root that are under way.
    ///
    /// # Errors
    /// If the kernel cannot be told, or the name is no name.
    pub fn invalidate_entry(&self, name: &[u8]) -> io::Result<()> {
        let message = wire::invalidate_entry(NodeId::ROOT.0, name);
        match write_all(&self.engine.fd, &message) {
            // The kernel does not know it.
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Serves the connection `fd`, that of a mount, on threads of its own.
///
/// If the filesystem's state is that of a connection that is set up, goes on
/// with that: nobody else must read from it any more. What was asked and not
/// answered is answered now.
///
/// # Errors
/// If the threads cannot be started, or the state contradicts itself.
pub fn serve(
    fd: OwnedFd,
    filesystem: Arc<Filesystem>,
    options: &ServeOptions,
) -> io::Result<Serving> {
    let adapter = Adapter::new(filesystem, wanted(options.readdirplus));
    let adapter = adapter.map_err(io::Error::other)?;
    let (desks, left) = Desks::new(adapter.filesystem().state()).map_err(io::Error::other)?;
    let engine = Engine::new(fd, adapter, desks, options);
    let left = match engine.state.decided() {
        Some(decided) => {
            let data_path = engine.open_as(decided)?;
            let resend = decided.has_resend && !options.no_resend;
            let left = resume::resume(&engine, left, resend);
            engine.announce(data_path);
            left
        }
        None => resume::resume(&engine, left, false),
    };
    let pool = Pool::start(engine, options.threads, options.max_threads, left)?;
    Ok(Serving { pool: Some(pool) })
}
