//! What an import takes, however big the tree: alone in its process, since it
//! is the process that is measured.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use castore::{
    Blob, BlobService, BlobWriter, Digest, Directory, DirectoryService, Error, HashedBlob, Node,
    import::{ObserverError, Options, TreeObserver, import},
};

/// Keeps nothing.
#[derive(Debug)]
struct Null;

impl BlobService for Null {
    fn open(&self, _: &Digest) -> Result<Option<Arc<dyn Blob>>, Error> {
        Ok(None)
    }

    fn put(&self, _: &HashedBlob<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn writer(&self) -> Result<Box<dyn BlobWriter + '_>, Error> {
        Ok(Box::new(Count(0)))
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl DirectoryService for Null {
    fn get(&self, _: &Digest) -> Result<Option<Arc<Directory>>, Error> {
        Ok(None)
    }

    fn put(&self, directory: &Directory) -> Result<Digest, Error> {
        Ok(directory.digest())
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}

struct Count(u64);

impl Write for Count {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0 += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for Count {
    fn finish(self: Box<Self>) -> Result<(Digest, u64), Error> {
        Ok((Digest::of(b""), self.0))
    }
}

/// Slow at first, so that everything before it piles up, and counts the open
/// descriptors then.
#[derive(Default)]
struct Meter {
    files: usize,
    descriptors: usize,
}

impl TreeObserver for Meter {
    fn enter_directory(&mut self) -> Result<(), ObserverError> {
        Ok(())
    }

    fn entry(&mut self, _: &[u8]) -> Result<(), ObserverError> {
        Ok(())
    }

    fn leave_directory(&mut self) -> Result<(), ObserverError> {
        Ok(())
    }

    fn begin_file(&mut self, _: bool, _: u64) -> Result<(), ObserverError> {
        Ok(())
    }

    fn contents(&mut self, _: &[u8]) -> Result<(), ObserverError> {
        Ok(())
    }

    fn end_file(&mut self) -> Result<(), ObserverError> {
        self.files += 1;
        if self.files <= 3 {
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        if self.files.is_multiple_of(100) || self.files <= 3 {
            self.descriptors = self.descriptors.max(fs::read_dir("/proc/self/fd")?.count());
        }
        Ok(())
    }

    fn symlink(&mut self, _: &[u8]) -> Result<(), ObserverError> {
        Ok(())
    }
}

/// Resident memory in MiB: at most so far.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = (status.lines().find_map(|line| line.strip_prefix("VmHWM:"))).unwrap();
    let kib = line.trim().strip_suffix(" kB").unwrap();
    kib.parse::<u64>().unwrap() / 1024
}

fn sparse(path: &Path, len: u64) {
    File::create(path).unwrap().set_len(len).unwrap();
}

#[test]
fn memory_and_descriptors_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    // A directory for every file, small ones and such as fill a buffer.
    for number in 0..3000 {
        let sub = dir.path().join(format!("{number:04}"));
        fs::create_dir(&sub).unwrap();
        let len = if number % 20 == 7 { 1_000_000 } else { 100 };
        sparse(&sub.join("file"), len);
    }
    for number in 0..4 {
        sparse(&dir.path().join(format!("{}-big", 700 * number)), 100 << 20);
    }
    let before = peak();
    let mut meter = Meter::default();
    let node = import(dir.path(), &Null, &Null, &mut meter, &Options::default()).unwrap();
    assert!(
        matches!(node, Node::Directory { size: 12008, .. }),
        "{node:?}"
    );
    assert_eq!(meter.files, 3004);
    assert!(meter.descriptors < 500, "{} descriptors", meter.descriptors);
    let taken = peak() - before;
    assert!(taken < 48, "{taken} MiB");
    println!("{taken} MiB, {} descriptors", meter.descriptors);
}
