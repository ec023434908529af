//! Writing: a session gathers objects out of sight and commits them at once.

mod writer;

pub(super) use writer::SessionBlobWriter;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    RecordKey,
    blob::Source,
    engine::{Engine, Held},
    entry::{Entry, Key, Kind, PackId, Place},
    folder::Folder,
    index::{Index, IndexWriter},
    pack::{Appender, Pack, Tag, record_check},
};
use crate::{
    Blob, BlobService, BlobWriter, Digest, Directory, DirectoryService, Error, HashedBlob,
};

/// A blob of this many bytes or more is a file of its own, that the kernel can
/// read by itself (FUSE passthrough); smaller ones are packed, since a file
/// each costs an inode to write and to read.
pub(super) const WHOLE_FILE_LEN: usize = 256 * 1024;

/// How many objects a session holds the entries of in memory. When there are
/// more, it seals the pack and begins another.
const SEGMENT_OBJECTS: usize = 100_000;

/// From this many new blob files on, one sync of the file system is cheaper
/// than one of each file.
const SYNC_EACH: usize = 16;

/// Objects being written to a [`LocalStore`](super::LocalStore).
///
/// What was put can be read back through the session, and by nobody else
/// before [`commit`](Self::commit). Dropped without it, a session leaves
/// nothing behind; killed, it leaves files that the next session removes.
#[derive(Debug)]
pub struct Session {
    engine: Arc<Engine>,
    name: String,
    /// Locked as long as the session lives.
    folder: Folder,
    state: Mutex<State>,
    /// Set while a commit moves files into the store. If it stays set, the
    /// folder is left for the next session, which then removes these as well.
    moving: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Segment>,
    sealed: Vec<Sealed>,
    /// Blobs that are files of their own, by the name of their temporary file.
    files: HashMap<Digest, String>,
    next_file: u64,
    /// A write failed. What it left half-written makes everything after it
    /// wrong, so nothing more is taken.
    broken: bool,
}

/// The pack being written.
#[derive(Debug)]
struct Segment {
    id: PackId,
    meta: Appender,
    blobs: Option<Appender>,
    entries: HashMap<(Kind, Key), Entry>,
}

/// A pack that is complete and durable, with its index, but not visible yet.
#[derive(Debug)]
struct Sealed {
    id: PackId,
    index: Index,
}

fn index_name(id: PackId) -> String {
    format!("{id}.idx")
}

impl Session {
    pub(super) fn begin(engine: Arc<Engine>) -> Result<Self, Error> {
        let lock = engine.lock()?;
        let tmp = engine.folder().folder(super::TMP)?;
        engine.sweep(&lock, &tmp)?;
        // What is stored already is told by the indexes of now: from here on
        // nothing is removed until the session ends.
        engine.reload(&lock)?;
        let name = PackId(super::random()?).to_string();
        let folder = tmp.make_folder(&name)?;
        folder.lock(true)?;
        Ok(Self {
            engine,
            name,
            folder,
            state: Mutex::default(),
            moving: AtomicBool::new(false),
        })
    }

