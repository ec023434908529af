//! The service manager's protocol: sd_notify(3), the watchdog, the store of
//! file descriptors.
//!
//! The socket is connected when the program starts, since its path may not
//! resolve later, and nothing here ever waits: what does not fit now is sent
//! when there is room.

use std::{
    cell::RefCell,
    collections::VecDeque,
    env,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;

use crate::supervisor::inherited;

/// Variables that are for the supervisor alone.
pub(crate) const VARIABLES: [&str; 9] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDNAMES",
    "FDSTORE",
    "MAINPID",
];

/// Where the first descriptor is that the manager hands over.
const FIRST: i32 = 3;
/// What is only of use as long as it is the latest: who does not read for a
/// while is told once. Everything else is kept until it was sent.
const LATEST_ONLY: [&str; 3] = ["WATCHDOG=", "STATUS=", "EXTEND_TIMEOUT_USEC="];

/// Speaks to the service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: Option<UnixDatagram>,
    waiting: RefCell<VecDeque<Message>>,
    watchdog: Option<Duration>,
    /// How many descriptors the manager keeps, if it says so, as systemd does
    /// since version 254.
    room: Option<usize>,
}

#[derive(Debug)]
struct Message {
    text: String,
    fd: Option<OwnedFd>,
}

impl Notifier {
    /// What the environment says.
    pub(crate) fn from_environment() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|address| {
            connect(address.as_bytes())
                .inspect_err(|error| {
                    tracing::warn!(?address, %error, "cannot reach the service manager");
                })
                .ok()
        });
        Self {
            socket,
            waiting: RefCell::default(),
            watchdog: sd_notify::watchdog_enabled(),
            room: env::var("FDSTORE").ok().and_then(|room| room.parse().ok()),
        }
    }

    /// Whether there is a service manager.
    pub(crate) fn is_managed(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether the manager keeps so many descriptors, as far as is known.
    pub(crate) fn keeps(&self, count: usize) -> bool {
        self.is_managed() && self.room.is_none_or(|room| room >= count)
    }

    /// Whether it says how many it keeps.
    pub(crate) fn says_what_it_keeps(&self) -> bool {
        self.room.is_some()
    }

    /// How often the manager wants to hear WATCHDOG=1, at the least.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Tells the manager.
    pub(crate) fn tell(&self, states: &[NotifyState<'_>]) {
        self.queue(states, None);
    }

    /// Has the manager keep a descriptor. It is not to watch it: the device of
    /// a mount that is gone, say, would be dropped before anybody could tell.
    pub(crate) fn store(&self, name: &str, fd: BorrowedFd<'_>) {
        // Kept in order with what waits.
        match fd.try_clone_to_owned() {
            Ok(fd) => self.queue(
                &[
                    NotifyState::FdStore,
                    NotifyState::FdName(name),
                    NotifyState::Custom("FDPOLL=0"),
                ],
                Some(fd),
            ),
            Err(error) => tracing::error!(%error, name, "cannot hand over a descriptor"),
        }
    }

    /// Has the manager drop what it keeps by this name.
    pub(crate) fn forget(&self, name: &str) {
        self.queue(
            &[NotifyState::FdStoreRemove, NotifyState::FdName(name)],
            None,
        );
    }

    /// Whether something could not be sent yet.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    fn queue(&self, states: &[NotifyState<'_>], fd: Option<OwnedFd>) {
        if self.socket.is_none() {
            return;
        }
        let text: String = states.iter().map(|state| format!("{state}\n")).collect();
        let mut waiting = self.waiting.borrow_mut();
        if let Some(kind) = LATEST_ONLY.iter().find(|kind| text.starts_with(**kind)) {
            waiting.retain(|message| !message.text.starts_with(kind));
        }
        waiting.push_back(Message { text, fd });
        drop(waiting);
        self.flush();
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn flush(&self) {
        let Some(socket) = &self.socket else { return };
        let mut waiting = self.waiting.borrow_mut();
        while let Some(message) = waiting.front() {
            match message.send(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(%error, text = message.text, "the manager was not told");
                }
                Ok(()) => {}
            }
            waiting.pop_front();
        }
    }
}

