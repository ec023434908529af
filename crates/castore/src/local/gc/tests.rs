use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::FileExt as _,
    path::Path,
    thread,
    time::Duration,
};

use proptest::prelude::*;

use super::{
    super::{Integrity, Options, Session},
    *,
};
use crate::{BlobService, Digest, Directory, DirectoryService, Entry, HashedBlob, Node, Object};

fn open(dir: &Path) -> Arc<LocalStore> {
    let options = Options {
        integrity: Integrity::OnRead,
        create: true,
    };
    LocalStore::open(dir, &options).unwrap()
}

fn key(number: u8) -> RecordKey {
    RecordKey([number; 32])
}

/// Contents that are told by their seed; every fourth is a file of its own.
fn content(seed: u8) -> Vec<u8> {
    let len = match seed % 4 {
        0 => 300_000,
        1 => 70_000,
        2 => 100,
        _ => 5000,
    };
    (0..len).map(|i: usize| (i / 7) as u8 ^ seed).collect()
}

/// A tree with a file of each seed, in a directory of its own.
fn put(session: &Session, files: &BTreeSet<u8>) -> Node {
    let entry = |name: String, node| Entry {
        name: name.as_str().try_into().unwrap(),
        node,
    };
    let directory = |entries| {
        let directory = Directory::new(entries).unwrap();
        let digest = DirectoryService::put(session, &directory).unwrap();
        let size = directory.size();
        Node::Directory { digest, size }
    };
    let below = files.iter().map(|seed| {
        let bytes = content(*seed);
        let blob = HashedBlob::new(&bytes);
        BlobService::put(session, &blob).unwrap();
        let file = Node::File {
            digest: *blob.digest(),
            size: bytes.len() as u64,
            executable: false,
        };
        entry(
            format!("{seed:03}"),
            directory(vec![entry("file".to_owned(), file)]),
        )
    });
    let below = below.collect();
    directory(below)
}

/// A record keeps the directory that it is the digest of.
fn root_of(_: &RecordKey, record: Bytes) -> Result<Node, Error> {
    let digest = Digest::try_from(&record[..]).unwrap();
    Ok(Node::Directory { digest, size: 0 })
}

fn add(session: &Session, number: u8, files: &BTreeSet<u8>) {
    let Node::Directory { digest, .. } = put(session, files) else {
        unreachable!("a directory was put");
    };
    session.put_record(&key(number), digest.as_bytes()).unwrap();
}

fn import(store: &LocalStore, number: u8, files: &[u8]) {
    let session = store.begin().unwrap();
    add(&session, number, &files.iter().copied().collect());
    session.commit().unwrap();
}

/// Reads all that a record keeps, and compares it.
fn assert_whole(store: &LocalStore, number: u8, files: &BTreeSet<u8>) {
    let record = store.record(&key(number)).unwrap().expect("it is there");
    let digest = Digest::try_from(&record[..]).unwrap();
    let root = DirectoryService::get(store, &digest).unwrap().unwrap();
    assert_eq!(root.entries().len(), files.len());
    for (entry, seed) in root.entries().iter().zip(files) {
        let Node::Directory { digest, .. } = &entry.node else {
            panic!("no directory");
        };
        let below = DirectoryService::get(store, digest).unwrap().unwrap();
        let Node::File { digest, .. } = &below.entries()[0].node else {
            panic!("no file");
        };
        let blob = BlobService::open(store, digest).unwrap().unwrap();
        let mut bytes = vec![0; blob.size() as usize];
        assert_eq!(blob.read_at(&mut bytes, 0).unwrap(), bytes.len());
        assert!(bytes == content(*seed), "contents of {seed}");
    }
}

fn set(files: &[u8]) -> BTreeSet<u8> {
    files.iter().copied().collect()
}

fn assert_sound(store: &LocalStore) {
    let damage = |error: Error| panic!("{error}");
    store.check(&|_| {}, &damage).unwrap();
}

fn collect_keeping(
    store: &LocalStore,
    percent: u8,
    keep: &dyn Fn(&RecordKey) -> bool,
) -> Result<Collected, CollectError> {
    let exclusive = store
        .exclusive(&mut |who| panic!("waits for {who}"))
        .unwrap();
    let progress = Progress::default();
    let collection = Collection {
        keep,
        removed: &|| {},
        percent,
        progress: &progress,
    };
    exclusive.collect(&collection, &root_of)
}

