//! Import against `cp -a` and `sync` of the same tree.

use super::measure::{Cache, Row, Subject, report};
use super::{Bench, tree};
use anyhow::{Context as _, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

pub(super) fn run(bench: &Bench<'_>) -> Result<String> {
    let tree = tree::packages(bench)?;
    println!("tree: {tree}");
    let copy = bench.dir.join("copy");
    let fresh = bench.dir.join("store-fresh");
    let kept = bench.dir.join("store-kept");

    // The store of the re-import rows has the tree already.
    remove(&kept)?;
    let import = |store: &Path| {
        let mut command = Command::new(&bench.program);
        command
            .arg("--store")
            .arg(store)
            .arg("import")
            .arg(&tree.path);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    crate::process::run(&mut import(&kept)).context("the first import")?;

    let rows = [
        Row {
            name: "cp -a, sync",
            cache: Cache::Cold,
            subject: Subject::new(
                || remove(&copy),
                || {
                    let mut command = Command::new("cp");
                    command.arg("-a").arg(&tree.path).arg(&copy);
                    command
                },
            ),
        },
        Row {
            name: "import, sync",
            cache: Cache::Cold,
            subject: Subject::new(|| remove(&fresh), || import(&fresh)),
        },
        Row {
            name: "re-import unchanged",
            cache: Cache::Cold,
            subject: Subject::new(|| Ok(()), || import(&kept)),
        },
        Row {
            name: "re-import unchanged",
            cache: Cache::Warm,
            subject: Subject::new(|| Ok(()), || import(&kept)),
        },
    ];
    let table = report("import", bench, &rows, &tree.to_string())?;
    for path in [&copy, &fresh, &kept] {
        remove(path)?;
    }
    Ok(table)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
