//! A full or failing disk during an import: a clear error, and the store as before.

use anyhow::{Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use system_tests::loop_mount::{FsType, LoopMount, TmpfsMount};
use system_tests::lossy_disk::{Image, LossyDisk, Survival};
use system_tests::mountd::{Outcome, Store};
use system_tests::rng::Rng;
use system_tests::scratch;
use system_tests::tree::{Shape, Tree};

const SMALL: Shape = Shape::VARIED;
/// Far more than fits: about 150 MB that cannot be compressed.
const TOO_LARGE: Shape = Shape {
    files: 160,
    sizes: &[2 << 20, 10_000, 1 << 20, 100_000],
};
const DISK_SIZE: u64 = 48 << 20;

/// Trees to import, on a disk that is in order.
struct Sources {
    dir: tempfile::TempDir,
    rng: Rng,
}

impl Sources {
    fn new() -> Result<Self> {
        Ok(Self {
            dir: scratch::dir("disk-errors")?,
            rng: Rng::from_env(),
        })
    }

    fn make(&mut self, name: &str, shape: Shape) -> Result<(Tree, PathBuf)> {
        let tree = Tree::random(&mut self.rng, shape);
        let path = self.dir.path().join(name);
        tree.write(&path)?;
        Ok((tree, path))
    }
}

/// The error says what could not be done and why, once, and no path was promised.
fn expect_clear_failure(outcome: &Outcome, reason: &str) -> Result<()> {
    ensure!(
        outcome.code.is_some_and(|code| code != 0),
        "it should have failed: {outcome:?}"
    );
    ensure!(outcome.acknowledged.is_empty(), "{outcome:?}");
    ensure!(
        outcome.stderr.contains(reason) && outcome.stderr.contains('/'),
        "{:?} names no path or not the reason {reason:?}",
        outcome.stderr
    );
    ensure!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    Ok(())
}

/// Nothing of a failed import is left once another one has come to its end.
fn expect_no_leftovers(store: &Store) -> Result<()> {
    let left: Vec<_> = fs::read_dir(store.dir().join("tmp"))?.collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn used_bytes(path: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() {
            used_bytes(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(total)
}

fn full_disk(mountpoint: &Path) -> Result<()> {
    let mut sources = Sources::new()?;
    let store = Store::new(&mountpoint.join("store"))?;
    let (small, small_path) = sources.make("small", SMALL)?;
    let (_, large_path) = sources.make("large", TOO_LARGE)?;
    let known = store.import(&[&small_path])?;
    let used = used_bytes(store.dir())?;

    for _ in 0..3 {
        let outcome = store.start_import(&[&large_path])?.wait()?;
        expect_clear_failure(&outcome, "No space left on device")?;
        store.expect_clean()?;
        store.expect_content(&known[0], &small)?;
        ensure!(
            used_bytes(store.dir())? <= used + (1 << 20),
            "a failed import keeps its space"
        );
    }

    let (other, other_path) = sources.make("other", SMALL)?;
    let imported = store.import(&[&other_path])?;
    store.expect_content(&imported[0], &other)?;
    store.expect_content(&known[0], &small)?;
    store.expect_clean()?;
    expect_no_leftovers(&store)
}

#[test]
fn a_full_ext4_leaves_the_store_as_it_was() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let dir = scratch::dir("full")?;
    let file = dir.path().join("disk");
    FsType::Ext4.make(&file, DISK_SIZE)?;
    let mounted = LoopMount::new(&file, FsType::Ext4)?;
    full_disk(mounted.path())?;
    mounted.unmount()
}

#[test]
fn a_full_tmpfs_leaves_the_store_as_it_was() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let mounted = TmpfsMount::new(DISK_SIZE)?;
    full_disk(mounted.path())
}

#[test]
fn write_errors_leave_the_store_as_it_was() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let mut sources = Sources::new()?;
    let file = sources.dir.path().join("disk");
    FsType::Ext4.make(&file, 256 << 20)?;
    let mut image = Image::read(&file)?;
    let mut known: Vec<(PathBuf, Tree)> = Vec::new();
    let mut failed = 0;

    for (round, good_writes) in [0, 3, 40, 400, 1500, 4000].into_iter().enumerate() {
        let disk = LossyDisk::power_on(image)?;
        let mounted = LoopMount::new(&disk.file(), FsType::Ext4)?;
        let store = Store::new(&mounted.path().join("store"))?;
        let (tree, path) = sources.make(&format!("before-{round}"), SMALL)?;
        let imported = store.import(&[&path])?;
        known.extend(imported.into_iter().map(|path| (path, tree.clone())));

        let (tree, path) = sources.make(&format!("during-{round}"), SMALL)?;
        disk.fail_writes_after(good_writes);
        let outcome = store.start_import(&[&path])?.wait()?;
        if outcome.acknowledged.is_empty() {
            failed += 1;
            let is_named = ["Input/output error", "Read-only file system"]
                .iter()
                .any(|reason| expect_clear_failure(&outcome, reason).is_ok());
            assert!(is_named, "{outcome:?}");
        } else {
            known.extend(
                outcome
                    .acknowledged
                    .into_iter()
                    .map(|path| (path, tree.clone())),
            );
        }
        drop(mounted);

        // The medium is replaced by a good one with the same content.
        let disk = LossyDisk::power_on(disk.into_image(Survival::Nothing, &mut sources.rng))?;
        let mounted = LoopMount::new(&disk.file(), FsType::Ext4)?;
        let store = Store::new(&mounted.path().join("store"))?;
        store.expect_clean()?;
        for (path, tree) in &known {
            store.expect_content(path, tree)?;
        }
        let (tree, path) = sources.make(&format!("after-{round}"), SMALL)?;
        let imported = store.import(&[&path])?;
        store.expect_content(&imported[0], &tree)?;
        store.expect_clean()?;
        expect_no_leftovers(&store)?;
        mounted.unmount()?;
        image = disk.into_image(Survival::Everything, &mut sources.rng);
    }
    assert!(failed >= 3, "only {failed} imports met a write error");
    Ok(())
}

#[test]
fn an_unreadable_source_file_is_named_and_nothing_is_imported() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let mut sources = Sources::new()?;
    let store = Store::new(&sources.dir.path().join("store"))?;
    let (small, small_path) = sources.make("small", SMALL)?;
    let known = store.import(&[&small_path])?;
    let before = store.run(&["ls"])?.stdout;

    let file = sources.dir.path().join("disk");
    FsType::Ext4.make(&file, 64 << 20)?;
    let disk = LossyDisk::power_on(Image::read(&file)?)?;
    let mounted = LoopMount::new(&disk.file(), FsType::Ext4)?;
    let tree = mounted.path().join("tree");
    Tree::random(&mut sources.rng, SMALL).write(&tree)?;
    let mut content = vec![b'.'; 3 << 20];
    content[2_000_000..2_000_009].copy_from_slice(b"badsector");
    fs::write(tree.join("damaged file"), content)?;
    // Out of the page cache, so that reading has to ask the disk.
    mounted.unmount()?;
    let mounted = LoopMount::new(&disk.file(), FsType::Ext4)?;
    let tree = mounted.path().join("tree");
    assert!(disk.fail_reads(b"badsector") > 0);

    let outcome = store.start_import(&[&tree])?.wait()?;
    expect_clear_failure(&outcome, "Input/output error")?;
    assert!(
        outcome.stderr.contains("damaged file"),
        "{}",
        outcome.stderr
    );
    assert_eq!(store.run(&["ls"])?.stdout, before);
    store.expect_clean()?;
    store.expect_content(&known[0], &small)?;
    expect_no_leftovers(&store)
}
