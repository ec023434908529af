//! The work whose time is measured: reading a tree the way programs do, every byte checked.
//!
//! It runs in a process of its own (`cargo xtask bench-work`), so that one subject's page cache,
//! descriptors and memory do not reach into the next one's measurement.

use super::tree::{BIG_FILE, FEW, LOOKUPS, big_word, name};
use anyhow::{Context as _, Result, bail, ensure};
use std::env::set_current_dir;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes up to which a file counts as small.
pub(super) const SMALL: u64 = 128 * 1024;
/// Files that are opened, read from and closed again and again.
const OPENED: usize = 2_000;
/// Reads of 4 KiB that each job does.
const RANDOM_READS: u64 = 4_000;
const BLOCK: u64 = 4096;

/// A file of the tree and the checksum of its contents.
#[derive(Debug)]
struct Listed {
    path: PathBuf,
    size: u64,
    sum: u64,
}

/// The list of the tree's files with their checksums, in the order of a walk with sorted names:
/// a directory's files, then its subdirectories.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    /// Lines that `find` prints.
    entries: usize,
    files: Vec<Listed>,
}

impl Manifest {
    pub(super) fn of(tree: &Path) -> Result<Self> {
        let mut this = Self::default();
        this.add(tree, Path::new(""))?;
        Ok(this)
    }

    fn add(&mut self, tree: &Path, dir: &Path) -> Result<()> {
        self.entries += 1;
        let mut entries = fs::read_dir(tree.join(dir))?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        let mut dirs = Vec::new();
        for entry in entries {
            let path = dir.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(path);
                continue;
            }
            self.entries += 1;
            // The big file is checked word by word, not by a checksum.
            if kind.is_file() && path != Path::new(BIG_FILE.0) {
                let content = fs::read(tree.join(&path))?;
                self.files.push(Listed {
                    path,
                    size: content.len() as u64,
                    sum: checksum(&content),
                });
            }
        }
        dirs.iter().try_for_each(|dir| self.add(tree, dir))
    }

    pub(super) fn small_files(&self) -> usize {
        let small = |file: &&Listed| file.size <= SMALL;
        self.files.iter().filter(small).count()
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let mut text = format!("{}\n", self.entries);
        for file in &self.files {
            // Names with a newline would need quoting; the measured tree can do without.
            if let Some(name) = file.path.to_str().filter(|name| !name.contains('\n')) {
                text += &format!("{} {:x} {name}\n", file.size, file.sum);
            }
        }
        fs::write(path, text).with_context(|| path.display().to_string())
    }

    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut lines = text.lines();
        let entries = lines.next().context("the manifest is empty")?.parse()?;
        let files = lines.map(|line| {
            let mut fields = line.splitn(3, ' ');
            let mut field = || fields.next().context("the manifest is cut short");
            Ok(Listed {
                size: field()?.parse()?,
                sum: u64::from_str_radix(field()?, 16)?,
                path: field()?.into(),
            })
        });
        Ok(Self {
            entries,
            files: files.collect::<Result<_>>()?,
        })
    }
}

