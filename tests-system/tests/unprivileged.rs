//! Root and an ordinary user with one store.

use anyhow::{Result, ensure};
use nix::unistd::{Gid, Uid, User, chown};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use system_tests::fuse_device;
use system_tests::mountd::{MountOptions, Store, name_of, program};
use system_tests::rng::Rng;
use system_tests::scratch;
use system_tests::tree::{Shape, Tree};
use tempfile::TempDir;

const SHAPE: Shape = Shape {
    files: 12,
    sizes: &[100, 5000, 300_000],
};

/// A place that everybody can reach, with the program and a store seen by both users.
struct Scene {
    dir: TempDir,
    rng: Rng,
    by_root: Store,
    by_user: Store,
}

impl Scene {
    /// The store's directory is created by whoever imports first.
    fn new(owner_is_user: bool) -> Result<Self> {
        scratch::require_root_and_fuse()?;
        fuse_device::open_to_all()?;
        let Some(nobody) = User::from_name("nobody")? else {
            anyhow::bail!("this system has no user nobody");
        };
        // Not under target/: the checkout may lie in a directory that only its owner may enter.
        let dir = tempfile::Builder::new().prefix("unprivileged-").tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let copy = dir.path().join("store-mountd");
        fs::copy(program()?, &copy)?;
        let state = dir.path().join("state");
        fs::create_dir(&state)?;
        if owner_is_user {
            chown(&state, Some(nobody.uid), Some(nobody.gid))?;
        }
        let by_root = Store::new(&state.join("store"))?;
        let (uid, gid): (Uid, Gid) = (nobody.uid, nobody.gid);
        let by_user = by_root.used_by(uid.as_raw(), gid.as_raw(), &copy);
        Ok(Self {
            dir,
            rng: Rng::from_env(),
            by_root,
            by_user,
        })
    }

    fn import(&mut self, store: &Store, name: &str) -> Result<(PathBuf, Tree)> {
        let tree = Tree::random(&mut self.rng, SHAPE);
        let path = self.dir.path().join(name);
        tree.write(&path)?;
        Ok((store.import(&[&path])?.remove(0), tree))
    }
}

/// Everything is there through a mount of this user's, who can read and end it.
fn expect_mounted(store: &Store, known: &[&(PathBuf, Tree)]) -> Result<()> {
    let mounted = store.mount(MountOptions::default())?;
    for (path, tree) in known {
        let path = mounted.path().join(name_of(path)?);
        // A user's mount is not for root to read: look at it as that user.
        let differences = store.differences_as_user(tree, &path)?;
        ensure!(differences.is_empty(), "{differences:#?}");
    }
    let finished = mounted.stop()?;
    ensure!(finished.code == Some(0), "{finished:?}");
    Ok(())
}

#[test]
fn a_users_store_is_used_by_root_and_still_by_the_user() -> Result<()> {
    let mut scene = Scene::new(true)?;
    let (by_root, by_user) = (scene.by_root.clone(), scene.by_user.clone());
    let first = scene.import(&by_user, "first")?;
    expect_mounted(&by_user, &[&first])?;

    by_root.expect_clean()?;
    expect_mounted(&by_root, &[&first])?;
    let second = scene.import(&by_root, "second")?;
    expect_mounted(&by_root, &[&first, &second])?;

    let third = scene.import(&by_user, "third")?;
    by_user.expect_clean()?;
    expect_mounted(&by_user, &[&first, &second, &third])?;
    by_root.expect_clean()
}

#[test]
fn a_store_of_root_is_read_by_a_user_and_not_written() -> Result<()> {
    let mut scene = Scene::new(false)?;
    let (by_root, by_user) = (scene.by_root.clone(), scene.by_user.clone());
    let first = scene.import(&by_root, "first")?;
    by_user.expect_clean()?;
    expect_mounted(&by_user, &[&first])?;

    let tree = Tree::random(&mut scene.rng, SHAPE);
    let path = scene.dir.path().join("refused");
    tree.write(&path)?;
    let outcome = by_user.start_import(&[&path])?.wait()?;
    ensure!(
        outcome.code.is_some_and(|code| code != 0)
            && outcome.stderr.contains("Permission denied")
            && outcome.stderr.contains(&*by_root.dir().to_string_lossy()),
        "{outcome:?}"
    );

    let second = scene.import(&by_root, "second")?;
    expect_mounted(&by_user, &[&first, &second])?;
    expect_mounted(&by_root, &[&first, &second])
}

#[test]
fn a_user_without_fusermount3_is_told_so() -> Result<()> {
    let mut scene = Scene::new(true)?;
    let by_user = scene.by_user.clone();
    scene.import(&by_user, "first")?;
    let mountpoint = scene.dir.path().join("mnt");
    fs::create_dir(&mountpoint)?;
    let output = by_user
        .command()
        .arg("mount")
        .arg(Path::new(&mountpoint))
        .env("PATH", "/nonexistent")
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && stderr.contains("fusermount3"),
        "{stderr}"
    );
    Ok(())
}
