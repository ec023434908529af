//! Where logs go: to the journal if standard error does, with fields of their
//! own for what an operator searches by; else as text to standard error.
//!
//! | field | what |
//! |---|---|
//! | `STORE_PATH` | the entry of the mount's root that is concerned |
//! | `FILE` | the file or directory, from the mount's root |
//! | `DIGEST` | what could not be had |
//! | `OPERATION` | what was asked |
//! | `ERRNO` | what was answered |
//! | `ERROR` | why |

mod journal;
mod text;

use std::{
    io::{self, IsTerminal as _, Write as _},
    panic,
};

use anyhow::{Context as _, Result, anyhow};
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use self::{
    journal::{Journal, Stream},
    text::Text,
};
use crate::config::LogLevel;

/// Starts logging. To be called before there are threads.
pub(crate) fn start(level: LogLevel) -> Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(&directives)
            .with_context(|| format!("RUST_LOG is '{directives}', which cannot be understood"))?,
        _ => EnvFilter::new(directives(level)),
    };
    let output: Box<dyn Layer<Registry> + Send + Sync> = if journal::has_stderr() {
        log_panics();
        Box::new(Journal::new(
            fmt::layer()
                .event_format(Text::PREFIXED)
                .with_writer(|| Stream),
        ))
    } else {
        let terminal = io::stderr().is_terminal();
        Box::new(
            fmt::layer()
                .event_format(Text::TIMED)
                .with_ansi(terminal)
                .with_writer(io::stderr),
        )
    };
    tracing_subscriber::registry()
        .with(output.with_filter(filter))
        .try_init()
        .map_err(|error| anyhow!("cannot log: {error}"))
}

/// Says something to whoever started the program, whatever the log level is.
/// As logging does, it does not wait for the journal.
pub(crate) fn say(level: Level, text: &str) {
    if journal::has_stderr() {
        // What it does not take is lost.
        let _ = Stream.write_all(text::prefixed(level, text).as_bytes());
    } else {
        eprintln!("{text}");
    }
}

/// fuse-backend-rs calls each error that a request is answered with an error of
/// its own, ENOENT and EPERM too; what matters of these is logged by us.
fn directives(level: LogLevel) -> String {
    match level {
        LogLevel::Trace => level.as_str().to_owned(),
        LogLevel::Off | LogLevel::Error | LogLevel::Warn | LogLevel::Info | LogLevel::Debug => {
            format!("{},fuse_backend_rs=off", level.as_str())
        }
    }
}

/// Standard error blocks when the journal does not read; the log does not.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let message = (payload.downcast_ref::<&str>().copied())
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("without a message");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked at {place}: {message}");
    }));
}
