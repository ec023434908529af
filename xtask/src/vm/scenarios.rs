//! The scenarios. Each is one behaviour, told by its summary.

mod boot;
mod crash;
mod emergency;
mod service;
mod twin;
mod writable;

use super::lab::Lab;
use super::report::Report;
use anyhow::Result;

/// A scenario.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    /// Quick enough for each `cargo xtask test`; the others are for `cargo xtask soak`.
    pub(super) is_quick: bool,
    pub(super) run: fn(&Lab<'_>, &mut Report) -> Result<()>,
}

/// In the order of running.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "service",
        summary: "the unit in a Debian system: start, restart, reload, kills, watchdog, stop",
        is_quick: true,
        run: service::run,
    },
    Scenario {
        name: "boot",
        summary: "a system whose every program is in /nix/store boots from the mount",
        is_quick: true,
        run: boot::run,
    },
    Scenario {
        name: "crash",
        summary: "the worker is killed in the initramfs, during the boot and during the shutdown",
        is_quick: false,
        run: crash::run,
    },
    Scenario {
        name: "emergency",
        summary: "a store that is missing or damaged ends a boot with an explanation",
        is_quick: false,
        run: emergency::run,
    },
    Scenario {
        name: "writable",
        summary: "a system boots from an overlay over the mount, and Nix verifies and builds on it",
        is_quick: false,
        run: writable::run,
    },
    Scenario {
        name: "twin",
        summary: "boot, reads and power-off beside the same system with its store on ext4",
        is_quick: false,
        run: twin::run,
    },
];
