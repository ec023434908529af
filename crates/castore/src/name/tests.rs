use super::*;

#[test]
fn names_are_what_linux_allows() {
    for name in [
        &b"a"[..],
        b"...",
        b".a",
        b" ",
        b"\xff\xfe",
        b"\n",
        &[b'x'; 255],
    ] {
        let component = PathComponent::try_from(name).unwrap();
        assert_eq!(component.as_bytes(), name);
        let bytes = Bytes::copy_from_slice(name);
        assert_eq!(PathComponent::try_from(bytes.clone()).unwrap(), component);
        assert_eq!(component.to_bytes(), bytes);
    }
    for (name, expected) in [
        (&b""[..], PathComponentError::Empty),
        (b".", PathComponentError::Reserved),
        (b"..", PathComponentError::Reserved),
        (&[b'x'; 256], PathComponentError::TooLong(256)),
        (b"a/b", PathComponentError::Separator("a/b".to_owned())),
        (b"a\0", PathComponentError::Separator("a\0".to_owned())),
    ] {
        assert_eq!(PathComponent::try_from(name), Err(expected.clone()));
        assert_eq!(
            PathComponent::try_from(Bytes::copy_from_slice(name)),
            Err(expected)
        );
    }
}

#[test]
fn names_sort_by_bytes() {
    let mut names = ["b", "a.b", "a-b", "ab", "a", "B", "a0", "\u{e4}"]
        .map(|name| PathComponent::try_from(name).unwrap());
    names.sort();
    let sorted = names.each_ref().map(|name| name.as_bytes());
    assert!(sorted.is_sorted());
    assert_eq!(sorted[..3], [&b"B"[..], b"a", b"a-b"]);
}

#[test]
fn names_print_on_one_line() {
    for (name, shown) in [
        (&b"plain"[..], "plain"),
        ("\u{e4}\u{1f980}".as_bytes(), "\u{e4}\u{1f980}"),
        (b"new\nline", "new\\nline"),
        (b"\x1b[2J", "\\x1b[2J"),
        (b"\xff", "\\xff"),
    ] {
        assert_eq!(PathComponent::try_from(name).unwrap().to_string(), shown);
    }
}
