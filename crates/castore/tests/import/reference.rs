//! The node of a tree, computed as plainly as possible: recursively, whole
//! files in memory, and the encoding written out by hand.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
};

use castore::{Digest, Node};

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes_field(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend(bytes);
}

/// Protobuf leaves out a field that has its default.
fn number_field(number: u64, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        varint(number << 3, out);
        varint(value, out);
    }
}

pub(crate) fn node(path: &Path) -> Node {
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.is_symlink() {
        let target = fs::read_link(path).unwrap();
        return Node::Symlink {
            target: target.as_os_str().as_bytes().to_vec().into(),
        };
    }
    if metadata.is_file() {
        let bytes = fs::read(path).unwrap();
        return Node::File {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            executable: metadata.permissions().mode() & 0o100 != 0,
        };
    }
    let mut entries: Vec<_> = (fs::read_dir(path).unwrap())
        .map(|entry| entry.unwrap().file_name())
        .collect();
    entries.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    let (mut directories, mut files, mut symlinks) = (Vec::new(), Vec::new(), Vec::new());
    let mut total = 2 * entries.len() as u64;
    for name in entries {
        let mut entry = Vec::new();
        bytes_field(1, name.as_bytes(), &mut entry);
        match node(&path.join(&name)) {
            Node::Directory { digest, size } => {
                total += size;
                bytes_field(2, digest.as_bytes(), &mut entry);
                number_field(3, size, &mut entry);
                bytes_field(1, &entry, &mut directories);
            }
            Node::File {
                digest,
                size,
                executable,
            } => {
                bytes_field(2, digest.as_bytes(), &mut entry);
                number_field(3, size, &mut entry);
                number_field(4, executable.into(), &mut entry);
                bytes_field(2, &entry, &mut files);
            }
            Node::Symlink { target } => {
                bytes_field(2, &target, &mut entry);
                bytes_field(3, &entry, &mut symlinks);
            }
        }
    }
    Node::Directory {
        digest: Digest::of(&[directories, files, symlinks].concat()),
        size: total,
    }
}
