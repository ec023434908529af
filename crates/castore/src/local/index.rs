//! Index files: sorted tables of [`Entry`]s, written once.
//!
//! ```text
//! page 0       header     0 magic "tsmindex", 8 check (32), 40 version u32,
//!                         44 packs u32, 48 filter's bytes u64, 56 pages u64,
//!                         64 nonce (32), 96 tail's check (32), 128 records u64,
//!                         136 directories u64, 144 blobs u64, 152 their bytes u64,
//!                         zeros
//! page 1..     entries    0 check (32), 32 count u16, zeros, 64 entries (64 each)
//! tail         fences     16 for each page of entries: kind, 15 bytes of key
//!              packs      16 for each pack
//!              filter     a Bloom filter of the entries        (filter.rs)
//! ```
//!
//! Integers are little-endian, pages have 4096 bytes. The header's check is the
//! BLAKE3 of its bytes from 40 on; a page's is the BLAKE3, keyed with the nonce,
//! of the page's number (u64) and its bytes from 32 on. So a page that answers,
//! also that it does *not* have a key, is what was once written at that place.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    entry::{Entry, Key, Kind, PackId},
    filter::Filter,
    nearby::Blocks,
};
use crate::Error;

pub(super) const PAGE: usize = 4096;
const MAGIC: &[u8; 8] = b"tsmindex";
const VERSION: u32 = 1;
const PAGE_HEADER: usize = 64;
const ENTRIES_PER_PAGE: usize = (PAGE - PAGE_HEADER) / Entry::LEN;
const FENCE: usize = 16;
/// What is read at once around a page. Keys are scattered, but as a rule all
/// pages of an index that is not big will be asked for.
const AROUND: u64 = 128 << 10;

type Fence = [u8; FENCE];

/// The beginning of an entry's order. Pages may share a fence only if 15
/// bytes of their keys are equal.
fn fence(kind: Kind, key: &Key) -> Fence {
    let mut fence = [0; FENCE];
    fence[0] = kind as u8;
    fence[1..].copy_from_slice(&key[..FENCE - 1]);
    fence
}

fn page_check(nonce: &[u8; 32], number: u64, page: &[u8; PAGE]) -> blake3::Hash {
    blake3::Hasher::new_keyed(nonce)
        .update(&number.to_le_bytes())
        .update(&page[32..])
        .finalize()
}

/// An open index.
#[derive(Debug)]
pub(super) struct Index {
    file: File,
    path: PathBuf,
    nonce: [u8; 32],
    totals: Totals,
    fences: Box<[Fence]>,
    packs: Box<[PackId]>,
    filter: Filter,
    blocks: Blocks,
}

/// What an index has, in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) records: u64,
    pub(super) directories: u64,
    pub(super) blobs: u64,
    pub(super) blob_bytes: u64,
}

impl Totals {
    fn add(&mut self, entry: &Entry) {
        match entry.kind {
            Kind::Record => self.records += 1,
            Kind::Directory => self.directories += 1,
            Kind::Blob => {
                self.blobs += 1;
                self.blob_bytes = self.blob_bytes.saturating_add(entry.size);
            }
        }
    }

    fn fields(&self) -> [u64; 4] {
        [self.records, self.directories, self.blobs, self.blob_bytes]
    }
}

