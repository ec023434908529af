use std::path::Path;

use castore::Node;
use data_encoding::BASE64;
use rustix::{
    fs::{lgetxattr, lgetxattr_query, llistxattr},
    io::Errno,
};
use store_fs::{
    Options,
    core::{BLOB_DIGEST_XATTR, DIRECTORY_DIGEST_XATTR, Op},
};

use super::{harness::*, tree::*};

fn mount(xattrs: bool) -> (Fixture, Node, Node) {
    let store = Store::default();
    let node = store.add(
        "pkg",
        &dir([("file", file("content")), ("link", symlink("file"))]),
    );
    let file = store.put(&file("content"));
    let options = Options {
        xattrs,
        ..Options::default()
    };
    let config = Config {
        options,
        ..Config::default()
    };
    (Fixture::mount(store, config), node, file)
}

fn get(path: &Path, name: &str) -> Result<String, Errno> {
    let mut value = [0; 256];
    let len = lgetxattr(path, name, &mut value)?;
    Ok(String::from_utf8(value[..len].to_vec()).expect("text"))
}

fn list(path: &Path) -> Result<String, Errno> {
    let mut names = [0; 256];
    let len = llistxattr(path, &mut names)?;
    Ok(String::from_utf8(names[..len].to_vec()).expect("text"))
}

fn text(node: &Node) -> String {
    match node {
        Node::Directory { digest, .. } | Node::File { digest, .. } => {
            format!("blake3-{}", BASE64.encode(digest.as_bytes()))
        }
        Node::Symlink { .. } => unreachable!("it has no digest"),
    }
}

#[test]
fn on_they_are_the_digests() {
    let (fixture, directory, file) = mount(true);
    let (pkg, path) = (fixture.at("pkg"), fixture.at("pkg/file"));
    assert_eq!(get(&pkg, DIRECTORY_DIGEST_XATTR), Ok(text(&directory)));
    assert_eq!(get(&path, BLOB_DIGEST_XATTR), Ok(text(&file)));
    assert_eq!(list(&pkg), Ok(format!("{DIRECTORY_DIGEST_XATTR}\0")));
    assert_eq!(list(&path), Ok(format!("{BLOB_DIGEST_XATTR}\0")));
    assert_eq!(list(fixture.path()), Ok(String::new()));
    assert_eq!(list(&fixture.at("pkg/link")), Ok(String::new()));
}

#[test]
fn on_others_are_not_there() {
    let (fixture, ..) = mount(true);
    assert_eq!(
        get(&fixture.at("pkg"), BLOB_DIGEST_XATTR),
        Err(Errno::NODATA)
    );
    assert_eq!(
        get(&fixture.at("pkg/file"), "user.other"),
        Err(Errno::NODATA)
    );
    assert_eq!(
        get(fixture.path(), DIRECTORY_DIGEST_XATTR),
        Err(Errno::NODATA)
    );
}

#[test]
fn on_a_buffer_can_be_too_small() {
    let (fixture, ..) = mount(true);
    let mut small = [0; 8];
    let result = lgetxattr(fixture.at("pkg"), DIRECTORY_DIGEST_XATTR, &mut small);
    assert_eq!(result, Err(Errno::RANGE));
    let len = lgetxattr_query(fixture.at("pkg"), DIRECTORY_DIGEST_XATTR);
    assert_eq!(len, Ok("blake3-".len() + 44));
}

#[test]
fn off_they_are_asked_for_once() {
    let (fixture, ..) = mount(false);
    let path = fixture.at("pkg/file");
    let ask = || get(&path, BLOB_DIGEST_XATTR);
    assert_eq!(
        fixture.requests(Op::Getxattr, ask),
        (1, Err(Errno::OPNOTSUPP))
    );
    assert_eq!(
        fixture.requests(Op::Getxattr, ask),
        (0, Err(Errno::OPNOTSUPP))
    );
    assert_eq!(
        fixture.requests(Op::Listxattr, || list(&path)).1,
        Err(Errno::OPNOTSUPP)
    );
    assert_eq!(fixture.requests(Op::Listxattr, || list(&path)).0, 0);
}
