//! The buffers that contents travel in, and the end of the import.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::{Condvar, Mutex};

use super::ImportError;

/// Bytes of a buffer. Files that fit, with a byte to spare that shows that
/// there is no more, are read whole.
pub(super) const BUFFER_LEN: usize = 1024 * 1024;
/// The number of buffers, and thereby the memory that contents take.
pub(super) const BUFFERS: usize = 32;
/// Buffers kept back for the job that is next in order.
///
/// Without them readers of later jobs, whose buffers are only released after
/// those of the earlier job, could take all and so block everything.
const RESERVE: usize = 4;

pub(super) struct Pool<'a> {
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
    cancel: Option<&'a AtomicBool>,
}

#[derive(Default)]
struct State {
    free: Vec<Box<[u8]>>,
    used: usize,
    /// The job whose chunks are being taken.
    next: u64,
}

impl<'a> Pool<'a> {
    pub(super) fn new(cancel: Option<&'a AtomicBool>) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
            cancel,
        }
    }

    /// Waits for a buffer for `job`.
    ///
    /// # Errors
    /// [`ImportError::Cancelled`] if the import ends.
    pub(super) fn take(&self, job: u64) -> Result<Buffer<'_>, ImportError> {
        let mut state = self.state.lock();
        loop {
            self.check()?;
            let reserve = if job <= state.next { 0 } else { RESERVE };
            if state.used + reserve < BUFFERS {
                break;
            }
            self.changed.wait(&mut state);
        }
        state.used += 1;
        let bytes = state.free.pop();
        drop(state);
        Ok(Buffer {
            bytes: bytes.unwrap_or_else(|| vec![0; BUFFER_LEN].into()),
            pool: self,
        })
    }

    /// From now on the chunks of `job` are taken.
    pub(super) fn next_job(&self, job: u64) {
        self.state.lock().next = job;
        self.changed.notify_all();
    }

    /// # Errors
    /// [`ImportError::Cancelled`] if the import ends.
    pub(super) fn check(&self) -> Result<(), ImportError> {
        let cancelled = self.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed));
        if cancelled || self.stopped.load(Ordering::Relaxed) {
            return Err(ImportError::Cancelled);
        }
        Ok(())
    }

    /// Ends the import: from now on `check` and `take` fail.
    pub(super) fn stop(&self) {
        // Under the lock, or a thread could miss it between its check and its
        // wait.
        let state = self.state.lock();
        self.stopped.store(true, Ordering::Relaxed);
        self.changed.notify_all();
        drop(state);
    }

    pub(super) fn stop_on_drop(&self) -> impl Drop {
        Stop(self)
    }
}

struct Stop<'a>(&'a Pool<'a>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A buffer, which returns to its pool when dropped.
pub(super) struct Buffer<'a> {
    bytes: Box<[u8]>,
    pool: &'a Pool<'a>,
}

impl Deref for Buffer<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl fmt::Debug for Buffer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").finish_non_exhaustive()
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.used -= 1;
        state.free.push(std::mem::take(&mut self.bytes));
        drop(state);
        self.pool.changed.notify_all();
    }
}
