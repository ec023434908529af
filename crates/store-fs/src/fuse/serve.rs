use std::{
    any::Any,
    io,
    os::fd::{AsRawFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fuse_backend_rs::{
    abi::fuse_abi::Opcode,
    api::server::{MAX_BUFFER_SIZE, Server},
    transport::{FuseBuf, FuseDevWriter, Reader, Writer},
};
use parking_lot::{Condvar, Mutex};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::{Readdirplus, init::wanted};
use crate::{Filesystem, adapter::Adapter};

/// The most that a request or a reply can have: 1 MiB of data, and what goes
/// before it. The kernel refuses to be read from with less room.
const BUFFER_LEN: usize = MAX_BUFFER_SIZE as usize + 4096;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// How many requests are handled at a time.
    pub threads: usize,
    /// When listings bring nodes along.
    pub readdirplus: Readdirplus,
}

impl Default for ServeOptions {
    /// Twice as many threads as there are processors, since some wait for the
    /// store, but at least 4 and at most 16: each keeps up to 3 MiB of buffers.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads: (2 * processors).clamp(4, 16),
            readdirplus: Readdirplus::default(),
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
    ready: Mutex<bool>,
    got_ready: Condvar,
}

impl Serving {
    /// Waits until the connection is set up, for at most `timeout`; answers
    /// whether it is.
    pub fn is_ready_within(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut ready = self.shared.ready.lock();
        while !*ready {
            let wait = self.shared.got_ready.wait_until(&mut ready, deadline);
            if wait.timed_out() {
                return *ready;
            }
        }
        true
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
    let adapter = Adapter::new(filesystem, wanted(options.readdirplus));
    let server = Arc::new(Server::new(adapter));
    let shared = Arc::new(Shared {
        ready: Mutex::new(false),
        got_ready: Condvar::new(),
    });
    let mut threads = Vec::new();
    for number in 0..options.threads.max(1) {
        let worker = Worker {
            fd: fd.try_clone()?,
            server: Arc::clone(&server),
            shared: Arc::clone(&shared),
        };
        let name = format!("fuse-{number}");
        threads.push(thread::Builder::new().name(name).spawn(|| worker.run())?);
    }
    Ok(Serving { shared, threads })
}

struct Worker {
    fd: OwnedFd,
    server: Arc<Server<Adapter>>,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(self) -> Result<End, ServeError> {
        let mut request = vec![0; BUFFER_LEN];
        let mut reply = vec![0; BUFFER_LEN];
        loop {
            match rustix::io::read(&self.fd, &mut request[..]) {
                Ok(len) => self.handle(&mut request[..len], &mut reply),
                // A signal; or the request was taken back before it was read.
                Err(Errno::INTR | Errno::NOENT) => {}
                Err(Errno::AGAIN) => self.wait()?,
                Err(Errno::NODEV) => return Ok(End::Unmounted),
                Err(Errno::CONNABORTED) => return Ok(End::Aborted),
                Err(errno) => {
                    let error = ServeError::Read(errno.into());
                    tracing::error!(%error, "a thread that serves ends");
                    return Err(error);
                }
            }
        }
    }

    /// For a descriptor that was handed over in non-blocking mode.
    fn wait(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn handle(&self, request: &mut [u8], reply: &mut [u8]) {
        let Some(header) = Header::peek(request) else {
            tracing::error!(len = request.len(), "a request without a header");
            return;
        };
        // Whoever waits for that request is answered when it is done; and
        // `Server` knows no way to tell.
        if header.opcode == Opcode::Interrupt as u32 {
            tracing::trace!("a request was interrupted");
            return;
        }
        let handled = catch_unwind(AssertUnwindSafe(|| self.dispatch(request, reply)));
        let Header { opcode, .. } = header;
        match handled {
            Ok(Ok(())) if opcode == Opcode::Init as u32 => {
                *self.shared.ready.lock() = true;
                self.shared.got_ready.notify_all();
            }
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(opcode, %error, "a request was not handled");
                self.fail(&header);
            }
            Err(panic) => {
                tracing::error!(opcode, panic = message(&*panic), "the handler panicked");
                self.fail(&header);
            }
        }
    }

    fn dispatch(&self, request: &mut [u8], reply: &mut [u8]) -> fuse_backend_rs::Result<()> {
        let invalid = |error| fuse_backend_rs::Error::InvalidMessage(io::Error::other(error));
        let reader = Reader::<()>::from_fuse_buffer(FuseBuf::new(request)).map_err(invalid)?;
        let writer = FuseDevWriter::new(self.fd.as_raw_fd(), reply).map_err(invalid)?;
        let writer = Writer::FuseDev(writer);
        self.server.handle_message(reader, writer, None, None)?;
        Ok(())
    }

    /// Answers EIO, lest who asked waits for good. If there was an answer
    /// already, the kernel knows no such request and this does nothing.
    fn fail(&self, header: &Header) {
        const LEN: u32 = 16;
        let no_reply = [Opcode::Forget, Opcode::BatchForget, Opcode::NotifyReply];
        if no_reply
            .iter()
            .any(|opcode| *opcode as u32 == header.opcode)
        {
            return;
        }
        let mut out = [0; LEN as usize];
        out[..4].copy_from_slice(&LEN.to_ne_bytes());
        out[4..8].copy_from_slice(&(-libc::EIO).to_ne_bytes());
        out[8..].copy_from_slice(&header.unique.to_ne_bytes());
        if let Err(error) = rustix::io::write(&self.fd, &out) {
            tracing::debug!(%error, "there was an answer already");
        }
    }
}

/// What the loop itself has to know of a request.
struct Header {
    opcode: u32,
    unique: u64,
}

impl Header {
    fn peek(request: &[u8]) -> Option<Self> {
        // len u32, opcode u32, unique u64, …
        Some(Self {
            opcode: u32::from_ne_bytes(*request.get(4..)?.first_chunk()?),
            unique: u64::from_ne_bytes(*request.get(8..)?.first_chunk()?),
        })
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
