//! Descriptors that outlive a service.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd as _, OwnedFd};

/// What a service has given to keep, as `FileDescriptorStoreMax=` allows.
#[derive(Debug)]
pub(super) struct FdStore {
    entries: Vec<Entry>,
    max: usize,
    /// How many were refused or dropped.
    pub(super) lost: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    fd: OwnedFd,
    is_watched: bool,
}

impl FdStore {
    pub(super) fn new(max: usize) -> Self {
        Self {
            entries: Vec::new(),
            max,
            lost: Vec::new(),
        }
    }

    /// Keeps a descriptor. A watched one is dropped as soon as it has an error or a hang-up.
    pub(super) fn keep(&mut self, name: &str, fd: OwnedFd, is_watched: bool) {
        if self.entries.len() >= self.max {
            self.lost.push(format!("{name}: there is no room"));
            return;
        }
        self.entries.push(Entry {
            name: name.to_owned(),
            fd,
            is_watched,
        });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.entries.retain(|entry| entry.name != name);
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Drops what systemd would: descriptors that poll as broken, unless FDPOLL=0 was said.
    pub(super) fn poll(&mut self) {
        let lost = &mut self.lost;
        self.entries.retain(|entry| {
            let broken = PollFlags::POLLERR | PollFlags::POLLHUP;
            let mut fds = [PollFd::new(entry.fd.as_fd(), PollFlags::empty())];
            let is_broken = entry.is_watched
                && poll(&mut fds, PollTimeout::ZERO).is_ok()
                && fds[0]
                    .revents()
                    .is_some_and(|events| events.intersects(broken));
            if is_broken {
                lost.push(format!("{}: polls as broken", entry.name));
            }
            !is_broken
        });
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.entries
            .iter()
            .map(|entry| entry.name.clone())
            .collect()
    }

    /// Duplicates, to hand over.
    pub(super) fn duplicates(&self) -> std::io::Result<Vec<(String, OwnedFd)>> {
        let entries = self.entries.iter();
        entries
            .map(|entry| Ok((entry.name.clone(), entry.fd.try_clone()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::FdStore;

    #[test]
    fn broken_descriptors_are_dropped_unless_nobody_is_to_look() {
        let mut store = FdStore::new(3);
        for (name, is_watched) in [("watched", true), ("unwatched", false)] {
            // The other end is closed at once.
            let (read, _) = nix::unistd::pipe().unwrap();
            store.keep(name, read, is_watched);
        }
        let file = std::fs::File::open("/dev/null").unwrap();
        store.keep("sound", file.try_clone().unwrap().into(), true);
        store.keep("too many", file.into(), true);
        store.poll();
        assert_eq!(store.names(), ["unwatched", "sound"]);
        assert_eq!(store.lost.len(), 2);
        assert_eq!(store.duplicates().unwrap().len(), 2);
        store.remove("sound");
        assert_eq!(store.names(), ["unwatched"]);
    }
}
