use bytes::Bytes;
use castore::{Digest, Node};
use nix_compat::{ContentAddress, NixHash, StorePath, signature::Signature};

use super::*;
use crate::proto;

fn path(number: u8, name: &str) -> StorePath {
    StorePath::new([number; 20], name).unwrap()
}

fn info() -> PathInfo {
    PathInfo {
        store_path: path(1, "self"),
        node: Node::Directory {
            digest: Digest::of(b"x"),
            size: 4,
        },
        references: [path(1, "self"), path(2, "other"), path(2, "again")].into(),
        nar_size: 1234,
        nar_sha256: [7; 32],
        signatures: vec![
            Signature::new("k-1", &[9; 64]).unwrap(),
            Signature::new("k-2", &[8; 3]).unwrap(),
        ],
        deriver: Some(path(3, "x.drv.drv")),
        ca: None,
    }
}

#[test]
fn messages_round_trip() {
    let sha256 = NixHash::Sha256([1; 32]);
    let hashes = [
        NixHash::Md5([1; 16]),
        NixHash::Sha1([1; 20]),
        sha256,
        NixHash::Sha512([1; 64]),
    ];
    let mut addresses = vec![None, Some(ContentAddress::Text([1; 32]))];
    addresses.extend(hashes.map(|hash| Some(ContentAddress::Flat(hash))));
    addresses.extend(hashes.map(|hash| Some(ContentAddress::Recursive(hash))));
    for ca in addresses {
        let info = PathInfo { ca, ..info() };
        assert_eq!(PathInfo::decode(info.encode().into()), Ok(info));
    }
}

#[test]
fn the_message_is_the_public_one() {
    let message = info().to_proto();
    let narinfo = message.narinfo.unwrap();
    assert_eq!(narinfo.deriver.unwrap().name, "x.drv");
    assert_eq!(message.references.len(), 3);
    let names: Vec<_> = info().references.iter().map(ToString::to_string).collect();
    assert_eq!(narinfo.reference_names, names);
    let Some(castore::proto::entry::Entry::Directory(entry)) = message.entry.unwrap().entry else {
        panic!("not a directory");
    };
    assert_eq!(entry.name, path(1, "self").to_string());
}

#[test]
fn invalid_messages_are_refused() {
    use PathInfoError as E;
    type Edit = fn(&mut proto::PathInfo, &mut proto::NarInfo);
    type Check = fn(&PathInfoError) -> bool;
    let cases: [(Edit, Check); 11] = [
        (|info, _| info.entry = None, |e| matches!(e, E::Missing(_))),
        (
            |info, _| info.entry = Some(castore::proto::Entry { entry: None }),
            |e| matches!(e, E::Root(_)),
        ),
        (
            |info, _| {
                let node = Node::Symlink { target: "x".into() };
                info.entry = Some(node.to_proto(&"no-store-path".try_into().unwrap()));
            },
            |e| matches!(e, E::StorePath { .. }),
        ),
        (
            |info, _| info.references.truncate(2),
            |e| {
                matches!(
                    e,
                    E::ReferenceCount {
                        digests: 2,
                        names: 3
                    }
                )
            },
        ),
        (
            |info, _| info.references[0] = Bytes::from_static(&[1; 19]),
            |e| matches!(e, E::DigestLength { len: 19, .. }),
        ),
        (
            |info, _| info.references.swap(0, 2),
            |e| matches!(e, E::ReferenceDigest { .. }),
        ),
        (
            |info, narinfo| {
                info.references[1] = info.references[0].clone();
                narinfo.reference_names[1] = narinfo.reference_names[0].clone();
            },
            |e| matches!(e, E::DuplicateReference { .. }),
        ),
        (
            |_, narinfo| narinfo.nar_sha256 = Bytes::new(),
            |e| matches!(e, E::DigestLength { len: 0, .. }),
        ),
        (
            |_, narinfo| narinfo.signatures[0].name.clear(),
            |e| matches!(e, E::Signature(_)),
        ),
        (
            |_, narinfo| {
                let digest = Bytes::from_static(&[1; 31]);
                narinfo.ca = Some(proto::nar_info::Ca { r#type: 0, digest });
            },
            |e| matches!(e, E::DigestLength { len: 31, .. }),
        ),
        (
            |_, narinfo| {
                let digest = Bytes::from_static(&[1; 32]);
                narinfo.ca = Some(proto::nar_info::Ca { r#type: 9, digest });
            },
            |e| matches!(e, E::CaType(9)),
        ),
    ];
    for (number, (edit, check)) in cases.into_iter().enumerate() {
        let mut message = info().to_proto();
        let mut narinfo = message.narinfo.take().unwrap();
        edit(&mut message, &mut narinfo);
        message.narinfo = Some(narinfo);
        let error = PathInfo::from_proto(message).unwrap_err();
        assert!(check(&error), "case {number}: {error}");
    }
    let mut message = info().to_proto();
    message.narinfo = None;
    assert_eq!(PathInfo::from_proto(message), Err(E::Missing("narinfo")));
    assert!(matches!(
        PathInfo::decode(Bytes::from_static(b"\xff")),
        Err(E::Decode(_))
    ));
}

#[test]
fn derivers_are_derivations() {
    let metadata = |name: &str| Metadata {
        deriver: Some(path(3, name)),
        ..Metadata::from(info())
    };
    let with = |name: &str| metadata(name).with_contents(info().node, 1234);
    assert_eq!(with("x.drv").unwrap().deriver, Some(path(3, "x.drv")));
    for name in ["x", "x.drvs", ".drv"] {
        assert!(matches!(with(name), Err(PathInfoError::Deriver { .. })));
    }
}

#[test]
fn narinfo_text_round_trips() {
    let text = info().to_narinfo("nar/x.nar".to_owned()).to_string();
    let parsed: nix_compat::NarInfo = text.parse().unwrap();
    assert_eq!(Metadata::from(parsed), Metadata::from(info()));
}
