//! Bringing store paths into a local store.
//!
//! An [`Importer`] gathers complete paths in a session of the store and makes
//! them visible and durable together when it [commits](Importer::commit). A
//! path is taken in only if everything that it refers to is there, so whatever
//! moment an import ends at, the store holds closed sets of paths. From its
//! first path on, nothing is removed from the store until it is dropped.

mod error;

pub use error::ImportError;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use castore::{
    BlobService, DirectoryService, Node,
    import::{Progress, TreeObserver},
    local::{LocalStore, Session},
};
use nix_compat::{
    ContentAddress, NarInfo, NixHash, StorePath,
    signature::Signature,
    store_path::{self, build::source_path},
};

use crate::{
    Metadata, PathInfo, PathInfoService,
    binary_cache::BinaryCache,
    nar::{self, NarDigest, NarHasher, RenderError},
    pathinfoservice::LocalPathInfoService,
    verify::problems,
};

/// How long paths may be gathered before they are committed.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// How many paths may be gathered before they are committed.
const BATCH_PATHS: usize = 256;

/// How to import.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Take in paths whose references are not there.
    pub allow_missing_references: bool,
    /// Verify all contents of the paths, those that are there already too, and
    /// store anew what is damaged. The store must verify what it
    /// [reads](castore::local::Integrity::OnRead).
    pub repair: bool,
    /// Where to count what was done.
    pub progress: Option<&'a Progress>,
    /// Once true, the import ends with an error.
    pub cancel: Option<&'a AtomicBool>,
}

/// An import in progress.
///
/// After an error, what was not committed is gone; the importer can be used
/// further.
#[derive(Debug)]
pub struct Importer<'a> {
    store: &'a LocalStore,
    infos: LocalPathInfoService,
    options: Options<'a>,
    /// Nothing is removed from the store as long as a session lives: what was
    /// found there, or imported before, is there until the import ends.
    hold: Option<Session>,
    batch: Option<Batch>,
}

/// What the next commit makes visible.
#[derive(Debug)]
struct Batch {
    session: Session,
    /// By the digest in the store path.
    infos: BTreeMap<[u8; 20], PathInfo>,
    begun: Instant,
}

impl<'a> Importer<'a> {
    /// Prepares to import into `store`.
    pub fn new(store: &'a Arc<LocalStore>, options: Options<'a>) -> Self {
        Self {
            store,
            infos: LocalPathInfoService::new(store.clone()),
            options,
            hold: None,
            batch: None,
        }
    }

    /// Before anything is looked up that is relied upon.
    fn hold(&mut self) -> Result<(), ImportError> {
        if self.hold.is_none() {
            match self.store.begin() {
                Ok(session) => self.hold = Some(session),
                // Then nothing is stored, and what is there may be all that is
                // asked for.
                Err(castore::Error::ReadOnly { .. }) => {}
                Err(error) => return Err(crate::Error::from(error).into()),
            }
        }
        Ok(())
    }

    /// Takes in what is at `source` as a path that follows from its contents
    /// and `name`, as `nix store add` does.
    ///
    /// # Errors
    /// If the name is not one of a store path, the tree cannot be read or
    /// changes meanwhile, or the store cannot be written.
    pub fn tree(&mut self, source: &Path, name: &str) -> Result<PathInfo, ImportError> {
        store_path::check_name(name.as_bytes()).map_err(|error| ImportError::Name {
            source_path: source.to_owned(),
            name: name.to_owned(),
            source: error,
        })?;
        self.hold()?;
        let take_in = |importer: &mut Self| {
            let (node, nar) = importer.read(source)?;
            Ok(PathInfo {
                store_path: source_path(name, &nar.sha256, [], false).map_err(|error| {
                    ImportError::StorePath {
                        source_path: source.to_owned(),
                        source: error,
                    }
                })?,
                node,
                references: BTreeSet::new(),
                nar_size: nar.size,
                nar_sha256: nar.sha256,
                signatures: Vec::new(),
                deriver: None,
                ca: Some(ContentAddress::Recursive(NixHash::Sha256(nar.sha256))),
            })
        };
        self.attempt(|importer| {
            let info = importer.soundly(take_in)?;
            match importer.recorded(&info.clone().into())? {
                Some(recorded) if recorded.node == info.node => Ok(recorded),
                recorded => importer.record(info, recorded),
            }
        })
    }

