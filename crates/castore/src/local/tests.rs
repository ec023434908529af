use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::*;
use crate::{Node, outboard::GROUP_LEN};

fn store(dir: &Path) -> Arc<LocalStore> {
    let options = Options {
        create: true,
        ..Options::default()
    };
    LocalStore::open(dir, &options).unwrap()
}

fn content(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u64 * 31 + u64::from(seed) * 7 + (i as u64 >> 8)) as u8)
        .collect()
}

fn directory(name: &str) -> Directory {
    let node = Node::symlink(Bytes::from_static(b"target")).unwrap();
    let name = name.try_into().unwrap();
    Directory::new(vec![crate::Entry { name, node }]).unwrap()
}

fn read(store: &dyn BlobService, digest: &Digest) -> Vec<u8> {
    let blob = store.open(digest).unwrap().unwrap();
    let mut buf = vec![0; blob.size() as usize];
    assert_eq!(blob.read_at(&mut buf, 0).unwrap(), buf.len());
    buf
}

/// Sizes of every way to store a blob.
const SIZES: [usize; 6] = [
    0,
    100,
    GROUP_LEN + 1,
    session::WHOLE_FILE_LEN - 1,
    session::WHOLE_FILE_LEN,
    5 << 20,
];

#[test]
fn nothing_is_visible_before_commit_and_all_after() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, reader) = (store(dir.path()), store(dir.path()));
    let session = writer.begin().unwrap();
    let contents = SIZES.map(|size| content(1, size));
    for bytes in &contents {
        let blob = HashedBlob::new(bytes);
        BlobService::put(&session, &blob).unwrap();
        assert_eq!(read(&session, blob.digest()), *bytes);
        assert!(!reader.has(blob.digest()).unwrap());
    }
    let key = RecordKey([7; 32]);
    session.put_record(&key, b"value").unwrap();
    let digest = DirectoryService::put(&session, &directory("a")).unwrap();
    assert_eq!(session.record(&key).unwrap().unwrap(), "value");
    assert_eq!(reader.record(&key).unwrap(), None);
    assert!(DirectoryService::get(&*reader, &digest).unwrap().is_none());
    session.commit().unwrap();
    for bytes in &contents {
        assert_eq!(read(&*reader, &Digest::of(bytes)), *bytes);
    }
    assert_eq!(reader.record(&key).unwrap().unwrap(), "value");
    let found = DirectoryService::get(&*reader, &digest).unwrap().unwrap();
    assert_eq!(*found, directory("a"));
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_dropped_session_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let session = store.begin().unwrap();
    for size in SIZES {
        BlobService::put(&session, &HashedBlob::new(&content(2, size))).unwrap();
    }
    drop(session);
    assert_eq!(store.statistics().unwrap(), Statistics::default());
    for folder in ["tmp", "packs", "blobs", "index"] {
        let left = fs::read_dir(dir.path().join(folder)).unwrap().count();
        assert_eq!(left, 0, "{folder}");
    }
}

#[test]
fn what_a_killed_session_left_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    let kept = content(3, 300_000);
    let session = first.begin().unwrap();
    BlobService::put(&session, &HashedBlob::new(&kept)).unwrap();
    session.put_record(&RecordKey([1; 32]), b"x").unwrap();
    session.commit().unwrap();
    // As if killed while it moved its files into place: no index came to be.
    let tmp = dir.path().join("tmp/00112233445566778899aabbccddeeff");
    fs::create_dir(&tmp).unwrap();
    fs::write(tmp.join("x.meta"), b"left").unwrap();
    let pack = dir
        .path()
        .join("packs/ffffffffffffffffffffffffffffffff.meta");
    fs::write(&pack, b"left").unwrap();
    let lost = Digest::of(b"lost").to_string();
    let shard = dir.path().join("blobs").join(&lost[..2]);
    fs::create_dir_all(&shard).unwrap();
    fs::write(shard.join(&lost), b"lost").unwrap();
    let living = first.begin().unwrap();
    assert!(!tmp.exists() && !pack.exists() && !shard.join(&lost).exists());
    assert_eq!(read(&*first, &Digest::of(&kept)), kept);
    // A session that lives is left alone.
    BlobService::put(&living, &HashedBlob::new(b"alive")).unwrap();
    drop(store(dir.path()).begin().unwrap());
    living.commit().unwrap();
    assert_eq!(read(&*first, &Digest::of(b"alive")), b"alive");
}

