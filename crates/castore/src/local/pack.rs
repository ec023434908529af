//! Packs: the bytes of the objects that one session wrote, in the order in
//! which it wrote them.
//!
//! A pack is two files, so that a walk of a tree reads one short stretch of
//! the disk: `.meta` has directories, records and outboards, `.blobs` has
//! small blobs. Each begins with 16 bytes (magic "tsmmeta\0" or "tsmblobs",
//! version u32, zeros) and goes on with objects, each behind a header:
//!
//! ```text
//! 0 magic "OBJ\0"   4 kind u8 (1 record, 2 directory, 3 blob, 4 outboard), zeros
//! 8 size u64        16 key (32)                                48 the bytes
//! ```
//!
//! The headers are there so that an index can be made anew from the packs; and
//! whoever reads a directory guesses by them where its neighbours are
//! (nearby.rs). Blobs and directories are verified by their digests, outboards
//! by the digest of their blob. A record, whose bytes no
//! digest vouches for, ends with a check of 32 bytes: the BLAKE3 of its key and
//! bytes before. Integers are little-endian.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    iter,
    os::unix::fs::FileExt,
    path::PathBuf,
};

use super::{
    entry::{Key, PackId},
    folder::Folder,
    nearby::Blocks,
};
use crate::Error;

pub(super) const FILE_HEADER: usize = 16;
pub(super) const OBJECT_HEADER: usize = 48;
const VERSION: u32 = 1;
const BUFFER: usize = 256 * 1024;
const MAGIC: &[u8; 4] = b"OBJ\0";
/// What is read at once around what is asked for. As much as the kernel reads
/// around a page of a mapped file, and ext4 around an inode.
const AROUND: u64 = 128 << 10;

/// What an object header says; a superset of what an index has entries for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tag {
    Record = 1,
    Directory = 2,
    Blob = 3,
    Outboard = 4,
}

/// One of the two files of a pack, being written.
#[derive(Debug)]
pub(super) struct Appender {
    file: BufWriter<File>,
    path: PathBuf,
    offset: u64,
}

impl Appender {
    fn create(folder: &Folder, name: &str, magic: &[u8; 8]) -> Result<Self, Error> {
        let file = BufWriter::with_capacity(BUFFER, folder.create_file(name)?);
        let mut appender = Self {
            file,
            path: folder.file_path(name),
            offset: FILE_HEADER as u64,
        };
        let mut header = [0; FILE_HEADER];
        header[..8].copy_from_slice(magic);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        appender.write(&header)?;
        Ok(appender)
    }

    pub(super) fn create_meta(folder: &Folder, id: PackId) -> Result<Self, Error> {
        Self::create(folder, &id.meta_name(), b"tsmmeta\0")
    }

    pub(super) fn create_blobs(folder: &Folder, id: PackId) -> Result<Self, Error> {
        Self::create(folder, &id.blobs_name(), b"tsmblobs")
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(bytes)
            .map_err(Error::io("write", &self.path))
    }

    /// Appends an object, given in parts; returns the offset of its bytes.
    pub(super) fn append(&mut self, tag: Tag, key: &Key, parts: &[&[u8]]) -> Result<u64, Error> {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        let mut header = [0; OBJECT_HEADER];
        header[..4].copy_from_slice(MAGIC);
        header[4] = tag as u8;
        header[8..16].copy_from_slice(&(size as u64).to_le_bytes());
        header[16..].copy_from_slice(key);
        self.write(&header)?;
        for part in parts {
            self.write(part)?;
        }
        let offset = self.offset + OBJECT_HEADER as u64;
        self.offset = offset + size as u64;
        Ok(offset)
    }

    /// Bytes of the file when all is written.
    pub(super) fn len(&self) -> u64 {
        self.offset
    }

    /// Hands what is buffered to the system, so that it can be read.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.file.flush().map_err(Error::io("write", &self.path))
    }

    /// Makes what was appended durable.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.file
            .get_ref()
            .sync_all()
            .map_err(Error::io("sync", &self.path))
    }
}

/// A pack's files, open for reading.
#[derive(Debug)]
pub(super) struct Pack {
    pub(super) meta: PackFile,
    pub(super) blobs: PackFile,
}

impl Pack {
    /// Opens a pack; a file that is not there is noticed when it is read.
    pub(super) fn open(folder: &Folder, id: PackId) -> Result<Self, Error> {
        let open = |name: String| {
            let file = folder.open_file(&name)?;
            let len = file
                .as_ref()
                .and_then(|file| Some(file.metadata().ok()?.len()));
            Ok::<_, Error>(PackFile {
                file,
                path: folder.file_path(&name),
                blocks: Blocks::new(AROUND, len.unwrap_or_default()),
            })
        };
        Ok(Self {
            meta: open(id.meta_name())?,
            blobs: open(id.blobs_name())?,
        })
    }
}

#[derive(Debug)]
pub(super) struct PackFile {
    file: Option<File>,
    pub(super) path: PathBuf,
    blocks: Blocks,
}

/// Why bytes could not be read from the store's files.
#[derive(Debug)]
pub(super) enum ReadError {
    /// They are not there: the file is missing or cut short.
    Absent(&'static str),
    /// The system could not read them.
    Io(io::Error),
}

impl PackFile {
    /// Whether the file is there.
    pub(super) fn is_there(&self) -> bool {
        self.file.is_some()
    }

    fn file(&self) -> Result<&File, ReadError> {
        (self.file.as_ref()).ok_or(ReadError::Absent("the file is missing"))
    }

    pub(super) fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ReadError> {
        let file = self.file()?;
        self.blocks.read_ahead(file, offset);
        read_exact_at(file, buf, offset)
    }

    /// Reads as much as there is; answers how much that was.
    pub(super) fn read_some_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, ReadError> {
        let file = self.file()?;
        let mut len = 0;
        while len < buf.len() {
            match file.read_at(&mut buf[len..], offset + len as u64) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ReadError::Io(error)),
            }
        }
        Ok(len)
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> Result<u64, ReadError> {
        Ok(self.file()?.metadata().map_err(ReadError::Io)?.len())
    }
}

pub(super) fn read_exact_at(file: &File, buf: &mut [u8], offset: u64) -> Result<(), ReadError> {
    file.read_exact_at(buf, offset).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            ReadError::Absent("the file is cut short")
        } else {
            ReadError::Io(error)
        }
    })
}

/// Directories in a stretch of a pack's `.meta` that may begin and end amid an
/// object: the key, where the object begins in the stretch, and its size. None
/// of it is verified.
pub(super) fn directories(bytes: &[u8]) -> impl Iterator<Item = (&Key, usize, u64)> {
    let mut at = 0;
    iter::from_fn(move || {
        loop {
            let rest = bytes.get(at..)?;
            let header = rest.first_chunk::<OBJECT_HEADER>()?;
            let (fixed, key) = header.split_last_chunk()?;
            let (tag, size) = fixed.split_last_chunk()?;
            let size = u64::from_le_bytes(*size);
            let known = tag.starts_with(MAGIC) && tag[5..] == [0; 3];
            match (known, usize::try_from(size).ok()) {
                (true, Some(len)) => {
                    let object = at + OBJECT_HEADER;
                    at = object.saturating_add(len);
                    if tag[4] == Tag::Directory as u8 {
                        return Some((key, object, size));
                    }
                }
                _ => {
                    let next = rest[1..].windows(MAGIC.len()).position(|w| w == MAGIC)?;
                    at += 1 + next;
                }
            }
        }
    })
}

/// The check at the end of a record.
pub(super) fn record_check(key: &Key, value: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update(key).update(value).finalize()
}
