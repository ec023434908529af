use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Result, bail};
use castore::local::{Exclusive, LocalStore};
use clap::Args;
use store::{
    PathInfoService as _,
    gc::{self, PathSet, References},
    pathinfoservice::LocalPathInfoService,
};

use crate::{
    mounts::Mounts,
    open::StoreDir,
    place::{StorePathArg, store_path_parser},
    roots::{Reason, Roots},
};

/// Remove store paths.
///
/// They are gone from the store, and from its mounts, at once; `gc` frees their
/// space, which they may share with others. A path that another one refers to,
/// that is pinned, or in use, is refused.
///
/// The paths that were removed are printed. If an import is under way, it is
/// waited for.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Remove {
    /// Store paths.
    #[arg(value_name = "PATH", required = true, value_parser = store_path_parser())]
    paths: Vec<StorePathArg>,

    /// Also remove all paths that refer to them.
    #[arg(long)]
    with_referrers: bool,

    /// Even if they are pinned. The pin stays, and keeps them if they come back.
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    others: Others,
}

const EXAMPLES: &str = "\
Examples:
  store-mountd remove /nix/store/HASH-website
  store-mountd remove --with-referrers /nix/store/HASH-lib && store-mountd gc --only-space";

impl Remove {
    pub(crate) fn run(self, dir: &StoreDir) -> Result<ExitCode> {
        let store = dir.open()?;
        let exclusive = self.others.keep_out(&store)?;
        let infos = LocalPathInfoService::new(store.clone());
        let mut paths = PathSet::new();
        for StorePathArg(path) in &self.paths {
            match infos.get(path.digest()) {
                Ok(Some(info)) if info.store_path == *path => {}
                // One that is damaged may go.
                Err(store::Error::Damaged { .. }) => {}
                Err(store::Error::Castore(error)) if error.is_damage() => {}
                Err(error) => return Err(error.into()),
                Ok(_) => bail!(
                    "{path} is not in the store {}; `store-mountd ls` lists what is",
                    store.path().display()
                ),
            }
            paths.insert(*path.digest());
        }
        let references = References::read(&store, &paths)?;
        if self.with_referrers {
            paths = references.with_referrers(paths);
        }
        self.check(&store, &references, &paths)?;
        let given = self.paths.iter().map(|path| &path.0);
        let known = paths.iter().filter_map(|digest| references.get(digest));
        let mut names: Vec<_> = (known.map(|known| &known.store_path).chain(given))
            .map(ToString::to_string)
            .collect();
        names.sort_unstable();
        names.dedup();
        gc::remove(&exclusive, &paths)?;
        drop(exclusive);
        self.others.mounts(&store).tell_removed(&names);
        let mut out = io::stdout().lock();
        for name in &names {
            writeln!(out, "{}/{name}", nix_compat::STORE_DIR)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Whether the paths may go.
    fn check(&self, store: &LocalStore, references: &References, paths: &PathSet) -> Result<()> {
        let name = |digest: &[u8; 20]| match references.get(digest) {
            Some(known) => known.store_path.to_string(),
            None => nix_compat::nixbase32::encode(digest),
        };
        if let Some((referrer, referred)) = references.referrer(paths) {
            bail!(
                "{} is needed by {}, which refers to it; with --with-referrers all that refer to \
                 it are removed, too",
                name(&referred),
                referrer.store_path
            );
        }
        let roots = Roots::find(store, references, &[])?;
        let is_forced = |reason: &Reason| self.force && matches!(reason, Reason::Pin(_));
        match roots.among(paths, is_forced) {
            None => Ok(()),
            Some((digest, reason @ Reason::Pin(_))) => bail!(
                "{} is {reason}; remove the pin with `store-mountd pin --remove`, or the path all \
                 the same with --force",
                name(&digest)
            ),
            Some((digest, reason)) => bail!("{} is {reason}, and stays", name(&digest)),
        }
    }
}

// How a command that takes something out of a store minds who else uses it.
#[derive(Debug, Args)]
pub(super) struct Others {
    /// Fail if an import is under way.
    #[arg(long)]
    no_wait: bool,

    /// The control socket of a mount of the store, if that is not in its usual
    /// place. Can be given several times.
    #[arg(long, value_name = "PATH")]
    socket: Vec<PathBuf>,
}

impl Others {
    /// Keeps others from writing to the store. Says whom it waits for, if it does.
    pub(super) fn keep_out(&self, store: &Arc<LocalStore>) -> Result<Exclusive> {
        let path = store.path().display();
        let mut waits = |who: &str| {
            if !self.no_wait {
                tracing::info!("waiting for {who}, which writes to {path}");
            }
            !self.no_wait
        };
        Ok(store.exclusive(&mut waits)?)
    }

    /// The mounts of the store, to be told.
    pub(super) fn mounts(&self, store: &LocalStore) -> Mounts {
        Mounts::of(store, &self.socket)
    }
}
