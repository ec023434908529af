mod json;
mod text;

pub(super) use json::attributes;

use std::{
    io::{self, BufWriter, Write as _},
    process::ExitCode,
};

use anyhow::Result;
use clap::Args;
use store::{PathInfoService as _, pathinfoservice::LocalPathInfoService};

use crate::{
    failure,
    open::StoreDir,
    place::{Place, place_parser},
};

/// List store paths, or what is in one.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Ls {
    /// A store path or a directory in it. Without it, the store paths are
    /// listed.
    #[arg(value_name = "PATH", value_parser = place_parser())]
    place: Option<Place>,

    /// Also modes, sizes and targets.
    #[arg(short, long, conflicts_with = "json")]
    long: bool,

    /// Also what is in directories, all the way down.
    #[arg(short = 'R', long, requires = "place")]
    recursive: bool,

    /// As JSON, with digests.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  store-mountd ls
  store-mountd ls -l /nix/store/HASH-NAME/bin
  store-mountd ls -R --json HASH-NAME";

impl Ls {
    pub(crate) fn run(self, dir: &StoreDir) -> Result<ExitCode> {
        let store = dir.open()?;
        let mut out = BufWriter::new(io::stdout().lock());
        let mut status = ExitCode::SUCCESS;
        match &self.place {
            None => {
                let service = LocalPathInfoService::new(store.clone());
                let mut infos = Vec::new();
                for info in service.list() {
                    match info {
                        Ok(info) => infos.push(info),
                        // The others are of use all the same.
                        Err(error) => {
                            failure::print(&error.into());
                            status = ExitCode::FAILURE;
                        }
                    }
                }
                infos.sort_unstable_by(|a, b| a.store_path.cmp(&b.store_path));
                match self.json {
                    true => json::store_paths(&mut out, &infos)?,
                    false => text::store_paths(&mut out, &infos, self.long)?,
                }
            }
            Some(place) => {
                let node = place.node(&store)?;
                match self.json {
                    true => json::tree(&mut out, &store, &node, self.recursive)?,
                    false => text::tree(&mut out, &store, &node, self.long, self.recursive)?,
                }
            }
        }
        out.flush()?;
        Ok(status)
    }
}
