//! Finding everything that is damaged in one path.

use castore::{
    BlobService, Digest, Directory, DirectoryService, Error, Node, Object, PathComponent,
    local::LocalStore,
};
use std::sync::Arc;

use super::Damage;
use crate::{PathInfo, nar::BUFFER_LEN, tree_path};

/// Reads all contents of a path and reports whatever cannot be read.
pub(super) fn contents(store: &LocalStore, info: &PathInfo, report: &(dyn Fn(Damage) + Sync)) {
    let mut open: Vec<(Arc<Directory>, usize)> = Vec::new();
    let mut next = Some(info.node.clone());
    while let Some(node) = next {
        match check(store, &node) {
            Ok(None) => {}
            Ok(Some(directory)) => open.push((directory, 0)),
            Err(error) => {
                let names = (open.iter())
                    .filter_map(|(directory, next)| directory.entries().get(next.checked_sub(1)?))
                    .map(|entry| &entry.name);
                let path = tree_path(names.map(PathComponent::as_bytes));
                report(error.at(info, path));
            }
        }
        next = None;
        while let Some((directory, ordinal)) = open.last_mut() {
            if let Some(entry) = directory.entries().get(*ordinal) {
                *ordinal += 1;
                next = Some(entry.node.clone());
                break;
            }
            open.pop();
        }
    }
}

enum Problem {
    Read(Error),
    Size { found: u64, expected: u64 },
}

impl Problem {
    fn at(self, info: &PathInfo, path: String) -> Damage {
        let store_path = info.store_path.clone();
        match self {
            Self::Read(source) => Damage::Contents {
                store_path,
                path,
                source,
            },
            Self::Size { found, expected } => Damage::Size {
                store_path,
                path,
                found,
                expected,
            },
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Read(error)
    }
}

/// Reads one node; a directory is returned.
fn check(store: &LocalStore, node: &Node) -> Result<Option<Arc<Directory>>, Problem> {
    match node {
        Node::Directory { digest, .. } => {
            let directory = DirectoryService::get(store, digest)?;
            let object = Object::Directory(*digest);
            Ok(Some(directory.ok_or(Error::Missing { object })?))
        }
        Node::File { digest, size, .. } => blob(store, digest, *size).map(|()| None),
        Node::Symlink { .. } => Ok(None),
    }
}

fn blob(store: &LocalStore, digest: &Digest, expected: u64) -> Result<(), Problem> {
    let object = Object::Blob(*digest);
    let blob = BlobService::open(store, digest)?.ok_or(Error::Missing { object })?;
    let mut buffer = vec![0; BUFFER_LEN];
    let mut found = 0;
    loop {
        match blob.read_at(&mut buffer, found)? {
            0 => break,
            len => found += len as u64,
        }
    }
    match found == expected {
        true => Ok(()),
        false => Err(Problem::Size { found, expected }),
    }
}
