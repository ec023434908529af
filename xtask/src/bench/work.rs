//! The work whose time is measured: reading a tree the way programs do, every byte checked.
//!
//! It runs in a process of its own (`cargo xtask bench-work`), so that one subject's page cache,
//! descriptors and memory do not reach into the next one's measurement.

use anyhow::{Context as _, Result, bail, ensure};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The name of the big file in the tree, and its size in bytes.
pub(super) const BIG_FILE: (&str, u64) = ("big-file", 1 << 30);

/// Bytes up to which a file counts as small.
const SMALL: u64 = 128 * 1024;
/// Files that are opened, read from and closed again and again.
const OPENED: usize = 2_000;
/// Reads of 4 KiB that each job does.
const RANDOM_READS: u64 = 4_000;
const BLOCK: u64 = 4096;

/// A file of the tree and the checksum of its contents.
#[derive(Debug)]
pub(super) struct Listed {
    path: PathBuf,
    size: u64,
    sum: u64,
}

/// Writes the list of the tree's files, in the order of a walk, with their checksums.
pub(super) fn write_manifest(tree: &Path, manifest: &Path) -> Result<()> {
    let mut text = String::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        let mut entries = fs::read_dir(tree.join(&dir))?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = dir.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(path);
            } else if kind.is_file() {
                let content = fs::read(tree.join(&path))?;
                // Names with a newline would need quoting; the measured tree can do without.
                if let Some(name) = path.to_str().filter(|name| !name.contains('\n')) {
                    text += &format!("{} {:x} {name}\n", content.len(), checksum(0, &content));
                }
            }
        }
    }
    fs::write(manifest, text).with_context(|| manifest.display().to_string())
}

fn read_manifest(manifest: &Path) -> Result<Vec<Listed>> {
    let text = fs::read_to_string(manifest).with_context(|| manifest.display().to_string())?;
    text.lines()
        .map(|line| {
            let mut fields = line.splitn(3, ' ');
            let mut field = || fields.next().context("the manifest is cut short");
            Ok(Listed {
                size: field()?.parse()?,
                sum: u64::from_str_radix(field()?, 16)?,
                path: field()?.into(),
            })
        })
        .collect()
}

/// Not against malice: it is to be cheap, and to notice a wrong, missing or swapped word.
fn checksum(start: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut sum = start;
    for word in words {
        sum = (sum.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    rest.iter().fold(sum, |sum, byte| {
        (sum.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// The big file's contents: each word tells its place.
pub(super) fn big_word(offset: u64) -> u64 {
    (offset / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Does the work called `name` on `tree` and returns how long it took.
pub(super) fn run(name: &str, tree: &Path, manifest: &Path) -> Result<Duration> {
    let begin;
    match name {
        "walk" => {
            begin = Instant::now();
            let status = std::process::Command::new("find")
                .arg(tree)
                .arg("-ls")
                .stdout(std::process::Stdio::null())
                .status()?;
            ensure!(status.success(), "find: {status}");
        }
        "small" | "small-8" => {
            let files = small_files(manifest)?;
            begin = Instant::now();
            read_files(tree, &files, if name == "small" { 1 } else { 8 })?;
        }
        "sequential" => {
            begin = Instant::now();
            read_big(&tree.join(BIG_FILE.0))?;
        }
        "random-1" | "random-4" => {
            begin = Instant::now();
            read_random(
                &tree.join(BIG_FILE.0),
                if name == "random-1" { 1 } else { 4 },
            )?;
        }
        "open-read-close" => {
            let mut files = small_files(manifest)?;
            files.truncate(OPENED);
            begin = Instant::now();
            open_read_close(tree, &files)?;
        }
        _ => bail!("no such work: {name}"),
    }
    Ok(begin.elapsed())
}

fn small_files(manifest: &Path) -> Result<Vec<Listed>> {
    let mut files = read_manifest(manifest)?;
    files.retain(|file| file.size <= SMALL);
    ensure!(!files.is_empty(), "the tree has no small files");
    Ok(files)
}

fn in_threads(threads: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
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
        Ok(())
    })
}

fn read_files(tree: &Path, files: &[Listed], threads: usize) -> Result<()> {
    let part = files.len().div_ceil(threads);
    in_threads(threads, |thread| {
        let mut content = Vec::new();
        for file in files.chunks(part).nth(thread).unwrap_or_default() {
            let path = tree.join(&file.path);
            content.clear();
            File::open(&path)
                .and_then(|mut open| open.read_to_end(&mut content))
                .with_context(|| path.display().to_string())?;
            let right = content.len() as u64 == file.size && checksum(0, &content) == file.sum;
            ensure!(right, "{} reads wrong", path.display());
        }
        Ok(())
    })
}

fn read_big(path: &Path) -> Result<()> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut buffer = vec![0; 1 << 20];
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
    Ok(())
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
fn read_random(path: &Path, jobs: usize) -> Result<()> {
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

fn open_read_close(tree: &Path, files: &[Listed]) -> Result<()> {
    let paths: Vec<_> = files.iter().map(|file| tree.join(&file.path)).collect();
    let mut buffer = [0; BLOCK as usize];
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
    Ok(())
}
