//! Faults on purpose, for tests of what survives them.

use std::{
    fmt, io, process,
    str::FromStr,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process};

use crate::state::opcodes;

/// What is to happen, at which moment of which request: for one,
/// `kill:lookup:done` or, the third time only, `hang:read:taken:3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub effect: Effect,
    /// The kind of request, as in `<linux/fuse.h>`.
    pub opcode: u32,
    /// When in the course of such a request.
    pub moment: Moment,
    /// At which of these requests, from 1 on.
    pub count: u64,
}

/// What a [`Fault`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The process gets SIGKILL.
    Kill,
    /// Every thread that serves stops as soon as it has something to do.
    Hang,
    /// For a second or so no thread can be started.
    Starve,
}

/// When a [`Fault`] happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The request was taken from the kernel; nothing was done.
    Taken,
    /// All was done; the kernel has no answer yet.
    Done,
    /// The kernel has the answer.
    Answered,
}

/// Why a text is no [`Fault`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no fault: kill, hang or starve, the name of a request, taken, done or answered, \
     and perhaps a number, with colons in between"
)]
pub struct ParseFaultError {
    text: String,
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, ParseFaultError> {
        parse(text).ok_or_else(|| ParseFaultError {
            text: text.to_owned(),
        })
    }
}

fn parse(text: &str) -> Option<Fault> {
    let mut parts = text.split(':');
    let effect = match parts.next()? {
        "kill" => Effect::Kill,
        "hang" => Effect::Hang,
        "starve" => Effect::Starve,
        _ => return None,
    };
    let opcode = opcodes::opcode(parts.next()?)?;
    let moment = match parts.next()? {
        "taken" => Moment::Taken,
        "done" => Moment::Done,
        "answered" => Moment::Answered,
        _ => return None,
    };
    let count = match parts.next() {
        Some(count) => count.parse().ok().filter(|count| *count > 0)?,
        None => 1,
    };
    parts.next().is_none().then_some(Fault {
        effect,
        opcode,
        moment,
        count,
    })
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::Kill => "kill",
            Effect::Hang => "hang",
            Effect::Starve => "starve",
        };
        let moment = match self.moment {
            Moment::Taken => "taken",
            Moment::Done => "done",
            Moment::Answered => "answered",
        };
        let operation = opcodes::operation(self.opcode);
        write!(f, "{effect}:{operation}:{moment}:{}", self.count)
    }
}

/// A fault, and how near it is.
#[derive(Debug)]
pub(super) struct Faults {
    fault: Fault,
    seen: AtomicU64,
    hanging: AtomicBool,
    /// So many threads cannot be started yet.
    refused: AtomicU32,
}

/// They are tried some ten times at once, and then each 50 ms.
const REFUSED: u32 = 30;

impl Faults {
    pub(super) fn new(fault: Fault) -> Self {
        Self {
            fault,
            seen: AtomicU64::new(0),
            hanging: AtomicBool::new(false),
            refused: AtomicU32::new(0),
        }
    }

    /// A request got so far.
    pub(super) fn at(&self, opcode: u32, moment: Moment) {
        let Fault { effect, count, .. } = self.fault;
        if (opcode, moment) == (self.fault.opcode, self.fault.moment)
            && self.seen.fetch_add(1, Relaxed) + 1 == count
        {
            match effect {
                Effect::Kill => {
                    let _ = kill_process(getpid(), Signal::KILL);
                    // Who is confined may send no signals; but to itself.
                    process::abort();
                }
                Effect::Hang => self.hanging.store(true, Relaxed),
                Effect::Starve => self.refused.store(REFUSED, Relaxed),
            }
        }
        while self.is_hanging() {
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// A thread is to be started.
    pub(super) fn at_thread(&self) -> io::Result<()> {
        let less = |refused: u32| refused.checked_sub(1);
        match self.refused.fetch_update(Relaxed, Relaxed, less) {
            Ok(_) => Err(io::ErrorKind::WouldBlock.into()),
            Err(_) => Ok(()),
        }
    }

    /// Whether nothing is to be done any more.
    pub(super) fn is_hanging(&self) -> bool {
        self.hanging.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_parsed() {
        let fault: Fault = "kill:lookup:done".parse().expect("a fault");
        assert_eq!(fault.opcode, 1);
        assert_eq!(fault.to_string(), "kill:lookup:done:1");
        let fault: Fault = "hang:batch_forget:taken:7".parse().expect("a fault");
        assert_eq!(fault.effect, Effect::Hang);
        assert_eq!(fault.moment, Moment::Taken);
        assert_eq!((fault.opcode, fault.count), (42, 7));
        for text in [
            "",
            "kill",
            "kill:lookup",
            "kill:look:done",
            "kill:lookup:done:0",
            "kill:lookup:done:1:2",
            "trip:lookup:done",
        ] {
            let error = text.parse::<Fault>().expect_err(text);
            assert!(error.to_string().contains("is no fault"));
        }
    }
}
