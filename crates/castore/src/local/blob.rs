//! Reading a blob, verified.

use std::{
    fs::File,
    num::NonZeroU64,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use quick_cache::sync::Cache;
use rustix::fs::{Advice, fadvise};

use super::{
    Integrity,
    entry::Entry,
    pack::{Pack, ReadError, read_exact_at},
};
use crate::{
    Blob, Digest, Error, Object,
    outboard::{
        BlobHasher, ChainingValue, GROUP_LEN, Head, SUPERBLOCK_LEN, group_value, head_len,
        outboard_len,
    },
};

/// Bytes read at once to check a blob.
const CHECK_BUFFER: usize = 1 << 20;

/// How far back to look for what was not dropped from memory.
const DONE_BEFORE: u64 = 8 << 20;

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
    /// Set when damage is found.
    suspect: Arc<AtomicBool>,
    head: OnceLock<Head>,
}

/// The values of the groups of superblocks that were read lately, 8 KiB each:
/// to verify them costs more than to read a group. They were verified against
/// the digest that is their key, so all stores of the process share them.
static SEGMENTS: LazyLock<Cache<(Digest, u64), Segment>> =
    LazyLock::new(|| Cache::new(SEGMENTS_KEPT));

type Segment = Arc<[ChainingValue]>;

/// 4 MiB, for 2 GiB of contents.
const SEGMENTS_KEPT: usize = 512;

impl LocalBlob {
    pub(super) fn new(
        entry: &Entry,
        pack: Arc<Pack>,
        source: Source,
        integrity: Integrity,
        suspect: Arc<AtomicBool>,
    ) -> Self {
        Self {
            digest: Digest::from_bytes(entry.key),
            size: entry.size,
            pack,
            source,
            outboard: entry.outboard,
            integrity,
            suspect,
            head: OnceLock::new(),
        }
    }

    fn damaged(&self, place: String, detail: &str) -> Error {
        self.suspect.store(true, Ordering::Relaxed);
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

    /// The values of the groups of `superblock`, where there are several.
    fn segment(&self, superblock: u64, range: Range<u64>) -> Result<Segment, Error> {
        SEGMENTS.get_or_insert_with(&(self.digest, superblock), || {
            let bytes = self.read_outboard(range.start, range.end - range.start)?;
            let values = self.head()?.verify_segment(superblock, &bytes);
            let values =
                values.ok_or_else(|| self.meta_damaged("the outboard does not match its head"))?;
            Ok(values.into())
        })
    }

    /// Reads whole groups; `offset` is the beginning of one.
    fn read_groups(&self, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        self.read_data(buf, offset)?;
        let mut segment = None;
        for (number, group) in buf.chunks(GROUP_LEN).enumerate() {
            let offset = offset + (number * GROUP_LEN) as u64;
            if !self.is_sound(offset, group, &mut segment)? {
                return Err(self.data_damaged(&format!(
                    "bytes {offset}..{} do not match the digest",
                    offset + group.len() as u64
                )));
            }
        }
        Ok(())
    }

    /// Whether a group is what was stored. `segment` is that of the group
    /// before, and becomes that of this one.
    fn is_sound(
        &self,
        offset: u64,
        group: &[u8],
        segment: &mut Option<(u64, Segment)>,
    ) -> Result<bool, Error> {
        if self.size <= GROUP_LEN as u64 {
            return Ok(Digest::of(group) == self.digest);
        }
        let head = self.head()?;
        let superblock = offset / SUPERBLOCK_LEN as u64;
        let values = match (head.segment(superblock), &*segment) {
            (None, _) => head.groups(),
            (Some(_), Some((at, values))) if *at == superblock => values,
            (Some(range), _) => {
                let values = self.segment(superblock, range)?;
                &segment.insert((superblock, values)).1
            }
        };
        let number = (offset % SUPERBLOCK_LEN as u64) as usize / GROUP_LEN;
        Ok(values.get(number) == Some(&group_value(offset, group)))
    }

    /// The outboard, verified; of a blob that has one.
    pub(super) fn whole_outboard(&self) -> Result<Vec<u8>, Error> {
        let bytes = self.read_outboard(0, outboard_len(self.size))?;
        let head = self.head()?;
        let superblocks = self.size.div_ceil(SUPERBLOCK_LEN as u64);
        for superblock in 0..superblocks {
            let Some(range) = head.segment(superblock) else {
                break;
            };
            let segment = &bytes[range.start as usize..range.end as usize];
            if head.verify_segment(superblock, segment).is_none() {
                return Err(self.meta_damaged("the outboard does not match its head"));
            }
        }
        Ok(bytes)
    }

    /// All contents, verified; of a blob in a pack.
    pub(super) fn packed_contents(&self) -> Result<Vec<u8>, Error> {
        // What is not in the file is not allocated.
        if self.pack.blobs.len().is_ok_and(|len| len < self.size) {
            return Err(self.data_damaged("the file is cut short"));
        }
        let mut bytes = vec![0; self.size as usize];
        self.read_data(&mut bytes, 0)?;
        match Digest::of(&bytes) == self.digest {
            true => Ok(bytes),
            false => Err(self.data_damaged("the contents do not match the digest")),
        }
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
        let inner_start = offset
            .checked_next_multiple_of(GROUP)
            .unwrap_or(end)
            .min(end);
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

    fn done_with(&self, offset: u64, len: u64) {
        // What is next to a blob in a pack is read next, as a rule.
        if let Source::File { file, .. } = &self.source {
            // The system drops large pages as a whole or not at all: those that
            // were left because they end in this range, or were being read.
            let start = offset.saturating_sub(DONE_BEFORE);
            let len = NonZeroU64::new((offset - start).saturating_add(len));
            // It is a hint to the system, too.
            let _ = fadvise(&**file, start, len, Advice::DontNeed);
        }
    }

    fn file(&self) -> Option<Arc<File>> {
        match &self.source {
            // Nobody verifies what is read from the file.
            _ if self.integrity == Integrity::OnRead => None,
            Source::Pack { .. } => None,
            Source::File { file, .. } => Some(file.clone()),
        }
    }
}
