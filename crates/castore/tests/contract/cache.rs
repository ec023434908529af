//! The composition of a near and a far service.

use std::{
    io::Write,
    sync::{Arc, Barrier},
    thread,
};

use castore::{
    BlobService, Digest, Directory, DirectoryService, Entry, Error, HashedBlob, Node,
    blobservice::{CacheBlobService, FaultyBlobService, MemoryBlobService},
    directoryservice::{CacheDirectoryService, FaultyDirectoryService, MemoryDirectoryService},
    fault::{Call, Fault, Faults, Rule},
    local::{LocalStore, Options},
};

use crate::{content, read};

/// One that is fetched in memory, and one that is streamed.
const SIZES: [usize; 4] = [0, 100, 1024 * 1024, 5_000_000];

struct Blobs {
    near: Arc<MemoryBlobService>,
    near_faults: Arc<Faults>,
    far: Arc<MemoryBlobService>,
    far_faults: Arc<Faults>,
    cache: CacheBlobService,
}

impl Blobs {
    fn new() -> Self {
        let (near, near_faults) = (Arc::new(MemoryBlobService::default()), Faults::new());
        let (far, far_faults) = (Arc::new(MemoryBlobService::default()), Faults::new());
        let cache = CacheBlobService::new(
            Arc::new(FaultyBlobService::new(near.clone(), near_faults.clone())),
            Arc::new(FaultyBlobService::new(far.clone(), far_faults.clone())),
        );
        Self {
            near,
            near_faults,
            far,
            far_faults,
            cache,
        }
    }

    /// Puts it into the far service only.
    fn put_far(&self, bytes: &[u8]) -> Digest {
        let blob = HashedBlob::new(bytes);
        self.far.put(&blob).unwrap();
        *blob.digest()
    }
}

#[test]
fn a_miss_is_fetched_once_and_then_near() {
    for size in SIZES {
        let blobs = Blobs::new();
        let bytes = content(1, size);
        let digest = blobs.put_far(&bytes);
        assert!(blobs.cache.has(&digest).unwrap());
        assert!(!blobs.near.has(&digest).unwrap());
        for _ in 0..3 {
            assert!(read(&blobs.cache, &digest).unwrap() == bytes);
            assert_eq!(blobs.far_faults.calls(Call::Open), 1);
        }
        assert!(read(&*blobs.near, &digest).unwrap() == bytes);
        // What neither has is asked for each time.
        for calls in [2, 3] {
            assert!(read(&blobs.cache, &Digest::of(b"absent")).is_none());
            assert_eq!(blobs.far_faults.calls(Call::Open), calls);
        }
    }
}

#[test]
fn many_readers_share_one_fetch() {
    for size in SIZES {
        let blobs = Blobs::new();
        let bytes = content(1, size);
        let digest = blobs.put_far(&bytes);
        let rule = Rule::new(Call::Open, Fault::Hang).of(digest).times(1);
        blobs.far_faults.add(rule);
        let other = blobs.put_far(b"another");
        let start = Barrier::new(9);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    assert!(read(&blobs.cache, &digest).unwrap() == bytes);
                });
            }
            start.wait();
            blobs.far_faults.await_hanging(1);
            // Meanwhile other blobs are not held up.
            assert_eq!(read(&blobs.cache, &other).unwrap(), b"another");
            blobs.far_faults.release();
        });
        assert_eq!(blobs.far_faults.calls(Call::Open), 2);
    }
}

#[test]
fn a_failing_fetch_fails_all_who_wait_and_is_tried_again() {
    let blobs = Blobs::new();
    let digest = blobs.put_far(b"content");
    blobs
        .far_faults
        .add(Rule::new(Call::Open, Fault::Hang).times(1));
    blobs
        .far_faults
        .add(Rule::new(Call::Read, Fault::Fail).times(1));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| blobs.cache.open(&digest).map(drop)))
            .collect();
        blobs.far_faults.await_hanging(1);
        thread::sleep(std::time::Duration::from_millis(100));
        blobs.far_faults.release();
        let failed = (readers.into_iter())
            .map(|reader| reader.join().unwrap())
            .filter(Result::is_err)
            .count();
        assert!(failed >= 1);
    });
    assert_eq!(read(&blobs.cache, &digest).unwrap(), b"content");
}

#[test]
fn what_the_far_service_makes_up_is_neither_shown_nor_stored() {
    for size in [100, 1024 * 1024, 5_000_000] {
        let blobs = Blobs::new();
        let digest = blobs.put_far(&content(1, size));
        let lie = Rule::new(Call::Read, Fault::Lie).after(size as u64 >> 21);
        blobs.far_faults.add(lie.times(1));
        let error = blobs.cache.open(&digest).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(&digest.to_string()));
        assert!(!blobs.near.has(&digest).unwrap());
        // It tells the truth at the second attempt.
        assert!(read(&blobs.cache, &digest).unwrap() == content(1, size));
    }
}

