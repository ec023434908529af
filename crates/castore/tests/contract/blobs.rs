use std::{
    io::{Read, Seek, Write},
    thread,
};

use castore::{
    Blob, BlobService, Digest, HashedBlob,
    outboard::{GROUP_LEN, SUPERBLOCK_LEN},
};

use crate::{Backend, content, read};

/// Sizes on both sides of every boundary that a backend may have.
fn sizes() -> impl Iterator<Item = usize> {
    [
        0,
        1,
        1024,
        GROUP_LEN,
        2 * GROUP_LEN,
        256 * 1024,
        1024 * 1024,
        SUPERBLOCK_LEN,
        2 * SUPERBLOCK_LEN + GROUP_LEN,
    ]
    .into_iter()
    .flat_map(|size: usize| [size.saturating_sub(1), size, size + 1])
}

pub(crate) fn what_was_put_is_had(backend: &Backend) {
    let blobs = &*backend.blobs;
    let mut stored = Vec::new();
    for (seed, size) in sizes().enumerate() {
        let bytes = content(seed, size);
        let blob = HashedBlob::new(&bytes);
        blobs.put(&blob).unwrap();
        assert!(blobs.has(blob.digest()).unwrap(), "size {size}");
        assert_eq!(
            blobs.open(blob.digest()).unwrap().unwrap().size(),
            size as u64
        );
        assert!(read(blobs, blob.digest()).unwrap() == bytes, "size {size}");
        stored.push((*blob.digest(), seed, size));
    }
    blobs.flush().unwrap();
    for (digest, seed, size) in stored {
        assert!(blobs.has(&digest).unwrap());
        assert!(
            read(blobs, &digest).unwrap() == content(seed, size),
            "size {size}"
        );
    }
    blobs.flush().unwrap();
}

pub(crate) fn what_was_not_put_is_not_had(backend: &Backend) {
    let blobs = &*backend.blobs;
    let absent = |bytes: &[u8]| {
        assert!(!blobs.has(&Digest::of(bytes)).unwrap());
        assert!(blobs.open(&Digest::of(bytes)).unwrap().is_none());
    };
    absent(b"absent");
    // That of nothing, too, as long as nobody put it.
    absent(b"");
    blobs.put(&HashedBlob::new(b"present")).unwrap();
    absent(b"absent");
    blobs.flush().unwrap();
    absent(b"absent");
    assert_eq!(read(blobs, &Digest::of(b"present")).unwrap(), b"present");
}

fn assert_reads(blob: &dyn Blob, bytes: &[u8], offset: u64, len: usize) {
    let mut buf = vec![0xa5; len];
    let read = blob.read_at(&mut buf, offset).unwrap();
    let rest = usize::try_from(offset)
        .ok()
        .and_then(|offset| bytes.get(offset..))
        .unwrap_or_default();
    assert_eq!(
        read,
        rest.len().min(len),
        "{len} at {offset} of {}",
        bytes.len()
    );
    assert!(
        buf[..read] == rest[..read],
        "{len} at {offset} of {}",
        bytes.len()
    );
}

pub(crate) fn any_range_reads_right(backend: &Backend) {
    let blobs = &*backend.blobs;
    for size in [
        0,
        1,
        GROUP_LEN,
        100_000,
        256 * 1024,
        SUPERBLOCK_LEN + 3 * GROUP_LEN + 1,
    ] {
        let bytes = content(3, size);
        blobs.put(&HashedBlob::new(&bytes)).unwrap();
        let blob = blobs.open(&Digest::of(&bytes)).unwrap().unwrap();
        let mut state = size as u64 + 1;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        for _ in 0..100 {
            assert_reads(&*blob, &bytes, random(size + 10) as u64, random(70_000));
            // Near the boundaries of groups.
            let group = (random(size / GROUP_LEN + 1) * GROUP_LEN) as u64;
            let offset = (group + random(3) as u64).saturating_sub(1);
            assert_reads(&*blob, &bytes, offset, random(3 * GROUP_LEN));
        }
        let size = size as u64;
        for offset in [
            size.saturating_sub(1),
            size,
            size + 1,
            u64::MAX - 1,
            u64::MAX,
        ] {
            assert_reads(&*blob, &bytes, offset, 0);
            assert_reads(&*blob, &bytes, offset, 10);
        }
        // Who opens the file, sees exactly the contents, too.
        if let Some(file) = blob.file() {
            let (mut file, mut found) = (&*file, Vec::new());
            file.rewind().unwrap();
            file.read_to_end(&mut found).unwrap();
            assert!(found == bytes);
        }
    }
}