#[test]
fn many_commits_are_merged_and_the_newest_record_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, reader) = (store(dir.path()), store(dir.path()));
    for round in 0..100u32 {
        let session = writer.begin().unwrap();
        BlobService::put(&session, &HashedBlob::new(&round.to_le_bytes())).unwrap();
        session
            .put_record(&RecordKey([1; 32]), &round.to_le_bytes())
            .unwrap();
        let mut key = [2; 32];
        key[31] = round as u8;
        session.put_record(&RecordKey(key), b"own").unwrap();
        session.commit().unwrap();
        let record = reader.record(&RecordKey([1; 32])).unwrap().unwrap();
        // The reader need not look anew for a record that it has.
        assert!(record.len() == 4);
        let latest = writer.record(&RecordKey([1; 32])).unwrap().unwrap();
        assert_eq!(latest, &round.to_le_bytes()[..], "round {round}");
        assert!(reader.record(&RecordKey(key)).unwrap().is_some());
    }
    let statistics = reader.statistics().unwrap();
    assert!(statistics.indexes < 20, "{statistics:?}");
    assert_eq!(statistics.blobs, 100);
    assert!((101..110).contains(&statistics.records), "{statistics:?}");
    for round in 0..100u32 {
        assert!(reader.has(&Digest::of(&round.to_le_bytes())).unwrap());
    }
    let records: Vec<_> = reader.records().unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 101);
    assert!(records.is_sorted_by_key(|(key, _)| *key));
    check_is_clean(&reader);
}

#[test]
fn a_session_of_several_segments_becomes_visible_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let session = store.begin().unwrap();
    let count = 250_000u32;
    for i in 0..count {
        BlobService::put(&session, &HashedBlob::new(&i.to_le_bytes())).unwrap();
    }
    assert!(session.has(&Digest::of(&0u32.to_le_bytes())).unwrap());
    assert_eq!(
        read(&session, &Digest::of(&7u32.to_le_bytes())),
        7u32.to_le_bytes()
    );
    session.commit().unwrap();
    assert_eq!(store.statistics().unwrap().blobs, u64::from(count));
    for i in (0..count).step_by(997) {
        assert_eq!(
            read(&*store, &Digest::of(&i.to_le_bytes())),
            i.to_le_bytes()
        );
    }
    assert!(!store.has(&Digest::of(b"absent")).unwrap());
}

#[test]
fn puts_without_a_session_are_readable_and_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, other) = (store(dir.path()), store(dir.path()));
    let blob = HashedBlob::new(b"direct");
    BlobService::put(&*store, &blob).unwrap();
    let digest = DirectoryService::put(&*store, &directory("d")).unwrap();
    assert_eq!(read(&*store, blob.digest()), b"direct");
    assert!(!other.has(blob.digest()).unwrap());
    BlobService::flush(&*store).unwrap();
    assert_eq!(read(&*other, blob.digest()), b"direct");
    assert!(DirectoryService::get(&*other, &digest).unwrap().is_some());
}

#[test]
fn any_range_of_any_blob_reads_right() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let session = store.begin().unwrap();
    for size in SIZES {
        BlobService::put(&session, &HashedBlob::new(&content(4, size))).unwrap();
    }
    session.commit().unwrap();
    for bytes in SIZES.map(|size| content(4, size)) {
        let blob = BlobService::open(&*store, &Digest::of(&bytes))
            .unwrap()
            .unwrap();
        let mut state = 1u64;
        for _ in 0..200 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let offset = (state >> 33) as usize % (bytes.len() + 10);
            let len = (state >> 20) as usize % 70_000;
            let mut buf = vec![0xaa; len];
            let read = blob.read_at(&mut buf, offset as u64).unwrap();
            let rest = bytes.get(offset..).unwrap_or_default();
            assert_eq!(read, rest.len().min(len));
            assert_eq!(buf[..read], rest[..read]);
        }
    }
}

fn check_is_clean(store: &LocalStore) {
    let damages = damages(store);
    assert!(damages.is_empty(), "{damages:?}");
}

fn damages(store: &LocalStore) -> Vec<String> {
    let found = Mutex::new(Vec::new());
    store
        .check(&|_| {}, &|error| found.lock().push(error.to_string()))
        .unwrap();
    found.into_inner()
}

