use crate::nar::{NarWriter, writer::Error};

fn new() -> NarWriter<Vec<u8>> {
    NarWriter::new(Vec::new())
}

fn in_directory() -> NarWriter<Vec<u8>> {
    let mut writer = new();
    writer.enter_directory().unwrap();
    writer
}

fn complete() -> NarWriter<Vec<u8>> {
    let mut writer = new();
    writer.symlink(b"x").unwrap();
    writer
}

#[track_caller]
fn out_of_place<T>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::OutOfPlace { .. })));
}

#[test]
fn calls_out_of_place() {
    out_of_place(new().entry(b"a"));
    out_of_place(new().leave_directory());
    out_of_place(new().write_contents(b""));
    out_of_place(new().end_file());
    out_of_place(new().finish());
    out_of_place(in_directory().symlink(b"x"));
    out_of_place(in_directory().enter_directory());
    out_of_place(in_directory().begin_file(false, 0));
    out_of_place(in_directory().finish());
    out_of_place(complete().symlink(b"x"));
    out_of_place(complete().entry(b"x"));
    let mut writer = in_directory();
    writer.entry(b"a").unwrap();
    out_of_place(writer.entry(b"b"));
    // An error is for good.
    out_of_place(writer.symlink(b"x"));
    let mut writer = new();
    writer.begin_file(false, 0).unwrap();
    out_of_place(writer.leave_directory());
}

#[test]
fn names_and_targets() {
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
        assert!(matches!(
            in_directory().entry(name),
            Err(Error::Name { .. })
        ));
    }
    for target in [&b""[..], b"a\0", &[b'x'; 4096]] {
        assert!(matches!(new().symlink(target), Err(Error::Target { .. })));
    }
    for next in [&b"b"[..], b"a", b"B"] {
        let mut writer = in_directory();
        writer.entry(b"b").unwrap();
        writer.symlink(b"x").unwrap();
        assert!(matches!(writer.entry(next), Err(Error::Unsorted { .. })));
    }
}

#[test]
fn contents_of_another_size() {
    let short = new().file(false, 6, &mut &b"hello"[..]);
    assert!(matches!(
        short,
        Err(Error::ContentsShort {
            size: 6,
            missing: 1
        })
    ));
    let long = new().file(false, 4, &mut &b"hello"[..]);
    assert!(matches!(long, Err(Error::ContentsLong { size: 4 })));
    let mut writer = new();
    writer.begin_file(false, 3).unwrap();
    writer.write_contents(b"ab").unwrap();
    assert!(matches!(
        writer.write_contents(b"cd"),
        Err(Error::ContentsLong { size: 3 })
    ));
}

#[test]
fn offset_points_at_contents() {
    let mut writer = in_directory();
    writer.entry(b"a").unwrap();
    writer.begin_file(true, 5).unwrap();
    let offset = writer.offset() as usize;
    writer.write_contents(b"hello").unwrap();
    writer.end_file().unwrap();
    writer.leave_directory().unwrap();
    let size = writer.offset();
    let nar = writer.finish().unwrap();
    assert_eq!(&nar[offset..offset + 5], b"hello");
    assert_eq!(nar.len() as u64, size);
}
