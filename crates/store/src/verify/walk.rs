//! Finding everything that is damaged in one tree.

use std::sync::Arc;

use castore::{
    BlobService, Digest, Directory, DirectoryService, Error, Node, Object, PathComponent,
};

use crate::{nar::BUFFER_LEN, tree_path};

/// What is wrong with the contents of a node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// They are damaged or missing.
    #[error(transparent)]
    Read(Error),
    /// The blob is not as long as the node says.
    #[error("the blob has {found} bytes, the directory says {expected}")]
    Size { found: u64, expected: u64 },
}

/// Reads all contents of the tree at `root`, and calls `found` with each node
/// that is damaged and its place in the tree.
///
/// # Errors
/// If contents cannot be read for a reason other than damage.
pub(crate) fn problems(
    root: &Node,
    blobs: &dyn BlobService,
    directories: &dyn DirectoryService,
    mut found: impl FnMut(&Node, String, Problem),
) -> Result<(), Error> {
    let mut open: Vec<(Arc<Directory>, usize)> = Vec::new();
    let mut next = Some(root.clone());
    while let Some(node) = next {
        match check(blobs, directories, &node) {
            Ok(None) => {}
            Ok(Some(directory)) => open.push((directory, 0)),
            Err(Problem::Read(error)) if !error.is_damage() => return Err(error),
            Err(problem) => {
                let names = (open.iter())
                    .filter_map(|(directory, next)| directory.entries().get(next.checked_sub(1)?))
                    .map(|entry| &entry.name);
                let path = tree_path(names.map(PathComponent::as_bytes));
                found(&node, path, problem);
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
    Ok(())
}

/// Reads one node; a directory is returned.
fn check(
    blobs: &dyn BlobService,
    directories: &dyn DirectoryService,
    node: &Node,
) -> Result<Option<Arc<Directory>>, Problem> {
    match node {
        Node::Directory { digest, .. } => {
            let directory = directories.get(digest).map_err(Problem::Read)?;
            let object = Object::Directory(*digest);
            directory
                .map(Some)
                .ok_or(Problem::Read(Error::Missing { object }))
        }
        Node::File { digest, size, .. } => blob(blobs, digest, *size).map(|()| None),
        Node::Symlink { .. } => Ok(None),
    }
}

fn blob(blobs: &dyn BlobService, digest: &Digest, expected: u64) -> Result<(), Problem> {
    let object = Object::Blob(*digest);
    let blob = blobs.open(digest).map_err(Problem::Read)?;
    let blob = blob.ok_or(Problem::Read(Error::Missing { object }))?;
    let mut buffer = vec![0; BUFFER_LEN];
    let mut found = 0;
    loop {
        match blob.read_at(&mut buffer, found).map_err(Problem::Read)? {
            0 => break,
            len => found += len as u64,
        }
    }
    match found == expected {
        true => Ok(()),
        false => Err(Problem::Size { found, expected }),
    }
}
