//! Where the store is.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use castore::local::{Integrity, LocalStore, Options};

const NAME: &str = "tvix-store-mount";

/// The store's directory, as named or by default.
#[derive(Debug)]
pub(crate) struct StoreDir {
    named: Option<PathBuf>,
}

impl StoreDir {
    pub(crate) fn new(named: Option<PathBuf>) -> Self {
        Self { named }
    }

    pub(crate) fn path(&self) -> Result<PathBuf> {
        if let Some(path) = &self.named {
            return Ok(path.clone());
        }
        if nix::unistd::geteuid().is_root() {
            return Ok(Path::new("/var/lib").join(NAME));
        }
        let absolute = |name| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .map(|data| data.join(NAME))
            .context("neither XDG_DATA_HOME nor HOME is set: name the store with --store DIR")
    }

    /// Opens the store for reading.
    pub(crate) fn open(&self) -> Result<Arc<LocalStore>> {
        self.open_with(Integrity::OnRead)
    }

    pub(crate) fn open_with(&self, integrity: Integrity) -> Result<Arc<LocalStore>> {
        let options = Options {
            integrity,
            create: false,
        };
        Ok(LocalStore::open(&self.path()?, &options)?)
    }

    /// Opens the store, which is made if it is not there.
    pub(crate) fn open_or_create(&self) -> Result<Arc<LocalStore>> {
        let options = Options {
            integrity: Integrity::OnRead,
            create: true,
        };
        Ok(LocalStore::open(&self.path()?, &options)?)
    }
}