impl Index {
    /// Opens an index and checks its header and tail.
    pub(super) fn open(file: File, path: PathBuf) -> Result<Self, Error> {
        let damaged = |detail: &str| Error::Damaged {
            path: path.clone(),
            detail: detail.to_owned(),
        };
        let read = |buf: &mut [u8], offset| {
            file.read_exact_at(buf, offset)
                .map_err(|source| match source.kind() {
                    io::ErrorKind::UnexpectedEof => damaged("the file is cut short"),
                    _ => Error::io("read", &path)(source),
                })
        };
        let len = file.metadata().map_err(Error::io("stat", &path))?.len();
        let mut header = [0; PAGE];
        read(&mut header, 0)?;
        let field = |at: usize, len: usize| {
            let mut field = [0; 8];
            field[..len].copy_from_slice(&header[at..at + len]);
            u64::from_le_bytes(field)
        };
        if &header[..8] != MAGIC {
            return Err(damaged("the header is not that of an index"));
        }
        if header[8..40] != *blake3::hash(&header[40..]).as_bytes() {
            return Err(damaged("the header's check does not match"));
        }
        if field(40, 4) != u64::from(VERSION) {
            return Err(damaged("the version of the index is unknown"));
        }
        let (packs, filter_len, pages) = (field(44, 4), field(48, 8), field(56, 8));
        let tail_len = pages
            .checked_mul(FENCE as u64)
            .zip(packs.checked_mul(PackId::LEN as u64))
            .and_then(|(fences, packs)| fences.checked_add(packs)?.checked_add(filter_len));
        let tail_at = pages
            .checked_add(1)
            .and_then(|pages| pages.checked_mul(PAGE as u64));
        let (Some(tail_len), Some(tail_at)) = (tail_len, tail_at) else {
            return Err(damaged("the header's counts are absurd"));
        };
        if tail_at.checked_add(tail_len) != Some(len) {
            return Err(damaged("the file has not the length that its header says"));
        }
        // No more than the file has, as was just checked.
        let mut tail = vec![0; tail_len as usize];
        read(&mut tail, tail_at)?;
        if header[96..128] != *blake3::hash(&tail).as_bytes() {
            return Err(damaged("the tail's check does not match"));
        }
        let (fences, packs) = tail.split_at(pages as usize * FENCE);
        let fences = fences.as_chunks::<FENCE>().0.into();
        let (packs, filter) = packs.split_at(packs.len() - filter_len as usize);
        let packs = packs.as_chunks::<{ PackId::LEN }>().0;
        let packs = packs.iter().copied().map(PackId).collect();
        let mut nonce = [0; 32];
        nonce.copy_from_slice(&header[64..96]);
        let totals = Totals {
            records: field(128, 8),
            directories: field(136, 8),
            blobs: field(144, 8),
            blob_bytes: field(152, 8),
        };
        Ok(Self {
            file,
            path,
            nonce,
            totals,
            fences,
            packs,
            filter: Filter::from_bytes(filter),
            blocks: Blocks::new(AROUND, len),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Number of entries.
    pub(super) fn len(&self) -> u64 {
        let [records, directories, blobs, _] = self.totals.fields();
        records.saturating_add(directories).saturating_add(blobs)
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// The packs that entries are in.
    pub(super) fn packs(&self) -> &[PackId] {
        &self.packs
    }

    fn damaged(&self, page: usize, detail: &str) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            detail: format!("page {}: {detail}", page + 1),
        }
    }

    /// Reads and checks a page; `page` counts from 0, after the header.
    fn page(&self, page: usize) -> Result<Page, Error> {
        let mut bytes = [0; PAGE];
        let number = page as u64 + 1;
        let offset = number * PAGE as u64;
        self.blocks.read_ahead(&self.file, offset);
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => self.damaged(page, "the file is cut short"),
                _ => Error::io("read", &self.path)(source),
            })?;
        if bytes[..32] != *page_check(&self.nonce, number, &bytes).as_bytes() {
            return Err(self.damaged(page, "the check does not match"));
        }
        Ok(Page(bytes))
    }

    fn decode(&self, page: usize, entry: &[u8; Entry::LEN]) -> Result<Entry, Error> {
        Entry::decode(entry, &self.packs).ok_or_else(|| self.damaged(page, "an entry is invalid"))
    }

    /// More than the number of any entry.
    pub(super) fn numbers(&self) -> u64 {
        (self.fences.len() * ENTRIES_PER_PAGE) as u64
    }

    /// The entry of an object.
    pub(super) fn get(&self, kind: Kind, key: &Key) -> Result<Option<Entry>, Error> {
        Ok(self.find(kind, key)?.map(|(_, entry)| entry))
    }

    /// The entry of an object and its number, which no other entry has.
    pub(super) fn find(&self, kind: Kind, key: &Key) -> Result<Option<(u64, Entry)>, Error> {
        if !self.filter.may_have(kind, key) {
            return Ok(None);
        }
        let wanted = fence(kind, key);
        // The page before the first fence that is not below may end with it.
        let mut page = self
            .fences
            .partition_point(|fence| *fence < wanted)
            .saturating_sub(1);
        while self.fences.get(page).is_some_and(|fence| *fence <= wanted) {
            let checked = self.page(page)?;
            let entries = checked.entries();
            let wanted = (kind as u8, key);
            if let Ok(at) = entries.binary_search_by(|entry| Entry::raw_order(entry).cmp(&wanted)) {
                let entry = self.decode(page, &entries[at])?;
                return Ok(Some((number(page, at), entry)));
            }
            page += 1;
        }
        Ok(None)
    }

    /// All entries from the first of `kind` on, in order, with their numbers.
    pub(super) fn entries_from(self: &Arc<Self>, kind: Kind) -> Entries {
        let wanted = fence(kind, &Key::default());
        let page = self
            .fences
            .partition_point(|fence| *fence < wanted)
            .saturating_sub(1);
        Entries {
            index: self.clone(),
            kind,
            next_page: page,
            page: Vec::new().into_iter(),
        }
    }
}

fn number(page: usize, at: usize) -> u64 {
    (page * ENTRIES_PER_PAGE + at) as u64
}

/// A page of entries whose check matched.
struct Page([u8; PAGE]);

