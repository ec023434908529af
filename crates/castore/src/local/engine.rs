//! What readers and sessions of a store share.

use std::{
    collections::HashSet,
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;

use super::{
    Integrity, RecordKey,
    blob::{LocalBlob, Source},
    entry::{Entry, Key, Kind, PackId, Place},
    folder::Folder,
    index::{Index, IndexWriter},
    nearby::Nearby,
    pack::{Pack, ReadError, record_check},
    session::blob_shard,
    snapshot::{Snapshot, Spot, merged_with_spots},
};
use crate::{Blob, Digest, Directory, DirectoryError, Error};

/// Packs kept open, each with two files. Together with the blobs that a mount
/// keeps open they fit into the usual limit of 1024 descriptors.
const OPEN_PACKS: usize = 64;

/// From this many indexes on, the small ones are merged.
const MERGE_AT: usize = 8;

/// Writers commit one after the other; the lock ends with the value.
#[derive(Debug)]
pub(super) struct WriteLock(#[expect(dead_code, reason = "held for its lock")] Folder);

#[derive(Debug)]
pub(super) struct Engine {
    folder: Folder,
    index: Folder,
    packs: Folder,
    blobs: Folder,
    integrity: Integrity,
    snapshot: RwLock<Arc<Snapshot>>,
    refreshing: Mutex<()>,
    open_packs: Cache<PackId, Arc<Pack>>,
    nearby: Nearby,
    /// Objects that were found damaged: a session stores them again.
    discarded: Mutex<HashSet<(Kind, Key)>>,
    /// Set when a blob turned out to be damaged: another process may have
    /// stored it again, so that the next look-up goes by the newest indexes.
    suspect: Arc<AtomicBool>,
}

impl Engine {
    pub(super) fn open(folder: Folder, integrity: Integrity) -> Result<Self, Error> {
        let index = folder.folder("index")?;
        let snapshot = Snapshot::take(&index, None)?;
        Ok(Self {
            packs: folder.folder("packs")?,
            blobs: folder.folder("blobs")?,
            folder,
            index,
            integrity,
            snapshot: RwLock::new(Arc::new(snapshot)),
            refreshing: Mutex::new(()),
            open_packs: Cache::new(OPEN_PACKS),
            nearby: Nearby::default(),
            discarded: Mutex::default(),
            suspect: Arc::default(),
        })
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(super) fn index_folder(&self) -> &Folder {
        &self.index
    }

    pub(super) fn integrity(&self) -> Integrity {
        self.integrity
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.read().clone()
    }

    /// A snapshot that has all that was committed before the call.
    pub(super) fn fresh_snapshot(&self) -> Result<Arc<Snapshot>, Error> {
        let snapshot = self.snapshot();
        if !snapshot.is_stale(&self.index)? {
            return Ok(snapshot);
        }
        let _one_at_a_time = self.refreshing.lock();
        let snapshot = self.snapshot();
        if snapshot.is_stale(&self.index)? {
            self.renew(&snapshot)?;
        }
        Ok(self.snapshot())
    }

    /// Takes a new snapshot in place of `old`. What lies in packs that were
    /// removed is forgotten, so that their files are not kept open; and a
    /// session must not take what is in them for something it need not store.
    fn renew(&self, old: &Snapshot) -> Result<Arc<Snapshot>, Error> {
        let fresh = Arc::new(Snapshot::take(&self.index, Some(old))?);
        *self.snapshot.write() = fresh.clone();
        let packs = fresh.packs();
        self.open_packs.retain(|pack, _| packs.contains(pack));
        self.nearby.retain(|pack| packs.contains(pack));
        Ok(fresh)
    }

    /// The indexes as they are now, whatever the folder's time says: what is
    /// deleted or replaced must not hang on a clock.
    pub(super) fn reload(&self, _lock: &WriteLock) -> Result<Arc<Snapshot>, Error> {
        let _one_at_a_time = self.refreshing.lock();
        self.renew(&self.snapshot())
    }

    pub(super) fn entry(&self, kind: Kind, key: &Key) -> Result<Option<Entry>, Error> {
        // Records are removed and replaced. Whatever else is gone is missed.
        let snapshot = match kind == Kind::Record || self.suspect.swap(false, Ordering::Relaxed) {
            true => self.fresh_snapshot()?,
            false => self.snapshot(),
        };
        match snapshot.get(kind, key) {
            Ok(Some(entry)) => Ok(Some(entry)),
            Ok(None) | Err(_) => self.fresh_snapshot()?.get(kind, key),
        }
    }

    /// Whether a session need not store the object: it is known, not found
    /// damaged, and its bytes are there.
    pub(super) fn has_sound(&self, kind: Kind, key: &Key) -> Result<bool, Error> {
        if self.discarded.lock().contains(&(kind, *key)) {
            return Ok(false);
        }
        match self.entry(kind, key) {
            Ok(Some(entry)) => self.is_there(&entry),
            Ok(None) => Ok(false),
            // It may be there. To store it twice does no harm.
            Err(Error::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_there(&self, entry: &Entry) -> Result<bool, Error> {
        let len = match entry.place {
            Place::File => match self.source(entry) {
                Ok(Source::File { file, path }) => {
                    let len = file.metadata().map_err(Error::io("stat", path))?.len();
                    return Ok(len == entry.size);
                }
                Ok(Source::Pack { .. }) => return Ok(false),
                Err(error) if error.is_damage() => return Ok(false),
                Err(error) => return Err(error),
            },
            Place::Pack { offset } => offset.checked_add(entry.size),
        };
        let pack = self.pack(entry.pack)?;
        let file = match entry.kind {
            Kind::Blob => &pack.blobs,
            Kind::Record | Kind::Directory => &pack.meta,
        };
        Ok(file.len().is_ok_and(|found| Some(found) >= len) && len.is_some())
    }

    pub(super) fn discard(&self, kind: Kind, key: &Key) {
        self.discarded.lock().insert((kind, *key));
    }

    /// The object was stored again: its newer entry will count.
    pub(super) fn mended(&self, kind: Kind, key: &Key) {
        self.discarded.lock().remove(&(kind, *key));
    }

    pub(super) fn pack(&self, id: PackId) -> Result<Arc<Pack>, Error> {
        self.open_packs
            .get_or_insert_with(&id, || Pack::open(&self.packs, id).map(Arc::new))
    }

    /// Finds an object and reads it. If it is damaged where it was known to be,
    /// it may since have been stored again elsewhere.
    fn read<T>(
        &self,
        kind: Kind,
        key: &Key,
        read: impl Fn(Held<'_>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let attempt = |entry: Entry| read(Held::new(self, entry, self.pack(entry.pack)?));
        let Some(entry) = self.entry(kind, key)? else {
            return Ok(None);
        };
        match attempt(entry) {
            Err(error) if error.is_damage() => {
                self.open_packs.remove(&entry.pack);
                match self.fresh_snapshot()?.get(kind, key)? {
                    Some(newer) if newer != entry => attempt(newer).map(Some),
                    _ => Err(error),
                }
            }
            other => other.map(Some),
        }
    }

    pub(super) fn record(&self, key: &RecordKey) -> Result<Option<Bytes>, Error> {
        self.read(Kind::Record, &key.0, |held| held.record())
    }

    pub(super) fn directory(&self, digest: &Digest) -> Result<Option<Arc<Directory>>, Error> {
        if let Some(directory) = self.nearby_directory(digest) {
            return Ok(Some(directory));
        }
        self.read(Kind::Directory, digest.as_bytes(), |held| {
            if let Place::Pack { offset } = held.entry.place {
                (self.nearby).look_around(held.entry.pack, &held.pack, offset);
            }
            held.directory()
        })
    }

    /// The directory, if it lies near others that were read lately.
    fn nearby_directory(&self, digest: &Digest) -> Option<Arc<Directory>> {
        let entry = self.nearby.find(digest.as_bytes())?;
        let pack = self.pack(entry.pack).ok()?;
        // What fails is looked for, and told of, as if there had been no guess.
        Held::new(self, entry, pack).directory().ok()
    }

    pub(super) fn open_blob(&self, digest: &Digest) -> Result<Option<Arc<dyn Blob>>, Error> {
        self.read(Kind::Blob, digest.as_bytes(), |held| {
            let source = self.source(&held.entry)?;
            held.check_there(&source)?;
            Ok(held.blob(source))
        })
    }

    fn source(&self, entry: &Entry) -> Result<Source, Error> {
        let Place::Pack { offset } = entry.place else {
            return self.file_source(&Digest::from_bytes(entry.key));
        };
        Ok(Source::Pack { offset })
    }

    fn file_source(&self, digest: &Digest) -> Result<Source, Error> {
        let shard = self.blobs.folder(&blob_shard(digest))?;
        let name = digest.to_string();
        let path = shard.file_path(&name);
        match shard.open_file(&name)? {
            Some(file) => Ok(Source::File {
                file: Arc::new(file),
                path,
            }),
            None => Err(Error::Corrupt {
                object: crate::Object::Blob(*digest),
                place: path.display().to_string(),
                detail: "the file is missing".to_owned(),
            }),
        }
    }

    /// Reads and verifies all of an object.
    pub(super) fn check(&self, entry: Entry) -> Result<(), Error> {
        let held = Held::new(self, entry, self.pack(entry.pack)?);
        match entry.kind {
            Kind::Record => held.record().map(drop),
            Kind::Directory => held.directory().map(drop),
            Kind::Blob => held.local_blob(self.source(&entry)?).check(),
        }
    }

    /// Waits until no other writer commits, and no garbage is collected.
    pub(super) fn lock(&self) -> Result<WriteLock, Error> {
        self.lock_unless(&mut |holder| {
            tracing::info!(
                "waiting for {holder}, which writes to {}",
                self.folder.path().display()
            );
            true
        })
    }

    /// As [`lock`](Self::lock). `waits` is told who has the lock; if it answers
    /// false, this fails.
    pub(super) fn lock_unless(
        &self,
        waits: &mut dyn FnMut(&str) -> bool,
    ) -> Result<WriteLock, Error> {
        let tmp = self.folder.make_folder(super::TMP)?;
        if !tmp.lock(false)? {
            let holder = tmp.lock_holder();
            let holder = holder.unwrap_or_else(|| "another process".to_owned());
            if !waits(&holder) {
                return Err(self.busy(holder));
            }
            tmp.lock(true)?;
        }
        Ok(WriteLock(tmp))
    }

    pub(super) fn busy(&self, holder: String) -> Error {
        Error::Busy {
            place: format!("the store {}", self.folder.path().display()),
            holder,
        }
    }

    /// The folder of a session that lives, if there is one.
    pub(super) fn living(&self, _lock: &WriteLock) -> Result<Option<Folder>, Error> {
        let tmp = self.folder.folder(super::TMP)?;
        for name in tmp.names()? {
            match tmp.folder(&name) {
                Ok(folder) if folder.lock(false)? => {}
                Ok(folder) => return Ok(Some(folder)),
                Err(Error::Io { source, .. })
                    if matches!(
                        source.kind(),
                        ErrorKind::NotFound | ErrorKind::NotADirectory
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Moves indexes, in order of age, from a session to the store, and merges
    /// some if there are many.
    pub(super) fn publish(
        &self,
        lock: &WriteLock,
        from: &Folder,
        names: impl Iterator<Item = String>,
    ) -> Result<(), Error> {
        let mut sequence = self.last_sequence()?;
        let mut names = names.peekable();
        let mut moved = false;
        while let Some(name) = names.next() {
            if moved && names.peek().is_none() {
                // What the last one refers to must not be less durable.
                self.index.sync()?;
            }
            moved = true;
            sequence += 1;
            from.rename(&name, &self.index, &format!("{sequence:016x}-{name}"))?;
        }
        self.index.sync()?;
        if let Err(error) = self.merge(lock, from) {
            // The commit is done; the next one will try again.
            tracing::warn!("indexes could not be merged: {error}");
        }
        Ok(())
    }

    fn last_sequence(&self) -> Result<u64, Error> {
        let names = self.index.names()?;
        let numbers = names
            .iter()
            .filter_map(|name| u64::from_str_radix(name.split_once('-')?.0, 16).ok());
        Ok(numbers.max().unwrap_or(0))
    }

    /// Merges the newest indexes if there are many, so that a look-up asks
    /// few. An index is merged once the newer ones together have a quarter of
    /// its entries: each entry is rewritten O(log n) times.
    fn merge(&self, lock: &WriteLock, tmp: &Folder) -> Result<(), Error> {
        let snapshot = self.reload(lock)?;
        let indexes = &snapshot.indexes;
        if indexes.len() < MERGE_AT || snapshot.check_whole().is_err() {
            return Ok(());
        }
        let (mut count, mut entries) = (0, 0);
        for index in indexes {
            if count >= MERGE_AT / 2 && index.len() > 4 * entries {
                break;
            }
            count += 1;
            entries += index.len();
        }
        let merging = &indexes[..count];
        self.replace(lock, tmp, merging, merging, entries, |_, entry| Some(entry))
    }

    /// Puts one index in the place of the newest ones, or of all: of at most
    /// `entries` entries, those that `change` makes of those of `source`.
    ///
    /// A crash before the old ones are removed leaves what they say beside what
    /// the new one says, which is newer. So packs and files that only the old
    /// ones know must be there until this returns, and so must be whatever a
    /// record refers to that the new one does not have.
    pub(super) fn replace(
        &self,
        _lock: &WriteLock,
        tmp: &Folder,
        source: &[Arc<Index>],
        replaced: &[Arc<Index>],
        entries: u64,
        mut change: impl FnMut(Spot, Entry) -> Option<Entry>,
    ) -> Result<(), Error> {
        let id = PackId(super::random()?);
        let name = format!("{id}.idx");
        let path = tmp.file_path(&name);
        let write_error = || Error::io("write", &path);
        let mut writer = IndexWriter::new(tmp.create_file(&name)?, super::random()?, entries)
            .map_err(write_error())?;
        for item in merged_with_spots(source, Kind::Record) {
            let (spot, entry) = item?;
            if let Some(entry) = change(spot, entry) {
                writer.push(&entry).map_err(write_error())?;
            }
        }
        writer.finish().map_err(write_error())?;
        // As the successor of the newest that it replaces: what it says is
        // newer than all that remains.
        let sequence = self.last_sequence()? + 1;
        tmp.rename(&name, &self.index, &format!("{sequence:016x}-{name}"))?;
        self.index.sync()?;
        for index in replaced {
            if let Some(name) = index.path().file_name() {
                self.index.remove_file(&name.to_string_lossy())?;
            }
        }
        self.index.sync()
    }

    /// Removes what killed sessions have left.
    pub(super) fn sweep(&self, lock: &WriteLock, tmp: &Folder) -> Result<(), Error> {
        let mut crashed = false;
        for name in tmp.names()? {
            // A session that lives has its folder locked; one that ends just
            // now may remove it under our hands.
            match tmp.folder(&name) {
                Ok(folder) if folder.lock(false)? => {
                    tmp.remove_folder(&name)?;
                    crashed = true;
                }
                Ok(_) => {}
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotADirectory => {
                    tmp.remove_file(&name)?;
                }
                Err(error) => return Err(error),
            }
        }
        if !crashed {
            return Ok(());
        }
        let snapshot = self.reload(lock)?;
        if snapshot.check_whole().is_err() {
            return Ok(());
        }
        // The session may have died while it moved its files into place, and a
        // collection before it removed what it could.
        self.remove_unknown_packs(lock, &snapshot)?;
        self.remove_unknown_blobs(lock, &snapshot)?;
        Ok(())
    }

    /// Removes the packs that no index of the snapshot, which is whole, refers
    /// to. Answers their bytes.
    pub(super) fn remove_unknown_packs(
        &self,
        _lock: &WriteLock,
        snapshot: &Snapshot,
    ) -> Result<u64, Error> {
        let known = snapshot.packs();
        let known: HashSet<String> = known
            .iter()
            .flat_map(|id| [id.meta_name(), id.blobs_name()])
            .collect();
        let mut bytes = 0;
        for name in self.packs.names()? {
            if !known.contains(&name) {
                bytes += self.packs.file_len(&name)?.unwrap_or_default();
                self.packs.remove_file(&name)?;
            }
        }
        Ok(bytes)
    }

    /// As [`remove_unknown_packs`](Self::remove_unknown_packs), of blobs that are
    /// files of their own.
    pub(super) fn remove_unknown_blobs(
        &self,
        _lock: &WriteLock,
        snapshot: &Snapshot,
    ) -> Result<u64, Error> {
        let mut bytes = 0;
        for shard in self.blobs.names()? {
            let shard = self.blobs.folder(&shard)?;
            for name in shard.names()? {
                let Ok(digest) = name.parse::<Digest>() else {
                    continue;
                };
                let entry = snapshot.get(Kind::Blob, digest.as_bytes());
                let unused = entry.is_ok_and(|e| e.is_none_or(|e| e.place != Place::File));
                if unused {
                    bytes += shard.file_len(&name)?.unwrap_or_default();
                    shard.remove_file(&name)?;
                }
            }
        }
        Ok(bytes)
    }

    /// Bytes of the pack's files; what is missing has none.
    pub(super) fn pack_len(&self, id: PackId) -> Result<u64, Error> {
        let meta = self.packs.file_len(&id.meta_name())?;
        let blobs = self.packs.file_len(&id.blobs_name())?;
        Ok(meta.unwrap_or_default() + blobs.unwrap_or_default())
    }
}

/// An object that was found: its entry and the pack that has its bytes.
#[derive(Debug)]
pub(super) struct Held<'a> {
    engine: &'a Engine,
    pub(super) entry: Entry,
    pack: Arc<Pack>,
}

impl<'a> Held<'a> {
    pub(super) fn new(engine: &'a Engine, entry: Entry, pack: Arc<Pack>) -> Self {
        Self {
            engine,
            entry,
            pack,
        }
    }

    fn damaged(&self, detail: String) -> Error {
        Error::Corrupt {
            object: self.entry.object(),
            place: self.pack.meta.path.display().to_string(),
            detail,
        }
    }

    /// Fails if the files are gone that have the contents and what verifies
    /// them: the blob may be elsewhere by now.
    fn check_there(&self, source: &Source) -> Result<(), Error> {
        let verifies = self.engine.integrity == Integrity::OnRead && self.entry.outboard != 0;
        let needed = [
            (verifies, &self.pack.meta),
            (matches!(source, Source::Pack { .. }), &self.pack.blobs),
        ];
        match needed
            .iter()
            .find(|(needed, file)| *needed && !file.is_there())
        {
            None => Ok(()),
            Some((_, file)) => Err(Error::Corrupt {
                object: self.entry.object(),
                place: file.path.display().to_string(),
                detail: "the file is missing".to_owned(),
            }),
        }
    }

    /// All bytes of an object in the pack's `.meta`.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, Error> {
        let Place::Pack { offset } = self.entry.place else {
            return Err(self.damaged("its place is invalid".to_owned()));
        };
        let meta = &self.pack.meta;
        let read = || {
            let end = offset.checked_add(self.entry.size);
            // What is not in the file is not allocated.
            if end.is_none_or(|end| Some(end) > meta.len().ok()) {
                return Err(ReadError::Absent("the file is cut short or missing"));
            }
            let mut bytes = vec![0; self.entry.size as usize];
            meta.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        };
        read().map_err(|error| match error {
            ReadError::Absent(detail) => self.damaged(detail.to_owned()),
            ReadError::Io(source) => Error::io("read", &meta.path)(source),
        })
    }

    pub(super) fn record(&self) -> Result<Bytes, Error> {
        let bytes = self.bytes()?;
        match bytes.split_last_chunk::<{ blake3::OUT_LEN }>() {
            Some((value, check)) if record_check(&self.entry.key, value) == *check => {
                let len = value.len();
                Ok(Bytes::from(bytes).slice(..len))
            }
            _ => Err(self.damaged("the check does not match".to_owned())),
        }
    }

    pub(super) fn directory(&self) -> Result<Arc<Directory>, Error> {
        let digest = Digest::from_bytes(self.entry.key);
        match Directory::decode_verified(&digest, self.bytes()?.into()) {
            Ok(directory) => Ok(Arc::new(directory)),
            Err(error @ DirectoryError::DigestMismatch { .. }) => {
                Err(self.damaged(error.to_string()))
            }
            Err(source) => Err(Error::Directory { digest, source }),
        }
    }

    /// A blob as if it were in the pack, if only its outboard is.
    pub(super) fn blob_in_pack(&self) -> LocalBlob {
        let offset = match self.entry.place {
            Place::Pack { offset } => offset,
            Place::File => 0,
        };
        self.local_blob(Source::Pack { offset })
    }

    fn local_blob(&self, source: Source) -> LocalBlob {
        LocalBlob::new(
            &self.entry,
            self.pack.clone(),
            source,
            self.engine.integrity,
            self.engine.suspect.clone(),
        )
    }

    pub(super) fn blob(&self, source: Source) -> Arc<dyn Blob> {
        Arc::new(self.local_blob(source))
    }
}
