use std::{
    any::Any,
    io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use fuse_backend_rs::{
    abi::fuse_abi::{Opcode, ROOT_ID},
    api::server::Server,
    transport::{FuseBuf, FuseDevWriter, Reader, Writer},
};
use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use super::{DataPath, interrupt::Interrupts, released::Released};
use crate::{
    State,
    adapter::{Adapter, Backing, Opens, grants},
    core::Op,
    fuse::{
        Moment,
        backing::BackingFiles,
        fault::Faults,
        init::{Offer, PASSTHROUGH, RESEND},
        wire::{self, Header, OUT_HEADER, ReadIn},
    },
    state::{
        Decided,
        desk::{Card, Desk, Desks},
    },
};

/// How many file systems may be stacked in what a file is passed through to:
/// the store's own. It leaves room for one overlayfs above the mount.
const MAX_STACK_DEPTH: u32 = 1;

/// The least there is. Nothing is written; and the kernel refuses to be read
/// from with less room than for the largest write, which each thread has to
/// have.
const MAX_WRITE: u32 = 4096;

/// The least room for a reply other than to a read.
const REPLY_LEN: usize = 8192;

/// What all threads that serve a connection share.
pub(super) struct Engine {
    pub(super) fd: OwnedFd,
    pub(super) adapter: Arc<Adapter>,
    server: Server<Arc<Adapter>>,
    pub(super) state: Arc<State>,
    pub(super) desks: Arc<Desks>,
    pub(super) interrupts: Interrupts,
    pub(super) released: Released,
    pub(super) faults: Option<Faults>,
    wanted: DataPath,
    backing: Option<Arc<dyn Backing>>,
    /// What was decided when the connection was set up.
    decided: Mutex<Option<DataPath>>,
    got_decided: Condvar,
}

/// What comes with a thread.
#[derive(Default)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    /// Memory that was never touched takes none.
    fn of(&mut self, len: usize) -> &mut [u8] {
        if self.0.len() < len {
            self.0 = vec![0; len];
        }
        &mut self.0[..len]
    }
}

impl Engine {
    pub(super) fn new(
        fd: OwnedFd,
        adapter: Adapter,
        desks: Arc<Desks>,
        options: &super::ServeOptions,
    ) -> Self {
        let adapter = Arc::new(adapter);
        Self {
            fd,
            server: Server::new(Arc::clone(&adapter)),
            state: Arc::clone(adapter.filesystem().state()),
            adapter,
            desks,
            interrupts: Interrupts::new(),
            released: Released::default(),
            faults: options.fault.map(Faults::new),
            wanted: options.data_path,
            backing: options.backing.clone(),
            decided: Mutex::new(None),
            got_decided: Condvar::new(),
        }
    }

    pub(super) fn decided(&self) -> Option<DataPath> {
        *self.decided.lock()
    }

    pub(super) fn wait_decided(&self, deadline: std::time::Instant) -> bool {
        let mut decided = self.decided.lock();
        while decided.is_none() {
            if (self.got_decided.wait_until(&mut decided, deadline)).timed_out() {
                return decided.is_some();
            }
        }
        true
    }

    /// Takes the request at the desk.
    pub(super) fn take(&self, desk: &mut Desk) -> Option<Header> {
        let Some(header) = Header::parse(desk.bytes()) else {
            tracing::error!("a request without a header");
            return None;
        };
        desk.taken(Card {
            unique: header.unique,
            node: header.node,
            opcode: header.opcode,
            pid: header.pid,
        });
        Some(header)
    }

