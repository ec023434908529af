//! The embedded store: one directory that holds blobs, directories and records.
//!
//! ```text
//! FORMAT              text: what this is, and the version of the format
//! index/SEQ-ID.idx    sorted tables: which object is where        (index.rs)
//! packs/ID.meta       directories, records, outboards             (pack.rs)
//! packs/ID.blobs      blobs below 256 KiB
//! blobs/xx/DIGEST     bigger blobs, a file each, nothing but the contents
//! pins/NAME           what a layer above wants kept, if any       (pins.rs)
//! tmp/ID/             a session's files before it commits         (session.rs)
//! ```
//!
//! Files are written once, made durable, then renamed into place, indexes last,
//! and never change. So readers need no lock and write nothing: a store can be
//! read from a read-only medium, and while another process writes to it; a
//! writer that dies leaves the store as it was. What an index says, that an
//! object is not there included, carries a check, so that damage shows as an
//! error and never as a wrong answer.
//!
//! A session, and with it each put, locks `tmp` (flock) while it begins and
//! commits, not in between. Who removes something ([`Exclusive`]) has that lock
//! all the while, and waits for the sessions that have begun: what a session
//! found stored stays stored until it ends.

mod blob;
mod check;
mod engine;
mod entry;
mod filter;
mod folder;
mod gc;
mod index;
mod nearby;
mod pack;
mod pins;
mod session;
mod snapshot;

use std::{
    fs, io,
    io::Write,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::{io::Errno, rand::GetRandomFlags};

use self::{
    engine::Engine,
    entry::{Entry, Kind},
    folder::Folder,
    snapshot::merged,
};
use crate::{
    Blob, BlobService, BlobWriter, Digest, Directory, DirectoryService, Error, HashedBlob,
};

pub use gc::{
    CollectError, Collected, Collection, Exclusive, Garbage, Progress as CollectionProgress, RootOf,
};
pub use pins::is_pin_name;
pub use session::Session;

/// The version of the format that this program writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_PREFIX: &str = "tvix-store-mount store, format ";
const TMP: &str = "tmp";
const FOLDERS: [&str; 4] = ["index", "packs", "blobs", TMP];

/// The key of a record: 32 bytes that a layer above chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(pub [u8; 32]);

/// What is verified when a blob is read. Directories, records and the store's
/// own tables are verified at every reading, whatever the mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Integrity {
    /// Every group of 16 KiB is checked against the digest before it is
    /// returned.
    #[default]
    OnRead,
    /// Blobs were verified when they were written, and by
    /// [`check`](LocalStore::check); later damage can be read.
    AtRest,
}

/// How to open a [`LocalStore`].
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is verified on reading.
    pub integrity: Integrity,
    /// Make the store if the directory is not there or empty.
    pub create: bool,
}

/// What a store holds, as its tables say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Number of records.
    pub records: u64,
    /// Number of directories.
    pub directories: u64,
    /// Number of blobs.
    pub blobs: u64,
    /// Bytes of all blobs' contents.
    pub blob_bytes: u64,
    /// Number of index files.
    pub indexes: usize,
    /// Number of packs.
    pub packs: usize,
}

/// An open store.
///
/// Blobs and directories put into it directly, not through a session of one's
/// own, can be read through this value at once; others see them, and they are
/// durable, after `flush`.
#[derive(Debug)]
pub struct LocalStore {
    engine: Arc<Engine>,
    path: PathBuf,
    pending: Mutex<Option<Arc<Session>>>,
}

