//! Places in the store, as the command line names them.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    sync::Arc,
};

use anyhow::{Result, anyhow, bail};
use castore::{DirectoryService, Error, Node, Object, local::LocalStore};
use clap::builder::{OsStringValueParser, TypedValueParser};
use nix_compat::{STORE_DIR, StorePath};
use store::{PathInfo, PathInfoService as _, pathinfoservice::LocalPathInfoService};

/// A store path, with or without /nix/store before it.
#[derive(Debug, Clone)]
pub(crate) struct StorePathArg(pub(crate) StorePath);

/// Parses an argument that is a store path.
pub(crate) fn store_path_parser() -> impl TypedValueParser<Value = StorePathArg> {
    OsStringValueParser::new().try_map(|text: OsString| {
        let place = Place::parse(&text)?;
        match place.below.is_empty() {
            true => Ok(StorePathArg(place.store_path)),
            false => Err(anyhow!(
                "it is within a store path; only a whole one will do"
            )),
        }
    })
}

/// Parses an argument that is a store path or something in it.
pub(crate) fn place_parser() -> impl TypedValueParser<Value = Place> {
    OsStringValueParser::new().try_map(|text: OsString| Place::parse(&text))
}

impl StorePathArg {
    /// What the store knows of the path.
    pub(crate) fn info(&self, store: &Arc<LocalStore>) -> Result<PathInfo> {
        info(&self.0, store)
    }
}

/// What the store knows of a path.
pub(crate) fn info(path: &StorePath, store: &Arc<LocalStore>) -> Result<PathInfo> {
    LocalPathInfoService::new(store.clone())
        .get(path.digest())?
        .filter(|info| info.store_path == *path)
        .ok_or_else(|| {
            let store = store.path().display();
            anyhow!("{path} is not in the store {store}; `store-mountd ls` lists what is")
        })
}

/// A store path or something in it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) store_path: StorePath,
    /// The names that lead to it from the store path's root.
    below: Vec<Vec<u8>>,
}

impl Place {
    pub(crate) fn parse(text: &OsStr) -> Result<Self> {
        let text = text.as_bytes();
        let prefix = [STORE_DIR.as_bytes(), b"/"].concat();
        let relative = text.strip_prefix(prefix.as_slice()).unwrap_or(text);
        let mut names = relative.split(|byte| *byte == b'/');
        let store_path =
            StorePath::from_base_name(names.next().unwrap_or_default()).map_err(|error| {
                anyhow!("{error} (a store path is written {STORE_DIR}/HASH-NAME or HASH-NAME)")
            })?;
        let below = names
            .filter(|name| !name.is_empty() && *name != b".")
            .map(<[u8]>::to_vec)
            .collect();
        Ok(Self { store_path, below })
    }

    /// The node there.
    pub(crate) fn node(&self, store: &Arc<LocalStore>) -> Result<Node> {
        let mut node = info(&self.store_path, store)?.node;
        let mut at = self.store_path.to_absolute_path();
        for name in &self.below {
            let Node::Directory { digest, .. } = node else {
                bail!("{at} is not a directory");
            };
            let directory = directory(store, &digest)?;
            let name_text = String::from_utf8_lossy(name);
            node = match directory.lookup(name) {
                Some((_, node)) => node.clone(),
                None => bail!("{at} has no entry '{name_text}'"),
            };
            at = format!("{at}/{name_text}");
        }
        Ok(node)
    }
}

/// A directory that must be there.
pub(crate) fn directory(
    store: &LocalStore,
    digest: &castore::Digest,
) -> Result<Arc<castore::Directory>, Error> {
    DirectoryService::get(store, digest)?.ok_or(Error::Missing {
        object: Object::Directory(*digest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "5cq8g09l6map5dgp4a68nz6j2b1xwvqq-hi";

    #[test]
    fn places_are_read() {
        let place = |text: &str| Place::parse(text.as_ref()).unwrap();
        for text in [BASE.to_owned(), format!("/nix/store/{BASE}/")] {
            assert_eq!(place(&text).store_path.to_string(), BASE);
            assert!(place(&text).below.is_empty());
        }
        let below = place(&format!("/nix/store/{BASE}/a//./b")).below;
        assert_eq!(below, [b"a", b"b"]);
        let bytes = OsStr::from_bytes(b"5cq8g09l6map5dgp4a68nz6j2b1xwvqq-hi/\xff");
        assert_eq!(Place::parse(bytes).unwrap().below, [b"\xff"]);
        for text in ["", "/nix/store", "/nix/store/x", "/usr/share", "x/y"] {
            assert!(Place::parse(text.as_ref()).is_err(), "{text}");
        }
    }
}
