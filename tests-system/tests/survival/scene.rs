//! What all survival tests begin with.

use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};
use system_tests::load::{Asker, Load, Plan, Summary};
use system_tests::mountd::processes::{self, Connection, Usage};
use system_tests::mountd::{MountOptions, Mounted};
use system_tests::rng::Rng;

/// No call may take longer, whatever happens; far more than what is aimed at, for this machine
/// may do other things too.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// One of everybody.
pub(crate) const EVERYBODY: &[(&str, usize)] = &[
    ("readers", 2),
    ("walkers", 1),
    ("mappers", 1),
    ("programs", 1),
    ("askers", 1),
    ("quitters", 1),
    ("nudgers", 1),
    ("coolers", 1),
];

pub(crate) const CACHED: MountOptions = MountOptions {
    list_root: true,
    integrity: None,
    data_path: Some("cached"),
    more: &[],
};

pub(crate) const PASSTHROUGH: MountOptions = MountOptions {
    list_root: true,
    integrity: Some("at-rest"),
    data_path: Some("passthrough"),
    more: &[],
};

pub(crate) fn load_program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_load"))
}

/// A mount, everybody who uses it, and one who asks when told to.
pub(crate) struct Scene {
    pub(crate) load: Load,
    pub(crate) asker: Asker,
    pub(crate) connection: Connection,
    pub(crate) mounted: Mounted,
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
}

impl Scene {
    pub(crate) fn new(options: MountOptions) -> Result<Self> {
        Self::with(options, EVERYBODY)
    }

    pub(crate) fn with(options: MountOptions, roles: &[(&str, usize)]) -> Result<Self> {
        let mut rng = Rng::from_env();
        let plan = Plan::new(&mut rng, load_program())?;
        let mounted = plan.mount(options)?;
        Ok(Self {
            connection: Connection::of(mounted.path())?,
            load: plan.start(mounted.path(), roles)?,
            asker: Asker::start(load_program(), mounted.path())?,
            mounted,
            plan,
            rng,
        })
    }

    /// The worker that serves now.
    pub(crate) fn worker(&self) -> Result<u32> {
        processes::worker(self.mounted.pid())
    }

    /// Waits a random time, up to `limit`.
    pub(crate) fn pause(&mut self, limit: Duration) {
        let micros = self.rng.below(limit.as_micros() as u64);
        std::thread::sleep(Duration::from_micros(micros));
    }

    /// Asks the mount once; answers how long that took.
    pub(crate) fn ask(&mut self) -> Result<Duration> {
        let asked = self.asker.ask(LIMIT);
        asked.with_context(|| self.mounted.messages())
    }

    /// Fails if anything went wrong so far.
    pub(crate) fn check(&mut self) -> Result<Summary> {
        let summary = self.load.expect_alive(LIMIT);
        summary.with_context(|| self.mounted.messages())
    }

    /// Goes on until the load has done so much.
    pub(crate) fn work_until(&mut self, operations: u64) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30 * 60);
        while self.check()?.operations < operations {
            ensure!(Instant::now() < end, "the load does too little");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Ends the load and the mount, both of which must be in order; tells what the load did.
    pub(crate) fn finish(self) -> Result<Summary> {
        let summary = self.load.finish()?;
        drop((self.asker, self.connection));
        let finished = self.mounted.stop()?;
        ensure!(finished.code == Some(0), "{finished:?}");
        Ok(summary)
    }
}

/// Durations, to be told as a median and a maximum.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Vec<Duration>);

impl Pauses {
    pub(crate) fn add(&mut self, pause: Duration) {
        self.0.push(pause);
    }
}

impl std::fmt::Display for Pauses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let millis =
            |pause: Option<&Duration>| pause.map_or(0.0, |pause| pause.as_secs_f64() * 1e3);
        write!(
            f,
            "median {:.1} ms, longest {:.1} ms",
            millis(sorted.get(sorted.len() / 2)),
            millis(sorted.last())
        )
    }
}

/// What a mount's processes take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) supervisor: Usage,
    pub(crate) worker: Usage,
    pub(crate) memfds: u64,
}

impl Sample {
    pub(crate) fn of(scene: &Scene) -> Result<Self> {
        let supervisor = scene.mounted.pid();
        Ok(Self {
            supervisor: Usage::of(supervisor)?,
            worker: Usage::of(scene.worker()?)?,
            memfds: processes::memfds(supervisor)?,
        })
    }
}
