//! Random damage to any file of the store, with integrity on-read: right bytes, or EIO, or a
//! refusal to start that names the file. Never anything else.

mod corruption {
    pub(crate) mod damage;
    pub(crate) mod judge;
}

use anyhow::{Result, bail, ensure};
use corruption::damage::{Damage, Victim};
use corruption::judge::{Expected, Judge};
use std::path::Path;
use system_tests::counts::repetitions;
use system_tests::mountd::{MountOptions, Mounted, Store};
use system_tests::rng::Rng;
use system_tests::scratch;
use system_tests::tree::{Shape, Tree};

const SHAPES: &[Shape] = &[
    Shape::VARIED,
    Shape {
        files: 60,
        sizes: &[30, 200, 1000, 5000],
    },
    Shape {
        files: 3,
        sizes: &[5 << 20, 100, 1 << 20],
    },
    Shape::VARIED,
];

#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    with_errors: usize,
    without_effect: usize,
}

#[test]
fn damage_is_never_served() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let rounds = repetitions(
        "random flip or truncation in a copy of the store",
        1000,
        250,
    );
    let mut rng = Rng::from_env();
    let dir = scratch::dir("corruption")?;
    let store = Store::new(&dir.path().join("store"))?;
    let mut expected = Expected::default();
    // One import each: several packs and several indices.
    for (number, shape) in SHAPES.iter().enumerate() {
        let tree = Tree::random(&mut rng, *shape);
        let path = dir.path().join(format!("tree-{number}"));
        tree.write(&path)?;
        let imported = store.import(&[&path])?;
        expected.insert(&imported[0], tree)?;
    }
    expect_undamaged(&store, &expected)?;

    let mut tally = Tally::default();
    let mut failures = Vec::new();
    for round in 0..rounds {
        let victim = Victim::pick(store.dir(), &mut rng)?;
        let damage = Damage::pick(&victim, &mut rng);
        let copy = dir.path().join(format!("copy-{round}"));
        victim.copy_store_with(store.dir(), &copy, damage)?;
        if let Err(error) = inject(&copy, &victim, &expected, &mut tally) {
            failures.push(format!("round {round}: {damage} in {victim}: {error:#}"));
        }
        std::fs::remove_dir_all(&copy)?;
    }
    ensure!(
        failures.is_empty(),
        "{} of {rounds} damaged stores:\n{}",
        failures.len(),
        failures.join("\n\n")
    );
    println!("REPORT of {rounds} damaged stores: {tally:?}");
    assert!(
        tally.without_effect < rounds / 2,
        "the damage mostly hits nothing"
    );
    Ok(())
}

fn options() -> MountOptions {
    MountOptions {
        list_root: true,
        integrity: Some("on-read"),
        ..MountOptions::default()
    }
}

/// The judge finds no fault with a good store: else its verdicts on damaged ones mean nothing.
fn expect_undamaged(store: &Store, expected: &Expected) -> Result<()> {
    let mounted = store.mount(options())?;
    let judge = Judge::of(mounted.path(), expected);
    ensure!(
        judge.wrong.is_empty() && judge.errors.is_empty(),
        "the undamaged store: {judge:#?}"
    );
    let finished = mounted.stop()?;
    ensure!(finished.code == Some(0), "{finished:?}");
    Ok(())
}

fn inject(copy: &Path, victim: &Victim, expected: &Expected, tally: &mut Tally) -> Result<()> {
    let store = Store::new(copy)?;
    let mut mounted = match Mounted::try_start(&store, options())? {
        Ok(mounted) => mounted,
        Err(finished) => {
            tally.refused += 1;
            ensure!(
                finished.code.is_some_and(|code| code != 0)
                    && !finished.stderr.contains("panicked"),
                "a crash: {finished:?}"
            );
            ensure!(
                finished.stderr.contains(&victim.file_name()),
                "the refusal does not name the file: {}",
                finished.stderr
            );
            return Ok(());
        }
    };
    let judge = Judge::of(mounted.path(), expected);
    ensure!(mounted.is_alive(), "it crashed: {}", mounted.messages());
    let finished = mounted.stop()?;
    ensure!(
        finished.code == Some(0) && !finished.stderr.contains("panicked"),
        "a crash: {finished:?}"
    );
    if !judge.wrong.is_empty() {
        bail!("{:#?}\n{}", judge.wrong, finished.stderr);
    }
    if judge.errors.is_empty() {
        tally.without_effect += 1;
        return Ok(());
    }
    tally.with_errors += 1;
    judge.check_log(&finished.stderr)
}
