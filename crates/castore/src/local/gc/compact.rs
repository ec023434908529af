//! Writing packs anew without what is garbage in them.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    super::{
        engine::{Engine, Held},
        entry::{Entry, Key, Kind, PackId, Place},
        folder::Folder,
        pack::{Appender, FILE_HEADER, OBJECT_HEADER, Tag},
        random,
        snapshot::{Snapshot, Spot, merged, merged_with_spots},
    },
    Collected, Exclusive, Garbage, Marks, Progress, entries,
};
use crate::{Error, outboard::outboard_len};

/// What is written at once to a new pack, unless one old pack has more: as many
/// objects as a session writes to one.
const OBJECTS: u64 = 100_000;
/// The same in bytes, for they are needed beside the old ones.
const BYTES: u64 = 1 << 30;

/// What lives in a pack.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    objects: u64,
    bytes: u64,
}

/// Bytes of an object in the pack, its outboard included.
fn len(entry: &Entry) -> u64 {
    const HEADER: u64 = OBJECT_HEADER as u64;
    let object = match entry.place {
        Place::Pack { .. } => HEADER.saturating_add(entry.size),
        Place::File => 0,
    };
    let outboard = match entry.outboard {
        0 => 0,
        _ => HEADER.saturating_add(outboard_len(entry.size)),
    };
    object.saturating_add(outboard)
}

fn uses(
    snapshot: &Snapshot,
    is_live: impl Fn(Spot) -> bool,
) -> Result<HashMap<PackId, Use>, Error> {
    let mut uses: HashMap<_, Use> = (snapshot.packs().into_iter())
        .map(|pack| (pack, Use::default()))
        .collect();
    for item in merged_with_spots(&snapshot.indexes, Kind::Record) {
        let (spot, entry) = item?;
        if is_live(spot) {
            let used = uses.entry(entry.pack).or_default();
            used.objects += 1;
            used.bytes = used.bytes.saturating_add(len(&entry));
        }
    }
    Ok(uses)
}

/// Bytes of a pack that are not of living objects. A pack that is cut short has
/// none.
fn garbage_in(used: Use, pack_len: u64) -> u64 {
    pack_len.saturating_sub(used.bytes.saturating_add(2 * FILE_HEADER as u64))
}

/// What is not marked.
pub(super) fn garbage(
    engine: &Engine,
    snapshot: &Snapshot,
    marks: &Marks,
) -> Result<Garbage, Error> {
    let mut garbage = Garbage {
        objects: entries(snapshot) - marks.count(),
        bytes: 0,
    };
    for (pack, used) in uses(snapshot, |spot| marks.has(spot))? {
        garbage.bytes += garbage_in(used, engine.pack_len(pack)?);
    }
    for item in merged_with_spots(&snapshot.indexes, Kind::Blob) {
        let (spot, entry) = item?;
        if entry.place == Place::File && !marks.has(spot) {
            garbage.bytes = garbage.bytes.saturating_add(entry.size);
        }
    }
    Ok(garbage)
}

impl Exclusive {
    /// Writes packs anew that have much garbage, some at a time.
    pub(super) fn compact(
        &self,
        percent: u8,
        progress: &Progress,
        collected: &mut Collected,
    ) -> Result<(), Error> {
        let mut wanted = Vec::new();
        let snapshot = self.snapshot()?;
        for (pack, used) in uses(&snapshot, |_| true)? {
            let pack_len = self.engine.pack_len(pack)?;
            let garbage = garbage_in(used, pack_len);
            if garbage.saturating_mul(100) > pack_len.saturating_mul(percent.into()) {
                wanted.push((pack, used));
            }
        }
        // Those first that give the most for what is copied.
        wanted.sort_unstable_by_key(|(pack, used)| (used.bytes, *pack));
        let mut wanted = wanted.into_iter().peekable();
        while let Some((first, mut total)) = wanted.next() {
            let mut packs = HashSet::from([first]);
            while let Some((pack, used)) = wanted.next_if(|(_, used)| {
                total.objects + used.objects <= OBJECTS && total.bytes + used.bytes <= BYTES
            }) {
                packs.insert(pack);
                total.objects += used.objects;
                total.bytes += used.bytes;
            }
            self.compact_batch(packs, &progress.copied, collected)?;
        }
        Ok(())
    }

    /// Moves what lives in these packs to a new one. A pack in which something
    /// is damaged stays as it is: what can be mended is not lost.
    fn compact_batch(
        &self,
        mut packs: HashSet<PackId>,
        progress: &AtomicU64,
        collected: &mut Collected,
    ) -> Result<(), Error> {
        let snapshot = self.snapshot()?;
        let copied = loop {
            let copying = Copying::begin(&self.engine, &self.folder, &snapshot, &packs)?;
            match copying.run(progress) {
                Ok(copied) => break copied,
                Err(Failure::Damaged(pack, error)) => {
                    tracing::warn!("the pack {pack} is left as it is: {error}");
                    packs.remove(&pack);
                    for name in self.folder.names()? {
                        self.folder.remove_file(&name)?;
                    }
                    if packs.is_empty() {
                        return Ok(());
                    }
                }
                Err(Failure::Other(error)) => return Err(error),
            }
        };
        self.moving.store(true, Relaxed);
        let store = self.engine.folder().make_folder("packs")?;
        self.folder
            .rename(&copied.id.meta_name(), &store, &copied.id.meta_name())?;
        if copied.has_blobs {
            self.folder
                .rename(&copied.id.blobs_name(), &store, &copied.id.blobs_name())?;
        }
        store.sync()?;
        let moved = copied.moved;
        let replaced = self.replace(&snapshot, &snapshot, entries(&snapshot), |_, entry| {
            Some(*moved.get(&(entry.kind, entry.key)).unwrap_or(&entry))
        });
        drop(snapshot);
        // Whether or not that was done, one or the other is not needed.
        let snapshot = self.engine.reload(&self.lock)?;
        let freed = self.engine.remove_unknown_packs(&self.lock, &snapshot)?;
        self.moving.store(false, Relaxed);
        replaced?;
        collected.bytes += freed.saturating_sub(copied.len);
        collected.compacted += packs.len() as u64;
        Ok(())
    }
}

