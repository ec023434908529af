//! kill -9 of an import at any moment: nothing acknowledged is lost, nothing else is harmed.

use anyhow::Result;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use system_tests::counts::repetitions;
use system_tests::mountd::Store;
use system_tests::rng::Rng;
use system_tests::scratch;
use system_tests::tree::{Shape, Tree};

const SHAPE: Shape = Shape {
    files: 60,
    sizes: &[10, 3000, 20_000, 400_000],
};
const TREES: usize = 6;

#[test]
fn a_killed_import_loses_nothing_that_was_acknowledged() -> Result<()> {
    let rounds = repetitions("kill -9 of an import", 50, 20);
    let mut rng = Rng::from_env();
    let dir = scratch::dir("kill")?;
    let store = Store::new(&dir.path().join("store"))?;
    let mut acknowledged: Vec<(PathBuf, Tree)> = Vec::new();
    let mut killed = 0;

    // An undisturbed import tells how long one takes.
    let (first, paths) = Tree::write_many(&mut rng, SHAPE, TREES, dir.path(), "first")?;
    let begin = Instant::now();
    let imported = store.import(&paths)?;
    let duration = begin.elapsed();
    acknowledged.extend(imported.into_iter().zip(first));

    for round in 0..rounds {
        let (trees, paths) =
            Tree::write_many(&mut rng, SHAPE, TREES, dir.path(), &round.to_string())?;
        let import = store.start_import(&paths)?;
        let moment = duration.as_micros() as u64 * 11 / 10;
        std::thread::sleep(Duration::from_micros(rng.below(moment)));
        let outcome = import.kill()?;
        killed += usize::from(outcome.code.is_none());
        let before = acknowledged.len();
        acknowledged.extend(outcome.acknowledged.into_iter().zip(trees));

        store.expect_clean()?;
        for (path, tree) in &acknowledged[before..] {
            store.expect_content(path, tree)?;
        }
    }
    println!(
        "REPORT killed {killed} of {rounds} imports before their end; {} paths acknowledged",
        acknowledged.len()
    );
    assert!(killed > 0, "every import was over before it was killed");

    // A last import in peace, and all that was ever acknowledged is still there.
    let (_, paths) = Tree::write_many(&mut rng, SHAPE, TREES, dir.path(), "last")?;
    store.import(&paths)?;
    store.expect_clean()?;
    for (path, tree) in &acknowledged {
        store.expect_content(path, tree)?;
    }
    let leftovers = std::fs::read_dir(store.dir().join("tmp"))?.count();
    assert_eq!(leftovers, 0, "killed imports left files in tmp");
    Ok(())
}
