//! What processes and mounts use.
//!
//! Only `/proc` is read, and no file of the mount, which may not answer. A path
//! counts by its name, wherever the store is mounted.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix_compat::StorePath;

use super::links::store_paths_in;

/// How long to wait for what a process has mapped.
const PATIENCE: Duration = Duration::from_secs(2);

/// Calls `found` with whoever uses a store path, and the path. Answers how many
/// processes it was not allowed to look at.
pub(super) fn find(found: &mut dyn FnMut(&str, &StorePath)) -> Result<u64> {
    let mut unread = 0;
    for entry in fs::read_dir("/proc").context("cannot list processes")? {
        let entry = entry.context("cannot list processes")?;
        let name = entry.file_name();
        if !name.as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let process = entry.path();
        let mut used = Vec::new();
        match uses(&process, &mut used) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unread += 1,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => tracing::warn!(
                "what process {} has mapped is not known: it does not answer",
                name.display()
            ),
            // It has ended.
            Err(_) => {}
        }
        if used
            .iter()
            .all(|path| store_paths_in(path).next().is_none())
        {
            continue;
        }
        let command = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let who = format!("{} (pid {})", command.trim_end(), name.display());
        for path in used.iter().flat_map(|path| store_paths_in(path)) {
            found(&who, &path);
        }
    }
    for line in read_lines("/proc/self/mountinfo").unwrap_or_default() {
        // 36 35 98:0 /root /mountpoint …; names of store paths are never escaped.
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, mountpoint) = (fields.nth(3), fields.next());
        for field in [root, mountpoint].into_iter().flatten() {
            for path in store_paths_in(Path::new(OsStr::from_bytes(field))) {
                found("a mount", &path);
            }
        }
    }
    Ok(unread)
}

/// What a process has as program, directories, open files and mappings.
fn uses(process: &Path, used: &mut Vec<PathBuf>) -> io::Result<()> {
    for what in ["exe", "cwd", "root"] {
        match fs::read_link(process.join(what)) {
            Ok(path) => used.push(path),
            // The kernel's own threads have no program.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for fd in fs::read_dir(process.join("fd"))? {
        // It may be closed by now.
        used.extend(fd.and_then(|fd| fs::read_link(fd.path())).ok());
    }
    for line in maps(process)? {
        // address permissions offset device inode path
        if let Some(at) = line.iter().position(|byte| *byte == b'/') {
            used.push(PathBuf::from(OsStr::from_bytes(&line[at..])));
        }
    }
    used.sort_unstable();
    used.dedup();
    Ok(())
}

/// The mappings of a process. To read them waits for whoever changes them, who
/// may wait for a mount that does not answer.
fn maps(process: &Path) -> io::Result<Vec<Vec<u8>>> {
    let path = process.join("maps");
    let (sender, lines) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        // Nobody may wait for it any more.
        let _ = sender.send(read_lines(path));
    })?;
    (lines.recv_timeout(PATIENCE)).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn read_lines(path: impl AsRef<Path>) -> io::Result<Vec<Vec<u8>>> {
    let bytes = fs::read(path)?;
    Ok(bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn open_files_and_mappings_are_in_use() {
        let base = "5cq8g09l6map5dgp4a68nz6j2b1xwvqq-open";
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(base);
        fs::write(&file, "x").unwrap();
        let users = || {
            let mut users = Vec::new();
            find(&mut |who, path| {
                if path.to_string() == base {
                    users.push(who.to_owned());
                }
            })
            .unwrap();
            users
        };
        assert!(users().is_empty());
        let open = File::open(&file).unwrap();
        let me = format!("(pid {})", std::process::id());
        assert!(users().iter().any(|who| who.ends_with(&me)));
        // It is used though it has no name any more.
        fs::remove_file(&file).unwrap();
        assert!(users().iter().any(|who| who.ends_with(&me)));
        drop(open);
        assert!(users().is_empty());
    }
}
