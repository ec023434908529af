//! The fault-injecting services themselves.

use std::{
    io::Write,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use castore::{
    BlobService, Digest, Directory, DirectoryService, Error, HashedBlob, Object,
    blobservice::{FaultyBlobService, MemoryBlobService},
    directoryservice::{FaultyDirectoryService, MemoryDirectoryService},
    fault::{Call, Fault, Faults, Rule},
};

use crate::read;

fn blobs() -> (FaultyBlobService, Arc<Faults>) {
    let faults = Faults::new();
    let memory = Arc::new(MemoryBlobService::default());
    (FaultyBlobService::new(memory, faults.clone()), faults)
}

#[test]
fn rules_choose_calls_by_kind_object_and_number() {
    let (blobs, faults) = blobs();
    let (a, b) = (HashedBlob::new(b"a"), HashedBlob::new(b"b"));
    faults.add(
        Rule::new(Call::Put, Fault::Fail)
            .of(*a.digest())
            .after(1)
            .times(2),
    );
    let outcomes = |blob| -> Vec<bool> { (0..5).map(|_| blobs.put(blob).is_ok()).collect() };
    assert_eq!(outcomes(&b), [true; 5]);
    assert_eq!(outcomes(&a), [true, false, false, true, true]);
    assert_eq!(faults.calls(Call::Put), 10);
    assert_eq!(faults.calls(Call::Open), 0);
}

#[test]
fn faults_do_what_they_are_called() {
    let (blobs, faults) = blobs();
    let blob = HashedBlob::new(b"content");
    blobs.put(&blob).unwrap();
    let met = |call, fault| {
        faults.clear();
        faults.add(Rule::new(call, fault));
    };
    met(Call::Open, Fault::Absent);
    assert!(blobs.open(blob.digest()).unwrap().is_none());
    met(Call::Has, Fault::Absent);
    assert!(!blobs.has(blob.digest()).unwrap());
    met(Call::Open, Fault::Damage);
    assert!(matches!(
        blobs.open(blob.digest()),
        Err(Error::Corrupt { object: Object::Blob(digest), .. }) if digest == *blob.digest()
    ));
    met(Call::Read, Fault::Lie);
    let lie = read(&blobs, blob.digest()).unwrap();
    assert_eq!(lie.len(), 7);
    assert_ne!(lie, b"content");
    for call in [Call::Write, Call::Finish] {
        met(call, Fault::Fail);
        let mut writer = blobs.writer().unwrap();
        let written = writer.write_all(b"new");
        assert_eq!(written.is_err(), call == Call::Write);
        assert_eq!(writer.finish().is_err(), call == Call::Finish);
    }
    met(Call::Flush, Fault::Delay(Duration::from_millis(50)));
    let start = Instant::now();
    blobs.flush().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50));
    met(Call::Read, Fault::Hang);
    thread::scope(|scope| {
        let reader = scope.spawn(|| read(&blobs, blob.digest()));
        faults.await_hanging(1);
        faults.release();
        assert_eq!(reader.join().unwrap().unwrap(), b"content");
    });
}

#[test]
fn a_directory_service_can_lie_too() {
    let faults = Faults::new();
    let memory = Arc::new(MemoryDirectoryService::default());
    let directories = FaultyDirectoryService::new(memory, faults.clone());
    let digest = directories.put(&Directory::default()).unwrap();
    faults.add(Rule::new(Call::Open, Fault::Lie).times(1));
    let lie = directories.get(&digest).unwrap().unwrap();
    assert_ne!(lie.digest(), digest);
    assert_eq!(directories.get(&digest).unwrap().unwrap().digest(), digest);
    assert!(directories.get(&Digest::of(b"absent")).unwrap().is_none());
    directories.flush().unwrap();
}
