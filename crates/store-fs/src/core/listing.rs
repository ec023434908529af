use super::{
    Filesystem, Found, FsError, Kind, NodeId, RootEntry,
    attr::{ROOT_INO, directory_ino, file_ino, symlink_ino, top_symlink_ino},
    lookup::top_node,
    table::{self, Place, Slot},
};

/// An opened directory. There is nothing to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedDir {
    /// Whether its listing can be kept for good.
    pub immutable: bool,
}

/// One line of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The inode number that a lookup of the name would give.
    pub ino: u64,
    /// The offset that the listing continues from after this line.
    pub next: u64,
    /// File, directory or symlink.
    pub kind: Kind,
    /// The name.
    pub name: &'a [u8],
}

/// Offsets 0 and 1 are `.` and `..`; then follow the entries: in a directory one
/// by one, in the root as [`root_listing`](super::root_listing) has it.
pub(super) const DOTS: u64 = 2;

impl Filesystem {
    /// Opens a directory to be listed.
    ///
    /// # Errors
    /// If the node is no directory.
    pub fn opendir(&self, node: NodeId) -> Result<OpenedDir, FsError> {
        if node == NodeId::ROOT {
            return Ok(OpenedDir { immutable: false });
        }
        match self.node(node)?.1.kind {
            Kind::Directory => Ok(OpenedDir { immutable: true }),
            Kind::File { .. } | Kind::Symlink => Err(FsError::NotADirectory),
        }
    }

    /// Lists `node` from `offset` on, until `add` returns `false`: that line
    /// did not fit and will be asked for again. Offset 0 begins a listing.
    /// Of the root, what is there all along is listed exactly once.
    ///
    /// # Errors
    /// If the directory cannot be had, or must not be listed.
    pub fn readdir(
        &self,
        node: NodeId,
        offset: u64,
        add: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        self.list(node, offset, &mut |line, _| Ok(add(line)))
    }

    /// As [`readdir`](Self::readdir), and looks each entry up; one that is
    /// added is referred to once more. `.` and `..` are not.
    ///
    /// # Errors
    /// As `readdir`.
    pub fn readdirplus(
        &self,
        node: NodeId,
        offset: u64,
        add: &mut dyn FnMut(&DirEntry<'_>, Option<&Found>) -> bool,
    ) -> Result<(), FsError> {
        let mut empty = true;
        self.list(node, offset, &mut |line, entry| {
            let found = match entry.map(|entry| self.look_up(entry)).transpose() {
                Ok(found) => found,
                // What was added already is referred to, so it must arrive.
                Err(_) if !empty => return Ok(false),
                Err(error) => return Err(error),
            };
            let added = add(line, found.as_ref());
            if let Some(found) = found.filter(|_| !added) {
                self.forget(found.node, 1);
            }
            empty = false;
            Ok(added)
        })
    }

    fn list(&self, node: NodeId, offset: u64, add: &mut Add<'_>) -> Result<(), FsError> {
        if node == NodeId::ROOT {
            return self.list_root(offset, add);
        }
        let (slot, node) = self.node(node)?;
        let directory = self.directory(slot, &node)?;
        let parent = match node.place {
            Place::Top(_) => ROOT_INO,
            // Pinned by this one, so it is there.
            Place::Child { parent, .. } => self.table.get(parent).map_or(ROOT_INO, |n| n.ino),
        };
        if !add_dots(offset, node.ino, parent, add)? {
            return Ok(());
        }
        let entries = directory.entries();
        for (ordinal, entry) in entries.iter().enumerate().skip(first(offset)) {
            let ino = match &entry.node {
                castore::Node::Directory { .. } => directory_ino(node.ino, entry.name.as_bytes()),
                castore::Node::File {
                    digest, executable, ..
                } => file_ino(digest, *executable),
                castore::Node::Symlink { .. } => symlink_ino(&node.digest, ordinal as u32),
            };
            let offset = ordinal as u64 + DOTS;
            let line = line(ino, offset, &entry.node, entry.name.as_bytes());
            let child = Line::Child(slot, &node, &directory, ordinal);
            if !add(&line, Some(child))? {
                break;
            }
        }
        Ok(())
    }

    fn list_root(&self, offset: u64, add: &mut Add<'_>) -> Result<(), FsError> {
        if !self.options.list_root {
            return Err(FsError::ListingOff);
        }
        if !add_dots(offset, ROOT_INO, ROOT_INO, add)? {
            return Ok(());
        }
        let listing = self.root_listings.now(&*self.root)?;
        let entries = listing.from(offset.max(DOTS));
        if entries.is_empty() {
            self.root_listings.done();
        }
        for (at, entry) in entries {
            let ino = match &entry.node {
                castore::Node::Directory { .. } => directory_ino(ROOT_INO, entry.name.as_bytes()),
                castore::Node::File {
                    digest, executable, ..
                } => file_ino(digest, *executable),
                castore::Node::Symlink { .. } => top_symlink_ino(&entry.key),
            };
            let line = line(ino, *at, &entry.node, entry.name.as_bytes());
            if !add(&line, Some(Line::Top(entry)))? {
                break;
            }
        }
        Ok(())
    }

    fn look_up(&self, line: Line<'_>) -> Result<Found, FsError> {
        let node = match line {
            Line::Top(entry) => top_node(entry)?,
            Line::Child(slot, parent, directory, ordinal) => {
                self.child(slot, parent, directory, ordinal)?
            }
        };
        self.found(&node)
    }
}

/// Takes a line of a listing, with what it is about unless that is `.` or `..`;
/// answers whether it fit.
type Add<'a> = dyn FnMut(&DirEntry<'_>, Option<Line<'_>>) -> Result<bool, FsError> + 'a;

/// What a line of a listing is about.
#[derive(Clone, Copy)]
enum Line<'a> {
    Top(&'a RootEntry),
    Child(Slot, &'a table::Node, &'a castore::Directory, usize),
}

/// The line at `offset`.
fn line<'a>(ino: u64, offset: u64, node: &castore::Node, name: &'a [u8]) -> DirEntry<'a> {
    DirEntry {
        ino,
        next: offset + 1,
        kind: node.into(),
        name,
    }
}

/// The first ordinal to list.
fn first(offset: u64) -> usize {
    usize::try_from(offset.saturating_sub(DOTS)).unwrap_or(usize::MAX)
}

/// Answers whether there is room for more.
fn add_dots(offset: u64, ino: u64, parent: u64, add: &mut Add<'_>) -> Result<bool, FsError> {
    let dots: [(u64, &[u8]); DOTS as usize] = [(ino, b"."), (parent, b"..")];
    for (next, (ino, name)) in (1..).zip(dots).skip(offset.min(DOTS) as usize) {
        let line = DirEntry {
            ino,
            next,
            kind: Kind::Directory,
            name,
        };
        if !add(&line, None)? {
            return Ok(false);
        }
    }
    Ok(true)
}
