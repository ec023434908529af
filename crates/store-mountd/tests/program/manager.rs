//! A service manager for tests: the socket of sd_notify(3) and a store of file
//! descriptors.

#![allow(unsafe_code)]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::{net::UnixDatagram, process::CommandExt as _},
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::harness::{PROGRAM, Place};

const PATIENCE: Duration = Duration::from_secs(30);

/// The manager.
pub(crate) struct Manager {
    socket: UnixDatagram,
    /// What it keeps, by name.
    pub(crate) stored: BTreeMap<String, OwnedFd>,
    /// All messages so far.
    pub(crate) messages: Vec<String>,
}

impl Manager {
    pub(crate) fn new(place: &Place) -> Self {
        let path = place.path("notify");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        Self {
            socket,
            stored: BTreeMap::new(),
            messages: Vec::new(),
        }
    }

    /// The next message, if there is one soon.
    fn receive(&mut self) -> Option<String> {
        let mut buffer = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut data = [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.socket, &mut data, &mut control, flags).ok()?;
        let len = received.bytes;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        let text = String::from_utf8(buffer[..len].to_vec()).unwrap();
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
        if text.lines().any(|line| line == "FDSTORE=1") {
            let fd = fds.pop().expect("a descriptor");
            self.stored.insert(name.expect("a name").to_owned(), fd);
        }
        if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
            self.stored.remove(name.expect("a name"));
        }
        self.messages.push(text.clone());
        Some(text)
    }

    /// Waits for a message with a line that begins like this; answers the line.
    pub(crate) fn wait_for(&mut self, beginning: &str) -> String {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let Some(text) = self.receive() else { continue };
            if let Some(line) = text.lines().find(|line| line.starts_with(beginning)) {
                return line.to_owned();
            }
        }
        panic!("never told {beginning:?}, but {:#?}", self.messages);
    }

    /// Takes in what was sent so far.
    pub(crate) fn catch_up(&mut self) {
        while self.receive().is_some() {}
    }

    /// Whether it was told this so far.
    pub(crate) fn was_told(&self, line: &str) -> bool {
        let mut lines = self.messages.iter().flat_map(|message| message.lines());
        lines.any(|told| told == line)
    }

    /// The program as a service, with the descriptors that are kept, and room
    /// to keep some.
    pub(crate) fn service(&self, place: &Place, arguments: &[&OsStr]) -> Command {
        // LISTEN_PID is that of the process that executes the program.
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                r#"export LISTEN_PID=$$; exec "$0" "$@""#,
                PROGRAM,
                "--store",
            ])
            .arg(place.store())
            .args(arguments)
            .env_remove("RUST_LOG")
            .env("NOTIFY_SOCKET", place.path("notify"))
            .env("FDSTORE", "8")
            .env("LISTEN_FDS", self.stored.len().to_string())
            .env("LISTEN_FDNAMES", self.names())
            .stdin(Stdio::null());
        let fds: Vec<_> = self.stored.values().map(|fd| fd.as_raw_fd()).collect();
        // SAFETY: it only duplicates descriptors, first out of the way.
        unsafe {
            command.pre_exec(move || {
                let mut moved = [0; 16];
                for (fd, moved) in fds.iter().zip(&mut moved) {
                    *moved = check(libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 64))?;
                }
                for (number, moved) in moved[..fds.len()].iter().enumerate() {
                    check(libc::dup2(*moved, 3 + number as RawFd))?;
                }
                Ok(())
            });
        }
        command
    }

    fn names(&self) -> String {
        self.stored.keys().cloned().collect::<Vec<_>>().join(":")
    }

    /// `mount` as a service.
    pub(crate) fn mount(&self, place: &Place, mountpoint: &Path, more: &[&str]) -> Command {
        let mut arguments = vec![OsStr::new("mount"), mountpoint.as_os_str()];
        arguments.extend(more.iter().map(OsStr::new));
        self.service(place, &arguments)
    }
}

fn check(result: RawFd) -> io::Result<RawFd> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(fd),
    }
}
