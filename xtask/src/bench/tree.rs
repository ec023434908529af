//! The trees that are measured: what Debian's packages install, so that sizes, names and programs
//! are real; and directories that differ in nothing but their size.

use super::Bench;
use crate::process::{output, run};
use anyhow::{Context as _, Result, ensure};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Fetched by apt with all that they need, in the versions of the machine's own release.
const PACKAGES: &[&str] = &[
    "python3",
    "gcc",
    "g++",
    "perl",
    "locales",
    "linux-headers-amd64",
    "git",
    "vim-runtime",
    "golang-src",
];
/// A smaller tree is not what the aims are about.
const LEAST: (usize, u64) = (20_000, 500 << 20);

/// The name of the big file in the tree, and its size in bytes.
pub(super) const BIG_FILE: (&str, u64) = ("big-file", 1 << 30);

/// Entries of the one big directory, and of all the small ones together.
pub(super) const LOOKUPS: usize = 20_000;
/// Entries of each small directory.
pub(super) const FEW: usize = 20;

/// A tree and what is in it, the big file not counted.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) path: PathBuf,
    files: usize,
    directories: usize,
    symlinks: usize,
    bytes: u64,
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{} files of {mib:.0} MiB, {} symlinks and {} directories from {} and what they need",
            self.files,
            self.symlinks,
            self.directories,
            PACKAGES.join(", ")
        )
    }
}

/// The tree of packages with the big file in it, made if an earlier run did not.
pub(super) fn packages(bench: &Bench<'_>) -> Result<Tree> {
    let path = bench.dir.join("tree");
    if !path.exists() {
        let partial = bench.dir.join("tree.partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        unpack(bench, &partial)?;
        write_big_file(&partial.join(BIG_FILE.0))?;
        settle(&partial)?;
        fs::rename(&partial, &path)?;
    }
    let mut tree = Tree {
        path: path.clone(),
        files: 0,
        directories: 1,
        symlinks: 0,
        bytes: 0,
    };
    tree.count(&path)?;
    tree.files -= 1;
    tree.bytes -= BIG_FILE.1;
    ensure!(
        tree.files >= LEAST.0 && tree.bytes >= LEAST.1,
        "the tree is too small: {tree}"
    );
    Ok(tree)
}

impl Tree {
    fn count(&mut self, dir: &Path) -> Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                self.directories += 1;
                self.count(&entry.path())?;
            } else if metadata.is_symlink() {
                self.symlinks += 1;
            } else {
                self.files += 1;
                self.bytes += metadata.len();
            }
        }
        Ok(())
    }
}

fn unpack(bench: &Bench<'_>, tree: &Path) -> Result<()> {
    let debs = bench.dir.join("debs");
    fs::create_dir_all(debs.join("partial"))?;
    // As if nothing were installed, so that all they need is fetched, too.
    let status = bench.dir.join("no-packages");
    File::create(&status)?;
    let mut fetch = Command::new("apt-get");
    fetch.args(["--yes", "--quiet", "--no-install-recommends"]);
    fetch.arg("--download-only").arg("install").args(PACKAGES);
    for (name, value) in [
        ("Dir::State::status", status.display()),
        ("Dir::Cache::archives", debs.display()),
    ] {
        fetch.arg(format!("--option={name}={value}"));
    }
    run(fetch.stdout(Stdio::null())).context("fetching packages (is `apt-get update` due?)")?;
    let mut archives = Vec::new();
    for entry in fs::read_dir(&debs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            archives.push(path);
        }
    }
    archives.sort();
    for archive in archives {
        run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(tree))?;
    }
    Ok(())
}

/// Gives everything the time that it has in a store, and Python's modules the compiled form that
/// their installation would have made, so that a program finds the same on every subject.
fn settle(tree: &Path) -> Result<()> {
    touch(tree)?;
    let mut compile = Command::new("chroot");
    compile.arg(tree);
    compile.args(["/usr/bin/python3", "-m", "compileall", "-q"]);
    for entry in fs::read_dir(tree.join("usr/lib"))? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with("python3") {
            compile.arg(Path::new("/usr/lib").join(name));
        }
    }
    // Some modules are there to be wrong.
    let _ = output(&mut compile);
    touch(tree)
}

fn touch(tree: &Path) -> Result<()> {
    let mut find = Command::new("find");
    find.arg(tree);
    run(find.args(["-exec", "touch", "--no-dereference", "--date=@1", "{}", "+"]))
}

fn write_big_file(path: &Path) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for offset in (0..BIG_FILE.1).step_by(8) {
        file.write_all(&big_word(offset).to_le_bytes())?;
    }
    file.flush()?;
    Ok(())
}

/// The big file's contents: each word tells its place.
pub(super) fn big_word(offset: u64) -> u64 {
    (offset / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A directory of 20,000 entries, and a thousand of 20. The entries are symlinks, each another.
pub(super) fn lookups(bench: &Bench<'_>) -> Result<PathBuf> {
    let path = bench.dir.join("lookups");
    if path.exists() {
        return Ok(path);
    }
    let partial = bench.dir.join("lookups.partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(partial.join("many"))?;
    for number in 0..LOOKUPS {
        let few = partial.join("few").join((number / FEW).to_string());
        fs::create_dir_all(&few)?;
        symlink(number.to_string(), few.join(name(number % FEW)))?;
        symlink(number.to_string(), partial.join("many").join(name(number)))?;
    }
    fs::rename(&partial, &path)?;
    Ok(path)
}

/// The name of an entry of those directories.
pub(super) fn name(number: usize) -> String {
    format!("entry-{number:05}")
}
