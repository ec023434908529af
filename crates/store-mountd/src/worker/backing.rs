//! Backing files by way of the supervisor, who may register them.

use std::{
    fs::File,
    io,
    os::fd::AsFd as _,
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use store_fs::Backing;

use crate::link::{Link, Report};

/// How long the supervisor is waited for. A file that is not registered is read
/// by requests.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the supervisor.
#[derive(Debug)]
pub(super) struct Brokered {
    link: Arc<Link>,
    /// One question at a time.
    asking: Mutex<Asking>,
}

#[derive(Debug)]
struct Asking {
    last: u64,
    answers: Receiver<(u64, Result<u32, i32>)>,
}

impl Brokered {
    pub(super) fn new(link: Arc<Link>, answers: Receiver<(u64, Result<u32, i32>)>) -> Self {
        let asking = Asking { last: 0, answers };
        Self {
            link,
            asking: Mutex::new(asking),
        }
    }
}

impl Backing for Brokered {
    fn register(&self, file: &File) -> io::Result<u32> {
        let mut asking = self.asking.lock();
        asking.last += 1;
        let question = asking.last;
        self.link
            .send(&Report::Register { question }, &[file.as_fd()], true)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match asking.answers.recv_timeout(left) {
                Ok((answered, result)) if answered == question => {
                    return result.map_err(io::Error::from_raw_os_error);
                }
                // Of a question that was given up: nobody will use the file.
                Ok((_, Ok(id))) => {
                    if let Err(error) = self.unregister(id) {
                        tracing::debug!(id, %error, "a backing file stays open");
                    }
                }
                Ok((_, Err(_))) => {}
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    fn unregister(&self, id: u32) -> io::Result<()> {
        self.link.send(&Report::Unregister(id), &[], true)?;
        Ok(())
    }
}