impl LocalStore {
    /// Opens the store at `path`.
    ///
    /// # Errors
    /// If there is no store (and none is to be created), or its format is
    /// newer than this program, or its files cannot be read.
    pub fn open(path: &Path, options: &Options) -> Result<Arc<Self>, Error> {
        if options.create {
            create(path)?;
        }
        let folder = Folder::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => not_a_store(path, "the directory does not exist"),
            io::ErrorKind::NotADirectory => not_a_store(path, "it is not a directory"),
            _ => Error::io("open", path)(source),
        })?;
        Self::in_folder(folder, path, options.integrity)
    }

    /// Opens the store in an open directory. `path` is for messages only: it
    /// need not resolve, nor be where the directory is.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_at(dir: OwnedFd, path: &Path, integrity: Integrity) -> Result<Arc<Self>, Error> {
        let folder = Folder::from_fd(dir, path).map_err(Error::io("open", path))?;
        Self::in_folder(folder, path, integrity)
    }

    fn in_folder(folder: Folder, path: &Path, integrity: Integrity) -> Result<Arc<Self>, Error> {
        check_format(&folder)?;
        Ok(Arc::new(Self {
            engine: Arc::new(Engine::open(folder, integrity)?),
            path: path.to_owned(),
            pending: Mutex::default(),
        }))
    }

    /// Where the store was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is verified when a blob is read.
    pub fn integrity(&self) -> Integrity {
        self.engine.integrity()
    }

    /// Begins a session: what is put into it becomes visible when it commits.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn begin(&self) -> Result<Session, Error> {
        Session::begin(self.engine.clone()).map_err(|error| self.writing(error))
    }

    fn writing(&self, error: Error) -> Error {
        match error {
            Error::Io { source, .. } if is_read_only(&source) => Error::ReadOnly {
                place: format!("the store {}", self.path.display()),
                detail: source.to_string(),
            },
            error => error,
        }
    }

    /// The record of `key`.
    ///
    /// # Errors
    /// If it cannot be told whether there is one, or it is damaged.
    pub fn record(&self, key: &RecordKey) -> Result<Option<Bytes>, Error> {
        self.engine.record(key)
    }

    /// All records, by key. What is committed after the call is left out, and so
    /// may be what is removed.
    ///
    /// # Errors
    /// If the store's tables cannot be read; the iterator has an error in place
    /// of each record that cannot be read.
    pub fn records(
        &self,
    ) -> Result<impl Iterator<Item = Result<(RecordKey, Bytes), Error>> + use<'_>, Error> {
        let entries = self.entries(Kind::Record)?;
        Ok(entries
            .take_while(|entry| !matches!(entry, Ok(entry) if entry.kind != Kind::Record))
            .filter_map(|entry| self.record_of(entry).transpose()))
    }

    /// The record of an entry; where it is by now, if it was moved.
    fn record_of(&self, entry: Result<Entry, Error>) -> Result<Option<(RecordKey, Bytes)>, Error> {
        let entry = entry?;
        let key = RecordKey(entry.key);
        let pack = self.engine.pack(entry.pack)?;
        let record = match engine::Held::new(&self.engine, entry, pack).record() {
            Err(error) if error.is_damage() => self.engine.record(&key)?,
            record => Some(record?),
        };
        Ok(record.map(|record| (key, record)))
    }

    /// Looks at the store anew: what others removed is not kept open any more.
    ///
    /// # Errors
    /// If the store's tables cannot be read.
    pub fn refresh(&self) -> Result<(), Error> {
        self.engine.fresh_snapshot().map(drop)
    }

    /// Waits until nobody writes to the store, and keeps it so as long as the
    /// answer is held. `waits` is told each time whom it is to wait for; if it
    /// answers false, nobody is waited for.
    ///
    /// # Errors
    /// [`Error::Busy`] if it was not to wait; or if the store cannot be written.
    pub fn exclusive(&self, waits: &mut dyn FnMut(&str) -> bool) -> Result<Exclusive, Error> {
        // A session of our own would be waited for, too.
        self.commit_pending()?;
        *self.pending.lock() = None;
        Exclusive::begin(self.engine.clone(), waits).map_err(|error| self.writing(error))
    }

    /// When a session was last committed, or the tables were merged.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn changed(&self) -> Result<SystemTime, Error> {
        let stamp = self.engine.index_folder().stamp()?;
        let secs = u64::try_from(stamp.tv_sec).unwrap_or_default();
        Ok(SystemTime::UNIX_EPOCH + std::time::Duration::new(secs, stamp.tv_nsec as u32))
    }

    /// Entries of all objects from those of `kind` on, each object once.
    fn entries(
        &self,
        kind: Kind,
    ) -> Result<impl Iterator<Item = Result<Entry, Error>> + use<>, Error> {
        let snapshot = self.engine.fresh_snapshot()?;
        snapshot.check_whole()?;
        Ok(merged(&snapshot.indexes, kind))
    }

    /// Counts what the store holds, from the headers of its tables: an object
    /// that several sessions wrote at the same time counts for each.
    ///
    /// # Errors
    /// If the tables cannot be read.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        let snapshot = self.engine.fresh_snapshot()?;
        let mut statistics = Statistics {
            indexes: snapshot.indexes.len(),
            packs: snapshot.packs().len(),
            ..Statistics::default()
        };
        for totals in snapshot.indexes.iter().map(|index| index.totals()) {
            statistics.records += totals.records;
            statistics.directories += totals.directories;
            statistics.blobs += totals.blobs;
            statistics.blob_bytes += totals.blob_bytes;
        }
        Ok(statistics)
    }

    /// Reads and verifies everything, on all cores, and reports each damage.
    /// `progress` gets the bytes checked since it was last called.
    ///
    /// # Errors
    /// If the check itself could not be done; damage is reported, not returned.
    pub fn check(
        &self,
        progress: &(dyn Fn(u64) + Sync),
        damage: &(dyn Fn(Error) + Sync),
    ) -> Result<(), Error> {
        check::check(&self.engine, progress, damage)
    }

    fn pending(&self) -> Result<Arc<Session>, Error> {
        let mut pending = self.pending.lock();
        match &*pending {
            Some(session) if !session.is_broken() => Ok(session.clone()),
            _ => Ok(pending.insert(Arc::new(self.begin()?)).clone()),
        }
    }

    /// The session of what was put directly, if there is any. What it does not
    /// have it looks up in the store.
    fn uncommitted(&self) -> Option<Arc<Session>> {
        self.pending.lock().clone()
    }

    fn commit_pending(&self) -> Result<(), Error> {
        // The session goes on: a put may be under way in it.
        let mut pending = self.pending.lock();
        let Some(session) = &*pending else {
            return Ok(());
        };
        let committed = session.commit_shared();
        if committed.is_err() {
            *pending = None;
        }
        committed
    }
}

