use super::*;

#[test]
fn symlink_targets_have_limits() {
    for target in [
        &b"x"[..],
        b"/",
        b"\xff",
        b".",
        &[b'x'; Node::MAX_TARGET_LEN],
    ] {
        let target = Bytes::copy_from_slice(target);
        let node = Node::symlink(target.clone()).unwrap();
        assert_eq!(node, Node::Symlink { target });
    }
    for target in [&b""[..], b"a\0b", &[b'x'; Node::MAX_TARGET_LEN + 1]] {
        let refused = Node::symlink(Bytes::copy_from_slice(target));
        assert!(matches!(refused, Err(DirectoryError::Target { .. })));
    }
}

#[test]
fn entries_round_trip_through_protobuf() {
    let name = PathComponent::try_from(&b"\xffname"[..]).unwrap();
    for node in [
        Node::directory(&Directory::default()),
        Node::File {
            digest: Digest::of(b"x"),
            size: u64::MAX,
            executable: true,
        },
        Node::symlink("target".into()).unwrap(),
    ] {
        let entry = node.to_proto(&name);
        assert_eq!(Node::from_proto(entry), Ok((name.clone(), node)));
    }
}

#[test]
fn entries_that_break_a_rule_are_refused() {
    use proto::entry::Entry;
    let from = |entry| Node::from_proto(proto::Entry { entry });
    assert_eq!(from(None), Err(DirectoryError::NoEntry));
    let file = proto::FileEntry {
        name: "name".into(),
        digest: vec![0; 32].into(),
        size: 1,
        executable: false,
    };
    from(Some(Entry::File(file.clone()))).unwrap();
    for broken in [
        proto::FileEntry {
            name: "a/b".into(),
            ..file.clone()
        },
        proto::FileEntry {
            digest: vec![0; 31].into(),
            ..file
        },
    ] {
        from(Some(Entry::File(broken))).unwrap_err();
    }
    let symlink = proto::SymlinkEntry {
        name: "name".into(),
        target: Bytes::new(),
    };
    from(Some(Entry::Symlink(symlink))).unwrap_err();
}
