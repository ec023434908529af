//! The socket that a service notifies.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt::set_socket_passcred,
};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

/// One message: its lines, cut at the first `=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message(Vec<(String, String)>);

impl Message {
    /// Reads a message.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let owned = lines.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self(owned.collect())
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.iter();
        let line = lines.find(|(found, _)| found == name)?;
        Some(&line.1)
    }

    /// Whether it has this line.
    pub fn says(&self, line: &str) -> bool {
        let wanted = line.split_once('=');
        wanted.is_some_and(|(name, value)| self.get(name) == Some(value))
    }

    /// The names of its variables.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Record {
    /// When.
    pub at: Instant,
    /// From which process.
    pub sender: u32,
    /// Whether it came from one that `NotifyAccess=` lets notify.
    pub is_accepted: bool,
    /// What it says.
    pub message: Message,
}

pub(super) struct Received {
    pub(super) sender: u32,
    pub(super) message: Message,
    pub(super) fds: Vec<OwnedFd>,
}

pub(super) struct Socket(UnixDatagram);

impl Socket {
    pub(super) fn bind(path: &Path) -> std::io::Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        set_socket_passcred(&socket, true)?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok(Self(socket))
    }

    /// The next message, if one comes soon.
    pub(super) fn receive(&self) -> Option<Received> {
        let mut buffer = [0; 8192];
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut data = [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.0, &mut data, &mut control, flags).ok()?;
        let (mut sender, mut fds) = (0, Vec::new());
        for message in control.drain() {
            match message {
                RecvAncillaryMessage::ScmRights(received) => fds.extend(received),
                RecvAncillaryMessage::ScmCredentials(credentials) => {
                    sender = credentials.pid.as_raw_nonzero().get() as u32;
                }
                _ => {}
            }
        }
        let len = received.bytes;
        let text = String::from_utf8_lossy(&buffer[..len]);
        Some(Received {
            sender,
            message: Message::parse(&text),
            fds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn a_message_has_variables() {
        let message = Message::parse("READY=1\nSTATUS=a=b c\n");
        assert!(message.says("READY=1") && !message.says("READY=0") && !message.says("READY"));
        assert_eq!(message.get("STATUS"), Some("a=b c"));
        assert_eq!(message.names().count(), 2);
    }
}
