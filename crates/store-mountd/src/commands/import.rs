mod plan;
mod run;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use nix_compat::signature::PublicKey;
use store::binary_cache::SourceUrl;

use crate::open::StoreDir;

/// Bring trees and store paths into the store.
///
/// A file or directory becomes a store path named after it, by the rules of
/// `nix store add`. A path directly in /nix/store is taken over under its own
/// name, with what Nix knows of it; so is one that a registration describes, or
/// that a binary cache has. What is known of its contents is checked.
///
/// Each store path is printed on standard output, one to a line, once it is
/// safely stored. Paths come after what they refer to, so an import that is
/// interrupted leaves complete ones only. The store may be mounted meanwhile.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Import {
    /// Trees, files, or store paths.
    #[arg(value_name = "PATH", required_unless_present_any = ["registration", "all"])]
    paths: Vec<PathBuf>,

    /// The name of the store path that PATH becomes, instead of its own. It has
    /// letters, digits and +-._?= only. Even a path in /nix/store becomes a new
    /// one then.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["closure", "registration", "from"])]
    name: Option<String>,

    /// Also import everything that the store paths refer to. Symlinks like
    /// ./result are followed, and of a file in a store path the whole path is
    /// taken.
    #[arg(long)]
    closure: bool,

    /// What is known of the store paths, as `nix-store --dump-db` prints it,
    /// instead of asking Nix. They may be in another directory than /nix/store.
    /// Without PATH, all that it describes are imported from /nix/store.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    registration: Option<PathBuf>,

    /// Fetch the store paths from a binary cache in a directory:
    /// nix+file:///DIR[?trusted-public-keys=KEY].
    #[arg(long, value_name = "URL")]
    from: Option<SourceUrl>,

    /// Fetch all that the binary cache has.
    #[arg(long, requires = "from", conflicts_with = "paths")]
    all: bool,

    /// A key, written NAME:BASE64, whose signature makes a path from a binary
    /// cache trusted. Paths that follow from their contents need none.
    #[arg(long = "trusted-public-key", value_name = "KEY", requires = "from")]
    trusted_public_keys: Vec<PublicKey>,

    /// Trust whatever the binary cache says.
    #[arg(long, requires = "from")]
    no_check_sigs: bool,

    /// Import store paths even if some that they refer to are not in the store.
    #[arg(long)]
    allow_missing_references: bool,

    /// Verify all contents of the store paths, those that are in the store
    /// already too, and store anew what is damaged.
    #[arg(long)]
    repair: bool,
}

const EXAMPLES: &str = "\
Examples:
  A tree:
    store-mountd import ./website
    store-mountd import /usr/share/doc --name doc-1.0
  What Nix has, with everything that it needs:
    store-mountd import --closure ./result
  From a binary cache made by `nix copy --to file:///srv/cache`:
    store-mountd import --from nix+file:///srv/cache --trusted-public-key KEY \\
        --closure /nix/store/HASH-NAME
  A path that `verify` found damaged, from where it came from:
    store-mountd import --repair ./website
  From the store of another root, without Nix:
    store-mountd import --registration ./registration /mnt/nix/store/HASH-NAME";

impl Import {
    pub(crate) fn run(self, dir: &StoreDir) -> Result<ExitCode> {
        // Nix is asked before signals are blocked, which it would inherit.
        let jobs = plan::plan(&self)?;
        run::run(&self, dir, jobs)?;
        Ok(ExitCode::SUCCESS)
    }
}