fn collect(store: &LocalStore, percent: u8) -> Collected {
    let collected = collect_keeping(store, percent, &|_| true).unwrap();
    assert!(collected.incomplete.is_none(), "{collected:?}");
    collected
}

fn remove(store: &LocalStore, numbers: &[u8]) -> u64 {
    let exclusive = store.exclusive(&mut |_| false).unwrap();
    let keys = numbers.iter().map(|number| key(*number)).collect();
    exclusive.remove_records(&keys).unwrap()
}

/// The names of all files, but for those of indexes.
fn files(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![dir.join("packs"), dir.join("blobs"), dir.join("tmp")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => {
                    found.insert(entry.file_name().into_string().unwrap());
                }
            }
        }
    }
    found
}

#[test]
fn what_no_record_reaches_is_gone_and_the_rest_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (store, reader) = (open(dir.path()), open(dir.path()));
    import(&store, 1, &[0, 1, 2, 3]);
    import(&store, 2, &[2, 3, 4, 5]);
    assert_whole(&reader, 1, &set(&[0, 1, 2, 3]));
    assert_eq!(collect(&store, 0).objects, 0, "there is no garbage");

    assert_eq!(remove(&store, &[1, 9]), 1);
    assert!(
        reader.record(&key(1)).unwrap().is_none(),
        "it is gone at once"
    );
    let zero = Digest::of(&content(0));
    assert!(store.has(&zero).unwrap(), "its contents are not");
    let big = files(dir.path())
        .into_iter()
        .find(|name| *name == zero.to_string());
    assert!(big.is_some());

    // The record, three directories, two blobs.
    let garbage = store
        .garbage(&|_| true, &root_of, &Progress::default())
        .unwrap();
    assert_eq!(garbage.objects, 5);
    let collected = collect(&store, 0);
    assert_eq!((collected.objects, collected.compacted), (5, 1));
    assert!(collected.bytes > 300_000 + 70_000, "{collected:?}");
    assert!(
        collected.bytes <= garbage.bytes,
        "{collected:?} {garbage:?}"
    );
    assert!(!store.has(&zero).unwrap());
    assert!(!files(dir.path()).contains(&zero.to_string()));
    for store in [&store, &reader, &open(dir.path())] {
        assert_whole(store, 2, &set(&[2, 3, 4, 5]));
        assert!(store.record(&key(1)).unwrap().is_none());
        assert_sound(store);
    }
    assert_eq!(store.statistics().unwrap().indexes, 1);
    assert_eq!(collect(&store, 0).bytes, 0, "all was done");

    // What went comes back.
    import(&store, 1, &[0, 1, 2, 3]);
    assert_whole(&reader, 1, &set(&[0, 1, 2, 3]));
}

#[test]
fn a_store_can_become_empty() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    collect(&store, 0);
    import(&store, 1, &[0, 1]);
    let collected = collect_keeping(&store, 30, &|_| false).unwrap();
    assert!(collected.incomplete.is_none());
    assert_eq!(files(dir.path()), BTreeSet::new());
    assert_eq!(store.records().unwrap().count(), 0);
    import(&store, 1, &[0, 1]);
    assert_whole(&store, 1, &set(&[0, 1]));
}

#[test]
fn only_packs_with_much_garbage_are_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    import(&store, 1, &[1, 5, 9, 13]);
    let session = store.begin().unwrap();
    add(&session, 2, &set(&[17, 21, 25]));
    add(&session, 3, &set(&[29]));
    session.commit().unwrap();
    let before = files(dir.path());
    remove(&store, &[3]);
    // A quarter.
    assert_eq!(collect(&store, 30).compacted, 0);
    assert_eq!(files(dir.path()), before);
    assert_eq!(collect(&store, 20).compacted, 1);
    let kept: Vec<_> = files(dir.path()).intersection(&before).cloned().collect();
    assert_eq!(kept.len(), 2, "the pack without garbage stays: {kept:?}");
    assert_whole(&store, 1, &set(&[1, 5, 9, 13]));
    assert_whole(&store, 2, &set(&[17, 21, 25]));
    assert_sound(&store);
}