pub(crate) fn a_writer_stores_what_it_was_given(backend: &Backend) {
    let blobs = &*backend.blobs;
    for (seed, size) in sizes().enumerate() {
        for step in [1000, 65_536, 1_000_003] {
            // Byte by byte where that is quick, and a blob for each way.
            let step = if size < 2000 { 1 } else { step };
            let bytes = content(seed * 10 + step, size);
            let mut writer = blobs.writer().unwrap();
            for part in bytes.chunks(step) {
                writer.write_all(part).unwrap();
            }
            let (digest, written) = writer.finish().unwrap();
            assert_eq!((digest, written), (Digest::of(&bytes), size as u64));
            assert!(blobs.has(&digest).unwrap());
            assert!(
                read(blobs, &digest).unwrap() == bytes,
                "size {size}, step {step}"
            );
        }
    }
    blobs.flush().unwrap();
}

pub(crate) fn a_dropped_writer_leaves_nothing(backend: &Backend) {
    let blobs = &*backend.blobs;
    for size in [0, 100, 300_000, 5_000_000] {
        let bytes = content(5, size);
        let mut writer = blobs.writer().unwrap();
        writer.write_all(&bytes).unwrap();
        drop(writer);
        blobs.flush().unwrap();
        assert!(!blobs.has(&Digest::of(&bytes)).unwrap());
        assert!(blobs.open(&Digest::of(&bytes)).unwrap().is_none());
    }
}

pub(crate) fn putting_twice_is_no_error(backend: &Backend) {
    let blobs = &*backend.blobs;
    for size in [0, 1000, 300_000, 5_000_000] {
        let bytes = content(6, size);
        for _ in 0..2 {
            blobs.put(&HashedBlob::new(&bytes)).unwrap();
            let mut writer = blobs.writer().unwrap();
            writer.write_all(&bytes).unwrap();
            assert_eq!(writer.finish().unwrap().0, Digest::of(&bytes));
            blobs.flush().unwrap();
            assert!(read(blobs, &Digest::of(&bytes)).unwrap() == bytes);
        }
    }
}

pub(crate) fn threads_may_put_and_read_at_once(backend: &Backend) {
    thread::scope(|scope| {
        for thread in 0..6 {
            let blobs: &dyn BlobService = &*backend.blobs;
            scope.spawn(move || {
                for round in 0..12 {
                    // Each blob is put by two threads, in one way or the other.
                    let bytes = content(round * 3 + thread % 3, 40_000 * round);
                    if (thread + round) % 2 == 0 {
                        blobs.put(&HashedBlob::new(&bytes)).unwrap();
                    } else {
                        let mut writer = blobs.writer().unwrap();
                        writer.write_all(&bytes).unwrap();
                        writer.finish().unwrap();
                    }
                    if round % 5 == 4 {
                        blobs.flush().unwrap();
                    }
                    assert!(read(blobs, &Digest::of(&bytes)).unwrap() == bytes);
                }
            });
        }
    });
    backend.blobs.flush().unwrap();
    for (round, kind) in (0..12).flat_map(|round| [(round, 0), (round, 1), (round, 2)]) {
        let bytes = content(round * 3 + kind, 40_000 * round);
        assert!(read(&*backend.blobs, &Digest::of(&bytes)).unwrap() == bytes);
    }
}

pub(crate) fn an_open_blob_outlives_a_flush(backend: &Backend) {
    let blobs = &*backend.blobs;
    for size in [10, 200_000, 300_000] {
        let bytes = content(8, size);
        blobs.put(&HashedBlob::new(&bytes)).unwrap();
        let blob = blobs.open(&Digest::of(&bytes)).unwrap().unwrap();
        blobs.flush().unwrap();
        assert_reads(&*blob, &bytes, 0, size);
    }
}
