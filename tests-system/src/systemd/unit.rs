//! What a unit file says of its service.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use std::path::Path;
use std::time::Duration;

/// The settings that matter here; what a unit does not say is as systemd has it.
#[derive(Debug, Clone, Copy)]
pub struct Unit {
    /// `WatchdogSec=`.
    pub watchdog: Option<Duration>,
    /// `WatchdogSignal=`.
    pub watchdog_signal: Signal,
    /// `FileDescriptorStoreMax=`.
    pub fd_store_max: usize,
    /// `FileDescriptorStorePreserve=yes`: kept even when the service is stopped.
    pub preserve: bool,
    /// `NotifyAccess=all` rather than `main`.
    pub access_for_all: bool,
    /// `RestartSec=`; `Restart=always`.
    pub restart: Duration,
    /// `RestartPreventExitStatus=`.
    pub restart_prevent: Option<i32>,
    /// `RestartKillSignal=`.
    pub restart_signal: Signal,
    /// `ReloadSignal=`.
    pub reload_signal: Signal,
    /// `TimeoutStartSec=`.
    pub start_limit: Duration,
    /// `TimeoutStopSec=`.
    pub stop_limit: Duration,
}

impl Unit {
    /// That of the package.
    pub fn shipped() -> Result<Self> {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/tvix-store-mount.service");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let value = |name: &str| {
            let mut lines = text.lines().rev();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        let seconds = |name: &str| -> Result<Option<Duration>> {
            let span =
                value(name).map(|text| time_span(text).with_context(|| format!("{name}={text}")));
            span.transpose()
        };
        let signal = |name: &str, usual: Signal| -> Result<Signal> {
            Ok(value(name).map(str::parse).transpose()?.unwrap_or(usual))
        };
        let number = value("FileDescriptorStoreMax")
            .map(str::parse)
            .transpose()?;
        Ok(Self {
            watchdog: seconds("WatchdogSec")?,
            watchdog_signal: signal("WatchdogSignal", Signal::SIGABRT)?,
            fd_store_max: number.unwrap_or(0),
            preserve: value("FileDescriptorStorePreserve") == Some("yes"),
            access_for_all: value("NotifyAccess") == Some("all"),
            restart: seconds("RestartSec")?.unwrap_or(Duration::from_millis(100)),
            restart_prevent: value("RestartPreventExitStatus")
                .map(str::parse)
                .transpose()?,
            restart_signal: signal("RestartKillSignal", Signal::SIGTERM)?,
            reload_signal: signal("ReloadSignal", Signal::SIGHUP)?,
            start_limit: seconds("TimeoutStartSec")?.unwrap_or(Duration::from_secs(90)),
            stop_limit: seconds("TimeoutStopSec")?.unwrap_or(Duration::from_secs(90)),
        })
    }
}

/// A number with one of the units that our file uses.
fn time_span(text: &str) -> Option<Duration> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number = text[..digits].parse().ok()?;
    match &text[digits..] {
        "" | "s" => Some(Duration::from_secs(number)),
        "ms" => Some(Duration::from_millis(number)),
        "min" => Some(Duration::from_secs(60 * number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Unit;
    use nix::sys::signal::Signal;
    use std::time::Duration;

    #[test]
    fn a_unit_is_read() {
        let text = "[Service]\nWatchdogSec=2min\nRestartSec=5ms\nReloadSignal=SIGUSR1\n\
                    FileDescriptorStoreMax=3\nNotifyAccess=main\n";
        let unit = Unit::parse(text).unwrap();
        assert_eq!(unit.watchdog, Some(Duration::from_secs(120)));
        assert_eq!(unit.restart, Duration::from_millis(5));
        assert_eq!(unit.reload_signal, Signal::SIGUSR1);
        assert_eq!(unit.restart_signal, Signal::SIGTERM);
        assert_eq!(unit.fd_store_max, 3);
        assert!(!unit.preserve && !unit.access_for_all);
        assert!(Unit::parse("WatchdogSec=3 fortnights\n").is_err());
    }

    #[test]
    fn the_shipped_unit_keeps_the_mount() {
        let unit = Unit::shipped().unwrap();
        assert!(unit.watchdog.is_some() && unit.fd_store_max >= 4 && unit.preserve);
    }
}
