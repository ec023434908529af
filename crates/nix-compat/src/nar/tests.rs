use std::{error::Error as _, fmt::Write as _};

use super::{
    reader::{Error, ErrorKind},
    *,
};

mod properties;
mod writing;

/// Serialises a NAR from its strings, so that tests can get every one of them wrong.
fn raw(strings: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for string in strings {
        out.extend_from_slice(&(string.len() as u64).to_le_bytes());
        out.extend_from_slice(string);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}

fn words(text: &str) -> Vec<u8> {
    let strings: Vec<_> = text
        .split(' ')
        .map(|word| match word {
            "MAGIC" => MAGIC,
            "EMPTY" => b"",
            word => word.as_bytes(),
        })
        .collect();
    raw(&strings)
}

/// The NAR of a directory with an empty file of each name.
fn directory(names: &[&[u8]]) -> Vec<u8> {
    let mut strings: Vec<&[u8]> = vec![MAGIC, b"(", b"type", b"directory"];
    for name in names {
        strings.extend_from_slice(&[b"entry", b"(", b"name", name, b"node"]);
        strings.extend_from_slice(&[b"(", b"type", b"regular", b"contents", b"", b")", b")"]);
    }
    strings.push(b")");
    raw(&strings)
}

fn symlink(target: &[u8]) -> Vec<u8> {
    raw(&[MAGIC, b"(", b"type", b"symlink", b"target", target, b")"])
}

fn check(nar: &[u8]) -> Result<u64, Error> {
    let mut reader = NarReader::new(nar);
    while reader.next_event()?.is_some() {}
    let size = reader.offset();
    reader.expect_end()?;
    Ok(size)
}

#[track_caller]
fn refused(nar: &[u8]) -> ErrorKind {
    check(nar).expect_err("must be refused").kind
}

/// A trace of the events, and the bytes that the writer makes of them.
fn events(nar: &[u8]) -> Result<(String, Vec<u8>), CopyError> {
    let mut trace = String::new();
    let mut reader = NarReader::new(nar);
    while let Some(event) = reader.next_event()? {
        match event {
            Event::EnterDirectory => trace.push('{'),
            Event::LeaveDirectory => trace.push('}'),
            Event::Entry { name } => write!(trace, "{}=", name.escape_ascii()).unwrap(),
            Event::Symlink { target } => write!(trace, "->{},", target.escape_ascii()).unwrap(),
            Event::File {
                executable,
                contents,
            } => {
                let mark = if executable { "!" } else { "" };
                write!(trace, "{}{mark},", contents.size()).unwrap();
            }
        }
    }
    let mut writer = NarWriter::new(Vec::new());
    copy(&mut NarReader::new(nar), &mut writer)?;
    Ok((trace, writer.finish()?))
}

#[test]
fn accepts_every_kind_of_node() {
    for (text, trace) in [
        ("MAGIC ( type regular contents hello )", "5,"),
        (
            "MAGIC ( type regular executable EMPTY contents hello )",
            "5!,",
        ),
        ("MAGIC ( type regular contents EMPTY )", "0,"),
        ("MAGIC ( type symlink target ../x )", "->../x,"),
        ("MAGIC ( type directory )", "{}"),
        (
            "MAGIC ( type directory entry ( name a node ( type directory entry ( name x node ( type symlink \
             target y ) ) ) ) entry ( name b node ( type regular contents 12345678 ) ) )",
            "{a={x=->y,}b=8,}",
        ),
    ] {
        let nar = words(text);
        assert_eq!(check(&nar).unwrap(), nar.len() as u64);
        let (found, written) = events(&nar).unwrap();
        assert_eq!(found, trace);
        assert_eq!(written, nar, "{text}");
    }
}

#[test]
fn refuses_another_magic() {
    assert!(matches!(refused(b""), ErrorKind::Truncated));
    assert!(matches!(
        refused(&words("nix-archive-2 ( type directory )")),
        ErrorKind::Magic
    ));
    assert!(matches!(
        refused(&words("( type directory )")),
        ErrorKind::Magic
    ));
    assert!(matches!(
        refused(b"\xfd7zXZ\0\0\0 and more"),
        ErrorKind::Magic
    ));
    assert!(matches!(refused(&[0xff; 64]), ErrorKind::Magic));
}

#[test]
fn refuses_bad_tags() {
    for text in [
        "MAGIC ) type directory )",
        "MAGIC ( typo directory )",
        "MAGIC ( type fifo )",
        "MAGIC ( type EMPTY )",
        "MAGIC ( type a-string-longer-than-any-tag )",
        "MAGIC ( type regular )",
        "MAGIC ( type regular ) )",
        "MAGIC ( type regular executable yes contents x )",
        "MAGIC ( type regular executable EMPTY executable EMPTY contents x )",
        "MAGIC ( type regular contents x executable EMPTY )",
        "MAGIC ( type regular contents x contents y )",
        "MAGIC ( type symlink contents x )",
        "MAGIC ( type symlink target x target y )",
        "MAGIC ( type directory entry ) )",
        "MAGIC ( type directory entry ( node ( type directory ) ) )",
        "MAGIC ( type directory entry ( name a ) )",
        "MAGIC ( type directory entry ( name a node ( type directory ) entry",
        "MAGIC ( type directory name a )",
    ] {
        assert!(
            matches!(refused(&words(text)), ErrorKind::Tag { .. }),
            "{text}"
        );
    }
}

#[test]
fn refuses_bad_names() {
    let name_error = |name: &[u8]| match refused(&directory(&[name])) {
        ErrorKind::Name { source, .. } => source,
        other => panic!("{other:?}"),
    };
    assert_eq!(name_error(b""), NameError::Empty);
    assert_eq!(name_error(b"."), NameError::Dots);
    assert_eq!(name_error(b".."), NameError::Dots);
    assert_eq!(name_error(b"a/b"), NameError::Slash);
    assert_eq!(name_error(b"/"), NameError::Slash);
    assert_eq!(name_error(b"a\0"), NameError::Nul);
    assert_eq!(name_error(&[b'x'; 256]), NameError::TooLong(256));
    for name in [&b"..."[..], b" ", b"\n", b"\xff\xfe", &[b'x'; 255]] {
        check(&directory(&[name])).unwrap();
    }
}

#[test]
fn refuses_unsorted_and_duplicate_names() {
    assert!(matches!(
        refused(&directory(&[b"b", b"a"])),
        ErrorKind::Unsorted { .. }
    ));
    assert!(matches!(
        refused(&directory(&[b"ab", b"a"])),
        ErrorKind::Unsorted { .. }
    ));
    assert!(matches!(
        refused(&directory(&[b"\xff", b"a"])),
        ErrorKind::Unsorted { .. }
    ));
    assert!(matches!(
        refused(&directory(&[b"a", b"a"])),
        ErrorKind::DuplicateName { .. }
    ));
    check(&directory(&[b"A", b"a", b"a.", b"a0", b"\xff"])).unwrap();
    // Each directory has an order of its own.
    let nested = "MAGIC ( type directory entry ( name m node ( type directory entry ( name a node ( type \
                  directory ) ) ) ) entry ( name n node ( type directory ) ) )";
    check(&words(nested)).unwrap();
    let unsorted = nested.replace("name n", "name l");
    assert!(matches!(
        refused(&words(&unsorted)),
        ErrorKind::Unsorted { .. }
    ));
}

#[test]
fn refuses_bad_targets() {
    let target_error = |target: &[u8]| match refused(&symlink(target)) {
        ErrorKind::Target { source, .. } => source,
        other => panic!("{other:?}"),
    };
    assert_eq!(target_error(b""), TargetError::Empty);
    assert_eq!(target_error(b"a\0b"), TargetError::Nul);
    assert_eq!(target_error(&[b'x'; 4096]), TargetError::TooLong(4096));
    check(&symlink(&[b'x'; 4095])).unwrap();
    check(&symlink(b"/not/../normal//\xff")).unwrap();
}

#[test]
fn refuses_nonzero_padding() {
    let file = words("MAGIC ( type regular contents abc )");
    let executable = words("MAGIC ( type regular executable EMPTY contents abc )");
    for nar in [file, executable, directory(&[b"abc"]), symlink(b"abc")] {
        for string in [&b"abc"[..], b"type", MAGIC] {
            let start = nar
                .windows(string.len())
                .position(|window| window == string)
                .unwrap();
            let end = start + string.len();
            for index in end..end.next_multiple_of(8) {
                let mut bad = nar.clone();
                bad[index] = 1;
                match refused(&bad) {
                    ErrorKind::Padding => {}
                    ErrorKind::Magic if string == MAGIC => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn refuses_every_truncation_and_trailing_data() {
    let nar =
        words("MAGIC ( type directory entry ( name abc node ( type regular contents hello ) ) )");
    for len in 0..nar.len() {
        assert!(
            matches!(refused(&nar[..len]), ErrorKind::Truncated),
            "{len}"
        );
    }
    let mut long = nar.clone();
    long.push(0);
    let error = check(&long).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::TrailingData));
    assert_eq!(error.offset, nar.len() as u64);

    let two = [nar.as_slice(), &nar].concat();
    let mut reader = NarReader::new(two.as_slice());
    while reader.next_event().unwrap().is_some() {}
    assert_eq!(
        reader.finish().unwrap(),
        nar,
        "exactly one archive is consumed"
    );
}

#[test]
fn does_not_believe_lengths() {
    for len in [300, 5000, u64::from(u32::MAX), u64::MAX - 7, u64::MAX] {
        for prefix in [
            "MAGIC",
            "MAGIC ( type",
            "MAGIC ( type symlink target",
            "MAGIC ( type directory entry ( name",
            "MAGIC ( type regular contents",
        ] {
            let mut nar = words(prefix);
            nar.extend_from_slice(&len.to_le_bytes());
            nar.extend_from_slice(&[b'x'; 100]);
            check(&nar).unwrap_err();
        }
    }
}

#[test]
fn depth_is_limited() {
    fn nested(depth: usize) -> Vec<u8> {
        let mut strings: Vec<&[u8]> = vec![MAGIC, b"(", b"type", b"directory"];
        for _ in 1..depth {
            strings.extend_from_slice(&[
                b"entry",
                b"(",
                b"name",
                b"d",
                b"node",
                b"(",
                b"type",
                b"directory",
            ]);
        }
        strings.push(b")");
        for _ in 1..depth {
            strings.extend_from_slice(&[b")", b")"]);
        }
        raw(&strings)
    }
    let deep = nested(MAX_DEPTH);
    assert_eq!(events(&deep).unwrap().1, deep);
    assert!(matches!(
        refused(&nested(MAX_DEPTH + 1)),
        ErrorKind::TooDeep
    ));

    let mut writer = NarWriter::new(Vec::new());
    for _ in 0..MAX_DEPTH {
        writer.enter_directory().unwrap();
        writer.entry(b"d").unwrap();
    }
    assert!(matches!(
        writer.enter_directory(),
        Err(writer::Error::TooDeep)
    ));
}

#[test]
fn errors_say_what_and_where() {
    let mut nar = words("MAGIC ( type directory");
    let offset = nar.len() as u64;
    nar.extend(words("entry ( name a/b node"));
    let error = check(&nar).unwrap_err();
    assert!(error.offset > offset && error.offset < nar.len() as u64);
    assert!(error.to_string().contains("at byte"));
    let kind = error.source().unwrap();
    assert_eq!(kind.to_string(), "the name 'a/b' is invalid");
    assert_eq!(kind.source().unwrap().to_string(), "it contains a slash");
}

#[test]
fn fails_for_good() {
    let nar = directory(&[b"b", b"a"]);
    let mut reader = NarReader::new(nar.as_slice());
    let first = loop {
        if let Err(error) = reader.next_event() {
            break error;
        }
    };
    assert!(matches!(first.kind, ErrorKind::Unsorted { .. }));
    assert!(matches!(
        reader.next_event(),
        Err(Error {
            kind: ErrorKind::FailedBefore,
            ..
        })
    ));
    assert!(matches!(
        reader.finish(),
        Err(Error {
            kind: ErrorKind::FailedBefore,
            ..
        })
    ));

    let mut reader = NarReader::new(nar.as_slice());
    reader.next_event().unwrap();
    assert!(matches!(
        reader.finish(),
        Err(Error {
            kind: ErrorKind::NotFinished,
            ..
        })
    ));
}

#[test]
fn contents_are_streamed_and_skipped() {
    use std::io::Read as _;

    let nar = words(
        "MAGIC ( type directory entry ( name a node ( type regular contents hello-world ) ) )",
    );
    for read in 0..=11 {
        let mut reader = NarReader::new(std::io::BufReader::with_capacity(3, nar.as_slice()));
        while let Some(event) = reader.next_event().unwrap() {
            let Event::File { mut contents, .. } = event else {
                continue;
            };
            let mut buf = vec![0; read];
            contents.read_exact(&mut buf).unwrap();
            assert_eq!(buf, b"hello-world"[..read]);
            assert_eq!(contents.remaining(), 11 - read as u64);
            if read == 11 {
                assert_eq!(contents.read(&mut [0; 9]).unwrap(), 0);
            }
        }
        assert_eq!(reader.offset(), nar.len() as u64);
        reader.expect_end().unwrap();
    }
}

#[test]
fn truncated_contents_are_no_short_file() {
    use std::io::Read as _;

    let mut nar = words("MAGIC ( type regular contents");
    nar.extend_from_slice(&100u64.to_le_bytes());
    nar.extend_from_slice(b"only this");
    let mut reader = NarReader::new(nar.as_slice());
    let Ok(Some(Event::File { mut contents, .. })) = reader.next_event() else {
        panic!("no file")
    };
    let error = contents.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(contents.read(&mut [0]).is_err());
    assert!(reader.next_event().is_err());
}

#[test]
fn io_errors_pass_through() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("broken"))
        }
    }
    let mut reader = NarReader::new(std::io::BufReader::new(Broken));
    assert!(matches!(
        reader.next_event(),
        Err(Error {
            kind: ErrorKind::Io(_),
            ..
        })
    ));
}
