//! Reading a blob, verified.

use std::{
    fs::File,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use super::{
    Integrity,
    entry::Entry,
    pack::{Pack, ReadError, read_exact_at},
};
use crate::{
    Blob, Digest, Error, Object,
    outboard::{BlobHasher, ChainingValue, GROUP_LEN, Head, SUPERBLOCK_LEN, group_value, head_len},
};

/// Bytes read at once to check a blob.
const CHECK_BUFFER: usize = 1 << 20;

/// Where a blob's bytes are.
#[derive(Debug)]
pub(super) enum Source {
    Pack { offset: u64 },
    File { file: Arc<File>, path: PathBuf },
}

/// A blob of the local store.
#[derive(Debug)]
pub(super) struct LocalBlob {
    digest: Digest,
    size: u64,
    pack: Arc<Pack>,
    source: Source,
    /// Offset of the outboard in the pack's `.meta`; 0 if there is none.
    outboard: u64,
    integrity: Integrity,
    head: OnceLock<Head>,
    /// The values of the groups of the superblock read last.
    segment: Mutex<Option<(u64, Arc<[ChainingValue]>)>>,
}

impl LocalBlob {
    pub(super) fn new(
        entry: &Entry,
        pack: Arc<Pack>,
        source: Source,
        integrity: Integrity,
    ) -> Self {
        Self {
            digest: Digest::from_bytes(entry.key),
            size: entry.size,
            pack,
            source,
            outboard: entry.outboard,
            integrity,
            head: OnceLock::new(),
            segment: Mutex::default(),
        }
    }

    fn damaged(&self, place: String, detail: &str) -> Error {
        Error::Corrupt {
            object: Object::Blob(self.digest),
            place,
            detail: detail.to_owned(),
        }
    }

    fn path(&self) -> &PathBuf {
        match &self.source {
            Source::Pack { .. } => &self.pack.blobs.path,
            Source::File { path, .. } => path,
        }
    }

    fn data_damaged(&self, detail: &str) -> Error {
        self.damaged(self.path().display().to_string(), detail)
    }

    fn meta_damaged(&self, detail: &str) -> Error {
        self.damaged(self.pack.meta.path.display().to_string(), detail)
    }

    fn read_data(&self, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        let read = match &self.source {
            Source::Pack { offset: base } => match base.checked_add(offset) {
                Some(at) => self.pack.blobs.read_exact_at(buf, at),
                None => Err(ReadError::Absent("its offset is absurd")),
            },
            Source::File { file, .. } => read_exact_at(file, buf, offset),
        };
        read.map_err(|error| match error {
            ReadError::Absent(detail) => self.data_damaged(detail),
            ReadError::Io(source) => Error::io("read", self.path())(source),
        })
    }

    fn read_outboard(&self, at: u64, len: u64) -> Result<Vec<u8>, Error> {
        let meta = &self.pack.meta;
        let read = || {
            let absent = ReadError::Absent("the outboard is cut short");
            let Some(at) = self.outboard.checked_add(at) else {
                return Err(absent);
            };
            // What is not in the file is not allocated.
            if at
                .checked_add(len)
                .is_none_or(|end| Some(end) > meta.len().ok())
            {
                return Err(absent);
            }
            let mut bytes = vec![0; len as usize];
            meta.read_exact_at(&mut bytes, at)?;
            Ok(bytes)
        };
        read().map_err(|error| match error {
            ReadError::Absent(detail) => self.meta_damaged(detail),
            ReadError::Io(source) => Error::io("read", &meta.path)(source),
        })
    }

    fn head(&self) -> Result<&Head, Error> {
        if let Some(head) = self.head.get() {
            return Ok(head);
        }
        if self.outboard == 0 {
            return Err(self.meta_damaged("the outboard is missing"));
        }
        let bytes = self.read_outboard(0, head_len(self.size))?;
        let head = Head::verify(&self.digest, self.size, &bytes)
            .ok_or_else(|| self.meta_damaged("the outboard does not match the digest"))?;
        Ok(self.head.get_or_init(|| head))
    }

    /// The values of the groups of `superblock`.
    fn segment(&self, superblock: u64) -> Result<Arc<[ChainingValue]>, Error> {
        if let Some((cached, values)) = &*self.segment.lock()
            && *cached == superblock
        {
            return Ok(values.clone());
        }
        let head = self.head()?;
        let values: Arc<[ChainingValue]> = match head.segment(superblock) {
            None => head.groups().into(),
            Some(range) => {
                let bytes = self.read_outboard(range.start, range.end - range.start)?;
                head.verify_segment(superblock, &bytes)
                    .ok_or_else(|| self.meta_damaged("the outboard does not match its head"))?
                    .into()
            }
        };
        *self.segment.lock() = Some((superblock, values.clone()));
        Ok(values)
    }

    fn verify_group(&self, offset: u64, group: &[u8]) -> Result<(), Error> {
        let sound = if self.size <= GROUP_LEN as u64 {
            Digest::of(group) == self.digest
        } else {
            let segment = self.segment(offset / SUPERBLOCK_LEN as u64)?;
            let number = (offset % SUPERBLOCK_LEN as u64) as usize / GROUP_LEN;
            segment.get(number) == Some(&group_value(offset, group))
        };
        match sound {
            true => Ok(()),
            false => Err(self.data_damaged(&format!(
                "bytes {offset}..{} do not match the digest",
                offset + group.len() as u64
            ))),
        }
    }

    /// Reads whole groups; `offset` is the beginning of one.
    fn read_groups(&self, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        self.read_data(buf, offset)?;
        for (number, group) in buf.chunks(GROUP_LEN).enumerate() {
            self.verify_group(offset + (number * GROUP_LEN) as u64, group)?;
        }
        Ok(())
    }

    /// Reads all of the blob and its outboard and verifies both.
    pub(super) fn check(&self) -> Result<(), Error> {
        let mut hasher = BlobHasher::default();
        let mut buf = vec![0; CHECK_BUFFER.min(self.size as usize)];
        let mut offset = 0;
        while offset < self.size {
            let rest = (self.size - offset).min(buf.len() as u64) as usize;
            self.read_data(&mut buf[..rest], offset)?;
            hasher.update(&buf[..rest]);
            offset += rest as u64;
        }
        if let Source::File { file, path } = &self.source {
            let found = file.metadata().map_err(Error::io("stat", path))?.len();
            if found != self.size {
                return Err(
                    self.data_damaged(&format!("the file has {found} bytes, not {}", self.size))
                );
            }
        }
        let hashed = hasher.finish();
        if hashed.digest != self.digest {
            return Err(self.data_damaged(&format!("the contents hash to {}", hashed.digest)));
        }
        if hashed.outboard.is_empty() {
            return Ok(());
        }
        if self.outboard == 0 {
            return Err(self.meta_damaged("the outboard is missing"));
        }
        match self.read_outboard(0, hashed.outboard.len() as u64)? == hashed.outboard {
            true => Ok(()),
            false => Err(self.meta_damaged("the outboard is not that of the contents")),
        }
    }
}

impl Blob for LocalBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        let Some(rest) = self.size.checked_sub(offset).filter(|rest| *rest > 0) else {
            return Ok(0);
        };
        let len = usize::try_from(rest).map_or(buf.len(), |rest| rest.min(buf.len()));
        let buf = &mut buf[..len];
        if self.integrity == Integrity::AtRest {
            self.read_data(buf, offset)?;
            return Ok(len);
        }
        const GROUP: u64 = GROUP_LEN as u64;
        let end = offset + len as u64;
        // The groups that lie wholly in the range are read in place, what is
        // left at either side through a buffer.
        let inner_start = offset.next_multiple_of(GROUP).min(end);
        let inner_end = match end == self.size {
            true => end,
            false => (end / GROUP * GROUP).max(inner_start),
        };
        let edge = |from: u64, to: u64, buf: &mut [u8]| {
            let start = from / GROUP * GROUP;
            let mut group = vec![0; (self.size - start).min(GROUP) as usize];
            self.read_groups(&mut group, start)?;
            buf.copy_from_slice(&group[(from - start) as usize..(to - start) as usize]);
            Ok::<_, Error>(())
        };
        if offset < inner_start {
            edge(
                offset,
                inner_start,
                &mut buf[..(inner_start - offset) as usize],
            )?;
        }
        if inner_start < inner_end {
            let range = (inner_start - offset) as usize..(inner_end - offset) as usize;
            self.read_groups(&mut buf[range], inner_start)?;
        }
        if inner_end < end {
            edge(inner_end, end, &mut buf[(inner_end - offset) as usize..])?;
        }
        Ok(len)
    }

    fn file(&self) -> Option<Arc<File>> {
        match &self.source {
            Source::Pack { .. } => None,
            Source::File { file, .. } => Some(file.clone()),
        }
    }
}
