use proptest::{collection, prelude::*};

use super::*;

fn name(name: &[u8]) -> PathComponent {
    PathComponent::try_from(name).unwrap()
}

fn symlink(of: &str) -> Entry {
    Entry {
        name: name(of.as_bytes()),
        node: Node::symlink("t".into()).unwrap(),
    }
}

fn directory(entries: Vec<Entry>) -> Directory {
    Directory::new(entries).unwrap()
}

/// Written by hand after the `.proto` file.
#[test]
fn the_encoding_is_the_public_one() {
    assert_eq!(Directory::default().encode(), "");
    let child = Node::directory(&directory(vec![symlink("x")]));
    let Node::Directory { digest, .. } = child else {
        unreachable!();
    };
    let file = |of: &[u8], size, executable| Entry {
        name: name(of),
        node: Node::File {
            digest: Digest::from_bytes([7; 32]),
            size,
            executable,
        },
    };
    let encoded = directory(vec![
        symlink("z"),
        // Fields that have their default are left out.
        file(b"\xff", 0, false),
        file(b"f", 300, true),
        Entry {
            name: name(b"d"),
            node: child,
        },
    ])
    .encode();
    let expected: Vec<u8> = [
        &b"\x0a\x27\x0a\x01d\x12\x20"[..],
        digest.as_bytes(),
        b"\x18\x02",
        b"\x12\x2a\x0a\x01f\x12\x20",
        &[7; 32],
        b"\x18\xac\x02\x20\x01",
        b"\x12\x25\x0a\x01\xff\x12\x20",
        &[7; 32],
        b"\x1a\x06\x0a\x01z\x12\x01t",
    ]
    .concat();
    assert_eq!(encoded, expected);
}

#[test]
fn digests_are_pinned() {
    assert_eq!(
        Directory::default().digest().to_string(),
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    );
}

#[test]
fn everything_below_counts_twice() {
    let sizes = |directory: &Directory| match Node::directory(directory) {
        Node::Directory { size, .. } => size,
        _ => unreachable!(),
    };
    assert_eq!(sizes(&Directory::default()), 0);
    let of = |entries: &[&Directory]| {
        let entries = (entries.iter().enumerate()).map(|(number, directory)| Entry {
            name: name(number.to_string().as_bytes()),
            node: Node::directory(directory),
        });
        directory(entries.collect())
    };
    let flat = directory(vec![symlink("a"), symlink("b")]);
    assert_eq!(sizes(&flat), 4);
    let one = of(&[&Directory::default()]);
    assert_eq!(sizes(&one), 2);
    assert_eq!(sizes(&of(&[&flat, &one])), 2 * 2 + 4 + 2);
    // A forged size does not overflow.
    let forged = directory(vec![
        symlink("a"),
        Entry {
            name: name(b"d"),
            node: Node::Directory {
                digest: Digest::of(b""),
                size: u64::MAX,
            },
        },
    ]);
    assert_eq!(forged.size(), u64::MAX);
}

#[test]
fn lookup_finds_each_entry_at_its_ordinal() {
    let directory = directory(["c", "a", "b.", "b", "b-"].map(symlink).to_vec());
    let names: Vec<_> = (directory.entries().iter())
        .map(|entry| entry.name.to_string())
        .collect();
    assert_eq!(names, ["a", "b", "b-", "b.", "c"]);
    for (ordinal, entry) in directory.entries().iter().enumerate() {
        let found = directory.lookup(entry.name.as_bytes());
        assert_eq!(found, Some((ordinal, &entry.node)));
    }
    for absent in [&b""[..], b"0", b"bb", b"d", b"a/b", b"."] {
        assert_eq!(directory.lookup(absent), None);
    }
}

#[test]
fn a_name_occurs_once() {
    let twice = Directory::new(vec![symlink("a"), symlink("b"), symlink("a")]);
    let expected = DirectoryError::Duplicate { name: name(b"a") };
    assert_eq!(twice, Err(expected));
}