    /// Takes in what is at `source`, which must be what `metadata` describes.
    ///
    /// # Errors
    /// If it is not, or a path that it refers to is not in the store, or the
    /// tree cannot be read or changes meanwhile, or the store cannot be
    /// written.
    pub fn store_path(
        &mut self,
        source: &Path,
        metadata: Metadata,
    ) -> Result<PathInfo, ImportError> {
        self.hold()?;
        let recorded = self.recorded(&metadata)?;
        if let Some(info) = &recorded
            && self.is_sound(info)?
        {
            return self.add_signatures(info.clone(), &metadata.signatures);
        }
        self.check_references(&metadata.store_path, &metadata.references)?;
        let take_in = |importer: &mut Self| {
            let (node, nar) = importer.read(source)?;
            if !metadata.matches(&nar) {
                return Err(ImportError::Mismatch {
                    store_path: metadata.store_path.clone(),
                    source_path: source.to_owned(),
                    expected: describe(&metadata.nar_sha256, metadata.nar_size),
                    found: describe(&nar.sha256, Some(nar.size)),
                });
            }
            let store_path = metadata.store_path.clone();
            (metadata.clone())
                .with_contents(node, nar.size)
                .map_err(|source| ImportError::Metadata { store_path, source })
        };
        self.attempt(|importer| {
            let info = importer.soundly(take_in)?;
            importer.record(info, recorded)
        })
    }

    /// Fetches the path that `info`, which came from `cache`, describes.
    ///
    /// # Errors
    /// If a path that it refers to is not in the store, or its contents cannot
    /// be had or are not those described, or the store cannot be written.
    pub fn fetch(&mut self, cache: &BinaryCache, info: NarInfo) -> Result<PathInfo, ImportError> {
        self.hold()?;
        let recorded = self.recorded(&info.clone().into())?;
        if let Some(recorded) = &recorded
            && self.is_sound(recorded)?
        {
            return self.add_signatures(recorded.clone(), &info.signatures);
        }
        self.check_references(&info.store_path, &info.references)?;
        let take_in = |importer: &mut Self| {
            let batch = importer.batch()?;
            Ok(cache.fetch(info.clone(), &batch.session, &batch.session)?)
        };
        self.attempt(|importer| {
            let info = importer.soundly(take_in)?;
            importer.record(info, recorded)
        })
    }