impl Message {
    fn send(&self, socket: &UnixDatagram) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = self.fd.as_ref().map(|fd| [fd.as_fd()]);
        if let Some(fds) = &fds {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let data = [IoSlice::new(self.text.as_bytes())];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::io::retry_on_intr(|| sendmsg(socket, &data, &mut control, flags))?;
        Ok(())
    }
}

fn connect(address: &[u8]) -> io::Result<UnixDatagram> {
    let address = match address.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// Whether the manager hands descriptors over.
pub(crate) fn is_handed_over() -> bool {
    env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string())
}

/// The descriptors that the manager hands over, with their names. To be called
/// once, in the program that is to have them: they are closed by exec from then
/// on.
pub(crate) fn handed_over() -> io::Result<Vec<(String, OwnedFd)>> {
    let count = env::var("LISTEN_FDS").ok().and_then(|n| n.parse().ok());
    let (true, Some(count)) = (is_handed_over(), count) else {
        return Ok(Vec::new());
    };
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned);
    let names = names.chain(std::iter::repeat(String::new()));
    (FIRST..FIRST.saturating_add(count))
        .zip(names)
        .map(|(number, name)| Ok((name, inherited(number)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected() -> (Notifier, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let notifier = Notifier {
            socket: Some(ours),
            waiting: RefCell::default(),
            watchdog: None,
            room: None,
        };
        (notifier, theirs)
    }

    #[test]
    fn a_full_socket_is_not_waited_for_and_loses_nothing_but_old_news() {
        let (notifier, theirs) = connected();
        for _ in 0..2000 {
            notifier.tell(&[NotifyState::Watchdog]);
        }
        assert!(notifier.is_behind());
        let file = tempfile::tempfile().unwrap();
        notifier.store("kept", file.as_fd());
        notifier.tell(&[NotifyState::Ready]);
        notifier.tell(&[NotifyState::Status("old")]);
        for _ in 0..2000 {
            notifier.tell(&[NotifyState::Watchdog]);
            notifier.tell(&[NotifyState::ExtendTimeoutUsec(1)]);
        }
        notifier.tell(&[NotifyState::Status("new")]);
        notifier.forget("kept");
        notifier.tell(&[NotifyState::Stopping]);
        assert_eq!(notifier.waiting.borrow().len(), 7);
        theirs.set_nonblocking(true).unwrap();
        let mut told = Vec::new();
        let mut buffer = [0; 256];
        loop {
            while let Ok(len) = theirs.recv(&mut buffer) {
                told.push(String::from_utf8(buffer[..len].to_vec()).unwrap());
            }
            if !notifier.is_behind() {
                break;
            }
            notifier.flush();
        }
        let first = told.iter().position(|text| text != "WATCHDOG=1\n");
        assert_eq!(
            told[first.unwrap()..],
            [
                "FDSTORE=1\nFDNAME=kept\nFDPOLL=0\n",
                "READY=1\n",
                "WATCHDOG=1\n",
                "EXTEND_TIMEOUT_USEC=1\n",
                "STATUS=new\n",
                "FDSTOREREMOVE=1\nFDNAME=kept\n",
                "STOPPING=1\n",
            ]
        );
    }

    #[test]
    fn descriptors_are_kept_only_where_there_is_room() {
        let (mut notifier, _theirs) = connected();
        assert!(notifier.keeps(4) && !notifier.says_what_it_keeps());
        notifier.room = Some(3);
        assert!(!notifier.keeps(4) && notifier.keeps(3));
        notifier.socket = None;
        assert!(!notifier.keeps(3));
    }

    #[test]
    fn without_a_manager_nothing_is_told() {
        let notifier = Notifier {
            socket: None,
            waiting: RefCell::default(),
            watchdog: None,
            room: None,
        };
        notifier.tell(&[NotifyState::Ready]);
        assert!(!notifier.is_managed() && !notifier.is_behind());
    }
}
