//! The side of who serves.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::{
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt},
    process::geteuid,
};

use super::{
    Conduct,
    protocol::{Request, Response},
};
use crate::failure;

/// The longest request.
const MAX_REQUEST: usize = 1 << 20;
/// Descriptors that may come with one.
const MAX_FDS: usize = 1;
/// How long a client may keep a thread waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clients that are heard at a time.
const MAX_CLIENTS: usize = 8;
/// The stack of a thread; it may be locked in memory.
const STACK: usize = 256 << 10;

/// A socket that nobody is heard on yet.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    file: SocketFile,
}

/// A socket whose clients are heard, as long as the program runs. Dropping it
/// removes the socket.
#[derive(Debug)]
pub(crate) struct Serving {
    _file: SocketFile,
    clients: Arc<AtomicUsize>,
}

impl Serving {
    /// Waits until no client is connected: all have read what they were
    /// answered.
    pub(crate) fn wait_for_clients(&self, at_most: Duration) {
        let end = Instant::now() + at_most;
        while self.clients.load(SeqCst) > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Listener {
    /// Makes the socket, in place of one that was left there. Its owner and
    /// root can use it.
    pub(crate) fn bind(path: &Path) -> Result<Self> {
        let (socket, file) = bind(path)
            .with_context(|| format!("cannot make the control socket {}", path.display()))?;
        Ok(Self { socket, file })
    }

    /// Hears clients, on threads of their own.
    pub(crate) fn serve(self, conduct: Arc<dyn Conduct>) -> Result<Serving> {
        let Self { socket, file } = self;
        let clients = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&clients);
        thread::Builder::new()
            .name("control".to_owned())
            .stack_size(STACK)
            .spawn(move || accept(&socket, &conduct, &counted))
            .context("cannot start a thread")?;
        Ok(Serving {
            _file: file,
            clients,
        })
    }
}

/// The name of a socket, which goes when it is dropped.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: another process may have put its own there.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let identity = fs::symlink_metadata(&self.path).map(|it| (it.dev(), it.ino()));
        if identity.is_ok_and(|identity| identity == self.identity) {
            // Nobody minds a socket that nobody listens at.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    }
    // Under another name first: what has the right one is ready, and for the
    // right people only.
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".{}", std::process::id()));
    let hidden = PathBuf::from(hidden);
    remove_if_there(&hidden)?;
    let socket = UnixListener::bind(&hidden)?;
    let made = fs::set_permissions(&hidden, Permissions::from_mode(0o600))
        .and_then(|()| fs::symlink_metadata(&hidden))
        .and_then(|metadata| fs::rename(&hidden, path).map(|()| metadata));
    if made.is_err() {
        remove_if_there(&hidden)?;
    }
    let metadata = made?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: (metadata.dev(), metadata.ino()),
    };
    Ok((socket, file))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn accept(socket: &UnixListener, conduct: &Arc<dyn Conduct>, clients: &Arc<AtomicUsize>) {
    loop {
        let stream = match socket.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a client cannot be heard");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if clients.fetch_add(1, SeqCst) >= MAX_CLIENTS {
            clients.fetch_sub(1, SeqCst);
            continue;
        }
        let conduct = Arc::clone(conduct);
        let leaving = Leaving(Arc::clone(clients));
        let started = thread::Builder::new()
            .name("client".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let _leaving = leaving;
                if let Err(error) = hear(stream, &*conduct) {
                    tracing::debug!(%error, "a client was not served");
                }
            });
        if let Err(error) = started {
            tracing::warn!(%error, "a client cannot be heard");
        }
    }
}

/// Counts a client that leaves.
struct Leaving(Arc<AtomicUsize>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn hear(mut stream: UnixStream, conduct: &dyn Conduct) -> io::Result<()> {
    let peer = sockopt::socket_peercred(&stream)?;
    if !(peer.uid.is_root() || peer.uid == geteuid()) {
        return Err(ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut incoming = Incoming::default();
    while let Some((line, file)) = incoming.next(&stream)? {
        let response = match serde_json::from_slice(&line) {
            Ok(request) => answer(request, file, conduct),
            Err(error) => Response::Refused(format!("not understood: {error}")),
        };
        let mut line = serde_json::to_vec(&response)?;
        line.push(b'\n');
        stream.write_all(&line)?;
    }
    Ok(())
}

fn answer(request: Request, file: Option<File>, conduct: &dyn Conduct) -> Response {
    tracing::debug!(?request, "asked through the control socket");
    let response = match request {
        Request::Status => (conduct.status()).map(|status| Response::Status(Box::new(status))),
        Request::InFlight => conduct.in_flight().map(Response::InFlight),
        Request::Upgrade { program } => {
            let program = file.map(|file| (file, program.unwrap_or_default()));
            conduct.upgrade(program).map(Response::Done)
        }
        Request::Unmount { detach } => conduct.unmount(detach).map(Response::Done),
        Request::Removed { names } => conduct.removed(names).map(Response::Done),
    };
    response.unwrap_or_else(|error| Response::Refused(failure::message(&error)))
}

/// What a client sent, and was not handled yet.
#[derive(Debug, Default)]
struct Incoming {
    bytes: Vec<u8>,
    file: Option<OwnedFd>,
}

impl Incoming {
    /// The next line, with the file that came with it.
    fn next(&mut self, stream: &UnixStream) -> io::Result<Option<(Vec<u8>, Option<File>)>> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line = self.bytes.drain(..=end).collect();
                return Ok(Some((line, self.file.take().map(File::from))));
            }
            if self.bytes.len() >= MAX_REQUEST {
                return Err(io::Error::other("the request is too long"));
            }
            if self.receive(stream)? == 0 {
                return Ok(None);
            }
        }
    }

    fn receive(&mut self, stream: &UnixStream) -> io::Result<usize> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(
                stream,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                flags,
            )
        })?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.file = fds.last().or(self.file.take());
            }
        }
        self.bytes.extend_from_slice(&bytes[..received.bytes]);
        Ok(received.bytes)
    }
}