    /// Whether enough was gathered that it should be committed before more is
    /// taken in.
    pub fn is_due(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| {
            batch.begun.elapsed() >= BATCH_TIME || batch.infos.len() >= BATCH_PATHS
        })
    }

    /// Makes what was taken in durable and visible.
    ///
    /// # Errors
    /// If that is not possible; then none of it is.
    pub fn commit(&mut self) -> Result<(), ImportError> {
        let Some(batch) = self.batch.take() else {
            return Ok(());
        };
        for info in batch.infos.values() {
            LocalPathInfoService::put_into(&batch.session, info)?;
        }
        // Without a path info, it may have contents that were stored anew.
        Ok(batch.session.commit().map_err(crate::Error::from)?)
    }

    /// Forgets what was not committed, if `act` fails: its session has parts
    /// of the path that failed.
    fn attempt(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<PathInfo, ImportError>,
    ) -> Result<PathInfo, ImportError> {
        let result = act(self);
        if result.is_err() {
            self.batch = None;
        }
        result
    }

    fn batch(&mut self) -> Result<&mut Batch, ImportError> {
        let batch = match self.batch.take() {
            Some(batch) => batch,
            None => Batch {
                session: self.store.begin().map_err(crate::Error::from)?,
                infos: BTreeMap::new(),
                begun: Instant::now(),
            },
        };
        Ok(self.batch.insert(batch))
    }

    /// Stores the tree at `source` and hashes its NAR.
    fn read(&mut self, source: &Path) -> Result<(Node, NarDigest), ImportError> {
        let options = castore::import::Options {
            progress: self.options.progress,
            cancel: self.options.cancel,
            ..Default::default()
        };
        let batch = self.batch()?;
        let mut hasher = NarHasher::new();
        let node = castore::import::import(
            source,
            &batch.session,
            &batch.session,
            &mut hasher as &mut dyn TreeObserver,
            &options,
        )?;
        let nar = hasher.finish().map_err(|error| ImportError::Nar {
            source_path: source.to_owned(),
            source: error,
        })?;
        Ok((node, nar))
    }

    /// What the store has recorded of a path; its contents may be damaged.
    fn recorded(&self, metadata: &Metadata) -> Result<Option<PathInfo>, ImportError> {
        let Some(info) = self.known(metadata.store_path.digest())? else {
            return Ok(None);
        };
        match info.nar_sha256 == metadata.nar_sha256 {
            true => Ok(Some(info)),
            false => Err(ImportError::Conflict {
                store_path: metadata.store_path.clone(),
                expected: describe(&info.nar_sha256, Some(info.nar_size)),
                found: describe(&metadata.nar_sha256, metadata.nar_size),
            }),
        }
    }

    /// Does what takes a path in, and again as long as it finds damage in what
    /// the store had of its contents before: below a directory that is damaged
    /// there may be more.
    fn soundly(
        &mut self,
        take_in: impl Fn(&mut Self) -> Result<PathInfo, ImportError>,
    ) -> Result<PathInfo, ImportError> {
        let mut discarded = HashSet::new();
        loop {
            let info = take_in(self)?;
            let damaged = self.discard_damaged(&info)?;
            if damaged.is_empty() {
                return Ok(info);
            }
            if !damaged.is_disjoint(&discarded) {
                return Err(ImportError::NotMended {
                    store_path: info.store_path,
                });
            }
            discarded.extend(damaged);
        }
    }

    fn is_sound(&self, info: &PathInfo) -> Result<bool, crate::Error> {
        Ok(self.discard_damaged(info)?.is_empty())
    }

    /// Has what is [damaged](Self::damaged) of a path stored again when it is
    /// put.
    fn discard_damaged(&self, info: &PathInfo) -> Result<HashSet<Node>, crate::Error> {
        let damaged = self.damaged(info)?;
        for node in &damaged {
            match node {
                Node::Directory { digest, .. } => DirectoryService::discard(self.store, digest)?,
                Node::File { digest, .. } => BlobService::discard(self.store, digest)?,
                Node::Symlink { .. } => {}
            }
        }
        Ok(damaged)
    }

    /// Looks at a path's root, or with [`Options::repair`] at all of its
    /// contents. Answers what is damaged; the root, if all is sound but not what
    /// is recorded.
    fn damaged(&self, info: &PathInfo) -> Result<HashSet<Node>, crate::Error> {
        let (blobs, directories): (&dyn BlobService, &dyn DirectoryService) = match &self.batch {
            Some(Batch { session, .. }) => (session, session),
            None => (self.store, self.store),
        };
        let root = || HashSet::from([info.node.clone()]);
        if !self.options.repair {
            let there = match &info.node {
                Node::Directory { digest, .. } => directories.get(digest).map(|it| it.is_some()),
                Node::File { digest, .. } => blobs.open(digest).map(|it| it.is_some()),
                Node::Symlink { .. } => Ok(true),
            };
            return match there {
                Ok(true) => Ok(HashSet::new()),
                Ok(false) => Ok(root()),
                Err(error) if error.is_damage() => {
                    tracing::warn!("{}: {error}", info.store_path);
                    Ok(root())
                }
                Err(error) => Err(error.into()),
            };
        }
        match nar::digest(&info.node, blobs, directories) {
            Ok(nar) if nar.sha256 == info.nar_sha256 && nar.size == info.nar_size => {
                Ok(HashSet::new())
            }
            Ok(_) | Err(RenderError::Write(_)) => Ok(root()),
            Err(RenderError::Read { source, .. }) if !source.is_damage() => Err(source.into()),
            Err(RenderError::Read { .. } | RenderError::Size { .. }) => {
                let mut damaged = HashSet::new();
                problems(&info.node, blobs, directories, |node, path, problem| {
                    tracing::warn!("{}: {path}: {problem}", info.store_path);
                    damaged.insert(node.clone());
                })?;
                Ok(damaged)
            }
        }
    }

    /// Adds those that are new to a path that is there.
    fn add_signatures(
        &mut self,
        mut info: PathInfo,
        signatures: &[Signature],
    ) -> Result<PathInfo, ImportError> {
        match extend(&mut info.signatures, signatures) {
            true => self.attempt(|importer| importer.record(info, None)),
            false => Ok(info),
        }
    }

    fn check_references(
        &self,
        store_path: &StorePath,
        references: &BTreeSet<StorePath>,
    ) -> Result<(), ImportError> {
        if self.options.allow_missing_references {
            return Ok(());
        }
        let mut missing = Vec::new();
        for reference in references.iter().filter(|path| *path != store_path) {
            if self.known(reference.digest())?.is_none() {
                missing.push(reference.clone());
            }
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(ImportError::MissingReferences {
                store_path: store_path.clone(),
                missing,
            }),
        }
    }

    /// What is gathered or in the store of the path with this digest. A record
    /// that is damaged, or may be in an index that is, counts as none, so that
    /// importing again repairs it.
    fn known(&self, digest: &[u8; 20]) -> Result<Option<PathInfo>, crate::Error> {
        let gathered = (self.batch.as_ref()).and_then(|batch| batch.infos.get(digest));
        if let Some(info) = gathered {
            return Ok(Some(info.clone()));
        }
        match self.infos.get(digest) {
            Err(error) if is_damage(&error) => {
                tracing::warn!(%error, "what the store knows of a path cannot be used");
                Ok(None)
            }
            result => result,
        }
    }

    /// Records a path that was taken in, with the signatures of what was
    /// recorded of it before.
    fn record(
        &mut self,
        mut info: PathInfo,
        before: Option<PathInfo>,
    ) -> Result<PathInfo, ImportError> {
        if let Some(before) = before {
            extend(&mut info.signatures, &before.signatures);
        }
        let infos = &mut self.batch()?.infos;
        infos.insert(*info.store_path.digest(), info.clone());
        Ok(info)
    }
}

/// Whether the record of a path is damaged, or may be in what is.
fn is_damage(error: &crate::Error) -> bool {
    match error {
        crate::Error::Castore(error) => error.is_damage(),
        crate::Error::Damaged { .. } | crate::Error::ForeignRecord { .. } => true,
    }
}

/// Answers whether some are new.
fn extend(signatures: &mut Vec<Signature>, more: &[Signature]) -> bool {
    let before = signatures.len();
    for signature in more {
        if !signatures.contains(signature) {
            signatures.push(signature.clone());
        }
    }
    signatures.len() > before
}

fn describe(nar_sha256: &[u8; 32], nar_size: Option<u64>) -> String {
    let hash = NixHash::Sha256(*nar_sha256);
    match nar_size {
        Some(size) => format!("{hash} ({size} bytes)"),
        None => hash.to_string(),
    }
}

/// The name that the store path of `source` gets unless told otherwise: the
/// last component of its path.
pub fn default_name(source: &Path) -> Option<String> {
    let canonical: PathBuf = match source.file_name() {
        Some(_) => source.to_owned(),
        None => source.canonicalize().ok()?,
    };
    Some(canonical.file_name()?.to_string_lossy().into_owned())
}
