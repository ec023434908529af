//! The top level of the mount: one entry for each store path.

use std::{sync::Arc, time::UNIX_EPOCH};

use castore::{Digest, Error, Node, Object, PathComponent, local::LocalStore};
use nix_compat::{StorePath, nixbase32};
use parking_lot::Mutex;
use store::{PathInfo, PathInfoService, pathinfoservice::LocalPathInfoService};
use store_fs::{Root, RootEntry, RootKey, Usage};

/// The store paths of a store.
#[derive(Debug)]
pub(crate) struct StoreRoot {
    store: Arc<LocalStore>,
    infos: LocalPathInfoService,
    /// The usage at a generation; counting it reads all the store's tables.
    usage: Mutex<Option<(u64, Usage)>>,
}

impl StoreRoot {
    pub(crate) fn new(store: Arc<LocalStore>) -> Self {
        Self {
            infos: LocalPathInfoService::new(store.clone()),
            store,
            usage: Mutex::default(),
        }
    }

    fn entry(&self, digest: &[u8; 20]) -> Result<Option<RootEntry>, Error> {
        let info = self.infos.get(digest).map_err(castore_error)?;
        info.map(entry).transpose()
    }
}

impl Root for StoreRoot {
    fn lookup(&self, name: &[u8]) -> Result<Option<RootEntry>, Error> {
        let Ok(path) = StorePath::from_base_name(name) else {
            return Ok(None);
        };
        let entry = self.entry(path.digest())?;
        Ok(entry.filter(|entry| entry.name.as_bytes() == name))
    }

    fn get(&self, key: &RootKey) -> Result<Option<RootEntry>, Error> {
        let entry = self.entry(&digest_of(key))?;
        Ok(entry.filter(|entry| entry.key == *key || is_old_key(key)))
    }

    fn list(&self) -> Result<Vec<RootEntry>, Error> {
        let mut entries = self
            .infos
            .list()
            .map(|info| info.map_err(castore_error).and_then(entry))
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn generation(&self) -> u64 {
        match self.store.changed() {
            Ok(changed) => changed
                .duration_since(UNIX_EPOCH)
                .ok()
                .and_then(|since| u64::try_from(since.as_nanos()).ok())
                .unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "cannot tell whether the store changed");
                0
            }
        }
    }

    fn usage(&self) -> Usage {
        let generation = self.generation();
        let mut known = self.usage.lock();
        if let Some((at, usage)) = *known
            && at == generation
        {
            return usage;
        }
        match self.store.statistics() {
            Ok(statistics) => {
                let usage = Usage {
                    nodes: statistics.directories + statistics.blobs,
                    bytes: statistics.blob_bytes,
                };
                *known = Some((generation, usage));
                usage
            }
            Err(error) => {
                tracing::warn!(%error, "cannot count what the store holds");
                Usage::default()
            }
        }
    }
}

fn entry(info: PathInfo) -> Result<RootEntry, Error> {
    let name = info.store_path.to_string();
    Ok(RootEntry {
        key: key_of(info.store_path.digest(), &info.node),
        name: PathComponent::try_from(name.as_str()).map_err(|error| Error::Corrupt {
            object: Object::Record(nixbase32::encode(info.store_path.digest())),
            place: "the store".to_owned(),
            detail: error.to_string(),
        })?,
        node: info.node,
    })
}

/// The digest in the path, and what the root is: a path that was removed may come
/// back with other contents, and is something else then.
fn key_of(digest: &[u8; 20], node: &Node) -> RootKey {
    let contents = match node {
        Node::Directory { digest, .. } | Node::File { digest, .. } => *digest,
        Node::Symlink { target } => Digest::of(target),
    };
    let mut key = [0; 32];
    key[..20].copy_from_slice(digest);
    key[20..].copy_from_slice(&contents.as_bytes()[..12]);
    RootKey(key)
}

fn digest_of(key: &RootKey) -> [u8; 20] {
    *key.0.first_chunk().unwrap_or(&[0; 20])
}

/// Whether a worker of an earlier version made the key, which had the beginning
/// of the digest again in place of the contents.
fn is_old_key(key: &RootKey) -> bool {
    key.0[20..] == key.0[..12]
}

fn castore_error(error: store::Error) -> Error {
    match error {
        store::Error::Castore(error) => error,
        store::Error::Damaged { digest, source } => Error::Corrupt {
            object: Object::Record(nixbase32::encode(&digest)),
            place: "the store".to_owned(),
            detail: source.to_string(),
        },
        store::Error::ForeignRecord { key } => Error::Corrupt {
            object: Object::Record(key),
            place: "the store".to_owned(),
            detail: "its key is not that of a store path".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_a_path_with_its_contents() {
        let digest: [u8; 20] = std::array::from_fn(|i| i as u8);
        let node = |target: &'static str| Node::symlink(target.into()).unwrap();
        let key = key_of(&digest, &node("a"));
        assert_eq!(digest_of(&key), digest);
        assert_ne!(key, key_of(&digest, &node("b")));
        assert!(!is_old_key(&key));
    }
}