#[test]
fn check_finds_a_flip_in_every_kind_of_object() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    let session = first.begin().unwrap();
    for size in SIZES {
        BlobService::put(&session, &HashedBlob::new(&content(5, size))).unwrap();
    }
    DirectoryService::put(&session, &directory("e")).unwrap();
    session.put_record(&RecordKey([9; 32]), b"record").unwrap();
    session.commit().unwrap();
    check_is_clean(&first);
    let entries: Vec<_> = first
        .entries(Kind::Record)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for entry in entries {
        let (path, offset) = match (entry.kind, entry.place) {
            (Kind::Blob, entry::Place::Pack { offset }) => {
                (format!("packs/{}.blobs", entry.pack), offset)
            }
            (_, entry::Place::Pack { offset }) => (format!("packs/{}.meta", entry.pack), offset),
            (_, entry::Place::File) => {
                let digest = Digest::from_bytes(entry.key);
                (
                    format!("blobs/{}/{digest}", session::blob_shard(&digest)),
                    0,
                )
            }
        };
        if entry.size == 0 {
            continue;
        }
        for (path, offset) in [
            (path.clone(), offset + entry.size / 2),
            (format!("packs/{}.meta", entry.pack), entry.outboard),
        ] {
            if offset == 0 {
                continue;
            }
            let file = fs::File::options()
                .read(true)
                .write(true)
                .open(dir.path().join(&path))
                .unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
            let found = damages(&store(dir.path()));
            assert_eq!(found.len(), 1, "{path} at {offset}: {found:?}");
            assert!(found[0].contains(&entry.object().to_string()), "{found:?}");
            assert!(found[0].contains(&path), "{found:?}");
            file.write_all_at(&byte, offset).unwrap();
        }
    }
    check_is_clean(&store(dir.path()));
}

#[test]
fn a_damaged_index_is_an_error_not_an_absence() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    for round in 0..2u8 {
        let session = first.begin().unwrap();
        session
            .put_record(&RecordKey([round; 32]), &[round])
            .unwrap();
        session.commit().unwrap();
    }
    let mut names: Vec<_> = fs::read_dir(dir.path().join("index"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let whole = fs::read(&names[0]).unwrap();
    for at in (0..whole.len()).step_by(101) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x20;
        fs::write(&names[0], &damaged).unwrap();
        let opened = store(dir.path());
        for round in 0..2u8 {
            match opened.record(&RecordKey([round; 32])) {
                Ok(found) => assert_eq!(found.unwrap(), &[round][..]),
                Err(error) => assert!(error.to_string().contains("is damaged"), "{error}"),
            }
        }
        match opened.record(&RecordKey([77; 32])) {
            Ok(found) => assert_eq!(found, None),
            Err(error) => assert!(error.to_string().contains("is damaged"), "{error}"),
        }
    }
    for len in [0, 1, 4095, 4096, whole.len() - 1] {
        fs::write(&names[0], &whole[..len]).unwrap();
        let opened = store(dir.path());
        assert!(opened.record(&RecordKey([0; 32])).is_err());
        assert_eq!(
            opened.record(&RecordKey([1; 32])).unwrap().unwrap(),
            &[1][..]
        );
        assert!(opened.records().is_err());
        assert_eq!(damages(&opened).len(), 1);
    }
}

#[test]
fn what_is_no_store_or_a_newer_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path, create| {
        let options = Options {
            create,
            ..Options::default()
        };
        LocalStore::open(path, &options)
    };
    let absent = dir.path().join("absent");
    assert!(matches!(open(&absent, false), Err(Error::NotAStore { .. })));
    fs::write(dir.path().join("something"), b"").unwrap();
    assert!(matches!(
        open(dir.path(), true),
        Err(Error::NotEmpty { .. })
    ));
    open(&absent, true).unwrap();
    fs::write(absent.join("FORMAT"), "tvix-store-mount store, format 2\n").unwrap();
    let error = open(&absent, true).unwrap_err();
    assert!(
        matches!(error, Error::NewerFormat { found: 2, .. }),
        "{error}"
    );
    for text in [
        "",
        "tvix-store-mount store, format 1",
        "tvix-store-mount store, format x\n",
    ] {
        fs::write(absent.join("FORMAT"), text).unwrap();
        assert!(matches!(open(&absent, true), Err(Error::NotAStore { .. })));
    }
}

#[test]
fn concurrent_sessions_keep_each_others_objects() {
    let dir = tempfile::tempdir().unwrap();
    let shared = store(dir.path());
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let (dir, shared) = (dir.path(), shared.clone());
            scope.spawn(move || {
                let own = store(dir);
                for round in 0..10u8 {
                    let session = own.begin().unwrap();
                    let same = content(round, 300_000);
                    BlobService::put(&session, &HashedBlob::new(&same)).unwrap();
                    let bytes = [thread, round];
                    BlobService::put(&session, &HashedBlob::new(&bytes)).unwrap();
                    session.commit().unwrap();
                    assert_eq!(read(&*shared, &Digest::of(&bytes)), bytes);
                    assert_eq!(read(&*shared, &Digest::of(&same)), same);
                }
            });
        }
    });
    let entries = shared.entries(Kind::Record).unwrap();
    assert_eq!(entries.map(Result::unwrap).count(), 90);
    check_is_clean(&shared);
}

