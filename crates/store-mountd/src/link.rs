//! What supervisor and worker say to each other, over a socket pair of
//! messages that may carry file descriptors.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    num::NonZero,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
        sendmsg, socketpair,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::config::{Config, DataPathChoice, Integrity};

/// The version of these messages. An upgrade to a program that speaks another
/// is refused.
pub(crate) const LINK_VERSION: u32 = 2;

/// More descriptors than any message carries.
const MAX_FDS: usize = 8;
/// More bytes than any message has.
const MAX_LEN: usize = 64 << 10;

/// What a worker is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Open what is to be served. Comes with the device, the state, the
    /// store's directory and the turn, in this order.
    Prepare(Box<Service>),
    /// Take the turn and serve.
    Serve,
    /// Answer this.
    Ping(u64),
    /// What became of a file that was to be registered.
    Registered {
        /// Which one.
        question: u64,
        /// Its number, or an errno.
        result: Result<u32, i32>,
    },
    /// Something was removed from the store: look at it anew, and have the kernel
    /// forget these entries of the root.
    Removed {
        /// To tell the answers apart.
        number: u64,
        names: Vec<String>,
    },
}

/// What a worker says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The first message.
    Hello {
        /// The version of the messages.
        link: u32,
        /// The version of the state that it can resume.
        state: u32,
        /// The version of the program.
        program: String,
    },
    /// What is to be served is open; nothing was done yet.
    Prepared {
        /// How many store paths there are.
        paths: u64,
    },
    /// The connection is set up, and requests are handled.
    Serving {
        /// How contents are read, as the user names it.
        data_path: String,
    },
    /// Answers a ping.
    Pong(u64),
    /// Asks to make the file that comes with it known to the kernel.
    Register {
        /// To tell the answers apart.
        question: u64,
    },
    /// Asks to take that back.
    Unregister(u32),
    /// What was removed is forgotten.
    Removed(u64),
    /// The connection ended.
    Ended {
        /// By an abort, rather than by unmounting.
        aborted: bool,
    },
    /// It cannot go on, and ends.
    Failed(String),
}

/// How a worker serves: all that is not a descriptor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    /// Where the store was, for messages.
    pub(crate) store: String,
    pub(crate) integrity: Integrity,
    pub(crate) data_path: DataPathChoice,
    pub(crate) list_root: bool,
    pub(crate) xattrs: bool,
    pub(crate) threads: Option<NonZero<usize>>,
    pub(crate) max_threads: Option<NonZero<usize>>,
    pub(crate) directory_cache: u64,
    pub(crate) opened_blobs: usize,
    pub(crate) confine: bool,
    /// For tests.
    pub(crate) fault: Option<String>,
    /// For tests.
    pub(crate) no_resend: bool,
}

impl Service {
    /// How `config` says.
    pub(crate) fn of(config: &Config, store: &Path) -> Self {
        Self {
            store: store.display().to_string(),
            integrity: config.integrity,
            data_path: config.data_path,
            list_root: config.list_root,
            xattrs: config.xattrs,
            threads: config.threads,
            max_threads: config.max_threads,
            directory_cache: config.directory_cache,
            opened_blobs: config.opened_blobs,
            confine: config.confine,
            fault: None,
            no_resend: false,
        }
    }
}

/// One end.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
}

impl Link {
    /// Both ends; closed by exec.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self { socket: one }, Self { socket: other }))
    }

    pub(crate) fn from_fd(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Sends a message. Waits for room only if told to.
    pub(crate) fn send<M: Serialize>(
        &self,
        message: &M,
        fds: &[BorrowedFd<'_>],
        wait: bool,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("too many descriptors"));
        }
        let flags = if wait {
            SendFlags::NOSIGNAL
        } else {
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT
        };
        let data = [IoSlice::new(&bytes)];
        rustix::io::retry_on_intr(|| sendmsg(&self.socket, &data, &mut control, flags))?;
        Ok(())
    }

    /// The next message; `None` if the other end is closed. If it is not to
    /// wait, an error of the kind `WouldBlock` says that there is none.
    pub(crate) fn receive<M: DeserializeOwned>(
        &self,
        wait: bool,
    ) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MAX_LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = if wait {
            RecvFlags::CMSG_CLOEXEC
        } else {
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT
        };
        let received = rustix::io::retry_on_intr(|| {
            let mut data = [IoSliceMut::new(&mut bytes)];
            recvmsg(&self.socket, &mut data, &mut control, flags)
        });
        let received = match received {
            Ok(received) => received,
            Err(Errno::CONNRESET) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                fds.extend(more);
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.contains(ReturnFlags::TRUNC)
            || received.flags.contains(ReturnFlags::CTRUNC)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message was cut",
            ));
        }
        Ok(Some((
            serde_json::from_slice(&bytes[..received.bytes])?,
            fds,
        )))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{ErrorKind, Read as _, Seek as _, Write as _},
    };

    use super::*;

    #[test]
    fn messages_and_descriptors_arrive() {
        let (one, other) = Link::pair().unwrap();
        let none = other.receive::<Order>(false).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::WouldBlock);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"carried").unwrap();
        one.send(&Order::Ping(7), &[file.as_fd()], false).unwrap();
        one.send(&Order::Serve, &[], false).unwrap();
        let (order, mut fds) = other.receive::<Order>(true).unwrap().unwrap();
        assert!(matches!(order, Order::Ping(7)));
        let mut carried = File::from(fds.remove(0));
        carried.rewind().unwrap();
        let mut text = String::new();
        carried.read_to_string(&mut text).unwrap();
        assert_eq!(text, "carried");
        let (order, fds) = other.receive::<Order>(true).unwrap().unwrap();
        assert!(matches!(order, Order::Serve) && fds.is_empty());
    }

    #[test]
    fn a_closed_end_is_told_from_silence() {
        let (one, other) = Link::pair().unwrap();
        drop(other);
        assert!(one.receive::<Report>(true).unwrap().is_none());
        let gone = one.send(&Order::Serve, &[], true).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::BrokenPipe);
    }
}
