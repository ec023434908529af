//! Reads everything in a mount and judges each answer.

use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use system_tests::mountd::name_of;
use system_tests::tree::{Entry, Tree};

/// What a good store has: trees by the names of their store paths.
#[derive(Debug, Default)]
pub(crate) struct Expected(BTreeMap<PathBuf, Tree>);

impl Expected {
    pub(crate) fn insert(&mut self, store_path: &Path, tree: Tree) -> Result<()> {
        self.0.insert(name_of(store_path)?.to_owned(), tree);
        Ok(())
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// Answers that no damage excuses.
    pub(crate) wrong: Vec<String>,
    /// The paths, relative to the mount, that were answered with EIO.
    pub(crate) errors: Vec<PathBuf>,
}

impl Judge {
    /// Asks for everything there is, and for what there is not.
    pub(crate) fn of(mountpoint: &Path, expected: &Expected) -> Self {
        let mut judge = Self::default();
        let names: Vec<&Path> = expected.0.keys().map(PathBuf::as_path).collect();
        judge.list(mountpoint, Path::new(""), &names);
        judge.expect_absent(
            mountpoint,
            Path::new("00000000000000000000000000000000-absent"),
        );
        for (name, tree) in &expected.0 {
            for (path, entry) in tree.entries() {
                let path = if path.as_os_str().is_empty() {
                    name.clone()
                } else {
                    name.join(path)
                };
                judge.look_at(mountpoint, &path, entry);
                if *entry == Entry::Directory {
                    let inner = path.strip_prefix(name).unwrap_or(Path::new(""));
                    judge.list(mountpoint, &path, &tree.names_in(inner));
                    judge.expect_absent(mountpoint, &path.join("absent"));
                }
            }
        }
        judge
    }

    /// Each failure is in the log with the store path.
    pub(crate) fn check_log(&self, log: &str) -> Result<()> {
        for path in &self.errors {
            // The ancestor is what could not be read.
            let is_below = |other: &PathBuf| {
                !other.as_os_str().is_empty() && path != other && path.starts_with(other)
            };
            if self.errors.iter().any(is_below) {
                continue;
            }
            let mut components = path.iter().map(|name| name.to_string_lossy());
            let top = components.next().unwrap_or_default();
            let is_named = |line: &str| line.contains(&*top);
            ensure!(
                log.lines().any(is_named),
                "no line of the log names {}:\n{}",
                path.display(),
                beginning(log)
            );
        }
        ensure!(
            self.errors.is_empty() || log.lines().any(has_digest_or_file),
            "the log names neither a digest nor a file:\n{}",
            beginning(log)
        );
        Ok(())
    }

    fn look_at(&mut self, mountpoint: &Path, path: &Path, entry: &Entry) {
        let full = mountpoint.join(path);
        let Some(metadata) = self.answer(path, "lookup", fs::symlink_metadata(&full)) else {
            return;
        };
        let mode = metadata.permissions().mode();
        let (kind, permissions, len) = match entry {
            Entry::Directory => (libc::S_IFDIR, 0o555, None),
            Entry::Symlink(target) => (libc::S_IFLNK, 0o777, Some(target.as_os_str().len())),
            Entry::File {
                content,
                executable,
            } => {
                let permissions = if *executable { 0o555 } else { 0o444 };
                (libc::S_IFREG, permissions, Some(content.len()))
            }
        };
        if mode != kind | permissions || len.is_some_and(|len| len as u64 != metadata.len()) {
            let found = format!("mode {mode:o}, size {}", metadata.len());
            self.wrong(path, &format!("attributes: {found}"));
            return;
        }
        match entry {
            Entry::Directory => {}
            Entry::Symlink(target) => {
                if let Some(found) = self.answer(path, "readlink", fs::read_link(&full))
                    && found != *target
                {
                    self.wrong(path, "another target");
                }
            }
            Entry::File { content, .. } => self.read(&full, path, content),
        }
    }

    fn read(&mut self, full: &Path, path: &Path, content: &[u8]) {
        let Some(mut file) = self.answer(path, "open", File::open(full)) else {
            return;
        };
        let mut found = Vec::new();
        let result = file.read_to_end(&mut found);
        // What came before an error counts too.
        if !content.starts_with(&found) {
            self.wrong(path, "wrong bytes");
        } else if self.answer(path, "read", result).is_some() && found.len() != content.len() {
            self.wrong(path, &format!("ends after {} bytes", found.len()));
        }
    }

    fn list(&mut self, mountpoint: &Path, path: &Path, expected: &[&Path]) {
        let Some(list) = self.answer(path, "opendir", fs::read_dir(mountpoint.join(path))) else {
            return;
        };
        let mut names = Vec::new();
        for entry in list {
            match self.answer(path, "readdir", entry) {
                Some(entry) => names.push(PathBuf::from(entry.file_name())),
                None => return,
            }
        }
        names.sort();
        if names
            .iter()
            .map(PathBuf::as_path)
            .ne(expected.iter().copied())
        {
            self.wrong(path, &format!("lists {names:?}"));
        }
    }

    fn expect_absent(&mut self, mountpoint: &Path, path: &Path) {
        match fs::symlink_metadata(mountpoint.join(path)) {
            Ok(_) => self.wrong(path, "exists"),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => {
                self.answer::<()>(path, "lookup", Err(error));
            }
        }
    }

    /// The result, unless it is EIO; any other error is wrong.
    fn answer<T>(&mut self, path: &Path, what: &str, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => return Some(value),
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                if self.errors.last().is_none_or(|last| last != path) {
                    self.errors.push(path.to_owned());
                }
            }
            Err(error) => self.wrong(path, &format!("{what}: {error}")),
        }
        None
    }

    fn wrong(&mut self, path: &Path, what: &str) {
        self.wrong.push(format!("{}: {what}", path.display()));
    }
}

/// Enough of a log to see what is wrong with it.
fn beginning(log: &str) -> String {
    log.lines().take(5).collect::<Vec<_>>().join("\n")
}

/// A BLAKE3 digest in hexadecimal, or the name of a file of the store.
fn has_digest_or_file(line: &str) -> bool {
    let is_digest = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    line.split(|c: char| !c.is_ascii_alphanumeric())
        .any(is_digest)
        || [".idx", ".meta", ".blobs"]
            .iter()
            .any(|suffix| line.contains(suffix))
}