#[test]
fn a_discarded_object_is_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    for size in [100, 100_000, 1 << 20] {
        let bytes = content(6, size);
        let blob = HashedBlob::new(&bytes);
        BlobService::put(&*first, &blob).unwrap();
        BlobService::flush(&*first).unwrap();
        let entry = first
            .engine
            .entry(Kind::Blob, blob.digest().as_bytes())
            .unwrap()
            .unwrap();
        let (path, offset) = match entry.place {
            entry::Place::Pack { offset } => (format!("packs/{}.blobs", entry.pack), offset),
            entry::Place::File => {
                let shard = session::blob_shard(blob.digest());
                (format!("blobs/{shard}/{}", blob.digest()), 0)
            }
        };
        let file = fs::File::options()
            .write(true)
            .open(dir.path().join(path))
            .unwrap();
        file.write_all_at(&[!bytes[0]], offset).unwrap();
        let other = store(dir.path());
        let damaged = BlobService::open(&*other, blob.digest()).unwrap().unwrap();
        assert!(damaged.read_at(&mut [0; 10], 0).is_err());
        BlobService::discard(&*other, blob.digest()).unwrap();
        BlobService::put(&*other, &blob).unwrap();
        assert_eq!(read(&*other, blob.digest()), bytes);
        BlobService::flush(&*other).unwrap();
        assert_eq!(read(&*store(dir.path()), blob.digest()), bytes);
    }
}

/// Runs `act` while no file can grow beyond `limit` bytes.
fn with_file_limit<T>(limit: u64, act: impl FnOnce() -> T) -> T {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let old = getrlimit(Resource::Fsize);
    let new = Rlimit {
        current: Some(limit),
        maximum: old.maximum,
    };
    setrlimit(Resource::Fsize, new).unwrap();
    let result = act();
    setrlimit(Resource::Fsize, old).unwrap();
    result
}

/// In a process of its own: a limit and a signal's disposition are the
/// process's.
#[test]
fn a_session_takes_nothing_after_a_failed_write() {
    const CHILD: &str = "CASTORE_TEST_FILE_LIMIT";
    if std::env::var_os(CHILD).is_none() {
        let name = "local::tests::a_session_takes_nothing_after_a_failed_write";
        let status = std::process::Command::new("/bin/sh")
            // Without SIGXFSZ a write past the limit fails with EFBIG.
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(CHILD, "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    let session = first.begin().unwrap();
    let blobs: Vec<_> = (0..20).map(|seed| content(seed, 200_000)).collect();
    BlobService::put(&session, &HashedBlob::new(&blobs[0])).unwrap();
    let failed = with_file_limit(300_000, || {
        (blobs[1..10].iter())
            .any(|bytes| BlobService::put(&session, &HashedBlob::new(bytes)).is_err())
    });
    assert!(failed);
    assert!(BlobService::put(&session, &HashedBlob::new(&blobs[11])).is_err());
    assert!(session.commit().is_err());
    assert_eq!(first.statistics().unwrap(), Statistics::default());
    // Puts without a session of one's own go on in a new one.
    with_file_limit(300_000, || {
        for bytes in &blobs[1..10] {
            let _ = BlobService::put(&*first, &HashedBlob::new(bytes));
        }
    });
    for bytes in &blobs[10..] {
        BlobService::put(&*first, &HashedBlob::new(bytes)).unwrap();
    }
    BlobService::flush(&*first).unwrap();
    for bytes in &blobs[10..] {
        assert_eq!(read(&*store(dir.path()), &Digest::of(bytes)), *bytes);
    }
    check_is_clean(&first);
}

#[test]
fn a_blob_whose_bytes_are_gone_is_stored_again_and_found_by_who_has_the_store_open() {
    let dir = tempfile::tempdir().unwrap();
    let reader = store(dir.path());
    for size in [100, 1 << 20] {
        let bytes = content(7, size);
        let blob = HashedBlob::new(&bytes);
        let writer = store(dir.path());
        BlobService::put(&*writer, &blob).unwrap();
        BlobService::flush(&*writer).unwrap();
        assert_eq!(read(&*reader, blob.digest()), bytes);
        let entry = writer.engine.entry(Kind::Blob, blob.digest().as_bytes());
        let entry = entry.unwrap().unwrap();
        let lost = match entry.place {
            entry::Place::Pack { .. } => format!("packs/{}.blobs", entry.pack),
            entry::Place::File => {
                let shard = session::blob_shard(blob.digest());
                format!("blobs/{shard}/{}", blob.digest())
            }
        };
        let file = fs::File::options().write(true).open(dir.path().join(lost));
        file.unwrap().set_len(50).unwrap();
        let damaged = BlobService::open(&*reader, blob.digest()).unwrap();
        let mut buf = vec![0; size];
        assert!(damaged.is_none_or(|blob| blob.read_at(&mut buf, 0).is_err()));
        let writer = store(dir.path());
        BlobService::put(&*writer, &blob).unwrap();
        BlobService::flush(&*writer).unwrap();
        assert_eq!(read(&*reader, blob.digest()), bytes);
    }
}
