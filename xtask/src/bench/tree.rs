//! The tree that is imported: a copy of what this system has installed, so that sizes and names
//! are real, and always the same selection, so that two runs can be compared.

use super::Bench;
use anyhow::{Context as _, Result};
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Where the files come from.
const SOURCES: &[&str] = &["/usr/share", "/usr/lib"];

/// No single file may be more than this part of the tree.
const LARGEST_SHARE: u64 = 10;

/// A tree and what is in it.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) path: PathBuf,
    files: usize,
    symlinks: usize,
    bytes: u64,
    synthetic: usize,
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{} files ({} of them synthetic), {} symlinks, {mib:.0} MiB",
            self.files, self.synthetic, self.symlinks
        )
    }
}

/// Makes the tree; about as fast as finding out whether an earlier one can be used.
pub(super) fn prepare(bench: &Bench<'_>) -> Result<Tree> {
    let mut builder = Builder {
        tree: Tree {
            path: bench.dir.join("tree"),
            files: 0,
            symlinks: 0,
            bytes: 0,
            synthetic: 0,
        },
        files: bench.options.files,
        bytes: bench.options.mib << 20,
    };
    let path = builder.tree.path.clone();
    if path.exists() {
        fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    for source in SOURCES {
        let source = Path::new(source);
        let name = source.strip_prefix("/").unwrap_or(source);
        builder.copy_dir(source, &path.join(name))?;
    }
    builder.top_up()?;
    Ok(builder.tree)
}

struct Builder {
    tree: Tree,
    files: usize,
    bytes: u64,
}

impl Builder {
    fn is_done(&self) -> bool {
        self.tree.files >= self.files && self.tree.bytes >= self.bytes
    }

    /// Copies in the order of names until there is enough.
    fn copy_dir(&mut self, source: &Path, target: &Path) -> Result<()> {
        let Ok(entries) = fs::read_dir(source) else {
            return Ok(());
        };
        let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        fs::create_dir_all(target).with_context(|| format!("creating {}", target.display()))?;
        for entry in entries {
            if self.is_done() {
                break;
            }
            let (from, to) = (entry.path(), target.join(entry.file_name()));
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                self.copy_dir(&from, &to)?;
            } else if metadata.is_symlink() {
                symlink(fs::read_link(&from)?, &to)?;
                self.tree.symlinks += 1;
            } else if metadata.is_file() && metadata.len() <= self.bytes / LARGEST_SHARE {
                let copied = fs::copy(&from, &to);
                self.tree.bytes += copied.with_context(|| format!("copying {}", from.display()))?;
                self.tree.files += 1;
            }
        }
        Ok(())
    }

    /// Adds files of random text, of the mean size that is missing.
    fn top_up(&mut self) -> Result<()> {
        let mut number = 0_u64;
        while !self.is_done() {
            let missing_files = self.files.saturating_sub(self.tree.files).max(1) as u64;
            let missing_bytes = self.bytes.saturating_sub(self.tree.bytes);
            let len = (missing_bytes / missing_files).clamp(64, 1 << 20);
            let dir = self.tree.path.join(format!("synthetic/{}", number / 256));
            fs::create_dir_all(&dir)?;
            fs::write(dir.join(number.to_string()), text(number, len as usize))?;
            self.tree.files += 1;
            self.tree.synthetic += 1;
            self.tree.bytes += len;
            number += 1;
        }
        Ok(())
    }
}

fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            b' ' + (state >> 58) as u8
        })
        .collect()
}
