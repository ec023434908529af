use std::{
    any::Any,
    io,
    os::fd::{AsRawFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use fuse_backend_rs::{
    abi::fuse_abi::{Opcode, ROOT_ID},
    api::server::{MAX_BUFFER_SIZE, Server},
    transport::{FuseBuf, FuseDevWriter, Reader, Writer},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{MemfdFlags, memfd_create},
    io::Errno,
};

use super::{DataPath, ServeError, Shared};
use crate::{
    adapter::{Adapter, Opens},
    fuse::{
        End,
        backing::BackingFiles,
        init::{Offer, PASSTHROUGH},
        wire::{self, Header, OUT_HEADER, ReadIn},
    },
    state::Decided,
};

/// The most that a request or a reply can have: 1 MiB of data, and what goes
/// before it. The kernel refuses to be read from with less room.
const BUFFER_LEN: usize = MAX_BUFFER_SIZE as usize + 4096;

/// How many file systems may be stacked in what a file is passed through to:
/// the store's own. It leaves room for one overlayfs above the mount.
const MAX_STACK_DEPTH: u32 = 1;

/// One thread that serves.
pub(super) struct Worker {
    pub(super) fd: OwnedFd,
    pub(super) adapter: Arc<Adapter>,
    pub(super) server: Arc<Server<Arc<Adapter>>>,
    pub(super) shared: Arc<Shared>,
}

impl Worker {
    pub(super) fn run(self) -> Result<End, ServeError> {
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
        let Some(header) = Header::parse(request) else {
            tracing::error!(len = request.len(), "a request without a header");
            return;
        };
        // Whoever waits for that request is answered when it is done; and
        // `Server` knows no way to tell.
        if header.is(Opcode::Interrupt) {
            tracing::trace!("a request was interrupted");
            return;
        }
        let handled = catch_unwind(AssertUnwindSafe(|| {
            if header.is(Opcode::Read) {
                self.read(&header, request, reply)
            } else if header.is(Opcode::Init) {
                self.init(request, reply)
            } else {
                self.forget_root_listing(&header, request);
                self.dispatch(request, reply, &self.fd)
            }
        }));
        let opcode = header.opcode;
        match handled {
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

    fn dispatch(&self, request: &mut [u8], reply: &mut [u8], to: &OwnedFd) -> io::Result<()> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{error}"));
        let reader = Reader::<()>::from_fuse_buffer(FuseBuf::new(request)).map_err(invalid)?;
        let writer = FuseDevWriter::new(to.as_raw_fd(), reply).map_err(invalid)?;
        let writer = Writer::FuseDev(writer);
        (self.server.handle_message(reader, writer, None, None)).map_err(io::Error::other)?;
        Ok(())
    }

    /// READ, without `Server`: the contents are read to where they are written
    /// to the kernel from.
    fn read(&self, header: &Header, request: &[u8], reply: &mut [u8]) -> io::Result<()> {
        let ReadIn { offset, size } = ReadIn::parse(request).ok_or(io::ErrorKind::InvalidData)?;
        let (head, body) = reply.split_at_mut(OUT_HEADER);
        let size = size.min(body.len());
        let (len, errno) = match (self.adapter).read_into(header.node, &mut body[..size], offset) {
            Ok(len) => (OUT_HEADER + len, 0),
            Err(error) => (OUT_HEADER, error.raw_os_error().unwrap_or(libc::EIO)),
        };
        head.copy_from_slice(&wire::out_header(header.unique, len, errno));
        rustix::io::write(&self.fd, &reply[..len])?;
        Ok(())
    }

    /// INIT: decides how contents are read.
    fn init(&self, request: &mut [u8], reply: &mut [u8]) -> io::Result<()> {
        let offer = Offer::parse(request);
        let data_path = self.shared.wanted.decide(&offer);
        let passthrough = data_path == DataPath::Passthrough;
        let backing = match passthrough {
            true => Some(Box::new(BackingFiles::new(self.fd.try_clone()?)) as _),
            false => None,
        };
        let decided = Decided {
            passthrough,
            has_resend: false,
            unasked_files: !passthrough && offer.unasked_files(),
            unasked_directories: offer.unasked_directories(),
            minor: offer.minor(),
        };
        self.adapter.filesystem().state().decide(decided);
        self.adapter.decide(Opens {
            unasked_files: decided.unasked_files,
            unasked_directories: decided.unasked_directories,
            backing,
        });
        if passthrough {
            self.init_passthrough(request, reply)?;
        } else {
            self.dispatch(request, reply, &self.fd)?;
        }
        tracing::debug!(%data_path, "the connection is set up");
        *self.shared.decided.lock() = Some(data_path);
        self.shared.got_decided.notify_all();
        Ok(())
    }

    /// Asks for what `fuse-backend-rs` does not know: its answer is written to
    /// a file in memory first.
    fn init_passthrough(&self, request: &mut [u8], reply: &mut [u8]) -> io::Result<()> {
        let memory = memfd_create("fuse-init", MemfdFlags::CLOEXEC)?;
        self.dispatch(request, reply, &memory)?;
        let mut answer = [0; 256];
        let len = rustix::io::pread(&memory, &mut answer, 0)?;
        let answer = &mut answer[..len];
        wire::amend_init(answer, PASSTHROUGH, MAX_STACK_DEPTH);
        rustix::io::write(&self.fd, answer)?;
        Ok(())
    }

    /// Where directories are opened unasked, the kernel caches all listings for
    /// good. That of the root is dropped from its cache while it is listed:
    /// when the kernel asks for the end, it has all that goes before, and after
    /// the end it looks for that and finds it gone.
    fn forget_root_listing(&self, header: &Header, request: &[u8]) {
        let lists = header.is(Opcode::Readdir) || header.is(Opcode::Readdirplus);
        if header.node != ROOT_ID || !lists || !self.adapter.opens().unasked_directories {
            return;
        }
        if ReadIn::parse(request).is_some_and(|read| read.offset != 0)
            && let Err(error) = rustix::io::write(&self.fd, &wire::invalidate(ROOT_ID))
        {
            tracing::debug!(%error, "the root's listing was not dropped");
        }
    }

    /// Answers EIO, lest who asked waits for good. If there was an answer
    /// already, the kernel knows no such request and this does nothing.
    fn fail(&self, header: &Header) {
        if !header.wants_reply() {
            return;
        }
        let out = wire::out_header(header.unique, OUT_HEADER, libc::EIO);
        if let Err(error) = rustix::io::write(&self.fd, &out) {
            tracing::debug!(%error, "there was an answer already");
        }
    }
}

pub(super) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