impl Page {
    fn entries(&self) -> &[[u8; Entry::LEN]] {
        let count = usize::from(u16::from_le_bytes([self.0[32], self.0[33]]));
        let (entries, _) = self.0[PAGE_HEADER..].as_chunks();
        entries.get(..count).unwrap_or_default()
    }
}

/// Iterator over an index.
#[derive(Debug)]
pub(super) struct Entries {
    index: Arc<Index>,
    kind: Kind,
    next_page: usize,
    page: std::vec::IntoIter<(u64, Entry)>,
}

impl Iterator for Entries {
    type Item = Result<(u64, Entry), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.page.find(|(_, entry)| entry.kind >= self.kind) {
                return Some(Ok(found));
            }
            if self.next_page == self.index.fences.len() {
                return None;
            }
            let page = self.next_page;
            self.next_page += 1;
            let entries = self.index.page(page).and_then(|checked| {
                let entries = checked.entries().iter().enumerate();
                entries
                    .map(|(at, entry)| Ok((number(page, at), self.index.decode(page, entry)?)))
                    .collect::<Result<Vec<_>, _>>()
            });
            match entries {
                Ok(entries) => self.page = entries.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Writes an index from entries that come in order.
#[derive(Debug)]
pub(super) struct IndexWriter {
    file: BufWriter<File>,
    nonce: [u8; 32],
    page: Vec<u8>,
    totals: Totals,
    fences: Vec<Fence>,
    packs: Vec<PackId>,
    pack_numbers: HashMap<PackId, u32>,
    filter: Filter,
}

impl IndexWriter {
    /// Begins an index of at most `entries` entries in an empty file.
    pub(super) fn new(file: File, nonce: [u8; 32], entries: u64) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(64 * PAGE, file);
        file.write_all(&[0; PAGE])?;
        Ok(Self {
            file,
            nonce,
            page: Vec::with_capacity(PAGE),
            totals: Totals::default(),
            fences: Vec::new(),
            packs: Vec::new(),
            pack_numbers: HashMap::new(),
            filter: Filter::for_entries(entries),
        })
    }

    /// Adds the next entry.
    pub(super) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        let packs = &mut self.packs;
        let number = *self.pack_numbers.entry(entry.pack).or_insert_with(|| {
            packs.push(entry.pack);
            packs.len() as u32 - 1
        });
        if self.page.is_empty() {
            self.fences.push(fence(entry.kind, &entry.key));
            self.page.resize(PAGE_HEADER, 0);
        }
        self.page.extend_from_slice(&entry.encode(number));
        self.totals.add(entry);
        self.filter.insert(entry.kind, &entry.key);
        if self.page.len() == PAGE_HEADER + ENTRIES_PER_PAGE * Entry::LEN {
            self.end_page()?;
        }
        Ok(())
    }

    fn end_page(&mut self) -> io::Result<()> {
        let count = (self.page.len() - PAGE_HEADER) / Entry::LEN;
        let mut page = [0; PAGE];
        page[..self.page.len()].copy_from_slice(&self.page);
        page[32..34].copy_from_slice(&(count as u16).to_le_bytes());
        let check = page_check(&self.nonce, self.fences.len() as u64, &page);
        page[..32].copy_from_slice(check.as_bytes());
        self.page.clear();
        self.file.write_all(&page)
    }

    /// Ends the index and makes it durable. Returns its file.
    pub(super) fn finish(mut self) -> io::Result<File> {
        if !self.page.is_empty() {
            self.end_page()?;
        }
        let mut tail = self.fences.as_flattened().to_vec();
        for pack in &self.packs {
            tail.extend_from_slice(&pack.0);
        }
        let filter = self.filter.to_bytes();
        tail.extend_from_slice(&filter);
        self.file.write_all(&tail)?;
        let mut header = [0; PAGE];
        header[..8].copy_from_slice(MAGIC);
        header[40..44].copy_from_slice(&VERSION.to_le_bytes());
        header[44..48].copy_from_slice(&(self.packs.len() as u32).to_le_bytes());
        header[48..56].copy_from_slice(&(filter.len() as u64).to_le_bytes());
        header[56..64].copy_from_slice(&(self.fences.len() as u64).to_le_bytes());
        header[64..96].copy_from_slice(&self.nonce);
        header[96..128].copy_from_slice(blake3::hash(&tail).as_bytes());
        for (field, total) in header[128..160].chunks_mut(8).zip(self.totals.fields()) {
            field.copy_from_slice(&total.to_le_bytes());
        }
        let check = blake3::hash(&header[40..]);
        header[8..40].copy_from_slice(check.as_bytes());
        let file = self.file.into_inner()?;
        file.write_all_at(&header, 0)?;
        file.sync_all()?;
        Ok(file)
    }
}
