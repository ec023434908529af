//! Walks through the whole scene, as `find -ls` does.

use super::super::scene::What;
use super::Actor;
use anyhow::Result;
use nix::dir::Dir;
use nix::fcntl::{OFlag, readlink};
use nix::sys::stat::{Mode, lstat};
use nix::sys::statfs::statfs;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Lists, asks for attributes and reads symlinks; each directory must have each entry once.
pub(super) fn walk(actor: &mut Actor<'_>) -> Result<()> {
    while actor.goes_on() {
        let mut queue = vec![PathBuf::new()];
        while let Some(dir) = queue.pop() {
            if !actor.goes_on() {
                return Ok(());
            }
            for name in list(actor, &dir) {
                let name = dir.join(name);
                look_at(actor, &name);
                if actor.site.scene.get(&name) == Some(&What::Directory) {
                    queue.push(name);
                }
            }
        }
        look_at_root(actor);
    }
    Ok(())
}

/// The names in a directory.
fn list(actor: &Actor<'_>, dir: &Path) -> BTreeSet<OsString> {
    let path = actor.path(dir);
    let names = names(actor, &path);
    let expected = actor.site.scene.count_in(dir);
    actor.site.record.expect(names.len() == expected, || {
        format!(
            "{} has {} of {expected} entries",
            path.display(),
            names.len()
        )
    });
    names
}

fn names(actor: &Actor<'_>, path: &Path) -> BTreeSet<OsString> {
    let mut names = BTreeSet::new();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = actor.call("opendir", path.display(), || {
        Dir::open(path, flags, Mode::empty())
    });
    let Some(mut opened) = opened else {
        return names;
    };
    let mut entries = opened.iter();
    while let Some(Some(entry)) =
        actor.call("readdir", path.display(), || entries.next().transpose())
    {
        let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        actor.site.record.expect(names.insert(name.to_owned()), || {
            format!("{} lists {} twice", path.display(), name.display())
        });
    }
    names
}

fn look_at(actor: &Actor<'_>, name: &Path) {
    let path = actor.path(name);
    if let Some(stat) = actor.call("lstat", path.display(), || lstat(&path)) {
        actor.site.check_stat(name, &stat);
    }
    if let Some(What::Symlink(target)) = actor.site.scene.get(name)
        && let Some(read) = actor.call("readlink", path.display(), || readlink(&path))
    {
        actor.site.record.expect(read == target.as_os_str(), || {
            format!("{} points to {}", path.display(), read.display())
        });
    }
}

fn look_at_root(actor: &Actor<'_>) {
    let root = &actor.site.mountpoint;
    actor.call("statfs", root.display(), || statfs(root));
    if actor.site.lists_root {
        let names = names(actor, root);
        let top = actor.site.top.file_name().unwrap_or_default();
        actor.site.record.expect(names.contains(top), || {
            format!("{} does not list {}", root.display(), top.display())
        });
    }
}
