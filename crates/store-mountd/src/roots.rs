//! Why store paths are to stay: what is pinned, what the system is made of, and
//! what is running.

mod links;
mod running;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result};
use castore::local::LocalStore;
use nix_compat::StorePath;
use store::gc::{PathSet, References};

pub(crate) use self::links::Pattern;

/// Links of NixOS to what the system is made of.
const SYSTEM: [&str; 3] = [
    "/run/current-system",
    "/run/booted-system",
    "/nix/var/nix/profiles/system-*-link",
];

/// What keeps a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// A pin of this name.
    Pin(String),
    /// A symlink that leads to it.
    Link(PathBuf),
    /// A process or a mount that uses it.
    InUse(String),
    /// The command line.
    Asked,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pin(name) => write!(f, "pinned by '{name}'"),
            Self::Link(link) => write!(f, "what {} leads to", link.display()),
            Self::InUse(who) => write!(f, "in use by {who}"),
            Self::Asked => f.write_str("to be kept"),
        }
    }
}

/// The store paths that are roots, each with the first reason for it.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    found: BTreeMap<[u8; 20], Reason>,
}

impl Roots {
    /// Those that there are now among the paths of `references`: pins, links of
    /// the system and of `patterns`, and whatever is in use.
    pub(crate) fn find(
        store: &LocalStore,
        references: &References,
        patterns: &[Pattern],
    ) -> Result<Self> {
        let mut roots = Self::default();
        for (name, paths) in store.pins()? {
            for path in paths {
                let path = StorePath::from_base_name(path.as_bytes()).with_context(|| {
                    format!("the pin '{name}' has a line that is no store path")
                })?;
                if !references.has(&path) {
                    tracing::warn!("the pin '{name}' is of {path}, which is not in the store");
                }
                roots.add(references, &path, Reason::Pin(name.clone()));
            }
        }
        let system = SYSTEM.iter().map(|pattern| Pattern::new(*pattern));
        for pattern in system.chain(patterns.iter().cloned()) {
            pattern.targets(&mut |link, path| {
                roots.add(references, path, Reason::Link(link.to_owned()));
            })?;
        }
        let unread = running::find(&mut |who, path| {
            roots.add(references, path, Reason::InUse(who.to_owned()));
        })?;
        if unread > 0 {
            tracing::warn!(
                "{unread} processes of other users cannot be looked at, and what they use is not \
                 known; root can"
            );
        }
        Ok(roots)
    }

    /// Adds a path that is there.
    pub(crate) fn add(&mut self, references: &References, path: &StorePath, reason: Reason) {
        if references.has(path) {
            self.found.entry(*path.digest()).or_insert(reason);
        }
    }

    /// The first of these paths that is a root, and why; those that are roots
    /// for a reason that `but` answers true for do not count.
    pub(crate) fn among(
        &self,
        paths: &PathSet,
        but: impl Fn(&Reason) -> bool,
    ) -> Option<([u8; 20], &Reason)> {
        (self.found.iter())
            .find(|(digest, reason)| paths.contains(*digest) && !but(reason))
            .map(|(digest, reason)| (*digest, reason))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(crate) fn digests(&self) -> impl Iterator<Item = [u8; 20]> {
        self.found.keys().copied()
    }
}
