//! store-mountd, in each of its ways to read.

use super::super::{Bench, usage};
use super::{Counters, Mounted, Subject, Trees};
use crate::mount::Mount;
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names, integrity modes and data paths. The first is the default.
const WAYS: &[(&str, &str, &str)] = &[
    (DEFAULT, "on-read", "cached"),
    ("cached, at-rest", "at-rest", "cached"),
    ("passthrough, at-rest", "at-rest", "passthrough"),
];

/// The way of a mount without options.
pub(in super::super) const DEFAULT: &str = "cached, on-read";

pub(super) fn all(bench: &Bench<'_>, trees: &Trees) -> Result<Vec<Box<dyn Subject>>> {
    let store = bench.dir.join("store-read");
    let mountpoint = bench.mountpoint()?;
    let tree = mountpoint.join(import(bench, &store, &trees.packages)?);
    let lookups = mountpoint.join(import(bench, &store, &trees.lookups)?);
    Ok(WAYS
        .iter()
        .map(|(name, integrity, data_path)| {
            Box::new(Ours {
                name,
                program: bench.program.clone(),
                store: store.clone(),
                mountpoint: mountpoint.clone(),
                tree: tree.clone(),
                lookups: lookups.clone(),
                options: vec![
                    format!("--integrity={integrity}"),
                    format!("--data-path={data_path}"),
                ],
            }) as _
        })
        .collect())
}

/// Imports a tree and returns the name that it has in the mount.
fn import(bench: &Bench<'_>, store: &Path, tree: &Path) -> Result<PathBuf> {
    let mut import = Command::new(&bench.program);
    import.arg("--store").arg(store).arg("import").arg(tree);
    let output = import.output().context("importing the tree")?;
    let status = output.status;
    ensure!(status.success(), "the import failed: {status}");
    let imported = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let name = imported.file_name().context("import printed no path")?;
    Ok(name.into())
}

struct Ours {
    name: &'static str,
    program: PathBuf,
    store: PathBuf,
    mountpoint: PathBuf,
    tree: PathBuf,
    lookups: PathBuf,
    options: Vec<String>,
}

impl Subject for Ours {
    fn name(&self) -> &str {
        self.name
    }

    fn mount(&self) -> Result<Box<dyn Mounted>> {
        let mount = Mount::start(&self.program, &self.store, &self.mountpoint, &self.options)?;
        Ok(Box::new(OurMount {
            mount,
            tree: self.tree.clone(),
            lookups: self.lookups.clone(),
        }))
    }
}

struct OurMount {
    mount: Mount,
    tree: PathBuf,
    lookups: PathBuf,
}

impl Mounted for OurMount {
    fn tree(&self) -> &Path {
        &self.tree
    }

    fn lookups(&self) -> Option<&Path> {
        Some(&self.lookups)
    }

    fn counters(&mut self) -> Result<Counters> {
        let usage = usage::of(self.mount.pid())?;
        Ok(Counters {
            cpu: usage.cpu,
            requests: Some(self.mount.statistics()?.requests),
            memory: usage.memory,
        })
    }

    fn unmount(self: Box<Self>) -> Result<()> {
        self.mount.stop()
    }
}
