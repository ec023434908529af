//! The text format.

use std::fmt::Write as _;

use crate::control::Status;

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// All that is known of a mount.
pub(super) fn of(status: &Status) -> String {
    let mount = [("mountpoint", status.mountpoint.display().to_string())];
    let mut text = Text {
        labels: &mount,
        family: String::new(),
        text: String::new(),
    };
    let worker = status.worker.as_ref();
    let version = |version: Option<&str>| version.unwrap_or_default().to_owned();
    text.family("info", Kind::Gauge, "What runs.");
    text.sample(
        &[
            ("version", status.supervisor.version.clone()),
            (
                "worker_version",
                version(worker.map(|it| &*it.process.version)),
            ),
            ("data_path", version(worker.map(|it| &*it.data_path))),
        ],
        1.0,
    );
    let up = worker.is_some_and(|worker| worker.serving);
    text.one("up", Kind::Gauge, "Whether a worker serves.", f64::from(up));
    text.one(
        "supervisor_uptime_seconds",
        Kind::Gauge,
        "How long the supervisor has run.",
        status.supervisor.uptime_seconds,
    );
    text.one(
        "worker_uptime_seconds",
        Kind::Gauge,
        "How long the worker has run.",
        worker.map_or(0.0, |worker| worker.process.uptime_seconds),
    );
    text.one(
        "worker_deaths_total",
        Kind::Counter,
        "Workers that died and were followed by another.",
        status.restarts as f64,
    );
    text.one(
        "upgrades_total",
        Kind::Counter,
        "Workers that were replaced by another program.",
        status.upgrades as f64,
    );
    text.one(
        "store_paths",
        Kind::Gauge,
        "Store paths when the worker started.",
        status.paths as f64,
    );
    text.one(
        "inodes",
        Kind::Gauge,
        "Inodes that the kernel holds.",
        status.inodes as f64,
    );
    text.one(
        "served_bytes_total",
        Kind::Counter,
        "Bytes answered to reads.",
        status.bytes_served as f64,
    );
    text.one(
        "content_errors_total",
        Kind::Counter,
        "Requests that failed for want of sound contents.",
        status.errors as f64,
    );
    text.family("requests_total", Kind::Counter, "Requests of the kernel.");
    for (operation, count) in &status.requests {
        text.sample(&[("operation", operation.clone())], *count as f64);
    }
    text.family(
        "cache_hits_total",
        Kind::Counter,
        "What was found in a cache.",
    );
    for (name, cache) in &status.caches {
        text.sample(&[("cache", name.clone())], cache.hits as f64);
    }
    text.family("cache_misses_total", Kind::Counter, "What was not.");
    for (name, cache) in &status.caches {
        text.sample(&[("cache", name.clone())], cache.misses as f64);
    }
    text.one(
        "in_flight_requests",
        Kind::Gauge,
        "Requests that are being handled.",
        status.in_flight.len() as f64,
    );
    let oldest = status.in_flight.iter().map(|request| request.seconds);
    text.one(
        "oldest_request_seconds",
        Kind::Gauge,
        "How long the oldest of them has been.",
        oldest.fold(0.0, f64::max),
    );
    text.text
}

struct Text<'a> {
    /// Of every sample.
    labels: &'a [(&'static str, String)],
    /// What samples are of.
    family: String,
    text: String,
}

impl Text<'_> {
    fn one(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.family = format!("{PREFIX}{name}");
        let _ = writeln!(self.text, "# HELP {} {help}", self.family);
        let _ = writeln!(self.text, "# TYPE {} {kind}", self.family);
    }

    /// A sample of the family that was named last.
    fn sample(&mut self, labels: &[(&str, String)], value: f64) {
        let labels = (self.labels.iter().map(|(name, value)| (*name, value)))
            .chain(labels.iter().map(|(name, value)| (*name, value)))
            .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
            .collect::<Vec<_>>()
            .join(",");
        let _ = writeln!(self.text, "{}{{{labels}}} {value}", self.family);
    }
}

pub(super) const PREFIX: &str = "tvix_store_mount_";

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
