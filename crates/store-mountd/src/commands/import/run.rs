//! Doing it.

use std::{
    io::{self, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use castore::import::Progress;
use nix_compat::StorePath;
use store::import::{Importer, Options};

use super::{
    Import,
    plan::{Job, Plan},
};
use crate::{
    meter::{self, Meter},
    open::StoreDir,
    signals::Termination,
};

/// What the meter shows.
#[derive(Default)]
struct Shown {
    tree: Progress,
    paths: AtomicU64,
    fetched: AtomicU64,
}

pub(super) fn run(import: &Import, dir: &StoreDir, plan: Plan) -> Result<()> {
    let cancel = Arc::new(AtomicBool::new(false));
    let cancelled = cancel.clone();
    Termination::block()?.on_each(move |_| {
        // What was not committed is not lost, it was never there.
        if cancelled.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;

    let store = dir.open_or_create()?;
    let shown = Arc::new(Shown::default());
    let meter = start_meter(shown.clone(), plan.jobs.len());
    let options = Options {
        allow_missing_references: import.allow_missing_references,
        repair: import.repair,
        progress: Some(&shown.tree),
        cancel: Some(&cancel),
    };
    let mut importer = Importer::new(&store, options);
    let mut gathered = Vec::new();
    for job in plan.jobs {
        if cancel.load(Ordering::Relaxed) {
            bail!("interrupted; what was printed is in the store");
        }
        // A tree is one thing that was asked for; a closure is many.
        let alone = matches!(job, Job::Tree { .. });
        let info = match (job, &plan.cache) {
            (Job::Tree { source, name }, _) => {
                check_apart(&source, store.path())?;
                importer.tree(&source, &name)?
            }
            (Job::StorePath { source, metadata }, _) => importer.store_path(&source, metadata)?,
            (Job::Fetch(info), Some(cache)) => {
                let info = importer.fetch(cache, info)?;
                shown.fetched.fetch_add(info.nar_size, Ordering::Relaxed);
                info
            }
            (Job::Fetch(info), None) => bail!("no binary cache has {}", info.store_path),
        };
        shown.paths.fetch_add(1, Ordering::Relaxed);
        gathered.push(info.store_path);
        if alone || importer.is_due() {
            commit(&mut importer, &mut gathered, &meter)?;
        }
    }
    commit(&mut importer, &mut gathered, &meter)
}

/// A tree that has the store in it changes while it is imported.
fn check_apart(source: &Path, store: &Path) -> Result<()> {
    // Whatever is wrong with these paths is told by who works with them.
    if let (Ok(source), Ok(store)) = (source.canonicalize(), store.canonicalize())
        && store.starts_with(&source)
    {
        bail!(
            "{} cannot be imported into a store that is in it: choose another with --store DIR",
            source.display()
        );
    }
    Ok(())
}

/// Makes the paths durable, and says so.
fn commit(importer: &mut Importer<'_>, gathered: &mut Vec<StorePath>, meter: &Meter) -> Result<()> {
    importer.commit()?;
    meter.suspend(|| {
        let mut out = io::stdout().lock();
        for path in gathered.drain(..) {
            writeln!(out, "{}", path.to_absolute_path())?;
        }
        out.flush().context("cannot say what was imported")
    })
}

fn start_meter(shown: Arc<Shown>, total: usize) -> Meter {
    let begun = Instant::now();
    Meter::start(move || {
        let tree = &shown.tree;
        let bytes = tree.bytes() + shown.fetched.load(Ordering::Relaxed);
        format!(
            "{} of {total} paths, {} files, {}",
            shown.paths.load(Ordering::Relaxed),
            tree.files(),
            meter::rate(bytes, begun)
        )
    })
}
