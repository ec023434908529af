//! Files that are mapped as libraries are: each touch of a cold page asks the mount.

use super::super::content;
use super::super::mapping::Mapping;
use super::Actor;
use anyhow::{Context as _, Result};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Mappings that stay while others come and go.
const KEPT: usize = 6;

struct Mapped {
    mapping: Mapping,
    fd: OwnedFd,
    name: PathBuf,
    size: u64,
    seed: u64,
}

/// Maps big files and touches pages, which are made cold again and again.
pub(super) fn map(actor: &mut Actor<'_>) -> Result<()> {
    let mut kept: Vec<Mapped> = Vec::new();
    while actor.goes_on() {
        if kept.len() < KEPT || actor.rng.percent(10) {
            let Some(mapped) = map_one(actor)? else {
                continue;
            };
            if kept.len() < KEPT {
                kept.push(mapped);
            } else {
                let place = actor.rng.below(KEPT as u64) as usize;
                kept[place] = mapped;
            }
        }
        let place = actor.rng.below(kept.len() as u64) as usize;
        touch(actor, &kept[place]);
    }
    Ok(())
}

fn map_one(actor: &mut Actor<'_>) -> Result<Option<Mapped>> {
    let (name, size, seed) = loop {
        let file = actor.pick();
        if super::is_big(&file) {
            break file;
        }
    };
    let len = NonZero::new(size as usize).context("a big file is empty")?;
    let path = actor.path(&name);
    let Some(fd) = actor.open(&path) else {
        return Ok(None);
    };
    let mapping = actor.call("mmap", path.display(), || Mapping::new(&fd, len));
    Ok(mapping.map(|mapping| Mapped {
        mapping,
        fd,
        name,
        size,
        seed,
    }))
}

fn touch(actor: &mut Actor<'_>, mapped: &Mapped) {
    let path = actor.path(&mapped.name);
    if actor.rng.percent(50) {
        // A mapped page stays in the page cache: out of the mapping first.
        actor.call("madvise", path.display(), || mapped.mapping.forget());
        actor.cool_file(&mapped.fd, &path);
    }
    for _ in 0..16 {
        let offset = actor.rng.below(mapped.size);
        let read = actor.call("touch", path.display(), || {
            Ok(mapped.mapping.read(offset as usize, 64))
        });
        let Some(read) = read else { continue };
        match content::first_wrong(mapped.seed, offset, &read) {
            None => actor.site.record.add_bytes(read.len()),
            Some(wrong) => actor
                .site
                .record
                .fail(format!("{}: wrong byte mapped at {wrong}", path.display())),
        }
    }
}
