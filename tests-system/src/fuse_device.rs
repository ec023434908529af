//! `/dev/fuse` for ordinary users.

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const DEVICE: &str = "/dev/fuse";

/// Makes `/dev/fuse` what udev makes it on every distribution, usable by all, for this thread and
/// the processes that it starts from now on. A container or a small machine may have it for root
/// only.
///
/// The machine's own device is not touched: the thread gets a mount namespace in which another
/// node lies over it.
pub fn open_to_all() -> Result<()> {
    let mode = fs::metadata(DEVICE).context(DEVICE)?.permissions().mode();
    if mode & 0o006 == 0o006 {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).context("creating a mount namespace")?;
    let none = None::<&str>;
    // Nothing that is mounted from here on is seen outside.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).context("making the mounts private")?;

    // A tmpfs of its own: others may be mounted nodev. It is out of sight at once, and stays for
    // as long as the namespace.
    let dir = tempfile::tempdir()?;
    mount(
        Some("tmpfs"),
        dir.path(),
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )?;
    let node = dir.path().join("fuse");
    mknod(&node, SFlag::S_IFCHR, Mode::empty(), makedev(10, 229))?;
    fs::set_permissions(&node, Permissions::from_mode(0o666))?;
    mount(Some(&node), Path::new(DEVICE), none, MsFlags::MS_BIND, none)
        .context("mounting a node over /dev/fuse")?;
    nix::mount::umount2(dir.path(), nix::mount::MntFlags::MNT_DETACH)?;
    Ok(())
}
