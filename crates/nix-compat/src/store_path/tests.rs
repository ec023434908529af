use proptest::prelude::*;

use super::*;

const DIGEST: &str = "5cq8g09l6map5dgp4a68nz6j2b1xwvqq";

fn name_error(name: &[u8]) -> Option<NameError> {
    check_name(name).err()
}

#[test]
fn names() {
    for name in [
        "a",
        "A-Z",
        "+-._?=",
        "-",
        "--",
        ".a",
        "..a",
        "...",
        "a..",
        ".a-",
        ".=-x",
        &"x".repeat(211),
    ] {
        assert_eq!(name_error(name.as_bytes()), None, "{name}");
    }
    assert_eq!(name_error(b""), Some(NameError::Empty));
    assert_eq!(name_error(&[b'x'; 212]), Some(NameError::TooLong(212)));
    for name in [".", "..", ".-", "..-", ".-x", "..-x"] {
        assert_eq!(name_error(name.as_bytes()), Some(NameError::Dots), "{name}");
    }
    for byte in (0..=255u8).filter(|b| !b.is_ascii_alphanumeric() && !b"+-._?=".contains(b)) {
        assert_eq!(name_error(&[b'a', byte]), Some(NameError::Character(byte)));
    }
}

#[test]
fn parses_and_prints() {
    let base_name = format!("{DIGEST}-hi-1.0");
    let path = StorePath::from_base_name(&base_name).unwrap();
    assert_eq!(path.to_string(), base_name);
    assert_eq!(path.digest_text(), DIGEST);
    assert_eq!(path.name(), "hi-1.0");
    let absolute = format!("/nix/store/{base_name}");
    assert_eq!(path.to_absolute_path(), absolute);
    assert_eq!(StorePath::from_absolute_path(&absolute), Ok(path.clone()));

    let below = format!("{absolute}/bin/hi");
    assert_eq!(
        StorePath::from_absolute_path_below(below.as_bytes()),
        Ok((path.clone(), &b"/bin/hi"[..]))
    );
    assert_eq!(
        StorePath::from_absolute_path_below(absolute.as_bytes()),
        Ok((path, &b""[..]))
    );
}

#[test]
fn refuses_malformed_base_names() {
    let no_digest = |text: &str| {
        assert!(
            matches!(StorePath::from_base_name(text), Err(Error::NoDigest { .. })),
            "{text}"
        );
    };
    no_digest("");
    no_digest(".links");
    no_digest(DIGEST);
    no_digest(&format!("{DIGEST}x"));
    no_digest(&format!("{DIGEST}_hi"));
    assert!(matches!(
        StorePath::from_base_name(format!("{DIGEST}-")),
        Err(Error::Name { .. })
    ));
    assert!(matches!(
        StorePath::from_base_name(format!("{DIGEST}-a b")),
        Err(Error::Name { .. })
    ));
    for digit in ["e", "o", "u", "t", "A", ".", "\u{0}"] {
        let text = format!("{digit}{}-hi", &DIGEST[1..]);
        assert!(matches!(
            StorePath::from_base_name(text),
            Err(Error::Digest { .. })
        ));
    }
    assert!(StorePath::from_base_name(b"\xff".repeat(40)).is_err());
}

#[test]
fn refuses_malformed_absolute_paths() {
    let base_name = format!("{DIGEST}-hi");
    for path in [
        base_name.clone(),
        format!("nix/store/{base_name}"),
        format!("/nix/store{base_name}"),
        format!("/nix/stores/{base_name}"),
        format!("/gnu/store/{base_name}"),
        "/nix/store".to_owned(),
    ] {
        assert!(matches!(
            StorePath::from_absolute_path(path),
            Err(Error::NotInStore { .. })
        ));
    }
    for path in [
        format!("/nix/store//{base_name}"),
        format!("/nix/store/{base_name}/"),
        "/nix/store/".to_owned(),
    ] {
        assert!(StorePath::from_absolute_path(path).is_err());
    }
}

fn any_path() -> impl Strategy<Value = StorePath> {
    (any::<[u8; 20]>(), "[0-9a-zA-Z+_?=][0-9a-zA-Z+._?=-]{0,20}")
        .prop_map(|(digest, name)| StorePath::new(digest, name).unwrap())
}

proptest! {
    #[test]
    fn round_trip(path in any_path()) {
        prop_assert_eq!(StorePath::from_base_name(path.to_string()), Ok(path.clone()));
        prop_assert_eq!(StorePath::from_absolute_path(path.to_absolute_path()), Ok(path));
    }

    #[test]
    fn ordered_as_base_names(a in any_path(), b in any_path()) {
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        let sibling = StorePath::new(*a.digest(), b.name()).unwrap();
        prop_assert_eq!(a.cmp(&sibling), a.to_string().cmp(&sibling.to_string()));
    }

    #[test]
    fn never_panics(bytes: Vec<u8>) {
        let _ = StorePath::from_base_name(&bytes);
        let _ = StorePath::from_absolute_path([b"/nix/store/", bytes.as_slice()].concat());
        let _ = StorePath::from_absolute_path_below(&bytes);
    }
}
