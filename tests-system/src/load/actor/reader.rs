//! Reads at random places, and questions that the kernel cannot answer by itself.

use super::super::content;
use super::Actor;
use anyhow::Result;
use nix::errno::Errno;
use nix::sys::stat::{fstat, lstat};
use nix::sys::uio::pread;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// Files that stay open while others come and go.
const KEPT_OPEN: usize = 24;
const LONGEST_READ: u64 = 128 << 10;

struct Open {
    fd: OwnedFd,
    name: PathBuf,
    size: u64,
    seed: u64,
}

/// Opens, reads at random offsets, and compares; some files stay open for long.
pub(super) fn read(actor: &mut Actor<'_>) -> Result<()> {
    let mut kept: Vec<Open> = Vec::new();
    while actor.goes_on() {
        if kept.len() < KEPT_OPEN || actor.rng.percent(30) {
            let (name, size, seed) = actor.pick();
            let path = actor.path(&name);
            let Some(fd) = actor.open(&path) else {
                continue;
            };
            let file = Open {
                fd,
                name,
                size,
                seed,
            };
            read_some(actor, &file)?;
            if kept.len() < KEPT_OPEN {
                kept.push(file);
            } else if actor.rng.percent(5) {
                let place = actor.rng.below(KEPT_OPEN as u64) as usize;
                kept[place] = file;
            }
        } else {
            let place = actor.rng.below(kept.len() as u64) as usize;
            read_some(actor, &kept[place])?;
        }
    }
    Ok(())
}

fn read_some(actor: &mut Actor<'_>, file: &Open) -> Result<()> {
    let path = actor.path(&file.name);
    if actor.rng.percent(35) {
        actor.cool_file(&file.fd, &path);
    }
    if let Some(stat) = actor.call("fstat", path.display(), || fstat(&file.fd)) {
        actor.site.check_stat(&file.name, &stat);
    }
    for _ in 0..1 + actor.rng.below(8) {
        // A little past the end, too.
        let offset = actor.rng.below(file.size + 100);
        let len = 1 + actor.rng.below(LONGEST_READ);
        let mut buf = vec![0; len as usize];
        let read = actor.call("pread", path.display(), || {
            pread(&file.fd, &mut buf, offset as i64)
        });
        let Some(read) = read else { continue };
        let expected = file.size.saturating_sub(offset).min(len);
        actor.site.record.expect(read as u64 == expected, || {
            format!("{}: {read} of {expected} bytes at {offset}", path.display())
        });
        match content::first_wrong(file.seed, offset, &buf[..read]) {
            None => actor.site.record.add_bytes(read),
            Some(wrong) => actor
                .site
                .record
                .fail(format!("{}: wrong byte at {wrong}", path.display())),
        }
    }
    Ok(())
}

/// Asks for names that do not exist. At the top of the mount the kernel keeps no such answer for
/// long, so this always reaches the worker.
pub(super) fn ask(actor: &mut Actor<'_>) -> Result<()> {
    let mut number = 0_u64;
    while actor.goes_on() {
        number += 1;
        let name = format!("{}-absent-{number}", "0".repeat(32));
        let path = actor.site.mountpoint.join(name);
        let error = actor.call("lstat", path.display(), || absent(lstat(&path).map(drop)));
        if error.is_none() {
            actor.pause(Duration::from_millis(10));
        }
        if number.is_multiple_of(16) {
            let path = actor.path("small/dir-1/absent".as_ref());
            actor.call("lstat", path.display(), || absent(lstat(&path).map(drop)));
            actor.pause(Duration::from_micros(500));
        }
    }
    Ok(())
}

/// ENOENT is what is wanted.
fn absent(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::ENOENT) => Ok(()),
        Ok(()) => Err(Errno::EEXIST),
        Err(error) => Err(error),
    }
}
