//! Logs as lines of text.

use std::fmt;

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

/// A line for each event: the message, and those fields that are not in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    /// Whether the line begins with the priority as sd-daemon(3) has it, else
    /// with the time.
    prefixed: bool,
}

impl Text {
    pub(super) const TIMED: Self = Self { prefixed: false };
    pub(super) const PREFIXED: Self = Self { prefixed: true };
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        if self.prefixed {
            write!(writer, "<{}>", priority(level))?;
        } else {
            SystemTime.format_time(&mut writer)?;
            match writer.has_ansi_escapes() {
                true => write!(writer, " \x1b[{}m{level:>5}\x1b[0m ", colour(level))?,
                false => write!(writer, " {level:>5} ")?,
            }
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        write!(writer, "{}", fields.message.replace('\n', " / "))?;
        for (name, value) in &fields.others {
            // A short value may be in it by chance.
            if value.len() < 8 || !fields.message.contains(value) {
                write!(writer, " {name}={}", value.replace('\n', " / "))?;
            }
        }
        writeln!(writer)
    }
}

/// Lines with the priority before each.
pub(super) fn prefixed(level: Level, text: &str) -> String {
    let priority = priority(level);
    text.lines()
        .map(|line| format!("<{priority}>{line}\n"))
        .collect()
}

/// As syslog(3) numbers them, and tracing-journald maps them.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 5,
        Level::DEBUG => 6,
        _ => 7,
    }
}

fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        _ => 35,
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            // Where a message of the crate `log` comes from.
            name if name.starts_with("log.") => {}
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use parking_lot::Mutex;
    use tracing_subscriber::{fmt, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(text: Text, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = fmt::layer().event_format(text).with_ansi(false);
        let layer = layer.with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = sink.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn fields_are_told_unless_the_message_has_them() {
        let line = logged(Text::PREFIXED, || {
            tracing::error!(errno = 5, digest = "0123456789", "cannot read 0123456789");
        });
        assert_eq!(line, "<3>cannot read 0123456789 errno=5\n");
    }

    #[test]
    fn an_event_is_one_line() {
        let line = logged(Text::PREFIXED, || tracing::info!(x = "1\n2", "a\nb"));
        assert_eq!(line, "<5>a / b x=1 / 2\n");
    }

    #[test]
    fn each_line_has_its_priority() {
        assert_eq!(prefixed(Level::ERROR, "a\nb"), "<3>a\n<3>b\n");
    }

    #[test]
    fn a_terminal_gets_time_and_level() {
        let line = logged(Text::TIMED, || tracing::warn!("careful"));
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z'), "{line}");
        assert_eq!(rest, " WARN careful\n");
    }
}
