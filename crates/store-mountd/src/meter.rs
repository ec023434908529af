//! Telling how far a long command is.

use std::{
    io::{self, IsTerminal as _},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// How often a terminal is brought up to date.
const REDRAW: Duration = Duration::from_millis(100);
/// How often a line is logged where there is no terminal.
const LOG: Duration = Duration::from_secs(5);

/// Shows a line that changes: on a terminal in place, else now and then a new
/// one in the log. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Meter {
    bar: ProgressBar,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Meter {
    /// Shows what `line` says. Without a thread to do so, nothing is shown.
    pub(crate) fn start(line: impl Fn() -> String + Send + 'static) -> Self {
        let on_terminal = io::stderr().is_terminal();
        let bar = match on_terminal {
            true => ProgressBar::new_spinner().with_style(style()),
            false => ProgressBar::hidden(),
        };
        let (stop, stopped) = mpsc::channel::<()>();
        let shown = bar.clone();
        let thread = thread::Builder::new()
            .name("meter".to_owned())
            .spawn(move || {
                let interval = if on_terminal { REDRAW } else { LOG };
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    match on_terminal {
                        true => {
                            shown.set_message(line());
                            shown.tick();
                        }
                        false => tracing::info!("{}", line()),
                    }
                }
                shown.finish_and_clear();
            });
        Self {
            bar,
            stop: Some(stop),
            thread: thread.ok(),
        }
    }

    /// Does something that prints, with the line out of its way.
    pub(crate) fn suspend<T>(&self, act: impl FnOnce() -> T) -> T {
        self.bar.suspend(act)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say but a panic, which was printed.
            let _ = thread.join();
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} [{elapsed_precise}] {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Bytes, and how many there were each second.
pub(crate) fn rate(bytes: u64, since: Instant) -> String {
    let seconds = since.elapsed().as_secs_f64().max(0.001);
    let each = HumanBytes((bytes as f64 / seconds) as u64);
    format!("{}, {each}/s", HumanBytes(bytes))
}
