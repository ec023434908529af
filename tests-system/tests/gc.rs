//! Collecting garbage: whatever happens to it, what is to stay is there, and the store is sound.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use system_tests::counts::repetitions;
use system_tests::loop_mount::{FsType, LoopMount};
use system_tests::lossy_disk::{Image, LossyDisk, Survival};
use system_tests::mountd::{MountOptions, Store, name_of};
use system_tests::rng::Rng;
use system_tests::scratch;
use system_tests::tree::{Shape, Tree};

const SHAPE: Shape = Shape {
    files: 40,
    sizes: &[10, 3000, 20_000, 400_000],
};
const DISK_SIZE: u64 = 512 << 20;

/// A store with trees that are to stay, and are pinned.
struct Kept {
    store: Store,
    /// The first is always the same one.
    trees: Vec<(Arc<Tree>, PathBuf)>,
}

/// Of those that follow on the first, the newest so many.
const NEWEST: usize = 2;

impl Kept {
    fn new(store: Store, rng: &mut Rng, dir: &Path) -> Result<Self> {
        let mut kept = Self {
            store,
            trees: Vec::new(),
        };
        kept.litter(rng, dir, "first")?;
        Ok(kept)
    }

    /// Imports a tree that is to stay after another one, which will be garbage, has brought its
    /// contents: so they lie among garbage. The oldest but the first becomes garbage, too.
    fn litter(&mut self, rng: &mut Rng, dir: &Path, name: &str) -> Result<()> {
        let whole = dir.join(name);
        let (kept, garbage) = (Tree::random(rng, SHAPE), Tree::random(rng, SHAPE));
        fs::create_dir(&whole)?;
        kept.write(&whole.join("kept"))?;
        garbage.write(&whole.join("garbage"))?;
        let imported = self.store.import(&[whole.clone(), whole.join("kept")])?;
        fs::remove_dir_all(whole)?;
        self.trees.push((Arc::new(kept), imported[1].clone()));
        if self.trees.len() > 1 + NEWEST {
            self.trees.remove(1);
        }
        let mut pin = self.store.command();
        pin.args(["pin", "kept"])
            .args(self.trees.iter().map(|(_, path)| path));
        ensure!(pin.status()?.success(), "the trees cannot be pinned");
        Ok(())
    }

    fn check(&self) -> Result<()> {
        self.store.expect_clean()?;
        for (tree, path) in &self.trees {
            self.store.expect_content(path, tree)?;
        }
        Ok(())
    }

    /// Collects in peace: nothing but what is kept is left.
    fn check_at_the_end(&self) -> Result<()> {
        run(&self.store, &["gc", "--all"])?;
        self.check()?;
        let listed = run(&self.store, &["ls"])?;
        let count = listed.lines().count();
        ensure!(count == self.trees.len(), "more is left: {listed}");
        let left = fs::read_dir(self.store.dir().join("tmp"))?.count();
        ensure!(left == 0, "{left} files are left in tmp");
        Ok(())
    }
}

fn run(store: &Store, arguments: &[&str]) -> Result<String> {
    let finished = store.run(arguments)?;
    ensure!(finished.code == Some(0), "{arguments:?}: {finished:?}");
    Ok(finished.stdout)
}

fn start_gc(store: &Store) -> Result<Child> {
    let mut command = store.command();
    command.args(["gc", "--all"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("starting store-mountd")
}

/// How long a collection takes that nothing happens to.
fn time_gc(kept: &mut Kept, rng: &mut Rng, dir: &Path) -> Result<Duration> {
    kept.litter(rng, dir, "timed")?;
    let begin = Instant::now();
    run(&kept.store, &["gc", "--all"])?;
    Ok(begin.elapsed())
}

fn some_of(rng: &mut Rng, duration: Duration) -> Duration {
    Duration::from_micros(rng.below(duration.as_micros() as u64 * 11 / 10))
}

#[test]
fn a_killed_collection_harms_nobody() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let rounds = repetitions("kill -9 of a collection under a reader", 100, 20);
    let mut rng = Rng::from_env();
    let dir = scratch::dir("gc-kill")?;
    let store = Store::new(&dir.path().join("store"))?;
    let mut kept = Kept::new(store, &mut rng, dir.path())?;
    let duration = time_gc(&mut kept, &mut rng, dir.path())?;
    let mounted = kept.store.mount(MountOptions {
        list_root: true,
        ..MountOptions::default()
    })?;
    let (tree, path) = kept.trees[0].clone();
    let in_mount = mounted.path().join(name_of(&path)?);
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let killed = thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<()> {
            while !done.load(Relaxed) {
                let differences = tree.differences(&in_mount);
                ensure!(differences.is_empty(), "{differences:#?}");
                reads.fetch_add(1, Relaxed);
                // So that it is asked for again.
                fs::write("/proc/sys/vm/drop_caches", "3")?;
            }
            Ok(())
        });
        let mut kill_some = || -> Result<usize> {
            let mut killed = 0;
            for round in 0..rounds {
                kept.litter(&mut rng, dir.path(), &round.to_string())?;
                let mut gc = start_gc(&kept.store)?;
                thread::sleep(some_of(&mut rng, duration));
                // Fails only if it has ended already.
                let _ = gc.kill();
                killed += usize::from(gc.wait()?.code().is_none());
                kept.check().with_context(|| format!("round {round}"))?;
            }
            Ok(killed)
        };
        let killed = kill_some();
        done.store(true, Relaxed);
        let read = reader
            .join()
            .map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        read.context("the reader")?;
        killed
    })?;
    println!(
        "REPORT killed {killed} of {rounds} before their end; the tree was read {reads:?} times"
    );
    ensure!(killed > 0, "every collection was over before it was killed");
    kept.check_at_the_end()?;
    let differences = tree.differences(&in_mount);
    ensure!(differences.is_empty(), "{differences:#?}");
    Ok(())
}