/// Why packs were not copied.
enum Failure {
    /// What is in this pack.
    Damaged(PackId, Error),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// A new pack that is durable, but not in its place.
struct Copied {
    id: PackId,
    len: u64,
    has_blobs: bool,
    moved: HashMap<(Kind, Key), Entry>,
}

/// A new pack being written.
struct Copying<'a> {
    engine: &'a Engine,
    folder: &'a Folder,
    id: PackId,
    meta: Appender,
    blobs: Option<Appender>,
    /// As they were.
    old: Vec<Entry>,
    /// As they will be.
    new: Vec<Entry>,
}

/// Something in an old pack: where it is, and the number of the entry that it
/// belongs to. Sorted, it is in the order in which it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    pack: PackId,
    offset: u64,
    entry: usize,
    is_outboard: bool,
}

impl<'a> Copying<'a> {
    fn begin(
        engine: &'a Engine,
        folder: &'a Folder,
        snapshot: &Snapshot,
        packs: &HashSet<PackId>,
    ) -> Result<Self, Error> {
        let mut old = Vec::new();
        for entry in merged(&snapshot.indexes, Kind::Record) {
            let entry = entry?;
            if packs.contains(&entry.pack) {
                old.push(entry);
            }
        }
        let id = PackId(random()?);
        let new = old.iter().map(|entry| Entry { pack: id, ..*entry });
        Ok(Self {
            engine,
            folder,
            id,
            meta: Appender::create_meta(folder, id)?,
            blobs: None,
            new: new.collect(),
            old,
        })
    }

    /// The parts that are in `.meta` files, and those in `.blobs`.
    fn parts(&self) -> (Vec<Part>, Vec<Part>) {
        let (mut meta, mut blobs) = (Vec::new(), Vec::new());
        for (number, entry) in self.old.iter().enumerate() {
            let part = |offset, is_outboard| Part {
                pack: entry.pack,
                offset,
                entry: number,
                is_outboard,
            };
            if let Place::Pack { offset } = entry.place {
                match entry.kind {
                    Kind::Blob => blobs.push(part(offset, false)),
                    Kind::Record | Kind::Directory => meta.push(part(offset, false)),
                }
            }
            if entry.outboard != 0 {
                meta.push(part(entry.outboard, true));
            }
        }
        meta.sort_unstable();
        blobs.sort_unstable();
        (meta, blobs)
    }

    /// Copies and verifies everything.
    fn run(mut self, progress: &AtomicU64) -> Result<Copied, Failure> {
        let (meta, blobs) = self.parts();
        for part in meta.into_iter().chain(blobs) {
            let old = self.old[part.entry];
            let (tag, bytes) = self.read(part).map_err(|error| match error {
                error if error.is_damage() => Failure::Damaged(part.pack, error),
                error => Failure::Other(error),
            })?;
            let to = match (tag, &mut self.blobs) {
                (Tag::Blob, Some(blobs)) => blobs,
                (Tag::Blob, none) => none.insert(Appender::create_blobs(self.folder, self.id)?),
                _ => &mut self.meta,
            };
            let offset = to.append(tag, &old.key, &[&bytes])?;
            let new = &mut self.new[part.entry];
            match part.is_outboard {
                true => new.outboard = offset,
                false => new.place = Place::Pack { offset },
            }
            progress.fetch_add(bytes.len() as u64, Relaxed);
        }
        self.meta.sync()?;
        let mut len = self.meta.len();
        if let Some(blobs) = &mut self.blobs {
            blobs.sync()?;
            len += blobs.len();
        }
        let moved = self.new.into_iter();
        Ok(Copied {
            id: self.id,
            len,
            has_blobs: self.blobs.is_some(),
            moved: moved
                .map(|entry| ((entry.kind, entry.key), entry))
                .collect(),
        })
    }

    fn read(&self, part: Part) -> Result<(Tag, Vec<u8>), Error> {
        let entry = self.old[part.entry];
        let held = Held::new(self.engine, entry, self.engine.pack(entry.pack)?);
        Ok(match entry.kind {
            _ if part.is_outboard => (Tag::Outboard, held.blob_in_pack().whole_outboard()?),
            Kind::Blob => (Tag::Blob, held.blob_in_pack().packed_contents()?),
            Kind::Record => {
                held.record()?;
                (Tag::Record, held.bytes()?)
            }
            Kind::Directory => {
                held.directory()?;
                (Tag::Directory, held.bytes()?)
            }
        })
    }
}
