mod tree;

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{ArgGroup, Args};
use store::nar;

use crate::{
    open::StoreDir,
    place::{Place, place_parser},
};

/// Take a store path, or something in it, out of the store.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("form").required(true), after_help = EXAMPLES)]
pub(crate) struct Export {
    /// A store path or a file or directory in it.
    #[arg(value_name = "PATH", value_parser = place_parser())]
    place: Place,

    /// As a NAR archive.
    #[arg(long, group = "form")]
    nar: bool,

    /// Where the NAR goes. Without it, to standard output. A file that is there
    /// is not overwritten.
    #[arg(short, long, value_name = "FILE", requires = "nar")]
    output: Option<PathBuf>,

    /// As files, with their executable bits and symlinks, at this path, which
    /// must not be there yet.
    #[arg(long, value_name = "DIR", group = "form")]
    to: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  store-mountd export HASH-NAME --to ./copy
  store-mountd export /nix/store/HASH-NAME --nar | nix-store --restore ./copy";

impl Export {
    pub(crate) fn run(self, dir: &StoreDir) -> Result<ExitCode> {
        let store = dir.open()?;
        let node = self.place.node(&store)?;
        if let Some(to) = &self.to {
            tree::write(&store, &node, to)
                .with_context(|| format!("the export to {} is not complete", to.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        match &self.output {
            Some(path) => {
                let mut file = create(path)?;
                nar::render(&node, &*store, &*store, &mut file)
                    .with_context(|| format!("{} is not complete", path.display()))?;
            }
            None => {
                let mut out = io::stdout().lock();
                if out.is_terminal() {
                    bail!("a NAR is not for a terminal: redirect the output, or give -o FILE");
                }
                nar::render(&node, &*store, &*store, &mut out)?;
                out.flush()?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn create(path: &Path) -> Result<File> {
    File::create_new(path).with_context(|| format!("cannot create {}", path.display()))
}
