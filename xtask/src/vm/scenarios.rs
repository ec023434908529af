//! The scenarios. Each is one behaviour, told by its summary.

mod boot;
mod crash;
mod emergency;
mod service;

use super::lab::Lab;
use super::report::Report;
use anyhow::Result;

/// A scenario.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    pub(super) run: fn(&Lab<'_>, &mut Report) -> Result<()>,
}

/// In the order of running.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "service",
        summary: "the unit in a Debian system: start, restart, reload, kills, watchdog, stop",
        run: service::run,
    },
    Scenario {
        name: "boot",
        summary: "a system whose every program is in /nix/store boots from the mount",
        run: boot::run,
    },
    Scenario {
        name: "crash",
        summary: "the worker is killed in the initramfs, during the boot and during the shutdown",
        run: crash::run,
    },
    Scenario {
        name: "emergency",
        summary: "a store that is missing or damaged ends a boot with an explanation",
        run: emergency::run,
    },
];
