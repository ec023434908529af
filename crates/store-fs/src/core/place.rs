use std::fmt;

use castore::{Node, PathComponent};

use super::{
    Filesystem, Kind,
    table::{Place, Slot},
};

/// Where in the mount a node is, for messages. A component that cannot be told
/// (its directory is what is damaged, or its entry was removed from the root)
/// is `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPath(Vec<Option<PathComponent>>);

impl MountPath {
    pub(super) fn top(name: PathComponent) -> Self {
        Self(vec![Some(name)])
    }

    /// The name in the mount's root.
    pub fn first(&self) -> &dyn fmt::Display {
        match self.0.first() {
            Some(Some(name)) => name,
            Some(None) => &"?",
            None => &"/",
        }
    }
}

/// Without a leading slash; the root itself is `/`.
impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        for (index, name) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            match name {
                Some(name) => write!(f, "{name}")?,
                None => f.write_str("?")?,
            }
        }
        Ok(())
    }
}

impl Filesystem {
    /// The path of a node. It is only asked for when something failed: it
    /// reads the directories on the way.
    pub(super) fn path(&self, slot: Slot) -> MountPath {
        let mut names = Vec::new();
        let mut next = slot;
        while next != Slot::ROOT {
            let Some(node) = self.table.get(next) else {
                names.push(None);
                break;
            };
            match node.place {
                Place::Top(key) => {
                    let entry = self.root.get(&key).ok().flatten();
                    names.push(entry.map(|entry| entry.name));
                    break;
                }
                Place::Child { parent, ordinal } => {
                    names.push(self.name(parent, ordinal, node.kind));
                    next = parent;
                }
            }
        }
        names.reverse();
        MountPath(names)
    }

    /// The name of a directory's entry, which is of the given kind.
    fn name(&self, parent: Slot, ordinal: u32, kind: Kind) -> Option<PathComponent> {
        let parent = self.table.get(parent)?;
        let directory = self.contents.directory(&parent.digest).ok()?;
        let entry = directory.entries().get(ordinal as usize)?;
        let found: &Node = &entry.node;
        (Kind::from(found) == kind).then(|| entry.name.clone())
    }
}
