//! Listings for people, and for line-wise tools.

use std::{io::Write, sync::Arc};

use anyhow::Result;
use castore::{Directory, Node, local::LocalStore};
use store::PathInfo;

use crate::place::directory;

pub(super) fn store_paths(out: &mut impl Write, infos: &[PathInfo], long: bool) -> Result<()> {
    for info in infos {
        if long {
            write!(out, "{} {:>14} ", mode(&info.node), info.nar_size)?;
        }
        writeln!(out, "{}", info.store_path)?;
    }
    Ok(())
}

/// A directory whose entries are being listed, and the next one's ordinal.
struct Open {
    directory: Arc<Directory>,
    next: usize,
    /// How long the path to it is, with the slash.
    prefix: usize,
}

pub(super) fn tree(
    out: &mut impl Write,
    store: &LocalStore,
    node: &Node,
    long: bool,
    recursive: bool,
) -> Result<()> {
    let Node::Directory { digest, .. } = node else {
        return line(out, node, b"", b".", long);
    };
    let mut path = Vec::new();
    let mut open = vec![Open {
        directory: directory(store, digest)?,
        next: 0,
        prefix: 0,
    }];
    while let Some(top) = open.last_mut() {
        path.truncate(top.prefix);
        let Some(entry) = top.directory.entries().get(top.next) else {
            open.pop();
            continue;
        };
        top.next += 1;
        let (name, node) = (entry.name.to_bytes(), entry.node.clone());
        line(out, &node, &path, &name, long)?;
        if let (true, Node::Directory { digest, .. }) = (recursive, &node) {
            path.extend_from_slice(&name);
            path.push(b'/');
            open.push(Open {
                directory: directory(store, digest)?,
                next: 0,
                prefix: path.len(),
            });
        }
    }
    Ok(())
}

/// Names are written as they are, as `ls` does to a pipe.
fn line(out: &mut impl Write, node: &Node, path: &[u8], name: &[u8], long: bool) -> Result<()> {
    if long {
        let size = match node {
            Node::Directory { .. } => 0,
            Node::File { size, .. } => *size,
            Node::Symlink { target } => target.len() as u64,
        };
        write!(out, "{} {size:>14} ", mode(node))?;
    }
    out.write_all(path)?;
    out.write_all(name)?;
    if let (true, Node::Symlink { target }) = (long, node) {
        out.write_all(b" -> ")?;
        out.write_all(target)?;
    }
    Ok(out.write_all(b"\n")?)
}

fn mode(node: &Node) -> &'static str {
    match node {
        Node::Directory { .. } => "dr-xr-xr-x",
        Node::File {
            executable: true, ..
        } => "-r-xr-xr-x",
        Node::File {
            executable: false, ..
        } => "-r--r--r--",
        Node::Symlink { .. } => "lrwxrwxrwx",
    }
}
