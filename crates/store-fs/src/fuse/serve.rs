mod worker;

use std::{
    io,
    os::fd::OwnedFd,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fuse_backend_rs::api::server::Server;
use parking_lot::{Condvar, Mutex};

use self::worker::{Worker, message};
use super::{DataPath, Fault, Readdirplus, init::wanted};
use crate::{
    Filesystem,
    adapter::{Adapter, Backing},
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
}

/// The threads that serve a connection. They end with the connection; dropping
/// this does not end them.
#[derive(Debug)]
pub struct Serving {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<End, ServeError>>>,
}

#[derive(Debug)]
struct Shared {
    wanted: DataPath,
    /// What was decided when the connection was set up.
    decided: Mutex<Option<DataPath>>,
    got_decided: Condvar,
}

impl Serving {
    /// Waits until the connection is set up, for at most `timeout`; answers
    /// whether it is.
    pub fn is_ready_within(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut decided = self.shared.decided.lock();
        while decided.is_none() {
            let wait = (self.shared.got_decided).wait_until(&mut decided, deadline);
            if wait.timed_out() {
                return decided.is_some();
            }
        }
        true
    }

    /// How contents are read: what was chosen, or what could be had instead.
    /// `None` until the connection is set up.
    pub fn data_path(&self) -> Option<DataPath> {
        *self.shared.decided.lock()
    }

    /// Whether the connection ended.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits until the connection ends.
    ///
    /// # Errors
    /// If a thread ended for another reason.
    pub fn wait(&mut self) -> Result<End, ServeError> {
        let mut result = Ok(End::Unmounted);
        for thread in self.threads.drain(..) {
            let ended = thread
                .join()
                .unwrap_or_else(|panic| Err(ServeError::Read(io::Error::other(message(&*panic)))));
            match ended {
                Ok(End::Unmounted) => {}
                ended => result = ended,
            }
        }
        result
    }
}

/// Serves the connection `fd`, that of a mount, on threads of its own.
///
/// # Errors
/// If the threads cannot be started.
pub fn serve(
    fd: OwnedFd,
    filesystem: Arc<Filesystem>,
    options: &ServeOptions,
) -> io::Result<Serving> {
    let adapter = Arc::new(Adapter::new(filesystem, wanted(options.readdirplus)));
    let server = Arc::new(Server::new(Arc::clone(&adapter)));
    let shared = Arc::new(Shared {
        wanted: options.data_path,
        decided: Mutex::new(None),
        got_decided: Condvar::new(),
    });
    let mut threads = Vec::new();
    for number in 0..options.threads.max(1) {
        let worker = Worker {
            fd: fd.try_clone()?,
            adapter: Arc::clone(&adapter),
            server: Arc::clone(&server),
            shared: Arc::clone(&shared),
        };
        let name = format!("fuse-{number}");
        threads.push(thread::Builder::new().name(name).spawn(|| worker.run())?);
    }
    Ok(Serving { shared, threads })
}
