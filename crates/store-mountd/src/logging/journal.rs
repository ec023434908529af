//! Logs to the journal. Nothing here waits for it: the journal may run from the
//! very mount that waits for us to go on.

#![allow(unsafe_code)]

use std::{
    env,
    io::{self, IsTerminal as _},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    path::Path,
    sync::OnceLock,
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat},
    net::{AddressFamily, SendFlags, SocketType, send, sockopt},
};
use tracing::{Event, Subscriber, span};
use tracing_subscriber::{
    Layer,
    fmt::{FormatEvent, FormatFields, MakeWriter},
    layer::Context,
    registry::LookupSpan,
};

const SOCKET: &str = "/run/systemd/journal/socket";
const IDENTIFIER: &str = "store-mountd";
/// That of daemons, see syslog(3).
const FACILITY: &str = "3";

/// Whether standard error goes to the journal: systemd says which stream does.
pub(super) fn has_stderr() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let stream = env::var("JOURNAL_STREAM").unwrap_or_default();
        let is_it = |(device, inode): (&str, &str)| {
            let stderr = fstat(io::stderr()).ok()?;
            Some(device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino))
        };
        let is_journal = stream.split_once(':').and_then(is_it).unwrap_or(false);
        is_journal && !io::stderr().is_terminal()
    })
}

/// Logs to the journal's socket, or, where it is not to be found, as lines to
/// standard error. It may get lost: a service that came from an initramfs sees
/// the file system of that, emptied.
pub(super) struct Journal<T> {
    fields: Option<tracing_journald::Layer>,
    lines: T,
}

impl<T> Journal<T> {
    pub(super) fn new(lines: T) -> Self {
        Self {
            fields: connect().ok(),
            lines,
        }
    }
}

fn connect() -> io::Result<tracing_journald::Layer> {
    // A new descriptor has the lowest number that is free. There are no threads
    // yet that could take it.
    let lowest = rustix::io::dup(io::stderr())?.as_raw_fd();
    let layer = tracing_journald::Layer::new()?
        .with_field_prefix(None)
        .with_syslog_identifier(IDENTIFIER.to_owned())
        .with_custom_fields([("SYSLOG_FACILITY", FACILITY)]);
    // SAFETY: the layer has just opened its socket under this number, which was
    // free before, and keeps it open. Were it another's, it would be open too
    // or the calls below would fail.
    let socket = unsafe { BorrowedFd::borrow_raw(lowest) };
    let is_its = sockopt::socket_type(socket)? == SocketType::DGRAM
        && sockopt::socket_domain(socket)? == AddressFamily::UNIX;
    if !is_its {
        return Err(io::Error::other("the journal's socket cannot be found"));
    }
    fcntl_setfl(socket, fcntl_getfl(socket)? | OFlags::NONBLOCK)?;
    Ok(layer)
}

impl<S, F, N, W> Layer<S> for Journal<tracing_subscriber::fmt::Layer<S, N, F, W>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N> + 'static,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        if let Some(fields) = &self.fields {
            fields.on_new_span(attributes, id, context);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(fields) = &self.fields {
            fields.on_record(id, values, context);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        match &self.fields {
            Some(fields) if Path::new(SOCKET).exists() => fields.on_event(event, context),
            _ => self.lines.on_event(event, context),
        }
    }
}

/// Standard error, a stream to the journal. What it does not take at once is
/// lost.
#[derive(Debug, Default)]
pub(super) struct Stream;

impl io::Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(send(io::stderr().as_fd(), bytes, flags)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