#[test]
fn a_failing_near_service_is_done_without() {
    use Call::{Finish, Has, Open, Put, Read, Write, Writer};
    for call in [Open, Has, Put, Writer, Write, Finish, Read] {
        for fault in [Fault::Fail, Fault::Damage] {
            for size in SIZES {
                let blobs = Blobs::new();
                blobs.near_faults.add(Rule::new(call, fault));
                let bytes = content(1, size);
                let digest = blobs.put_far(&bytes);
                assert!(blobs.cache.has(&digest).unwrap());
                for _ in 0..2 {
                    let found = read(&blobs.cache, &digest).unwrap();
                    assert!(found == bytes, "{call:?}, {size}");
                }
                let other = content(2, size);
                blobs.cache.put(&HashedBlob::new(&other)).unwrap();
                let mut writer = blobs.cache.writer().unwrap();
                writer.write_all(&other).unwrap();
                assert_eq!(writer.finish().unwrap().0, Digest::of(&other));
                assert!(blobs.far.has(&Digest::of(&other)).unwrap());
            }
        }
    }
    let blobs = Blobs::new();
    blobs.near_faults.add(Rule::new(Call::Flush, Fault::Fail));
    blobs.cache.flush().unwrap();
}

#[test]
fn a_failing_far_service_fails_what_needs_it() {
    use Call::{Finish, Flush, Has, Open, Put, Read, Write, Writer};
    let blobs = Blobs::new();
    let near = HashedBlob::new(b"near");
    blobs.near.put(&near).unwrap();
    let far = blobs.put_far(b"far");
    for call in [Open, Has, Put, Writer, Write, Finish, Read, Flush] {
        blobs.far_faults.add(Rule::new(call, Fault::Fail));
    }
    assert_eq!(read(&blobs.cache, near.digest()).unwrap(), b"near");
    assert!(blobs.cache.has(near.digest()).unwrap());
    blobs.cache.open(&far).unwrap_err();
    blobs.cache.has(&far).unwrap_err();
    blobs.cache.put(&HashedBlob::new(b"new")).unwrap_err();
    assert!(blobs.cache.writer().is_err());
    blobs.cache.flush().unwrap_err();
    assert!(!blobs.near.has(&Digest::of(b"new")).unwrap());
}

#[test]
fn what_is_put_is_in_both() {
    let blobs = Blobs::new();
    for size in SIZES {
        let (put, written) = (content(1, size), content(2, size));
        blobs.cache.put(&HashedBlob::new(&put)).unwrap();
        let mut writer = blobs.cache.writer().unwrap();
        writer.write_all(&written).unwrap();
        writer.finish().unwrap();
        for service in [&blobs.near, &blobs.far] {
            assert!(read(&**service, &Digest::of(&put)).unwrap() == put);
            assert!(read(&**service, &Digest::of(&written)).unwrap() == written);
        }
    }
}

#[test]
fn a_damaged_blob_is_fetched_again_while_it_is_read() {
    for size in [100, 1024 * 1024, 5_000_000] {
        let blobs = Blobs::new();
        let bytes = content(1, size);
        let digest = blobs.put_far(&bytes);
        blobs.near.put(&HashedBlob::new(&bytes)).unwrap();
        let blob = blobs.cache.open(&digest).unwrap().unwrap();
        assert_eq!(blobs.far_faults.calls(Call::Open), 0);
        let damage = Rule::new(Call::Read, Fault::Damage).of(digest);
        blobs.near_faults.add(damage.times(1));
        let mut found = vec![0; size];
        assert_eq!(blob.read_at(&mut found, 0).unwrap(), size);
        assert!(found == bytes);
        assert_eq!(blobs.near_faults.calls(Call::Discard), 1);
        assert_eq!(blobs.far_faults.calls(Call::Open), 1);
        // And from then on it is read from near again.
        let far_reads = blobs.far_faults.calls(Call::Read);
        assert_eq!(blob.read_at(&mut found, 0).unwrap(), size);
        assert!(read(&blobs.cache, &digest).unwrap() == bytes);
        assert_eq!(blobs.far_faults.calls(Call::Read), far_reads);
    }
}

