use std::path::{Path, PathBuf};

use rustix::{fs::statfs, io::Errno, process::geteuid};

use super::{MountHandle, UnmountError, handle::Via, mountinfo};

/// Takes away what is left on `mountpoint` of mounts by the name `name` that
/// nobody serves any more. Answers how many there were.
///
/// # Errors
/// If one is there and stays.
pub fn clear_dead(mountpoint: &Path, name: &str) -> Result<usize, UnmountError> {
    let mut cleared = 0;
    while is_dead(mountpoint) {
        let path = absolute(mountpoint);
        let found = mountinfo::at(&path).map_err(|source| UnmountError::Io {
            path: path.clone(),
            source,
        })?;
        let Some(mount) = found.filter(|mount| {
            mount.source == name && mount.fs_type.strip_prefix("fuse.") == Some(name)
        }) else {
            break;
        };
        let via = match geteuid().is_root() {
            true => Via::Kernel,
            false => Via::Fusermount,
        };
        MountHandle::new(mount, via).detach()?;
        cleared += 1;
    }
    Ok(cleared)
}

fn is_dead(mountpoint: &Path) -> bool {
    // Attributes may still be in the kernel's cache; these numbers never are.
    statfs(mountpoint).err() == Some(Errno::NOTCONN)
}

/// As the mount table has it, without asking the mount.
fn absolute(mountpoint: &Path) -> PathBuf {
    let absolute = std::path::absolute(mountpoint).unwrap_or_else(|_| mountpoint.to_owned());
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => match parent.canonicalize() {
            Ok(parent) => parent.join(name),
            Err(_) => absolute,
        },
        _ => absolute,
    }
}