#[test]
fn a_reader_that_knows_the_old_places_finds_the_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let session = store.begin().unwrap();
    add(&session, 1, &set(&[1, 2, 3]));
    add(&session, 2, &set(&[5, 6, 7]));
    session.commit().unwrap();
    // One that has read, one that has files open, and one that only has indexes.
    let readers = [open(dir.path()), open(dir.path()), open(dir.path())];
    assert_whole(&readers[0], 1, &set(&[1, 2, 3]));
    let blob = BlobService::open(&*readers[1], &Digest::of(&content(5)));
    let blob = blob.unwrap().unwrap();
    let listing = readers[2].records().unwrap();
    remove(&store, &[2]);
    assert_eq!(collect(&store, 0).compacted, 1);
    let listed: Vec<_> = listing.map(|record| record.unwrap().0).collect();
    assert_eq!(listed, [key(1)]);
    for reader in &readers {
        assert_whole(reader, 1, &set(&[1, 2, 3]));
        assert_sound(reader);
    }
    // It was open, and so can be read on.
    let mut bytes = vec![0; blob.size() as usize];
    blob.read_at(&mut bytes, 0).unwrap();
    assert!(bytes == content(5));
    assert!(!readers[1].has(&Digest::of(&content(5))).unwrap());
}

#[test]
fn a_writer_stores_again_what_was_removed_since_it_looked() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, other) = (open(dir.path()), open(dir.path()));
    import(&writer, 1, &[0, 1, 2]);
    // Everything is known to it, and open.
    assert_whole(&writer, 1, &set(&[0, 1, 2]));
    collect_keeping(&other, 0, &|_| false).unwrap();
    import(&writer, 2, &[0, 1, 2]);
    assert_whole(&open(dir.path()), 2, &set(&[0, 1, 2]));
    assert_sound(&open(dir.path()));
}

#[test]
fn sessions_and_collections_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, other) = (open(dir.path()), open(dir.path()));
    let session = writer.begin().unwrap();
    let mut asked = Vec::new();
    let busy = other.exclusive(&mut |who| {
        asked.push(who.to_owned());
        false
    });
    assert!(matches!(busy, Err(Error::Busy { .. })));
    let me = format!("process {} ", std::process::id());
    assert!(asked.len() == 1 && asked[0].starts_with(&me), "{asked:?}");

    add(&session, 1, &set(&[1]));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| other.exclusive(&mut |_| true).unwrap());
        thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished());
        session.commit().unwrap();
        let exclusive = waiting.join().unwrap();
        let begun = scope.spawn(|| writer.begin().map(drop));
        thread::sleep(Duration::from_millis(100));
        assert!(!begun.is_finished());
        drop(exclusive);
        begun.join().unwrap().unwrap();
    });
    assert_eq!(files(dir.path()).len(), 2);
}

/// Changes a byte of each pack file that ends so, behind its header.
fn damage(dir: &Path, end: &str, at: u64) {
    for entry in fs::read_dir(dir.join("packs")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(end) {
            let file = fs::File::options()
                .read(true)
                .write(true)
                .open(path)
                .unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        }
    }
}

#[test]
fn a_damaged_directory_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    import(&store, 1, &[2]);
    import(&store, 2, &[6]);
    remove(&store, &[2]);
    // The first object is a blob's outboard or a directory; each is in each pack.
    damage(dir.path(), ".meta", 16 + 48);
    let before = files(dir.path());
    let reader = open(dir.path());
    let refused = collect_keeping(&reader, 0, &|_| true).unwrap_err();
    let CollectError::Unknown { key: of, source } = refused else {
        panic!("{refused}");
    };
    assert_eq!(of, key(1));
    assert!(
        matches!(
            source,
            Error::Corrupt {
                object: Object::Directory(_),
                ..
            }
        ),
        "{source}"
    );
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_pack_with_damage_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let session = store.begin().unwrap();
    add(&session, 1, &set(&[2]));
    add(&session, 2, &set(&[5]));
    session.commit().unwrap();
    damage(dir.path(), ".blobs", 16 + 48);
    let before = files(dir.path());
    import(&store, 3, &[3, 7]);
    let session = store.begin().unwrap();
    add(&session, 4, &set(&[11]));
    add(&session, 5, &set(&[9]));
    session.commit().unwrap();
    remove(&store, &[2, 5]);
    let collected = collect(&store, 0);
    assert_eq!(collected.compacted, 1);
    assert!(before.is_subset(&files(dir.path())), "it can be mended");
    assert_whole(&store, 3, &set(&[3, 7]));
    assert_whole(&store, 4, &set(&[11]));
}

