use std::thread;

use castore::{Digest, Directory, DirectoryService, Entry, Node, PathComponent};

use crate::Backend;

fn entry(name: &[u8], node: Node) -> Entry {
    Entry {
        name: PathComponent::try_from(name).unwrap(),
        node,
    }
}

fn file(name: &[u8], size: u64) -> Entry {
    entry(
        name,
        Node::File {
            digest: Digest::of(name),
            size,
            executable: size.is_multiple_of(2),
        },
    )
}

/// Children before their parents: empty, everything, large.
fn directories() -> Vec<Directory> {
    let empty = Directory::default();
    let mixed = Directory::new(vec![
        file(b"file", 7),
        entry(b"link", Node::symlink("target".into()).unwrap()),
        entry(b"empty", Node::directory(&empty)),
        file(b"\xff\xfe", u64::MAX),
    ])
    .unwrap();
    let mut large: Vec<_> = (0..20_000)
        .map(|number| file(format!("{number}").as_bytes(), number))
        .collect();
    large.push(entry(b"mixed", Node::directory(&mixed)));
    let large = Directory::new(large).unwrap();
    vec![empty, mixed, large]
}

pub(crate) fn what_was_put_is_had(backend: &Backend) {
    let service = &*backend.directories;
    for directory in directories() {
        let digest = service.put(&directory).unwrap();
        assert_eq!(*service.get(&digest).unwrap().unwrap(), directory);
    }
    service.flush().unwrap();
    for directory in directories() {
        let found = service.get(&directory.digest()).unwrap().unwrap();
        assert_eq!(*found, directory);
    }
    service.flush().unwrap();
}

pub(crate) fn what_was_not_put_is_not_had(backend: &Backend) {
    let service = &*backend.directories;
    for directory in directories() {
        assert!(service.get(&directory.digest()).unwrap().is_none());
    }
    // A blob of the same digest is no directory.
    let encoded = directories()[1].encode();
    (backend.blobs)
        .put(&castore::HashedBlob::new(&encoded))
        .unwrap();
    assert!(service.get(&Digest::of(&encoded)).unwrap().is_none());
}

pub(crate) fn the_digest_is_that_of_the_encoding(backend: &Backend) {
    for directory in directories() {
        let digest = backend.directories.put(&directory).unwrap();
        assert_eq!(digest, Digest::of(&directory.encode()));
    }
}

pub(crate) fn putting_twice_is_no_error(backend: &Backend) {
    let service = &*backend.directories;
    for directory in directories() {
        let digest = service.put(&directory).unwrap();
        assert_eq!(service.put(&directory).unwrap(), digest);
        service.flush().unwrap();
        assert_eq!(service.put(&directory).unwrap(), digest);
        assert_eq!(*service.get(&digest).unwrap().unwrap(), directory);
    }
}

pub(crate) fn threads_may_put_and_get_at_once(backend: &Backend) {
    thread::scope(|scope| {
        for thread in 0..6 {
            let service: &dyn DirectoryService = &*backend.directories;
            scope.spawn(move || {
                for round in 0..50u64 {
                    let directory =
                        Directory::new(vec![file(b"x", round * 3 + thread % 3)]).unwrap();
                    let digest = service.put(&directory).unwrap();
                    assert_eq!(*service.get(&digest).unwrap().unwrap(), directory);
                    if round % 20 == 19 {
                        service.flush().unwrap();
                    }
                }
            });
        }
    });
}