    /// Puts a record, in place of an older one of the same key.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn put_record(&self, key: &RecordKey, value: &[u8]) -> Result<(), Error> {
        let check = record_check(&key.0, value);
        let parts = [value, check.as_bytes()];
        let size = (value.len() + check.as_bytes().len()) as u64;
        self.write(|state| {
            let segment = state.segment(&self.folder)?;
            let offset = segment.meta.append(Tag::Record, &key.0, &parts)?;
            segment.insert(Kind::Record, key.0, Place::Pack { offset }, size, 0);
            Ok(())
        })
    }

    /// The record of `key`, as put in this session or before.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn record(&self, key: &RecordKey) -> Result<Option<Bytes>, Error> {
        match self.held(Kind::Record, &key.0)? {
            Some(held) => held.record().map(Some),
            None => self.engine.record(key),
        }
    }

    /// Makes what was put durable, and visible to all users of the store.
    ///
    /// # Errors
    /// If that failed. Then the store is as it was before, unless it was the
    /// last sync that failed: what was put may be visible, but not durable.
    pub fn commit(self) -> Result<(), Error> {
        self.commit_shared()
    }

    /// As [`commit`](Self::commit), of a session that others hold as well; it
    /// is empty then.
    pub(super) fn commit_shared(&self) -> Result<(), Error> {
        self.write(|state| self.commit_state(state))
    }

    fn commit_state(&self, state: &mut State) -> Result<(), Error> {
        if state.open.is_none() && state.sealed.is_empty() {
            return Ok(());
        }
        state.seal(&self.folder)?;
        self.sync_files(state)?;
        let lock = self.engine.lock()?;
        let store = self.engine.folder();
        self.moving.store(true, Ordering::Relaxed);
        // First all that indexes refer to, then the indexes. The records came
        // last and so did the index that has them: all becomes visible with it.
        let blobs = store.make_folder("blobs")?;
        let mut shards: HashMap<String, Folder> = HashMap::new();
        for (digest, file) in &state.files {
            let shard = blob_shard(digest);
            if !shards.contains_key(&shard) {
                shards.insert(shard.clone(), blobs.make_folder(&shard)?);
            }
            self.folder
                .rename(file, &shards[&shard], &digest.to_string())?;
        }
        shards.values().try_for_each(Folder::sync)?;
        blobs.sync()?;
        let packs = store.make_folder("packs")?;
        for Sealed { id, .. } in &state.sealed {
            self.folder
                .rename(&id.meta_name(), &packs, &id.meta_name())?;
            match self
                .folder
                .rename(&id.blobs_name(), &packs, &id.blobs_name())
            {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        packs.sync()?;
        let names = state.sealed.iter().map(|sealed| index_name(sealed.id));
        self.engine.publish(&lock, &self.folder, names)?;
        self.moving.store(false, Ordering::Relaxed);
        // A writer may have a file of the session and go on after this.
        *state = State {
            next_file: state.next_file,
            ..State::default()
        };
        Ok(())
    }

    /// Does a step that writes, unless one before has failed.
    fn write<T>(&self, step: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        let mut state = self.state.lock();
        if state.broken {
            return Err(Error::Backend {
                place: format!("the session {}", self.folder.path().display()),
                detail: "an earlier write failed".to_owned(),
            });
        }
        let result = step(&mut state);
        state.broken = result.is_err();
        result
    }

    pub(super) fn is_broken(&self) -> bool {
        self.state.lock().broken
    }

    fn sync_files(&self, state: &State) -> Result<(), Error> {
        if state.files.len() > SYNC_EACH {
            return self.folder.sync_filesystem();
        }
        for name in state.files.values() {
            if let Some(file) = self.folder.open_file(name)? {
                file.sync_all()
                    .map_err(Error::io("sync", self.folder.file_path(name)))?;
            }
        }
        Ok(())
    }

    /// An object of this session.
    fn held(&self, kind: Kind, key: &Key) -> Result<Option<Held<'_>>, Error> {
        let mut state = self.state.lock();
        let Some(entry) = state.entry(kind, key)? else {
            return Ok(None);
        };
        if let Some(segment) = &mut state.open
            && segment.id == entry.pack
        {
            segment.meta.flush()?;
            segment.blobs.as_mut().map_or(Ok(()), Appender::flush)?;
        }
        let pack = Arc::new(Pack::open(&self.folder, entry.pack)?);
        Ok(Some(Held::new(&self.engine, entry, pack)))
    }

    fn knows(&self, kind: Kind, key: &Key) -> Result<bool, Error> {
        let here = self.state.lock().entry(kind, key)?.is_some();
        Ok(here || self.engine.has_sound(kind, key)?)
    }
}

pub(super) fn blob_shard(digest: &Digest) -> String {
    format!("{:02x}", digest.as_bytes()[0])
}

impl Drop for Session {
    fn drop(&mut self) {
        if *self.moving.get_mut() {
            return;
        }
        let removed =
            (self.engine.folder().folder(super::TMP)).and_then(|tmp| tmp.remove_folder(&self.name));
        if let Err(error) = removed {
            tracing::warn!("a session's files were left behind: {error}");
        }
    }
}

impl State {
    fn segment(&mut self, folder: &Folder) -> Result<&mut Segment, Error> {
        let full = |segment: &Segment| segment.entries.len() >= SEGMENT_OBJECTS;
        if self.open.as_ref().is_some_and(full) {
            self.seal(folder)?;
        }
        if self.open.is_none() {
            let id = PackId(super::random()?);
            self.open = Some(Segment {
                id,
                meta: Appender::create_meta(folder, id)?,
                blobs: None,
                entries: HashMap::new(),
            });
        }
        // Just made, if it was not there.
        self.open.as_mut().ok_or_else(|| Error::Backend {
            place: folder.path().display().to_string(),
            detail: "the session has no pack".to_owned(),
        })
    }

