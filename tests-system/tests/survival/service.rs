//! The mount as a service of an emulated systemd.

use super::scene::{EVERYBODY, load_program};
use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::path::Path;
use system_tests::load::{Asker, Load, Plan};
use system_tests::mountd::MountOptions;
use system_tests::mountd::processes::{self, Connection, signal, workers};
use system_tests::rng::Rng;
use system_tests::systemd::{Manager, Unit};
use tempfile::TempDir;

/// A mount that its manager starts again.
pub(crate) struct Service {
    pub(crate) manager: Manager,
    mountpoint: TempDir,
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
}

impl Service {
    /// Starts it, and waits until it is ready.
    pub(crate) fn start(unit: Unit, options: MountOptions) -> Result<Self> {
        let service = Self::begin(unit, options)?;
        let ready = service.manager.wait_until_ready();
        ready.with_context(|| service.log())?;
        Ok(service)
    }

    /// Starts it.
    pub(crate) fn begin(unit: Unit, options: MountOptions) -> Result<Self> {
        let mut rng = Rng::from_env();
        let plan = Plan::new(&mut rng, load_program())?;
        let mountpoint = tempfile::Builder::new().prefix("service-").tempdir()?;
        let (store, path) = (plan.store().clone(), mountpoint.path().to_owned());
        let log = File::options()
            .create(true)
            .append(true)
            .open(plan.dir().join("log"))?;
        let manager = Manager::begin(unit, move || {
            let mut command = store.command();
            command.arg("mount").arg(&path).args(options.arguments());
            if let Ok(log) = log.try_clone() {
                command.stderr(log);
            }
            command
        })?;
        Ok(Self {
            manager,
            mountpoint,
            plan,
            rng,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    /// What the program wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.plan.dir().join("log")).unwrap_or_default()
    }

    /// Everybody who uses it.
    pub(crate) fn load(&self) -> Result<Load> {
        self.plan.start(self.path(), EVERYBODY)
    }

    pub(crate) fn asker(&self) -> Result<Asker> {
        Asker::start(load_program(), self.path())
    }

    /// Tells what was written if it failed.
    pub(crate) fn told<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| self.log())
    }

    /// The worker that serves now.
    pub(crate) fn worker(&self) -> Result<u32> {
        processes::worker(self.manager.main_pid()?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Whatever a failed test leaves: a worker serves on without its supervisor.
        let main = self.manager.main_pid_now();
        let left = main.and_then(|main| workers(main).ok()).unwrap_or_default();
        self.manager.end();
        for worker in left {
            let _ = signal(worker, Signal::SIGKILL);
        }
        if let Ok(connection) = Connection::of(self.mountpoint.path()) {
            let _ = connection.abort();
            let _ = umount2(self.mountpoint.path(), MntFlags::MNT_DETACH);
        }
    }
}
