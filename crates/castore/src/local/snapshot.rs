//! The set of indexes at one moment.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::Timespec;

use super::{
    entry::{Entry, Key, Kind, PackId},
    folder::Folder,
    index::Index,
};
use crate::Error;

/// File systems stamp changes with a coarse clock: a folder that changed less
/// than this before it was listed may have changed again unnoticed.
const SETTLING: Duration = Duration::from_millis(100);
/// The same for a file system that counts whole seconds, or even two.
const SETTLING_SECONDS: Duration = Duration::from_millis(2100);

/// How often a listing is tried anew when indexes vanish between the listing
/// and their opening. Each time, a merge by another process was finished.
const ATTEMPTS: u32 = 20;

#[derive(Debug)]
pub(super) struct Snapshot {
    /// Newest first.
    pub(super) indexes: Vec<Arc<Index>>,
    /// Indexes that could not be opened, and why.
    damaged: Vec<(PathBuf, String)>,
    stamp: Timespec,
    settled: bool,
}

impl Snapshot {
    /// Lists the indexes, taking over those that `old` has open.
    pub(super) fn take(folder: &Folder, old: Option<&Self>) -> Result<Self, Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            if let Some(snapshot) = Self::try_take(folder, old)? {
                return Ok(snapshot);
            }
            if attempt == ATTEMPTS {
                return Err(Error::Damaged {
                    path: folder.path().to_owned(),
                    detail: "its files vanish while they are opened".to_owned(),
                });
            }
        }
    }

    fn try_take(folder: &Folder, old: Option<&Self>) -> Result<Option<Self>, Error> {
        let stamp = folder.stamp()?;
        let names = index_names(folder)?;
        let mut snapshot = Self {
            indexes: Vec::with_capacity(names.len()),
            damaged: Vec::new(),
            stamp,
            settled: is_settled(stamp),
        };
        for name in &names {
            let path = folder.file_path(name);
            let known = old.and_then(|old| old.indexes.iter().find(|index| index.path() == path));
            if let Some(index) = known {
                snapshot.indexes.push(index.clone());
                continue;
            }
            let Some(file) = folder.open_file(name)? else {
                return Ok(None);
            };
            match Index::open(file, path) {
                Ok(index) => snapshot.indexes.push(Arc::new(index)),
                Err(Error::Damaged { path, detail }) => {
                    let news = old.is_none_or(|old| !old.damaged.iter().any(|(p, _)| *p == path));
                    if news {
                        tracing::error!(
                            path = %path.display(),
                            "an index is damaged, what only it knows of cannot be read: {detail}"
                        );
                    }
                    snapshot.damaged.push((path, detail));
                }
                Err(error) => return Err(error),
            }
        }
        // A listing is not of one moment. While indexes are replaced it may
        // have neither the old ones nor the new one.
        Ok((index_names(folder)? == names).then_some(snapshot))
    }

    /// Whether the folder may have changed since.
    pub(super) fn is_stale(&self, folder: &Folder) -> Result<bool, Error> {
        Ok(!self.settled || folder.stamp()? != self.stamp)
    }

    /// The newest entry of an object.
    ///
    /// # Errors
    /// If there is none, but a damaged index might have one; for a record, of
    /// which there can be several versions, also if a newer one might.
    pub(super) fn get(&self, kind: Kind, key: &Key) -> Result<Option<Entry>, Error> {
        let mut failure = None;
        for index in &self.indexes {
            match index.get(kind, key) {
                Ok(None) => {}
                Ok(Some(_)) if kind == Kind::Record && self.is_damaged_after(index) => {
                    return self.check_whole().map(|()| None);
                }
                Ok(Some(entry)) => return Ok(Some(entry)),
                Err(error) if kind == Kind::Record => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => self.check_whole().map(|()| None),
        }
    }

    /// Where the newest entry of an object is, and the entry, in a snapshot that
    /// is [whole](Self::check_whole).
    pub(super) fn locate(&self, kind: Kind, key: &Key) -> Result<Option<(Spot, Entry)>, Error> {
        for (index, table) in self.indexes.iter().enumerate() {
            if let Some((number, entry)) = table.find(kind, key)? {
                return Ok(Some((Spot { index, number }, entry)));
            }
        }
        Ok(None)
    }

    /// Whether an index that is newer than this one could not be opened.
    fn is_damaged_after(&self, index: &Index) -> bool {
        // In one folder, names begin with the sequence number.
        self.damaged
            .iter()
            .any(|(path, _)| path.as_path() > index.path())
    }

    /// Fails if an index could not be opened.
    pub(super) fn check_whole(&self) -> Result<(), Error> {
        match self.damaged.first() {
            None => Ok(()),
            Some((path, detail)) => Err(Error::Damaged {
                path: path.clone(),
                detail: detail.clone(),
            }),
        }
    }

    /// The indexes that could not be opened, and why.
    pub(super) fn damaged(&self) -> &[(PathBuf, String)] {
        &self.damaged
    }

    /// The packs that some index refers to.
    pub(super) fn packs(&self) -> BTreeSet<PackId> {
        (self.indexes.iter())
            .flat_map(|index| index.packs().iter().copied())
            .collect()
    }
}

/// The newest first.
fn index_names(folder: &Folder) -> Result<Vec<String>, Error> {
    let mut names = folder.names()?;
    names.retain(|name| name.ends_with(".idx"));
    // The name begins with the sequence number, in digits of fixed width.
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn is_settled(stamp: Timespec) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let changed = u64::try_from(stamp.tv_sec)
        .map(|secs| Duration::new(secs, stamp.tv_nsec as u32))
        .unwrap_or_default();
    let settling = match stamp.tv_nsec {
        0 => SETTLING_SECONDS,
        _ => SETTLING,
    };
    now.is_ok_and(|now| now > changed + settling)
}

/// Where an entry is in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// Which of the snapshot's indexes.
    pub(super) index: usize,
    /// The entry's number in it.
    pub(super) number: u64,
}

/// Merges indexes, newest first, into one sequence in which each object occurs
/// once, by its newest entry.
pub(super) fn merged(
    indexes: &[Arc<Index>],
    kind: Kind,
) -> impl Iterator<Item = Result<Entry, Error>> + use<> {
    merged_with_spots(indexes, kind).map(|item| Ok(item?.1))
}

/// As [`merged`], with where each entry is.
pub(super) fn merged_with_spots(
    indexes: &[Arc<Index>],
    kind: Kind,
) -> impl Iterator<Item = Result<(Spot, Entry), Error>> + use<> {
    let mut sources: Vec<_> = indexes
        .iter()
        .map(|index| index.entries_from(kind).peekable())
        .collect();
    std::iter::from_fn(move || {
        let mut newest: Option<(Spot, Entry)> = None;
        for (index, source) in sources.iter_mut().enumerate() {
            if let Some(Err(error)) = source.next_if(Result::is_err) {
                return Some(Err(error));
            }
            if let Some(Ok((number, entry))) = source.peek()
                && newest.is_none_or(|(_, best)| entry.order() < best.order())
            {
                let number = *number;
                newest = Some((Spot { index, number }, *entry));
            }
        }
        let (spot, entry) = newest?;
        for source in &mut sources {
            source
                .next_if(|other| matches!(other, Ok((_, other)) if other.order() == entry.order()));
        }
        Some(Ok((spot, entry)))
    })
}
