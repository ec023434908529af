//! Listings for programs.
//!
//! They are written as they are made, so that neither their size nor the depth
//! of a tree matters. Bytes that are not UTF-8 become U+FFFD: JSON cannot hold
//! them.

use std::{borrow::Cow, io::Write, sync::Arc};

use anyhow::Result;
use castore::{Directory, Node, local::LocalStore};
use serde_json::{Map, Value, json};
use store::PathInfo;

use crate::place::directory;

pub(super) fn store_paths(out: &mut impl Write, infos: &[PathInfo]) -> Result<()> {
    out.write_all(b"{")?;
    for (number, info) in infos.iter().enumerate() {
        let comma = if number > 0 { "," } else { "" };
        let path = serde_json::to_string(&info.store_path.to_absolute_path())?;
        let mut value = attributes(&info.node);
        value.insert("narSize".to_owned(), json!(info.nar_size));
        write!(out, "{comma}\n{path}:{}", Value::Object(value))?;
    }
    Ok(out.write_all(b"\n}\n")?)
}

/// In the form of Nix's `.ls` files, with digests.
pub(super) fn tree(
    out: &mut impl Write,
    store: &LocalStore,
    node: &Node,
    recursive: bool,
) -> Result<()> {
    let mut open: Vec<(Arc<Directory>, usize)> = Vec::new();
    node_begin(out, store, node, true, &mut open)?;
    while let Some((directory, next)) = open.last_mut() {
        let Some(entry) = directory.entries().get(*next) else {
            open.pop();
            out.write_all(b"}}")?;
            continue;
        };
        let comma = if *next > 0 { "," } else { "" };
        *next += 1;
        let name = serde_json::to_string(&text(entry.name.as_bytes()))?;
        write!(out, "{comma}{name}:")?;
        let node = entry.node.clone();
        node_begin(out, store, &node, recursive, &mut open)?;
    }
    Ok(out.write_all(b"\n")?)
}

/// Writes a node; a directory that is to be opened is left to be ended when its
/// entries are written.
fn node_begin(
    out: &mut impl Write,
    store: &LocalStore,
    node: &Node,
    enter: bool,
    open: &mut Vec<(Arc<Directory>, usize)>,
) -> Result<()> {
    let value = Value::Object(attributes(node)).to_string();
    match node {
        Node::Directory { digest, .. } if enter => {
            let unclosed = value.strip_suffix('}').unwrap_or(&value);
            write!(out, "{unclosed},\"entries\":{{")?;
            open.push((directory(store, digest)?, 0));
        }
        _ => out.write_all(value.as_bytes())?,
    }
    Ok(())
}

/// What a node is, without what is in it.
pub(crate) fn attributes(node: &Node) -> Map<String, Value> {
    let mut value = Map::new();
    let kind = match node {
        Node::Directory { .. } => "directory",
        Node::File { .. } => "regular",
        Node::Symlink { .. } => "symlink",
    };
    value.insert("type".to_owned(), kind.into());
    match node {
        Node::Directory { digest, .. } => {
            value.insert("digest".to_owned(), digest.to_string().into());
        }
        Node::File {
            digest,
            size,
            executable,
        } => {
            value.insert("digest".to_owned(), digest.to_string().into());
            value.insert("size".to_owned(), (*size).into());
            value.insert("executable".to_owned(), (*executable).into());
        }
        Node::Symlink { target } => {
            value.insert("target".to_owned(), text(target).into());
        }
    }
    value
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
