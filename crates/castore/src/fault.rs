//! Services that fail on purpose, for tests of whatever stands above them.
//!
//! [`Faults`] holds the rules and counts the calls;
//! [`FaultyBlobService`](crate::blobservice::FaultyBlobService) and
//! [`FaultyDirectoryService`](crate::directoryservice::FaultyDirectoryService)
//! obey it. Nothing is random: the same calls meet the same faults.
//!
//! ```
//! use std::sync::Arc;
//!
//! use castore::{BlobService, HashedBlob};
//! use castore::blobservice::{FaultyBlobService, MemoryBlobService};
//! use castore::fault::{Call, Fault, Faults, Rule};
//!
//! let faults = Faults::new();
//! faults.add(Rule::new(Call::Put, Fault::Fail).after(1).times(1));
//! let blobs = FaultyBlobService::new(Arc::new(MemoryBlobService::default()), faults.clone());
//! assert!(blobs.put(&HashedBlob::new(b"first")).is_ok());
//! assert!(blobs.put(&HashedBlob::new(b"second")).is_err());
//! assert!(blobs.put(&HashedBlob::new(b"third")).is_ok());
//! assert_eq!(faults.calls(Call::Put), 3);
//! ```

use std::{collections::HashMap, sync::Arc, thread, time::Duration};

use parking_lot::{Condvar, Mutex};

use crate::{Digest, Error, Object};

/// A call of a service that a rule can meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Opening a blob, or getting a directory.
    Open,
    /// Asking whether a blob is there.
    Has,
    /// Reading from a blob.
    Read,
    /// Putting a blob or directory that is at hand.
    Put,
    /// Beginning to write a blob.
    Writer,
    /// Writing some bytes of it; the digest is not known yet.
    Write,
    /// Finishing it; the digest is not known yet.
    Finish,
    /// Forgetting a damaged object.
    Discard,
    /// Making durable what was put.
    Flush,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with [`Error::Backend`].
    Fail,
    /// It fails with [`Error::Corrupt`], as if the service had found the object
    /// damaged. A call without an object fails as by `Fail`.
    Damage,
    /// Open and get: the object is not there, though it is.
    Absent,
    /// What it returns is wrong, and the service does not notice: a byte that
    /// was read is another, or a directory has an entry too many. Other calls
    /// are not changed.
    Lie,
    /// It takes this much longer.
    Delay(Duration),
    /// It does not return before [`Faults::release`].
    Hang,
}

/// When a fault strikes.
#[derive(Debug, Clone)]
pub struct Rule {
    call: Call,
    fault: Fault,
    digest: Option<Digest>,
    after: u64,
    times: u64,
}

impl Rule {
    /// `fault` strikes at every `call`.
    pub fn new(call: Call, fault: Fault) -> Self {
        Self {
            call,
            fault,
            digest: None,
            after: 0,
            times: u64::MAX,
        }
    }

    /// Only calls about this object count.
    #[must_use]
    pub fn of(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// The first `calls` that would be met are spared.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.after = calls;
        self
    }

    /// At most this many calls are met.
    #[must_use]
    pub fn times(mut self, calls: u64) -> Self {
        self.times = calls;
        self
    }
}

/// The rules that one or more services obey, and the count of their calls.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    calls: HashMap<Call, u64>,
    hanging: usize,
    /// How often hanging calls were released.
    released: u64,
}

impl Faults {
    /// No rules yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a rule. The first that meets a call decides.
    pub fn add(&self, rule: Rule) {
        self.state.lock().rules.push(rule);
    }

    /// Removes all rules; calls that hang go on hanging.
    pub fn clear(&self) {
        self.state.lock().rules.clear();
    }

    /// How many calls of this kind there were, met or not.
    pub fn calls(&self, call: Call) -> u64 {
        let state = self.state.lock();
        state.calls.get(&call).copied().unwrap_or_default()
    }

    /// Waits until this many calls hang.
    pub fn await_hanging(&self, calls: usize) {
        let mut state = self.state.lock();
        self.changed
            .wait_while(&mut state, |state| state.hanging < calls);
    }

    /// Lets the calls that hang now go on, as if nothing had been.
    pub fn release(&self) {
        self.state.lock().released += 1;
        self.changed.notify_all();
    }

    /// Counts a call and lets its fault strike. Answers whether the call is
    /// still to be distorted, which only the caller can do.
    pub(crate) fn meet(
        &self,
        call: Call,
        digest: Option<Digest>,
        object: fn(Digest) -> Object,
    ) -> Result<Option<Distortion>, Error> {
        let fault = {
            let mut state = self.state.lock();
            *state.calls.entry(call).or_default() += 1;
            state.fault(call, digest)
        };
        let failed = || Error::Backend {
            place: "the faulty service".to_owned(),
            detail: "a fault was injected".to_owned(),
        };
        match (fault, digest) {
            (None, _) => Ok(None),
            (Some(Fault::Absent), _) => Ok(Some(Distortion::Absent)),
            (Some(Fault::Lie), _) => Ok(Some(Distortion::Lie)),
            (Some(Fault::Damage), Some(digest)) => Err(Error::Corrupt {
                object: object(digest),
                place: "the faulty service".to_owned(),
                detail: "a fault was injected".to_owned(),
            }),
            (Some(Fault::Fail | Fault::Damage), _) => Err(failed()),
            (Some(Fault::Delay(time)), _) => {
                thread::sleep(time);
                Ok(None)
            }
            (Some(Fault::Hang), _) => {
                self.hang();
                Ok(None)
            }
        }
    }

    fn hang(&self) {
        let mut state = self.state.lock();
        let now = state.released;
        state.hanging += 1;
        self.changed.notify_all();
        self.changed
            .wait_while(&mut state, |state| state.released == now);
        state.hanging -= 1;
    }
}

impl State {
    fn fault(&mut self, call: Call, digest: Option<Digest>) -> Option<Fault> {
        for rule in &mut self.rules {
            if rule.call != call || (rule.digest.is_some() && rule.digest != digest) {
                continue;
            }
            if rule.after > 0 {
                rule.after -= 1;
            } else if rule.times > 0 {
                rule.times -= 1;
                return Some(rule.fault);
            }
        }
        None
    }
}

/// What the service itself has to do to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distortion {
    Absent,
    Lie,
}
