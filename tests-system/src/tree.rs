//! Trees of files as values.

use crate::rng::Rng;
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory; its entries have paths of their own.
    Directory,
    /// A regular file.
    File {
        /// Its bytes.
        content: Vec<u8>,
        /// Its owner may execute it.
        executable: bool,
    },
    /// A symlink.
    Symlink(PathBuf),
}

/// All entries by their path relative to the top, which is the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

/// How large a random tree is.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The number of files.
    pub files: usize,
    /// The sizes of the files in bytes, taken in turn.
    pub sizes: &'static [usize],
}

impl Shape {
    /// Of every kind of blob a store may treat differently: empty, tiny, of some pages, and big.
    pub const VARIED: Self = Self {
        files: 24,
        sizes: &[
            0,
            1,
            100,
            700,
            4096,
            10 << 10,
            16 << 10,
            100 << 10,
            300 << 10,
            1 << 20,
        ],
    };
}

impl Tree {
    /// The tree of these entries; the top has the empty path, and the directories that entries are
    /// in are among them.
    pub fn new(entries: BTreeMap<PathBuf, Entry>) -> Self {
        Self(entries)
    }

    /// A tree with directories, symlinks, executable files and duplicates among its files.
    pub fn random(rng: &mut Rng, shape: Shape) -> Self {
        let mut entries = BTreeMap::from([(PathBuf::new(), Entry::Directory)]);
        let mut dirs = vec![PathBuf::new()];
        let mut last = Vec::new();
        for number in 0..shape.files {
            if number % 7 == 3 {
                let parent = &dirs[rng.below(dirs.len() as u64) as usize];
                let dir = parent.join(format!("dir {number}"));
                entries.insert(dir.clone(), Entry::Directory);
                dirs.push(dir);
            }
            let dir = &dirs[rng.below(dirs.len() as u64) as usize];
            if number % 9 != 8 {
                let size = shape.sizes[number % shape.sizes.len()];
                let shorter = rng.below(size as u64 / 8) as usize;
                last = rng.bytes(size - shorter);
            }
            let file = Entry::File {
                content: last.clone(),
                executable: rng.percent(30),
            };
            entries.insert(dir.join(format!("file-{number}")), file);
            if number % 5 == 4 {
                let link = Entry::Symlink(PathBuf::from(format!("../file-{number}")));
                entries.insert(dir.join(format!("link-{number}")), link);
            }
        }
        Self(entries)
    }

    /// Creates `count` random trees as `dir/prefix-N`; returns them with their paths.
    pub fn write_many(
        rng: &mut Rng,
        shape: Shape,
        count: usize,
        dir: &Path,
        prefix: &str,
    ) -> Result<(Vec<Self>, Vec<PathBuf>)> {
        let mut trees = Vec::new();
        let mut paths = Vec::new();
        for number in 0..count {
            let tree = Self::random(rng, shape);
            let path = dir.join(format!("{prefix}-{number}"));
            tree.write(&path)?;
            trees.push(tree);
            paths.push(path);
        }
        Ok((trees, paths))
    }

    /// Reads a real tree.
    pub fn read(top: &Path) -> Result<Self> {
        let mut entries = BTreeMap::new();
        let mut queue = vec![PathBuf::new()];
        while let Some(name) = queue.pop() {
            let path = if name.as_os_str().is_empty() {
                top.to_owned()
            } else {
                top.join(&name)
            };
            let metadata = fs::symlink_metadata(&path)
                .with_context(|| format!("asking for {}", path.display()))?;
            let entry = if metadata.is_dir() {
                let list = fs::read_dir(&path);
                for child in list.with_context(|| format!("listing {}", path.display()))? {
                    queue.push(name.join(child?.file_name()));
                }
                Entry::Directory
            } else if metadata.is_symlink() {
                Entry::Symlink(fs::read_link(&path)?)
            } else if metadata.is_file() {
                let content = fs::read(&path);
                Entry::File {
                    content: content.with_context(|| format!("reading {}", path.display()))?,
                    executable: metadata.permissions().mode() & 0o100 != 0,
                }
            } else {
                bail!("{} is a special file", path.display());
            };
            entries.insert(name, entry);
        }
        Ok(Self(entries))
    }

    /// Creates the tree at `top`, which must not exist.
    pub fn write(&self, top: &Path) -> Result<()> {
        for (name, entry) in &self.0 {
            let path = if name.as_os_str().is_empty() {
                top.to_owned()
            } else {
                top.join(name)
            };
            let written = match entry {
                Entry::Directory => fs::create_dir(&path),
                Entry::Symlink(target) => symlink(target, &path),
                Entry::File {
                    content,
                    executable,
                } => fs::write(&path, content).and_then(|()| {
                    let mode = if *executable { 0o755 } else { 0o644 };
                    fs::set_permissions(&path, Permissions::from_mode(mode))
                }),
            };
            written.with_context(|| format!("creating {}", path.display()))?;
        }
        Ok(())
    }

    /// How the real tree at `top` differs from this one.
    pub fn differences(&self, top: &Path) -> Vec<String> {
        let other = match Self::read(top) {
            Ok(other) => other,
            Err(error) => return vec![format!("{error:#}")],
        };
        let mut differences = Vec::new();
        for (name, entry) in &self.0 {
            match other.0.get(name) {
                None => differences.push(format!("{} is missing", name.display())),
                Some(found) if found != entry => {
                    differences.push(format!("{} has other content", name.display()));
                }
                Some(_) => {}
            }
        }
        for name in other.0.keys().filter(|name| !self.0.contains_key(*name)) {
            differences.push(format!("{} should not be there", name.display()));
        }
        differences
    }

    /// All entries with their paths, parents first.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.0.iter().map(|(name, entry)| (name.as_path(), entry))
    }

    /// The names in a directory of this tree, sorted.
    pub fn names_in(&self, dir: &Path) -> Vec<&Path> {
        self.0
            .keys()
            .filter(|name| !name.as_os_str().is_empty() && name.parent() == Some(dir))
            .filter_map(|name| name.file_name().map(Path::new))
            .collect()
    }

    /// The number of bytes in its files.
    pub fn size(&self) -> u64 {
        let sizes = self.0.values().map(|entry| match entry {
            Entry::File { content, .. } => content.len() as u64,
            Entry::Directory | Entry::Symlink(_) => 0,
        });
        sizes.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{Shape, Tree};
    use crate::rng::Rng;

    #[test]
    fn a_written_tree_is_read_back_and_a_change_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("tree");
        let tree = Tree::random(&mut Rng::new(3), Shape::VARIED);
        tree.write(&top).unwrap();
        assert_eq!(tree.differences(&top), [""; 0]);
        assert_eq!(Tree::read(&top).unwrap(), tree);
        std::fs::write(top.join("extra"), "").unwrap();
        assert_eq!(tree.differences(&top), ["extra should not be there"]);
        assert!(tree.names_in("".as_ref()).len() > 1);
    }
}