    /// Handles the request at the desk, to the end.
    pub(super) fn handle(&self, desk: &mut Desk, header: &Header, buffer: &mut Buffer) {
        self.fault(header, Moment::Taken);
        grants::begin();
        let handled = catch_unwind(AssertUnwindSafe(|| self.answer(desk, header, buffer)));
        let opcode = header.opcode;
        match handled {
            Ok(Ok(Some(len))) => self.write(header, &buffer.0[..len]),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::debug!(opcode, %error, "a request was not handled");
                self.fail(header);
            }
            Err(panic) => {
                tracing::error!(opcode, panic = message(&*panic), "the handler panicked");
                self.fail(header);
            }
        }
        self.fault(header, Moment::Answered);
    }

    fn write(&self, header: &Header, reply: &[u8]) {
        self.fault(header, Moment::Done);
        let opcode = header.opcode;
        match write_all(&self.fd, reply) {
            Ok(()) => {}
            // Who asked was killed meanwhile, or somebody answered already.
            Err(Errno::NOENT) => {
                tracing::trace!(opcode, "nobody waits for the answer any more");
                self.adapter.revoke();
            }
            Err(error) => {
                tracing::debug!(opcode, %error, "an answer was not taken");
                self.fail(header);
            }
        }
    }

    /// Answers EIO, lest who asked waits for good.
    fn fail(&self, header: &Header) {
        self.adapter.revoke();
        if !header.wants_reply() {
            return;
        }
        let out = wire::out_header(header.unique, OUT_HEADER, libc::EIO);
        if let Err(error) = write_all(&self.fd, &out) {
            tracing::debug!(%error, "there was an answer already");
        }
    }

    /// The length of the answer, for those requests that have one.
    fn answer(
        &self,
        desk: &mut Desk,
        header: &Header,
        buffer: &mut Buffer,
    ) -> io::Result<Option<usize>> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        if header.is(Opcode::Read) {
            let read = ReadIn::parse(desk.bytes()).ok_or_else(invalid)?;
            return self.read(header, read, buffer).map(Some);
        }
        if header.is(Opcode::Forget) || header.is(Opcode::BatchForget) {
            self.forget(desk, header);
            return Ok(None);
        }
        if header.is(Opcode::Release) {
            return self.release(desk, header, buffer).map(Some);
        }
        if header.is(Opcode::Interrupt) {
            self.interrupts.take(self, header, desk.bytes());
            return Ok(None);
        }
        let mut room = REPLY_LEN;
        if header.is(Opcode::Readdir) || header.is(Opcode::Readdirplus) {
            let read = ReadIn::parse(desk.bytes()).ok_or_else(invalid)?;
            self.forget_root_listing(header, &read);
            room = room.max(read.size + OUT_HEADER);
        }
        let buffer = buffer.of(room);
        if header.is(Opcode::Init) {
            self.init(header, desk.bytes(), buffer)?;
            return Ok(None);
        }
        self.encode(desk.bytes(), buffer)
    }

    /// Lets `Server` handle a request, and write the reply to a buffer.
    fn encode(&self, request: &mut [u8], reply: &mut [u8]) -> io::Result<Option<usize>> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{error}"));
        let header = Header::parse(request).ok_or(io::ErrorKind::InvalidData)?;
        let len = wire::len(request).unwrap_or(0).min(request.len());
        reply[..OUT_HEADER].fill(0);
        let reader = Reader::<()>::from_fuse_buffer(FuseBuf::new(&mut request[..len]));
        let reader = reader.map_err(invalid)?;
        // Split off, it collects what is written; what it wants to write in the
        // end goes to no descriptor.
        let mut writer = FuseDevWriter::new(-1, &mut *reply).map_err(invalid)?;
        let writer = Writer::FuseDev(writer.split_at(0).map_err(invalid)?);
        let handled = self.server.handle_message(reader, writer, None, None);
        match wire::len(reply) {
            Some(len) if len >= OUT_HEADER && wire::answers(reply) == Some(header.unique) => {
                Ok(Some(len.min(reply.len())))
            }
            _ if header.wants_reply() => Err(match handled {
                Ok(_) => io::Error::other("there is no answer"),
                Err(error) => io::Error::other(error),
            }),
            _ => Ok(None),
        }
    }

    /// READ, without `Server`: the contents are read to where they are written
    /// to the kernel from.
    fn read(&self, header: &Header, read: ReadIn, buffer: &mut Buffer) -> io::Result<usize> {
        const MAX: usize = 1 << 20;
        let size = read.size.min(MAX);
        let reply = buffer.of(OUT_HEADER + size);
        let (head, body) = reply.split_at_mut(OUT_HEADER);
        let (len, errno) = match self.adapter.read_into(header.node, body, read.offset) {
            Ok(len) => (OUT_HEADER + len, 0),
            Err(error) => (OUT_HEADER, error.raw_os_error().unwrap_or(libc::EIO)),
        };
        head.copy_from_slice(&wire::out_header(header.unique, len, errno));
        Ok(len)
    }

    /// FORGET has no answer, so nobody asks it again: it is done once, up to
    /// where it got before.
    pub(super) fn forget(&self, desk: &mut Desk, header: &Header) {
        self.adapter.count(Op::Forget);
        let done = desk.progress();
        let forgets = wire::forgets(header, desk.bytes());
        for (part, (node, count)) in (0..).zip(forgets).skip(done as usize) {
            desk.begin_part(part);
            self.adapter.forget_node(node, count);
        }
    }

    /// RELEASE. Done twice, it would close what somebody else has open.
    fn release(&self, desk: &mut Desk, header: &Header, buffer: &mut Buffer) -> io::Result<usize> {
        let handle = wire::release_handle(desk.bytes()).ok_or(io::ErrorKind::InvalidData)?;
        let begun = self.released.take(header.unique);
        let has_begun = begun.is_some() || desk.has_begun();
        desk.begin();
        drop(begun);
        if !has_begun {
            self.adapter.close(handle);
        }
        let reply = buffer.of(OUT_HEADER);
        reply.copy_from_slice(&wire::out_header(header.unique, OUT_HEADER, 0));
        Ok(OUT_HEADER)
    }

    /// INIT: decides how contents are read, unless a process did that whose
    /// answer the kernel may have. The connection is set up once the kernel has
    /// taken the answer: only then may its read-ahead be set.
    fn init(&self, header: &Header, request: &mut [u8], reply: &mut [u8]) -> io::Result<()> {
        let offer = Offer::parse(request);
        let decided = self.state.decided().unwrap_or_else(|| self.choose(&offer));
        let Some(len) = self.encode(request, reply)? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let flags = if decided.has_resend { RESEND } else { 0 };
        let (more, depth) = match decided.passthrough {
            true => (PASSTHROUGH, MAX_STACK_DEPTH),
            false => (0, 0),
        };
        wire::amend_init(&mut reply[..len], flags | more, MAX_WRITE, depth);
        self.state.decide(decided);
        let data_path = self.open_as(decided)?;
        self.write(header, &reply[..len]);
        self.announce(data_path);
        Ok(())
    }

    fn choose(&self, offer: &Offer) -> Decided {
        let data_path = self.wanted.decide(offer, self.backing.is_some());
        let passthrough = data_path == DataPath::Passthrough;
        Decided {
            passthrough,
            has_resend: offer.resend(),
            unasked_files: !passthrough && offer.unasked_files(),
            unasked_directories: offer.unasked_directories(),
        }
    }

    /// Opens are answered as was decided, perhaps by another process.
    pub(super) fn open_as(&self, decided: Decided) -> io::Result<DataPath> {
        let backing: Option<Arc<dyn Backing>> = match (decided.passthrough, &self.backing) {
            (false, _) => None,
            (true, Some(backing)) => Some(Arc::clone(backing)),
            (true, None) => Some(Arc::new(BackingFiles::new(self.fd.try_clone()?))),
        };
        self.adapter.decide(Opens {
            unasked_files: decided.unasked_files,
            unasked_directories: decided.unasked_directories,
            backing,
        });
        Ok(match decided.passthrough {
            true => DataPath::Passthrough,
            false => DataPath::Cached,
        })
    }

    /// The connection is set up.
    pub(super) fn announce(&self, data_path: DataPath) {
        tracing::debug!(%data_path, "the connection is set up");
        *self.decided.lock() = Some(data_path);
        self.got_decided.notify_all();
    }

    /// Where directories are opened unasked, the kernel caches all listings for
    /// good. That of the root is dropped from its cache while it is listed:
    /// when the kernel asks for the end, it has all that goes before, and after
    /// the end it looks for that and finds it gone.
    fn forget_root_listing(&self, header: &Header, read: &ReadIn) {
        if header.node != ROOT_ID || !self.adapter.opens().unasked_directories {
            return;
        }
        if read.offset != 0
            && let Err(error) = write_all(&self.fd, &wire::invalidate(ROOT_ID))
        {
            tracing::debug!(%error, "the root's listing was not dropped");
        }
    }

    fn fault(&self, header: &Header, moment: Moment) {
        if let Some(faults) = &self.faults {
            faults.at(header.opcode, moment);
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// To the kernel, which takes a message whole or not at all.
pub(super) fn write_all(fd: &OwnedFd, message: &[u8]) -> rustix::io::Result<()> {
    loop {
        match rustix::io::write(fd, message) {
            Err(Errno::INTR) => {}
            result => return result.map(|_| ()),
        }
    }
}

pub(super) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