#[test]
fn a_power_cut_during_a_collection_loses_nothing_that_stays() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let rounds = repetitions("power cut during a collection", 20, 5);
    let mut rng = Rng::from_env();
    let dir = scratch::dir("gc-power-cut")?;
    let image_file = dir.path().join("disk");
    FsType::Ext4.make(&image_file, DISK_SIZE)?;
    let disk = LossyDisk::power_on(Image::read(&image_file)?)?;
    let mounted = LoopMount::new(&disk.file(), FsType::Ext4)?;
    let at = |mounted: &LoopMount| Store::new(&mounted.path().join("store"));
    let mut kept = Kept::new(at(&mounted)?, &mut rng, dir.path())?;
    let duration = time_gc(&mut kept, &mut rng, dir.path())?;
    mounted.unmount()?;
    let mut image = disk.into_image(Survival::Everything, &mut rng);
    let mut cut_during = 0;
    for round in 0..rounds {
        let disk = LossyDisk::power_on(image)?;
        let mounted = LoopMount::new(&disk.file(), FsType::Ext4)?;
        kept.store = at(&mounted)?;
        kept.litter(&mut rng, dir.path(), &round.to_string())?;
        let mut gc = start_gc(&kept.store)?;
        thread::sleep(some_of(&mut rng, duration));
        disk.cut();
        cut_during += usize::from(gc.try_wait()?.is_none());
        let _ = gc.kill();
        gc.wait()?;
        drop(mounted);
        let survival = Survival::pick(&mut rng);
        println!("REPORT round {round}: unflushed blocks: {survival:?}");
        let disk = LossyDisk::power_on(disk.into_image(survival, &mut rng))?;
        let mounted =
            LoopMount::new(&disk.file(), FsType::Ext4).context("replaying the journal")?;
        kept.store = at(&mounted)?;
        kept.check().with_context(|| format!("round {round}"))?;
        if round + 1 == rounds {
            kept.check_at_the_end()?;
        }
        mounted.unmount()?;
        image = disk.into_image(Survival::Everything, &mut rng);
    }
    ensure!(cut_during > 0, "every collection was over before the cut");
    Ok(())
}

#[test]
fn a_full_disk_can_be_collected() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let mut rng = Rng::from_env();
    let dir = scratch::dir("gc-full")?;
    let file = dir.path().join("disk");
    FsType::Ext4.make(&file, 64 << 20)?;
    let mounted = LoopMount::new(&file, FsType::Ext4)?;
    let store = Store::new(&mounted.path().join("store"))?;
    let mut kept = Kept::new(store, &mut rng, dir.path())?;
    kept.litter(&mut rng, dir.path(), "garbage")?;
    // To the last byte.
    let filler = mounted.path().join("filler");
    let mut large = fs::File::create(&filler)?;
    while std::io::Write::write_all(&mut large, &[1; 4096]).is_ok() {}
    drop(large);
    let full = kept.store.run(&["gc", "--all"])?;
    ensure!(!full.stderr.contains("panicked"), "{full:?}");
    println!(
        "REPORT on a full disk: {:?}: {}",
        full.code,
        full.stderr.trim()
    );
    if full.code != Some(0) {
        ensure!(full.stderr.contains("No space left on device"), "{full:?}");
    }
    kept.check()?;
    // With room for an index.
    fs::remove_file(&filler)?;
    kept.check_at_the_end()?;
    mounted.unmount()
}
