use std::{
    io::{self, BufWriter, Write as _},
    process::ExitCode,
};

use anyhow::{Result, bail};
use clap::Args;
use store::{PathInfo, PathInfoService as _, closure, pathinfoservice::LocalPathInfoService};

use crate::{
    open::StoreDir,
    place::{StorePathArg, store_path_parser},
};

/// Print what makes Nix know the store paths.
///
/// A Nix that uses the mounted store as its own needs this in its database.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Registration {
    /// Store paths. Without any, all in the store.
    #[arg(value_name = "PATH", value_parser = store_path_parser())]
    paths: Vec<StorePathArg>,

    /// Also everything that they refer to.
    #[arg(long, requires = "paths")]
    closure: bool,
}

const EXAMPLES: &str = "\
Examples:
  store-mountd registration | nix-store --load-db
  store-mountd registration --closure /nix/store/HASH-NAME > registration";

impl Registration {
    pub(crate) fn run(self, dir: &StoreDir) -> Result<ExitCode> {
        let store = dir.open()?;
        let service = LocalPathInfoService::new(store.clone());
        let mut out = BufWriter::new(io::stdout().lock());
        let mut write = |info: PathInfo| info.to_registration().write(&mut out);
        if self.paths.is_empty() {
            for info in service.list() {
                write(info?)?;
            }
        } else if self.closure {
            let roots: Vec<_> = self.paths.iter().map(|path| path.0.clone()).collect();
            for path in &self.paths {
                path.info(&store)?;
            }
            let mut missing = Vec::new();
            let infos = closure(roots, |path| {
                let info = service.get(path.digest())?;
                if info.is_none() {
                    missing.push(path.to_string());
                }
                Ok::<_, store::Error>(info)
            })?;
            if !missing.is_empty() {
                bail!(
                    "the closure is not complete; the store lacks {}",
                    missing.join(", ")
                );
            }
            infos.into_iter().try_for_each(write)?;
        } else {
            for path in &self.paths {
                write(path.info(&store)?)?;
            }
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}