    fn entry(&self, kind: Kind, key: &Key) -> Result<Option<Entry>, Error> {
        let open = (self.open.as_ref()).and_then(|segment| segment.entries.get(&(kind, *key)));
        if let Some(entry) = open {
            return Ok(Some(*entry));
        }
        for sealed in self.sealed.iter().rev() {
            if let Some(entry) = sealed.index.get(kind, key)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Ends the open pack: makes it durable and writes its index.
    fn seal(&mut self, folder: &Folder) -> Result<(), Error> {
        let Some(mut segment) = self.open.take() else {
            return Ok(());
        };
        segment.meta.sync()?;
        segment.blobs.as_mut().map_or(Ok(()), Appender::sync)?;
        let mut entries: Vec<_> = segment.entries.into_values().collect();
        entries.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
        let name = index_name(segment.id);
        let file = folder.create_file(&name)?;
        let path = folder.file_path(&name);
        let nonce = super::random()?;
        let write = || {
            let mut writer = IndexWriter::new(file, nonce, entries.len() as u64)?;
            entries.iter().try_for_each(|entry| writer.push(entry))?;
            writer.finish()
        };
        let file = write().map_err(Error::io("write", &path))?;
        let index = Index::open(file, path)?;
        self.sealed.push(Sealed {
            id: segment.id,
            index,
        });
        Ok(())
    }

    fn temporary_file(&mut self, folder: &Folder) -> Result<(String, File), Error> {
        let name = format!("{}.blob", self.next_file);
        self.next_file += 1;
        let file = folder.create_file(&name)?;
        Ok((name, file))
    }

    fn insert_file(
        &mut self,
        folder: &Folder,
        digest: Digest,
        size: u64,
        name: String,
        outboard: &[u8],
    ) -> Result<(), Error> {
        let segment = self.segment(folder)?;
        let outboard = segment.put_outboard(&digest, outboard)?;
        segment.insert(Kind::Blob, *digest.as_bytes(), Place::File, size, outboard);
        self.files.insert(digest, name);
        Ok(())
    }
}

impl Segment {
    fn insert(&mut self, kind: Kind, key: Key, place: Place, size: u64, outboard: u64) {
        let entry = Entry {
            kind,
            key,
            pack: self.id,
            place,
            size,
            outboard,
        };
        self.entries.insert((kind, key), entry);
    }

    /// Returns the offset of the outboard, or 0 if it is empty.
    fn put_outboard(&mut self, digest: &Digest, outboard: &[u8]) -> Result<u64, Error> {
        match outboard {
            [] => Ok(0),
            _ => self
                .meta
                .append(Tag::Outboard, digest.as_bytes(), &[outboard]),
        }
    }
}

impl BlobService for Session {
    fn open(&self, digest: &Digest) -> Result<Option<Arc<dyn Blob>>, Error> {
        let Some(held) = self.held(Kind::Blob, digest.as_bytes())? else {
            return self.engine.open_blob(digest);
        };
        let source = match held.entry.place {
            Place::Pack { offset } => Source::Pack { offset },
            Place::File => {
                let name = self.state.lock().files.get(digest).cloned();
                let file = name.as_ref().map(|name| self.folder.open_file(name));
                match (name, file.transpose()?.flatten()) {
                    (Some(name), Some(file)) => Source::File {
                        file: Arc::new(file),
                        path: self.folder.file_path(&name),
                    },
                    // It was committed just now.
                    _ => return self.engine.open_blob(digest),
                }
            }
        };
        Ok(Some(held.blob(source)))
    }

    fn has(&self, digest: &Digest) -> Result<bool, Error> {
        self.knows(Kind::Blob, digest.as_bytes())
    }

    fn put(&self, blob: &HashedBlob<'_>) -> Result<(), Error> {
        let (digest, bytes) = (*blob.digest(), blob.bytes());
        if self.has(&digest)? {
            return Ok(());
        }
        let size = bytes.len() as u64;
        self.write(|state| {
            if bytes.len() >= WHOLE_FILE_LEN {
                let (name, mut file) = state.temporary_file(&self.folder)?;
                file.write_all(bytes)
                    .map_err(Error::io("write", self.folder.file_path(&name)))?;
                return state.insert_file(&self.folder, digest, size, name, blob.outboard());
            }
            let segment = state.segment(&self.folder)?;
            let outboard = segment.put_outboard(&digest, blob.outboard())?;
            let blobs = match &mut segment.blobs {
                Some(blobs) => blobs,
                none => none.insert(Appender::create_blobs(&self.folder, segment.id)?),
            };
            let offset = blobs.append(Tag::Blob, digest.as_bytes(), &[bytes])?;
            let place = Place::Pack { offset };
            segment.insert(Kind::Blob, *digest.as_bytes(), place, size, outboard);
            Ok(())
        })?;
        self.engine.mended(Kind::Blob, digest.as_bytes());
        Ok(())
    }

    fn writer(&self) -> Result<Box<dyn BlobWriter + '_>, Error> {
        Ok(Box::new(SessionBlobWriter::new(self)))
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl DirectoryService for Session {
    fn get(&self, digest: &Digest) -> Result<Option<Arc<Directory>>, Error> {
        match self.held(Kind::Directory, digest.as_bytes())? {
            Some(held) => held.directory().map(Some),
            None => self.engine.directory(digest),
        }
    }

    fn put(&self, directory: &Directory) -> Result<Digest, Error> {
        let encoded = directory.encode();
        let digest = Digest::of(&encoded);
        let key = digest.as_bytes();
        if !self.knows(Kind::Directory, key)? {
            self.write(|state| {
                let segment = state.segment(&self.folder)?;
                let offset = segment.meta.append(Tag::Directory, key, &[&encoded])?;
                let place = Place::Pack { offset };
                segment.insert(Kind::Directory, *key, place, encoded.len() as u64, 0);
                Ok(())
            })?;
            self.engine.mended(Kind::Directory, key);
        }
        Ok(digest)
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}