#[test]
fn damage_that_nobody_can_heal_is_reported_as_such() {
    let blobs = Blobs::new();
    let blob = HashedBlob::new(b"only near");
    blobs.near.put(&blob).unwrap();
    blobs.near_faults.add(Rule::new(Call::Read, Fault::Damage));
    let opened = blobs.cache.open(blob.digest()).unwrap().unwrap();
    for far in [None, Some(Fault::Fail)] {
        if let Some(fault) = far {
            blobs.far_faults.add(Rule::new(Call::Open, fault));
        }
        let error = opened.read_at(&mut [0; 9], 0).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}

/// With a real store near: flips a byte in every file of it in turn.
#[test]
fn a_damaged_local_store_never_shows_a_wrong_byte() {
    let dir = tempfile::tempdir().unwrap();
    let far = Arc::new(MemoryBlobService::default());
    let options = Options {
        create: true,
        ..Options::default()
    };
    let contents = [100, 20_000, 200_000, 300_000, 5_000_000].map(|size| content(7, size));
    let near = LocalStore::open(dir.path(), &options).unwrap();
    for bytes in &contents {
        far.put(&HashedBlob::new(bytes)).unwrap();
        BlobService::put(&*near, &HashedBlob::new(bytes)).unwrap();
    }
    BlobService::flush(&*near).unwrap();
    drop(near);
    let mut folders = vec![dir.path().to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    assert!(files.len() >= 5, "{files:?}");
    for path in files {
        let whole = std::fs::read(&path).unwrap();
        if path.ends_with("FORMAT") || whole.is_empty() {
            continue;
        }
        for at in [whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, damaged).unwrap();
            let near = LocalStore::open(dir.path(), &options).unwrap();
            let cache = CacheBlobService::new(near, far.clone());
            for bytes in &contents {
                let found = read(&cache, &Digest::of(bytes)).unwrap();
                assert!(found == *bytes, "{path:?} at {at}");
            }
            std::fs::write(&path, &whole).unwrap();
        }
    }
}

struct Directories {
    near: Arc<MemoryDirectoryService>,
    near_faults: Arc<Faults>,
    far: Arc<MemoryDirectoryService>,
    far_faults: Arc<Faults>,
    cache: CacheDirectoryService,
}

impl Directories {
    fn new() -> Self {
        let (near, near_faults) = (Arc::new(MemoryDirectoryService::default()), Faults::new());
        let (far, far_faults) = (Arc::new(MemoryDirectoryService::default()), Faults::new());
        let cache = CacheDirectoryService::new(
            Arc::new(FaultyDirectoryService::new(
                near.clone(),
                near_faults.clone(),
            )),
            Arc::new(FaultyDirectoryService::new(far.clone(), far_faults.clone())),
        );
        Self {
            near,
            near_faults,
            far,
            far_faults,
            cache,
        }
    }
}

fn directory() -> Directory {
    let node = Node::symlink("target".into()).unwrap();
    let name = "link".try_into().unwrap();
    Directory::new(vec![Entry { name, node }]).unwrap()
}

#[test]
fn directories_are_fetched_once_and_then_near() {
    let services = Directories::new();
    let digest = services.far.put(&directory()).unwrap();
    services.far_faults.add(Rule::new(Call::Open, Fault::Hang));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let found = services.cache.get(&digest).unwrap().unwrap();
                assert_eq!(*found, directory());
            });
        }
        services.far_faults.await_hanging(1);
        services.far_faults.release();
    });
    assert_eq!(services.far_faults.calls(Call::Open), 1);
    assert!(services.near.get(&digest).unwrap().is_some());
    services.far_faults.clear();
    assert!(
        services
            .cache
            .get(&Digest::of(b"absent"))
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_made_up_directory_is_neither_shown_nor_stored() {
    let services = Directories::new();
    let digest = services.far.put(&directory()).unwrap();
    services
        .far_faults
        .add(Rule::new(Call::Open, Fault::Lie).times(1));
    let error = services.cache.get(&digest).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(services.near.get(&digest).unwrap().is_none());
    assert_eq!(*services.cache.get(&digest).unwrap().unwrap(), directory());
}

#[test]
fn directories_survive_a_failing_or_damaged_near_service() {
    for (call, fault) in [
        (Call::Open, Fault::Fail),
        (Call::Open, Fault::Damage),
        (Call::Put, Fault::Fail),
        (Call::Discard, Fault::Fail),
    ] {
        let services = Directories::new();
        let digest = services.far.put(&directory()).unwrap();
        services.near.put(&directory()).unwrap();
        services.near_faults.add(Rule::new(call, fault));
        assert_eq!(*services.cache.get(&digest).unwrap().unwrap(), directory());
        assert_eq!(
            services.cache.put(&Directory::default()).unwrap(),
            Directory::default().digest()
        );
    }
    let services = Directories::new();
    services.far_faults.add(Rule::new(Call::Put, Fault::Fail));
    services.cache.put(&directory()).unwrap_err();
    assert!(services.near.get(&directory().digest()).unwrap().is_none());
}
