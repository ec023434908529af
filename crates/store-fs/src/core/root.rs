use std::fmt;

use castore::{Error, Node, PathComponent};

/// The mount's top level: names that come and go while it is mounted.
///
/// An entry's node never changes while its key exists; entries may be added at
/// any time and are looked up anew at every miss.
pub trait Root: fmt::Debug + Send + Sync {
    /// The entry of exactly this name. A name that cannot exist is `None`.
    ///
    /// # Errors
    /// If the root cannot tell.
    fn lookup(&self, name: &[u8]) -> Result<Option<RootEntry>, Error>;

    /// The entry of this key, if it still exists.
    ///
    /// # Errors
    /// If the root cannot tell.
    fn get(&self, key: &RootKey) -> Result<Option<RootEntry>, Error>;

    /// All entries, sorted by name.
    ///
    /// # Errors
    /// If the root cannot tell.
    fn list(&self) -> Result<Vec<RootEntry>, Error>;

    /// A number that grows with every change of the set of entries. It is cheap
    /// to ask. It moves the modification time of the mount's root, in
    /// nanoseconds: a counter will do, and so will the time of the change.
    fn generation(&self) -> u64;

    /// What the entries amount to, if that is known without much ado.
    fn usage(&self) -> Usage {
        Usage::default()
    }
}

/// What names an entry of a [`Root`] when its name is not at hand; chosen by
/// the implementor. It is spread evenly over all values, as a hash is, and
/// never used for two different nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootKey(pub [u8; 32]);

/// One entry of a [`Root`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootEntry {
    /// Finds the entry again.
    pub key: RootKey,
    /// The entry's name.
    pub name: PathComponent,
    /// What it names.
    pub node: Node,
}

/// The size of what a [`Root`] holds, for statfs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Files, directories and symlinks.
    pub nodes: u64,
    /// Bytes of contents.
    pub bytes: u64,
}
