//! The scenarios. Each is one behaviour, told by its summary.

mod boot;
mod crash;
mod dracut;
mod emergency;
mod generation;
mod hardening;
mod service;
mod shutdown;
mod twin;
mod writable;

use super::lab::Lab;
use super::report::Report;
use anyhow::Result;

/// A scenario.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    /// Compares times, and so runs alone.
    pub(super) measures: bool,
    pub(super) run: fn(&Lab<'_>, &mut Report) -> Result<()>,
}

/// In the order of running.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "service",
        summary: "the unit in a Debian system: start, restart, reload, kills, watchdog, stop",
        measures: false,
        run: service::run,
    },
    Scenario {
        name: "boot",
        summary: "a system whose every program is in /nix/store boots from the mount",
        measures: false,
        run: boot::run,
    },
    Scenario {
        name: "dracut",
        summary: "the same system boots with an initramfs by dracut",
        measures: false,
        run: dracut::run,
    },
    Scenario {
        name: "crash",
        summary: "the worker is killed in the initramfs, during the boot and during the shutdown",
        measures: false,
        run: crash::run,
    },
    Scenario {
        name: "shutdown",
        summary: "reboot and power-off end in order while programs use the mount",
        measures: false,
        run: shutdown::run,
    },
    Scenario {
        name: "hardening",
        summary: "the daemon that serves a running system is confined, and mounts for all",
        measures: false,
        run: hardening::run,
    },
    Scenario {
        name: "emergency",
        summary: "a store that is missing or damaged ends a boot with an explanation",
        measures: false,
        run: emergency::run,
    },
    Scenario {
        name: "writable",
        summary: "a system boots from an overlay over the mount, and Nix verifies and builds on it",
        measures: false,
        run: writable::run,
    },
    Scenario {
        name: "twin",
        summary: "boot, reads and power-off beside the same system with its store on ext4",
        measures: true,
        run: twin::run,
    },
    Scenario {
        name: "generation",
        summary: "a system's life: on ext4, on the mount, a switch under load, roll-back, collection",
        measures: false,
        run: generation::run,
    },
];
