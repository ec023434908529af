//! SIGINT and SIGTERM, and SIGUSR1 for a mount.

use std::thread;

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};

/// The signals that ask the program to end, blocked: they do nothing until
/// [`on_each`](Self::on_each).
#[derive(Debug)]
pub(crate) struct Termination {
    signals: SigSet,
}

impl Termination {
    /// Blocks the signals in this thread, and in all that it starts from now
    /// on. Programs that it runs would inherit that too.
    pub(crate) fn block() -> Result<Self> {
        Self::block_with(&[])
    }

    /// As `block`, and for `others` too.
    pub(crate) fn block_with(others: &[Signal]) -> Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM].iter().chain(others) {
            signals.add(*signal);
        }
        signals.thread_block().context("cannot block signals")?;
        Ok(Self { signals })
    }

    /// Calls `handler` at each of the signals, in a thread of its own.
    pub(crate) fn on_each(self, mut handler: impl FnMut(Signal) + Send + 'static) -> Result<()> {
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                while let Ok(signal) = self.signals.wait() {
                    handler(signal);
                }
            })
            .context("cannot start a thread")?;
        Ok(())
    }
}