#[test]
fn only_the_canonical_encoding_is_read() {
    let canonical = directory(vec![symlink("a"), symlink("b")]).encode();
    Directory::decode(canonical.clone()).unwrap();
    let (a, b) = canonical.split_at(canonical.len() / 2);
    let other_ways: [(&str, Vec<u8>); 6] = [
        ("unsorted", [b, a].concat()),
        ("an unknown field", [&canonical, &b"\x20\x01"[..]].concat()),
        ("a name twice", [a, a].concat()),
        (
            "a length in more bytes than it needs",
            [&b"\x1a\x86\x00"[..], &canonical[2..]].concat(),
        ),
        (
            "a default that is written out",
            [
                &b"\x12\x29\x0a\x01f\x12\x20"[..],
                &[7; 32],
                b"\x18\x01\x20\x00",
            ]
            .concat(),
        ),
        ("cut short", canonical[..canonical.len() - 1].to_vec()),
    ];
    for (what, encoded) in other_ways {
        assert!(Directory::decode(encoded.into()).is_err(), "{what}");
    }
}

#[test]
fn verified_means_that_the_digest_fits() {
    let stored = directory(vec![symlink("a")]);
    let encoded = stored.encode();
    let decoded = Directory::decode_verified(&stored.digest(), encoded.clone());
    assert_eq!(decoded.unwrap(), stored);
    assert_eq!(
        Directory::decode_verified(&Digest::of(b"other"), encoded),
        Err(DirectoryError::DigestMismatch {
            found: stored.digest()
        })
    );
}

fn any_name() -> impl Strategy<Value = PathComponent> {
    let bytes = prop_oneof![
        collection::vec(any::<u8>(), 1..8),
        collection::vec(any::<u8>(), 250..256)
    ];
    bytes.prop_filter_map("a name", |bytes| PathComponent::try_from(&bytes[..]).ok())
}

fn any_node() -> impl Strategy<Value = Node> {
    let digest = any::<[u8; 32]>().prop_map(Digest::from_bytes);
    prop_oneof![
        (digest.clone(), any::<u64>()).prop_map(|(digest, size)| Node::Directory { digest, size }),
        (digest, any::<u64>(), any::<bool>()).prop_map(|(digest, size, executable)| {
            Node::File {
                digest,
                size,
                executable,
            }
        }),
        collection::vec(1..=255u8, 1..40).prop_map(|target| Node::Symlink {
            target: target.into()
        }),
    ]
}

fn any_directory() -> impl Strategy<Value = Directory> {
    collection::btree_map(any_name(), any_node(), 0..20).prop_map(|entries| {
        let entries = entries.into_iter();
        directory(entries.map(|(name, node)| Entry { name, node }).collect())
    })
}

/// Whatever is accepted is the canonical encoding of what was read.
fn assert_strict(bytes: Vec<u8>) {
    if let Ok(read) = Directory::decode(bytes.clone().into()) {
        assert_eq!(read.encode(), bytes);
        assert!(read.entries().is_sorted_by(|a, b| a.name < b.name));
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_read_back(directory in any_directory()) {
        prop_assert_eq!(Directory::decode(directory.encode()), Ok(directory));
    }

    #[test]
    fn the_order_of_entries_does_not_matter(
        directory in any_directory(),
        by in any::<prop::sample::Index>(),
    ) {
        let mut entries = directory.entries().to_vec();
        if !entries.is_empty() {
            let len = entries.len();
            entries.rotate_left(by.index(len));
        }
        prop_assert_eq!(Directory::new(entries), Ok(directory));
    }

    #[test]
    fn random_bytes_are_read_strictly(bytes in collection::vec(any::<u8>(), 0..200)) {
        assert_strict(bytes);
    }

    #[test]
    fn mutated_encodings_are_read_strictly(
        directory in any_directory(),
        edits in collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4),
    ) {
        let mut bytes = directory.encode().to_vec();
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len() + 1);
            match edit {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                _ if at == bytes.len() => bytes.push(byte),
                2 => bytes[at] = byte,
                _ => drop(bytes.remove(at)),
            }
        }
        assert_strict(bytes);
    }
}
