use std::{
    cell::RefCell,
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use castore::local::{CollectionProgress, LocalStore};
use clap::Args;
use indicatif::HumanBytes;
use nix_compat::{STORE_DIR, StorePath};
use store::gc::{self, PathSet, References};

use super::remove::Others;
use crate::{
    failure,
    meter::Meter,
    open::StoreDir,
    place::{Place, StorePathArg, store_path_parser},
    roots::{Pattern, Reason, Roots},
};

/// Remove store paths that nothing needs, and free space.
///
/// What stays are the roots, and all that they refer to. Roots are the paths that
/// are pinned (`store-mountd pin`), those that /run/current-system,
/// /run/booted-system and /nix/var/nix/profiles/system-*-link lead to, those that
/// a process or a mount uses, and those named here.
///
/// The paths that were removed are printed, and are gone from mounts of the store
/// at once. Then the space is freed of all that is in no path any more. Mounts go
/// on meanwhile; imports wait, and an import that is under way is waited for.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Gc {
    /// A store path that is to stay. Can be given several times.
    #[arg(long, value_name = "PATH", value_parser = store_path_parser())]
    keep: Vec<StorePathArg>,

    /// A file with store paths that are to stay, one on each line.
    #[arg(long, value_name = "FILE")]
    keep_closure_of: Vec<PathBuf>,

    /// A symlink that leads to a store path that is to stay, a directory of such,
    /// or a name with * in it. Can be given several times.
    #[arg(long, value_name = "PATTERN")]
    roots: Vec<PathBuf>,

    /// Remove no path, only free the space of those that were removed.
    #[arg(long, conflicts_with_all = ["keep", "keep_closure_of", "roots", "even_everything"])]
    only_space: bool,

    /// Only print what would be removed, and how much space that would free at
    /// the most.
    #[arg(long)]
    dry_run: bool,

    /// Remove all paths if there is no root. Without this that is refused.
    #[arg(long)]
    even_everything: bool,

    /// Write all parts of the store anew that have garbage in them.
    #[arg(long, conflicts_with = "compact_above")]
    all: bool,

    /// Write parts of the store anew of which more than this many percent are
    /// garbage.
    #[arg(
        long,
        value_name = "PERCENT",
        default_value_t = 30,
        value_parser = clap::value_parser!(u8).range(0..=100)
    )]
    compact_above: u8,

    #[command(flatten)]
    others: Others,
}

const EXAMPLES: &str = "\
Examples:
  See what would go, and how much space that would free:
    store-mountd gc --dry-run
  Keep what is pinned, and one path more:
    store-mountd gc --keep /nix/store/HASH-website
  On a machine with other profiles:
    store-mountd gc --roots /nix/var/nix/gcroots --roots '/nix/var/nix/profiles/per-user/*/*'
  Free the space of what `remove` removed:
    store-mountd gc --only-space";

impl Gc {
    pub(crate) fn run(self, dir: &StoreDir) -> Result<ExitCode> {
        let store = dir.open()?;
        let progress = Arc::new(CollectionProgress::default());
        if self.dry_run {
            return self.dry_run(&store, &progress);
        }
        let exclusive = self.others.keep_out(&store)?;
        let (kept, names) = self.plan(&store)?;
        let mounts = RefCell::new(self.others.mounts(&store));
        let meter = meter(&progress);
        let removed = || {
            mounts.borrow_mut().tell_removed(&names);
            // If nobody reads it, they are gone all the same.
            let _ = meter.suspend(|| print(&names));
        };
        let options = gc::Options {
            kept: &kept,
            removed: &removed,
            percent: if self.all { 0 } else { self.compact_above },
            progress: &progress,
        };
        let collected = gc::collect(&exclusive, &options);
        drop(meter);
        drop(exclusive);
        let collected = collected?;
        // What was removed is not to be kept open.
        mounts.borrow_mut().tell_removed(&[]);
        eprintln!(
            "{} paths removed, {} stay; {} freed",
            names.len(),
            kept.len(),
            HumanBytes(collected.bytes)
        );
        match collected.incomplete {
            None => Ok(ExitCode::SUCCESS),
            Some(error) => {
                let error = anyhow::Error::from(error)
                    .context("not all parts with garbage in them could be written anew");
                failure::print(&error);
                Ok(ExitCode::FAILURE)
            }
        }
    }

    fn dry_run(
        &self,
        store: &Arc<LocalStore>,
        progress: &Arc<CollectionProgress>,
    ) -> Result<ExitCode> {
        let (kept, names) = self.plan(store)?;
        let meter = meter(progress);
        let garbage = gc::garbage(store, &kept, progress);
        drop(meter);
        let garbage = garbage?;
        print(&names)?;
        eprintln!(
            "{} paths would be removed, {} stay; up to {} would be freed",
            names.len(),
            kept.len(),
            HumanBytes(garbage.bytes)
        );
        Ok(ExitCode::SUCCESS)
    }

    /// The paths that stay, and the names of those that do not.
    fn plan(&self, store: &Arc<LocalStore>) -> Result<(PathSet, Vec<String>)> {
        let references = References::read(store, &PathSet::new())?;
        if self.only_space {
            let all = references.iter().map(|(digest, _)| *digest).collect();
            return Ok((all, Vec::new()));
        }
        let patterns: Vec<_> = self.roots.iter().map(Pattern::new).collect();
        let mut roots = Roots::find(store, &references, &patterns)?;
        for path in self.kept()? {
            if !references.has(&path) {
                bail!(
                    "{path}, which is to stay, is not in the store {}",
                    store.path().display()
                );
            }
            roots.add(&references, &path, Reason::Asked);
        }
        if roots.is_empty() && references.iter().next().is_some() && !self.even_everything {
            bail!(
                "nothing says what is to stay, so all paths of the store {} would be removed; pin \
                 some with `store-mountd pin`, name them with --keep, or say --even-everything",
                store.path().display()
            );
        }
        let kept = references.closure(roots.digests());
        let names = (references.iter())
            .filter(|(digest, _)| !kept.contains(*digest))
            .map(|(_, known)| known.store_path.to_string());
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        Ok((kept, names))
    }

    /// Paths that the command line names.
    fn kept(&self) -> Result<Vec<StorePath>> {
        let mut kept: Vec<_> = self.keep.iter().map(|path| path.0.clone()).collect();
        for file in &self.keep_closure_of {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            for line in text.lines().filter(|line| !line.is_empty()) {
                let place = Place::parse(line.as_ref())
                    .with_context(|| format!("{}: {line:?}", file.display()))?;
                kept.push(place.store_path);
            }
        }
        Ok(kept)
    }
}

fn print(names: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for name in names {
        writeln!(out, "{STORE_DIR}/{name}")?;
    }
    out.flush()
}

fn meter(progress: &Arc<CollectionProgress>) -> Meter {
    let shown = progress.clone();
    Meter::start(move || {
        format!(
            "{} objects live, {} written anew",
            shown.marked(),
            HumanBytes(shown.copied())
        )
    })
}