#[test]
fn leftovers_of_a_killed_collection_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let session = store.begin().unwrap();
    add(&session, 1, &set(&[1, 2]));
    add(&session, 2, &set(&[5]));
    session.commit().unwrap();
    let index: Vec<_> = fs::read_dir(dir.path().join("index"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let saved: Vec<_> = index.iter().map(|path| fs::read(path).unwrap()).collect();
    // As if it had been killed before it removed the old index: everything that
    // this has is still there, for only then packs are removed.
    remove(&store, &[2]);
    for (path, bytes) in index.iter().zip(&saved) {
        fs::write(path, bytes).unwrap();
    }
    let again = open(dir.path());
    assert_whole(&again, 1, &set(&[1, 2]));
    assert_sound(&again);
    // The record may be there again; it can be removed again.
    remove(&again, &[2]);
    assert!(open(dir.path()).record(&key(2)).unwrap().is_none());
    collect(&again, 0);
    assert_whole(&again, 1, &set(&[1, 2]));
    assert_sound(&again);
}

#[derive(Debug, Clone)]
enum Act {
    Import(u8, BTreeSet<u8>),
    Remove(u8),
    Collect(u8),
    Keep(BTreeSet<u8>),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let files = || prop::collection::btree_set(0..24_u8, 0..6);
    let number = || 0..6_u8;
    let act = prop_oneof![
        4 => (number(), files()).prop_map(|(number, files)| Act::Import(number, files)),
        2 => number().prop_map(Act::Remove),
        2 => (0..=100_u8).prop_map(Act::Collect),
        1 => prop::collection::btree_set(number(), 0..6).prop_map(Act::Keep),
    ];
    prop::collection::vec(act, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_remains_is_what_the_model_has(acts in acts()) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        // It was there before everything, and looks only now and then.
        let reader = open(dir.path());
        let mut model: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
        for (at, act) in acts.into_iter().enumerate() {
            match act {
                Act::Import(number, files) => {
                    let session = store.begin().unwrap();
                    add(&session, number, &files);
                    session.commit().unwrap();
                    model.insert(number, files);
                }
                Act::Remove(number) => {
                    let removed = remove(&store, &[number]);
                    prop_assert_eq!(removed > 0, model.remove(&number).is_some());
                }
                Act::Collect(percent) => {
                    collect(&store, percent);
                }
                Act::Keep(numbers) => {
                    let keep = |key: &RecordKey| numbers.contains(&key.0[0]);
                    collect_keeping(&store, 30, &keep).unwrap();
                    model.retain(|number, _| numbers.contains(number));
                }
            }
            if at % 3 == 0 {
                for (number, files) in &model {
                    assert_whole(&reader, *number, files);
                }
            }
        }
        collect(&store, 0);
        let reached: BTreeSet<_> = model.values().flatten().copied().collect();
        for store in [&store, &reader, &open(dir.path())] {
            let records: Vec<_> = store.records().unwrap().map(|it| it.unwrap().0).collect();
            let expected: Vec<_> = model.keys().map(|number| key(*number)).collect();
            prop_assert_eq!(records, expected);
            for (number, files) in &model {
                assert_whole(store, *number, files);
            }
            for seed in 0..24 {
                let has = store.has(&Digest::of(&content(seed))).unwrap();
                prop_assert_eq!(has, reached.contains(&seed), "seed {}", seed);
            }
            assert_sound(store);
        }
        let statistics = store.statistics().unwrap();
        prop_assert_eq!(statistics.blobs, reached.len() as u64);
        let big = reached.iter().filter(|seed| *seed % 4 == 0).count();
        let on_disk = files(dir.path()).into_iter().filter(|name| name.len() == 64).count();
        prop_assert_eq!(on_disk, big);
    }
}