impl BlobService for LocalStore {
    fn open(&self, digest: &Digest) -> Result<Option<Arc<dyn Blob>>, Error> {
        match self.uncommitted() {
            Some(session) => BlobService::open(&*session, digest),
            None => self.engine.open_blob(digest),
        }
    }

    fn has(&self, digest: &Digest) -> Result<bool, Error> {
        match self.uncommitted() {
            Some(session) => session.has(digest),
            None => Ok(self.engine.entry(Kind::Blob, digest.as_bytes())?.is_some()),
        }
    }

    fn put(&self, blob: &HashedBlob<'_>) -> Result<(), Error> {
        BlobService::put(&*self.pending()?, blob)
    }

    fn writer(&self) -> Result<Box<dyn BlobWriter + '_>, Error> {
        Ok(Box::new(session::SessionBlobWriter::new(self.pending()?)))
    }

    fn discard(&self, digest: &Digest) -> Result<(), Error> {
        self.engine.discard(Kind::Blob, digest.as_bytes());
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        self.commit_pending()
    }
}

impl DirectoryService for LocalStore {
    fn get(&self, digest: &Digest) -> Result<Option<Arc<Directory>>, Error> {
        match self.uncommitted() {
            Some(session) => DirectoryService::get(&*session, digest),
            None => self.engine.directory(digest),
        }
    }

    fn put(&self, directory: &Directory) -> Result<Digest, Error> {
        DirectoryService::put(&*self.pending()?, directory)
    }

    fn discard(&self, digest: &Digest) -> Result<(), Error> {
        self.engine.discard(Kind::Directory, digest.as_bytes());
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        self.commit_pending()
    }
}

fn not_a_store(path: &Path, detail: &str) -> Error {
    Error::NotAStore {
        path: path.to_owned(),
        detail: detail.to_owned(),
    }
}

fn is_read_only(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::ROFS | Errno::ACCESS | Errno::PERM))
}

/// Makes a store in a directory that is not there or empty. Several processes
/// may try at once; `FORMAT` comes last, so that what it is in is complete.
fn create(path: &Path) -> Result<(), Error> {
    if path.join(FORMAT_FILE).exists() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(Error::io("create", path))?;
    let folder = Folder::open(path).map_err(Error::io("open", path))?;
    folder.lock(true)?;
    let names = folder.names()?;
    if names.iter().any(|name| name == FORMAT_FILE) {
        return Ok(());
    }
    // A fresh file system has a lost+found.
    let ours = |name: &String| FOLDERS.contains(&name.as_str()) || name == "lost+found";
    if let Some(name) = names.into_iter().find(|name| !ours(name)) {
        return Err(Error::NotEmpty {
            path: path.to_owned(),
            name,
        });
    }
    for name in FOLDERS {
        folder.make_folder(name)?;
    }
    let tmp = folder.folder(TMP)?;
    let name = entry::PackId(random()?).to_string();
    let mut file = tmp.create_file(&name)?;
    writeln!(file, "{FORMAT_PREFIX}{FORMAT_VERSION}")
        .and_then(|()| file.sync_all())
        .map_err(Error::io("write", tmp.file_path(&name)))?;
    tmp.rename(&name, &folder, FORMAT_FILE)?;
    folder.sync()?;
    // The store's own name in the directory above.
    let above = path.canonicalize().map_err(Error::io("resolve", path))?;
    match above.parent().map(Folder::open) {
        Some(Ok(above)) => above.sync(),
        Some(Err(_)) | None => Ok(()),
    }
}

fn check_format(folder: &Folder) -> Result<(), Error> {
    let path = folder.path();
    let Some(file) = folder.open_file(FORMAT_FILE)? else {
        return Err(not_a_store(path, "it has no file FORMAT"));
    };
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, 1024), &mut text)
        .map_err(Error::io("read", folder.file_path(FORMAT_FILE)))?;
    let version = std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.strip_suffix('\n')?.strip_prefix(FORMAT_PREFIX))
        .and_then(|version| version.parse::<u32>().ok());
    match version {
        Some(FORMAT_VERSION) => Ok(()),
        Some(found) if found > FORMAT_VERSION => Err(Error::NewerFormat {
            path: path.to_owned(),
            found,
            known: FORMAT_VERSION,
        }),
        _ => Err(not_a_store(
            path,
            &format!("its file {FORMAT_FILE} is not that of a store"),
        )),
    }
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += rustix::rand::getrandom(&mut bytes[filled..], GetRandomFlags::empty())
            .map_err(|errno| Error::io("read from", "/dev/urandom")(errno.into()))?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
