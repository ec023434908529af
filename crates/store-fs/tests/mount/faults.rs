use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::{Mutex, Once},
};

use castore::{Digest, Node};
use tracing_subscriber::fmt::MakeWriter;

use super::{harness::*, tree::*};

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        LOG.lock().expect("nobody panics here").write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

/// Collects what is logged by all threads. Messages are told apart by their
/// digests, so tests use contents of their own.
fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .with_writer(Log)
            .init();
    });
}

/// The lines that have all of `parts`.
fn logged(parts: &[&str]) -> usize {
    let log = LOG.lock().expect("nobody panics here").clone();
    let log = String::from_utf8(log).expect("text");
    log.lines()
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .count()
}

fn digest(node: &Node) -> Digest {
    match node {
        Node::Directory { digest, .. } | Node::File { digest, .. } => *digest,
        Node::Symlink { .. } => unreachable!("it has none"),
    }
}

#[track_caller]
fn assert_eio(path: &Path) {
    let error = fs::read(path).expect_err("it cannot be read");
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{}", path.display());
}

fn fixture(content: &str) -> (Fixture, Digest) {
    capture();
    let tree = dir([
        ("sub", dir([("file", file(content))])),
        ("sound", file("sound")),
    ]);
    let fixture = Fixture::of("hash-pkg", &tree);
    let digest = digest(&fixture.store.put(&file(content)));
    (fixture, digest)
}

fn assert_named(digest: Digest) {
    let digest = format!("digest={digest}");
    let parts = [
        "ERROR",
        "store_path=hash-pkg ",
        "file=hash-pkg/sub/file ",
        &digest,
    ];
    assert!(logged(&parts) > 0, "no line has {parts:?}");
}

#[test]
fn a_missing_blob() {
    let (fixture, digest) = fixture("this is missing");
    fixture.store.blobs.lose(digest);
    assert_eio(&fixture.at("hash-pkg/sub/file"));
    assert_named(digest);
    assert_eq!(
        fs::read(fixture.at("hash-pkg/sound")).expect("readable"),
        b"sound"
    );
    assert!(fixture.stats().content_errors > 0);
}

#[test]
fn a_damaged_blob() {
    let (fixture, digest) = fixture("this is damaged");
    fixture.store.blobs.damage(digest);
    assert_eio(&fixture.at("hash-pkg/sub/file"));
    assert_named(digest);
}

#[test]
fn a_blob_of_another_size() {
    let (fixture, digest) = fixture("this is too short");
    fixture.store.blobs.shorten(digest);
    assert_eio(&fixture.at("hash-pkg/sub/file"));
    assert_named(digest);
}

#[test]
fn what_is_mended_is_read() {
    let (fixture, digest) = fixture("this will be mended");
    fixture.store.blobs.damage(digest);
    assert_eio(&fixture.at("hash-pkg/sub/file"));
    fixture.store.blobs.heal(digest);
    let content = fs::read(fixture.at("hash-pkg/sub/file")).expect("readable now");
    assert_eq!(content, b"this will be mended");
}

#[test]
fn a_missing_directory() {
    capture();
    let lost = dir([("file", file("in a lost directory"))]);
    let fixture = Fixture::of("hash-pkg", &dir([("lost", lost.clone()), ("x", file("x"))]));
    let digest = digest(&fixture.store.put(&lost));
    fixture.store.directories.lose(digest);
    let path = fixture.at("hash-pkg/lost");
    assert_eio(&path.join("file"));
    let error = fs::read_dir(&path).and_then(|mut dir| dir.next().expect("an answer"));
    assert_eq!(error.expect_err("no entry").raw_os_error(), Some(libc::EIO));
    let digest = format!("digest={digest}");
    assert!(
        logged(&[
            "ERROR",
            "store_path=hash-pkg ",
            "file=hash-pkg/lost ",
            &digest
        ]) >= 2
    );
    assert_eq!(fs::read(fixture.at("hash-pkg/x")).expect("readable"), b"x");
}

#[test]
fn a_root_that_fails() {
    capture();
    let fixture = Fixture::of("pkg", &file("x"));
    fixture.store.root.fail(true);
    assert_eio(&fixture.at("other"));
    assert!(logged(&["ERROR", "store_path=other ", "told to fail"]) > 0);
    let listed = fs::read_dir(fixture.path()).and_then(|mut dir| dir.next().expect("an answer"));
    assert_eq!(
        listed.expect_err("no entry").raw_os_error(),
        Some(libc::EIO)
    );
    assert!(logged(&["ERROR", "the mount's root cannot be read", "told to fail"]) > 0);
    fixture.store.root.fail(false);
    assert_eq!(fs::read(fixture.at("pkg")).expect("readable"), b"x");
}

#[test]
fn a_file_at_the_top_is_named() {
    capture();
    let fixture = Fixture::of("hash-file", &file("a lost file at the top"));
    let digest = digest(&fixture.store.put(&file("a lost file at the top")));
    fixture.store.blobs.lose(digest);
    assert_eio(&fixture.at("hash-file"));
    let digest = format!("digest={digest}");
    assert!(logged(&["ERROR", "store_path=hash-file ", "file=hash-file ", &digest]) > 0);
}

#[test]
fn a_panic_is_an_error_of_one_request() {
    let (fixture, digest) = fixture("this makes the handler panic");
    fixture.store.blobs.curse(digest);
    // More often than there are threads.
    for _ in 0..40 {
        assert_eio(&fixture.at("hash-pkg/sub/file"));
    }
    assert!(logged(&["ERROR", "the handler panicked", "a cursed blob"]) >= 40);
    assert_eq!(
        fs::read(fixture.at("hash-pkg/sound")).expect("readable"),
        b"sound"
    );
}

#[test]
fn a_size_that_no_file_has() {
    capture();
    let store = Store::default();
    let content = store.put(&file("a forged size"));
    let forged = Node::File {
        digest: digest(&content),
        size: u64::MAX,
        executable: false,
    };
    store.root.insert(b"forged", forged);
    let fixture = Fixture::mount(store, Config::default());
    assert_eio(&fixture.at("forged"));
    assert!(logged(&["ERROR", "store_path=forged ", "no file has"]) > 0);
}
