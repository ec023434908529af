//! Damages one file in a copy of a store.

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use system_tests::rng::Rng;

/// A change to a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Damage {
    /// One bit is another.
    Flip { offset: u64, bit: u8 },
    /// The file ends early.
    Truncate { len: u64 },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip { offset, bit } => write!(f, "bit {bit} of byte {offset} flipped"),
            Self::Truncate { len } => write!(f, "truncated to {len} bytes"),
        }
    }
}

impl Damage {
    pub(crate) fn pick(victim: &Victim, rng: &mut Rng) -> Self {
        if rng.percent(25) {
            Self::Truncate {
                len: rng.below(victim.len),
            }
        } else {
            Self::Flip {
                offset: rng.below(victim.len),
                bit: rng.below(8) as u8,
            }
        }
    }

    fn apply(self, content: &mut Vec<u8>) {
        match self {
            Self::Flip { offset, bit } => content[offset as usize] ^= 1 << bit,
            Self::Truncate { len } => content.truncate(len as usize),
        }
    }
}

/// The file to damage.
#[derive(Debug)]
pub(crate) struct Victim {
    /// Relative to the store's directory.
    path: PathBuf,
    len: u64,
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path.display(), self.len)
    }
}

impl Victim {
    /// Picks a kind of file first: the few small files matter as much as the many large ones.
    pub(crate) fn pick(store: &Path, rng: &mut Rng) -> Result<Self> {
        let kind = match rng.below(100) {
            0..4 => "FORMAT",
            4..30 => ".idx",
            30..55 => ".meta",
            55..80 => ".blobs",
            _ => "blobs/",
        };
        let mut files = Vec::new();
        list(store, Path::new(""), &mut files)?;
        files.sort();
        files.retain(|(path, len)| {
            let path = path.to_string_lossy();
            *len > 0 && (path.ends_with(kind) || path.starts_with(kind))
        });
        ensure!(!files.is_empty(), "the store has no file like {kind}");
        let index = rng.below(files.len() as u64) as usize;
        let (path, len) = files.swap_remove(index);
        Ok(Self { path, len })
    }

    pub(crate) fn file_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Copies the store with the damage. All other files are hard links, for no file of a store is
    /// ever changed in place.
    pub(crate) fn copy_store_with(&self, store: &Path, copy: &Path, damage: Damage) -> Result<()> {
        link_all(store, copy)?;
        let path = copy.join(&self.path);
        let mut content = fs::read(&path).with_context(|| path.display().to_string())?;
        damage.apply(&mut content);
        fs::remove_file(&path)?;
        fs::write(&path, content)?;
        // From the disk, as after a reboot.
        let file = File::open(&path)?;
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        Ok(())
    }
}

fn list(store: &Path, dir: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    for entry in fs::read_dir(store.join(dir))? {
        let entry = entry?;
        let path = dir.join(entry.file_name());
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            list(store, &path, files)?;
        } else {
            files.push((path, metadata.len()));
        }
    }
    Ok(())
}

fn link_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            link_all(&source, &target)?;
        } else {
            fs::hard_link(&source, &target)?;
        }
    }
    Ok(())
}
