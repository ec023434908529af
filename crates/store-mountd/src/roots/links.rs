//! Symlinks into the store.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix_compat::StorePath;

/// How many symlinks are followed one after the other; as many as the kernel does.
const MAX_LINKS: usize = 40;

/// Where there are symlinks: one of them, a directory of them, or a name with `*`
/// for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(PathBuf);

impl Pattern {
    pub(crate) fn new(pattern: impl Into<PathBuf>) -> Self {
        Self(pattern.into())
    }

    /// Calls `found` with each symlink and the store path that it leads to.
    /// Nothing in the store is looked at.
    pub(super) fn targets(&self, found: &mut dyn FnMut(&Path, &StorePath)) -> Result<()> {
        let failed = || format!("cannot look for roots at {}", self.0.display());
        match (self.0.parent(), self.0.file_name()) {
            (Some(dir), Some(name)) if name.as_bytes().contains(&b'*') => {
                for link in entries(dir).with_context(failed)? {
                    if link
                        .file_name()
                        .is_some_and(|it| matches(it.as_bytes(), name.as_bytes()))
                    {
                        look(&link, found).with_context(failed)?;
                    }
                }
                Ok(())
            }
            _ => look(&self.0, found).with_context(failed),
        }
    }
}

/// A symlink, or those in a directory and below it.
fn look(path: &Path, found: &mut dyn FnMut(&Path, &StorePath)) -> io::Result<()> {
    let metadata = match path.symlink_metadata() {
        Err(error) if is_absent(&error) => return Ok(()),
        metadata => metadata?,
    };
    if metadata.is_symlink() {
        if let Some(store_path) = leads_to(path)? {
            found(path, &store_path);
        }
    } else if metadata.is_dir() {
        for entry in entries(path)? {
            look(&entry, found)?;
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match dir.read_dir() {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The store path that a symlink leads to. What is in it is not looked at, for
/// it may be on a mount that does not answer.
fn leads_to(link: &Path) -> io::Result<Option<StorePath>> {
    let mut at = link.to_owned();
    for _ in 0..MAX_LINKS {
        let target = match fs::read_link(&at) {
            Ok(target) => target,
            // It leads to something that is no symlink, or to nothing.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput || is_absent(&error) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        at.pop();
        at.push(target);
        if let Some(path) = store_paths_in(&at).next() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The names in a path that can be of store paths, wherever the store is.
pub(super) fn store_paths_in(path: &Path) -> impl Iterator<Item = StorePath> {
    path.components().filter_map(|component| {
        let Component::Normal(name) = component else {
            return None;
        };
        let name = name.as_bytes();
        // What /proc says of what has no name any more.
        let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
        StorePath::from_base_name(name).ok()
    })
}

/// Whether `*` in the pattern can stand for something that makes it the name.
fn matches(name: &[u8], pattern: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|at| matches(&name[at..], rest)),
        Some((byte, rest)) => {
            (name.split_first()).is_some_and(|(first, name)| first == byte && matches(name, rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const BASE: &str = "5cq8g09l6map5dgp4a68nz6j2b1xwvqq-hi";

    fn found(pattern: impl Into<PathBuf>) -> Vec<(PathBuf, String)> {
        let mut all = Vec::new();
        Pattern::new(pattern)
            .targets(&mut |link, path| all.push((link.to_owned(), path.to_string())))
            .unwrap();
        all.sort();
        all
    }

    #[test]
    fn links_are_followed_to_the_store_and_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let target = format!("/nowhere/store/{BASE}/lib/x");
        symlink(&target, at("system-7-link")).unwrap();
        symlink("system-7-link", at("system")).unwrap();
        fs::create_dir(at("below")).unwrap();
        symlink("../system", at("below/auto")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("/nowhere", at("other")).unwrap();
        fs::write(at("file"), BASE).unwrap();

        let is = |names: &[&str]| -> Vec<_> {
            names
                .iter()
                .map(|name| (at(name), BASE.to_owned()))
                .collect()
        };
        assert_eq!(found(at("system")), is(&["system"]));
        assert_eq!(found(at("system-*-link")), is(&["system-7-link"]));
        let all = is(&["below/auto", "system", "system-7-link"]);
        assert_eq!(found(dir.path()), all);
        for nothing in ["missing", "missing/x*", "loop", "other", "file"] {
            assert_eq!(found(at(nothing)), [], "{nothing}");
        }
    }

    #[test]
    fn stars_stand_for_any_characters() {
        for (name, pattern, expected) in [
            ("system-1-link", "system-*-link", true),
            ("system--link", "system-*-link", true),
            ("system-link", "system-*-link", false),
            ("ab", "*", true),
            ("", "*", true),
            ("ab", "a", false),
            ("ab", "*a*", true),
        ] {
            let is = matches(name.as_bytes(), pattern.as_bytes());
            assert_eq!(is, expected, "{name} {pattern}");
        }
    }

    #[test]
    fn names_are_found_wherever_the_store_is() {
        for path in [
            format!("/nix/store/{BASE}"),
            format!("/mnt/{BASE}/bin/hi"),
            format!("/mnt/{BASE} (deleted)"),
        ] {
            let paths: Vec<_> = store_paths_in(Path::new(&path)).collect();
            assert_eq!(paths.len(), 1, "{path}");
            assert_eq!(paths[0].to_string(), BASE);
        }
        assert_eq!(store_paths_in(Path::new("/usr/bin")).count(), 0);
    }
}
