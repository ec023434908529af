//! What goes to standard error.

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, Result, anyhow};
use tracing_subscriber::EnvFilter;

use crate::cli::LogLevel;

pub(crate) fn start(level: LogLevel) -> Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(&directives)
            .with_context(|| format!("RUST_LOG is '{directives}', which cannot be understood"))?,
        _ => EnvFilter::new(directives(level)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .try_init()
        .map_err(|error| anyhow!("cannot log: {error}"))
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
