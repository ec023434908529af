//! A store on a medium that cannot be written.

use anyhow::{Result, ensure};
use nix::mount::{MsFlags, mount};
use system_tests::loop_mount::{FsType, LoopMount};
use system_tests::mountd::{MountOptions, Store, name_of};
use system_tests::rng::Rng;
use system_tests::scratch;
use system_tests::tree::{Shape, Tree};

#[test]
fn a_store_on_a_read_only_filesystem_mounts_and_verifies() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let dir = scratch::dir("read-only")?;
    let disk = dir.path().join("disk");
    FsType::Ext4.make(&disk, 128 << 20)?;
    let medium = LoopMount::new(&disk, FsType::Ext4)?;
    let store = Store::new(&medium.path().join("store"))?;
    let (trees, paths) =
        Tree::write_many(&mut Rng::from_env(), Shape::VARIED, 3, dir.path(), "tree")?;
    let imported = store.import(&paths)?;
    mount(
        None::<&str>,
        medium.path(),
        None::<&str>,
        MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
        None::<&str>,
    )?;

    store.expect_clean()?;
    let mounted = store.mount(MountOptions::default())?;
    for (path, tree) in imported.iter().zip(&trees) {
        let differences = tree.differences(&mounted.path().join(name_of(path)?));
        ensure!(differences.is_empty(), "{differences:#?}");
        store.expect_content(path, tree)?;
    }
    let finished = mounted.stop()?;
    ensure!(finished.code == Some(0), "{finished:?}");

    // An import has to fail, and to say why.
    let outcome = store.start_import(&paths[..1])?.wait()?;
    ensure!(
        outcome.code == Some(0) || outcome.stderr.contains("Read-only file system"),
        "{outcome:?}"
    );
    let other = dir.path().join("other");
    Tree::random(&mut Rng::from_env(), Shape::VARIED).write(&other)?;
    let outcome = store.start_import(&[&other])?.wait()?;
    ensure!(
        outcome.code.is_some_and(|code| code != 0)
            && outcome.stderr.contains("Read-only file system"),
        "{outcome:?}"
    );
    medium.unmount()
}