/// Not against malice: it is to be cheap, and to notice a wrong, missing or swapped word.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut sum = 0_u64;
    for word in words {
        sum = (sum.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    rest.iter().fold(sum, |sum, byte| {
        (sum.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// Does the work called `name` (and, behind a colon, how often) on `tree` and returns how long it
/// took.
pub(super) fn run(name: &str, tree: &Path, manifest: &Path) -> Result<Duration> {
    let (name, times) = name.split_once(':').unwrap_or((name, "1"));
    let times = times.parse()?;
    match name {
        "walk" => walk(tree, Manifest::read(manifest)?.entries),
        "small" => read_files(tree, &small_files(manifest)?, times),
        "sequential" => read_big(&tree.join(BIG_FILE.0)),
        "random" => read_random(&tree.join(BIG_FILE.0), times),
        "open-read-close" => open_read_close(tree, &small_files(manifest)?),
        "python3" => start(tree, times, PYTHON),
        "gcc" => start(tree, times, GCC),
        "few" => look_up(&tree.join("few"), times == 1),
        "many" => look_up(&tree.join("many"), times == 1),
        _ => bail!("no such work: {name}"),
    }
}

fn walk(tree: &Path, entries: usize) -> Result<Duration> {
    let path = Path::new("/dev/shm").join(format!("bench-walk-{}", std::process::id()));
    let mut list = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    let begin = Instant::now();
    let status = Command::new("find")
        .arg(tree)
        .arg("-ls")
        .stdout(list.try_clone()?)
        .status()?;
    let elapsed = begin.elapsed();
    ensure!(status.success(), "find: {status}");
    let mut text = Vec::new();
    list.rewind()?;
    list.read_to_end(&mut text)?;
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    ensure!(lines == entries, "find lists {lines} of {entries} entries");
    Ok(elapsed)
}

fn small_files(manifest: &Path) -> Result<Vec<Listed>> {
    let mut files = Manifest::read(manifest)?.files;
    files.retain(|file| file.size <= SMALL);
    ensure!(!files.is_empty(), "the tree has no small files");
    Ok(files)
}

fn in_threads(threads: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<Duration> {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        for thread in running {
            match thread.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(begin.elapsed())
    })
}

fn read_files(tree: &Path, files: &[Listed], threads: usize) -> Result<Duration> {
    let part = files.len().div_ceil(threads);
    in_threads(threads, |thread| {
        let mut content = Vec::new();
        for file in files.chunks(part).nth(thread).unwrap_or_default() {
            let path = tree.join(&file.path);
            content.clear();
            File::open(&path)
                .and_then(|mut open| open.read_to_end(&mut content))
                .with_context(|| path.display().to_string())?;
            let right = content.len() as u64 == file.size && checksum(&content) == file.sum;
            ensure!(right, "{} reads wrong", path.display());
        }
        Ok(())
    })
}

fn read_big(path: &Path) -> Result<Duration> {
    let mut buffer = vec![0; 1 << 20];
    let begin = Instant::now();
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut offset = 0;
    loop {
        let len = file.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        check_big(offset, &buffer[..len])?;
        offset += len as u64;
    }
    ensure!(offset == BIG_FILE.1, "{} is cut short", path.display());
    Ok(begin.elapsed())
}

/// Checks the first and last word of each block.
fn check_big(offset: u64, bytes: &[u8]) -> Result<()> {
    let (words, _) = bytes.as_chunks::<8>();
    let last = words.len() - 1;
    for at in (0..words.len()).step_by(BLOCK as usize / 8).chain([last]) {
        let wanted = big_word(offset + at as u64 * 8);
        ensure!(
            u64::from_le_bytes(words[at]) == wanted,
            "wrong word at {offset} + {at} * 8"
        );
    }
    Ok(())
}

/// Each block at most once over all jobs: an odd multiplier visits every residue.
fn read_random(path: &Path, jobs: usize) -> Result<Duration> {
    let blocks = BIG_FILE.1 / BLOCK;
    in_threads(jobs, |job| {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let mut buffer = [0; BLOCK as usize];
        for number in 0..RANDOM_READS {
            let number = job as u64 * RANDOM_READS + number;
            let block = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % blocks;
            file.read_exact_at(&mut buffer, block * BLOCK)?;
            check_big(block * BLOCK, &buffer)?;
        }
        Ok(())
    })
}

fn open_read_close(tree: &Path, files: &[Listed]) -> Result<Duration> {
    let files = &files[..files.len().min(OPENED)];
    let paths: Vec<_> = files.iter().map(|file| tree.join(&file.path)).collect();
    let mut buffer = [0; BLOCK as usize];
    let begin = Instant::now();
    for _ in 0..5 {
        for (path, file) in paths.iter().zip(files) {
            let len = File::open(path)?.read(&mut buffer)?;
            ensure!(
                len as u64 == file.size.min(BLOCK),
                "{} reads short",
                path.display()
            );
        }
    }
    Ok(begin.elapsed())
}

/// A program of the tree, what it is given, and what it is to print among other things.
struct Program {
    command: &'static [&'static str],
    input: &'static str,
    says: &'static str,
}

const PYTHON: Program = Program {
    // -B: on a subject that can be written to, nothing is to be left for the next start.
    command: &[
        "/usr/bin/python3",
        "-B",
        "-c",
        "import asyncio, decimal, email, http.client, json, sqlite3, unittest; print(6 * 7)",
    ],
    input: "",
    says: "42\n",
};
const GCC: Program = Program {
    command: &["/usr/bin/gcc", "-O1", "-S", "-o", "-", "-x", "c", "-"],
    input: "#include <stdio.h>\n#include <stdlib.h>\nint main(void) { return puts(\"\"); }\n",
    says: "main:",
};

/// Starts a program of the tree's, with the tree as its root: all that it loads is the tree's own.
fn start(tree: &Path, times: usize, program: Program) -> Result<Duration> {
    let begin = Instant::now();
    for _ in 0..times {
        let mut child = Command::new("chroot")
            .arg(tree)
            .args(program.command)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(program.input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && text.contains(program.says),
            "{}: {}, {text:?}",
            program.command[0],
            output.status
        );
    }
    Ok(begin.elapsed())
}

/// Looks up 20,000 names that nobody asked for before, in one directory or in a thousand, in no
/// order; the directories themselves are known.
fn look_up(dir: &Path, hit: bool) -> Result<Duration> {
    let many = dir.ends_with("many");
    let (dirs, each) = if many {
        (vec![dir.to_owned()], LOOKUPS)
    } else {
        let number = LOOKUPS / FEW;
        ((0..number).map(|n| dir.join(n.to_string())).collect(), FEW)
    };
    for dir in &dirs {
        ensure!(!dir.join("unknown").exists(), "nothing has that name");
    }
    let mut total = Duration::ZERO;
    for dir in dirs {
        // What is measured is one step of a path.
        set_current_dir(&dir)?;
        let names: Vec<_> = (0..each)
            .map(|number| (number * 7919) % each)
            .map(|number| match hit {
                true => name(number),
                false => format!("absent-{number:05}"),
            })
            .collect();
        let begin = Instant::now();
        for name in names {
            let found = match fs::symlink_metadata(&name) {
                Ok(_) => true,
                Err(error) if error.kind() == ErrorKind::NotFound => false,
                Err(error) => return Err(error).context(name),
            };
            ensure!(found == hit, "{name} in {}", dir.display());
        }
        total += begin.elapsed();
    }
    Ok(total)
}
