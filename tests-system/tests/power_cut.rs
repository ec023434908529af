//! The power fails during an import: what was acknowledged is on the disk, and the store is sound.

use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use system_tests::counts::repetitions;
use system_tests::loop_mount::{FsType, LoopMount};
use system_tests::lossy_disk::{Image, LossyDisk, Survival};
use system_tests::mountd::Store;
use system_tests::rng::Rng;
use system_tests::scratch;
use system_tests::tree::{Shape, Tree};

const DISK_SIZE: u64 = 512 << 20;
const SHAPE: Shape = Shape {
    files: 40,
    sizes: &[10, 3000, 20_000, 400_000],
};
const TREES: usize = 5;

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let rounds = repetitions("power cut during an import", 10, 5);
    let mut rng = Rng::from_env();
    let dir = scratch::dir("power-cut")?;
    let image_file = dir.path().join("disk");
    FsType::Ext4.make(&image_file, DISK_SIZE)?;
    // The store lives on through all rounds. The first import is left in peace, to see how long
    // one takes.
    let (trees, paths) = Tree::write_many(&mut rng, SHAPE, TREES, dir.path(), "first")?;
    let (mut image, imported, duration) = import(Image::read(&image_file)?, &paths, &mut rng)?;
    let mut known: Vec<(PathBuf, Tree)> = imported.into_iter().zip(trees).collect();
    let mut cut_during = 0;

    for round in 0..rounds {
        let (trees, paths) =
            Tree::write_many(&mut rng, SHAPE, TREES, dir.path(), &round.to_string())?;
        let disk = LossyDisk::power_on(image)?;
        let mounted = LoopMount::new(&disk.file(), FsType::Ext4)?;
        let store = Store::new(&mounted.path().join("store"))?;
        let mut import = store.start_import(&paths)?;
        // In turn: at any moment, and just when a path was acknowledged.
        if round % 2 == 0 {
            let end = Instant::now() + duration.mul_f64(rng.below(100) as f64 / 100.0);
            while import.wait_for_acknowledgement(end.saturating_duration_since(Instant::now())) {}
        } else {
            for _ in 0..=rng.below(TREES as u64 - 1) {
                import.wait_for_acknowledgement(Duration::from_secs(60));
            }
        }
        disk.cut();
        // A path that is printed after the cut counts too: its data had to be stable before.
        let outcome = import.wait_or_kill(Duration::from_secs(20))?;
        cut_during += usize::from(outcome.code != Some(0));
        drop(mounted);
        let survival = Survival::pick(&mut rng);
        println!(
            "REPORT round {round}: {} of {TREES} acknowledged, unflushed blocks: {survival:?}",
            outcome.acknowledged.len()
        );
        known.extend(outcome.acknowledged.into_iter().zip(trees));
        let image_after = disk.into_image(survival, &mut rng);

        image = check(image_after, &known, &mut rng).with_context(|| format!("round {round}"))?;
    }
    assert!(cut_during > 0, "every import was over before the cut");
    Ok(())
}

/// Imports on a disk that nothing happens to.
fn import(
    image: Image,
    paths: &[PathBuf],
    rng: &mut Rng,
) -> Result<(Image, Vec<PathBuf>, Duration)> {
    let disk = LossyDisk::power_on(image)?;
    let mounted = LoopMount::new(&disk.file(), FsType::Ext4)?;
    let begin = Instant::now();
    let imported = Store::new(&mounted.path().join("store"))?.import(paths)?;
    let duration = begin.elapsed();
    mounted.unmount()?;
    let image = disk.into_image(Survival::Everything, rng);
    Ok((image, imported, duration))
}

/// Powers the disk on again and looks at the store; returns the disk after an orderly unmount.
fn check(image: Image, known: &[(PathBuf, Tree)], rng: &mut Rng) -> Result<Image> {
    let disk = LossyDisk::power_on(image)?;
    let mounted = LoopMount::new(&disk.file(), FsType::Ext4).context("replaying the journal")?;
    let store = Store::new(&mounted.path().join("store"))?;
    store.expect_clean()?;
    for (path, tree) in known {
        store.expect_content(path, tree)?;
    }
    mounted.unmount()?;
    Ok(disk.into_image(Survival::Everything, rng))
}
