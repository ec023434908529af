//! Writing a tree to disk.

use std::{
    ffi::OsStr,
    fs::{DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{OpenOptionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use castore::{BlobService, Digest, Directory, Error, Node, Object, local::LocalStore};

use crate::place::directory;

const BUFFER_LEN: usize = 256 * 1024;

/// Writes the tree of `node` to `to`. Everything on the way is made anew, so
/// that nothing is overwritten and no symlink followed.
pub(super) fn write(store: &LocalStore, node: &Node, to: &Path) -> Result<()> {
    let mut path = PathBuf::from(to);
    let mut buffer = vec![0; BUFFER_LEN];
    let mut open: Vec<(Arc<Directory>, usize)> = Vec::new();
    open.extend(make(store, node, &path, &mut buffer)?.map(|directory| (directory, 0)));
    while let Some((directory, next)) = open.last_mut() {
        let Some(entry) = directory.entries().get(*next) else {
            open.pop();
            path.pop();
            continue;
        };
        *next += 1;
        path.push(OsStr::from_bytes(entry.name.as_bytes()));
        let node = entry.node.clone();
        match make(store, &node, &path, &mut buffer)? {
            Some(directory) => open.push((directory, 0)),
            None => {
                path.pop();
            }
        }
    }
    Ok(())
}

/// Makes one node; a directory is returned, to be filled.
fn make(
    store: &LocalStore,
    node: &Node,
    path: &Path,
    buffer: &mut [u8],
) -> Result<Option<Arc<Directory>>> {
    let failed = || format!("cannot create {}", path.display());
    match node {
        Node::Directory { digest, .. } => {
            let found = directory(store, digest)?;
            DirBuilder::new().create(path).with_context(failed)?;
            return Ok(Some(found));
        }
        Node::File {
            digest, executable, ..
        } => file(store, digest, *executable, path, buffer)?,
        Node::Symlink { target } => {
            symlink(OsStr::from_bytes(target), path).with_context(failed)?;
        }
    }
    Ok(None)
}

fn file(
    store: &LocalStore,
    digest: &Digest,
    executable: bool,
    path: &Path,
    buffer: &mut [u8],
) -> Result<()> {
    let blob = BlobService::open(store, digest)?.ok_or(Error::Missing {
        object: Object::Blob(*digest),
    })?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(if executable { 0o777 } else { 0o666 })
        .open(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    let mut offset = 0;
    loop {
        let read = blob.read_at(buffer, offset);
        let len = read.with_context(|| format!("cannot read what goes to {}", path.display()))?;
        if len == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..len])
            .with_context(|| format!("cannot write {}", path.display()))?;
        offset += len as u64;
    }
}
