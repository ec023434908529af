use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::Result;
use clap::Args;
use store::verify::{self, Progress};

use crate::{
    meter::{self, Meter},
    open::StoreDir,
    place::{StorePathArg, store_path_parser},
};

/// Check the store: hash everything anew and name what is damaged.
///
/// Without PATH everything is checked: that each object in the store is what its
/// digest says, that each store path is complete and has the NAR hash known of
/// it, and that what it refers to is there. With PATH, these paths only.
///
/// Each damage is a line on standard output, with store path, file and digest
/// where they are known; `import --repair` of the store path mends it. Exit
/// status: 0 if all is sound, 1 if something is damaged, 2 if that could not be
/// told.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Store paths. Without any, the whole store.
    #[arg(value_name = "PATH", value_parser = store_path_parser())]
    paths: Vec<StorePathArg>,
}

impl Verify {
    pub(crate) fn run(self, dir: &StoreDir) -> Result<ExitCode> {
        let progress = Arc::new(Progress::default());
        let store = dir.open()?;
        let shown = progress.clone();
        let begun = Instant::now();
        let meter = Meter::start(move || {
            let bytes = shown.object_bytes() + shown.nar_bytes();
            format!("{} paths, {}", shown.paths(), meter::rate(bytes, begun))
        });
        let damaged = AtomicU64::new(0);
        let report = |damage: verify::Damage| {
            damaged.fetch_add(1, Ordering::Relaxed);
            // If nobody reads it, the exit status still tells.
            let _ = meter.suspend(|| writeln!(io::stdout(), "{damage}"));
        };
        if self.paths.is_empty() {
            verify::everything(&store, &progress, &report)?;
        } else {
            let infos: Vec<_> = (self.paths.iter())
                .map(|path| path.info(&store))
                .collect::<Result<_>>()?;
            verify::paths(&store, infos.into_iter().map(Ok), &progress, &report)?;
        }
        drop(meter);
        let bytes = progress.object_bytes() + progress.nar_bytes();
        let checked = format!("{} paths, {}", progress.paths(), meter::rate(bytes, begun));
        match damaged.into_inner() {
            0 => {
                eprintln!("sound: {checked}");
                Ok(ExitCode::SUCCESS)
            }
            count => {
                eprintln!("{count} damaged: {checked}");
                Ok(ExitCode::from(1))
            }
        }
    }
}
