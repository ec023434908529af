//! Makes a store of many small paths, to measure what size costs.
//!
//! `synthetic_store DIR PATHS FILES` makes PATHS store paths of FILES files
//! each, all different, and prints the name of the last. Contents and NAR
//! hashes are made up: such a store is for measuring, `verify` would object.

use std::{collections::BTreeSet, env, path::PathBuf, process::ExitCode};

use castore::{
    BlobService, Directory, DirectoryService, Entry, HashedBlob, Node, PathComponent,
    local::{LocalStore, Options},
};
use nix_compat::StorePath;
use store::{PathInfo, pathinfoservice::LocalPathInfoService};

/// Paths of a commit.
const BATCH: u64 = 5_000;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [dir, paths, files] = arguments.as_slice() else {
        eprintln!("usage: synthetic_store DIR PATHS FILES");
        return Ok(ExitCode::FAILURE);
    };
    let number = |text: &std::ffi::OsString| text.to_string_lossy().parse::<u64>();
    let (paths, files) = (number(paths)?, number(files)?);
    let options = Options {
        create: true,
        ..Options::default()
    };
    let store = LocalStore::open(&PathBuf::from(dir), &options)?;
    let mut last = None;
    for first in (0..paths).step_by(BATCH as usize) {
        let session = store.begin()?;
        for path in first..paths.min(first + BATCH) {
            let info = synthetic(path, files, &session, &session)?;
            LocalPathInfoService::put_into(&session, &info)?;
            last = Some(info.store_path);
        }
        session.commit()?;
    }
    if let Some(last) = last {
        println!("{last}");
    }
    Ok(ExitCode::SUCCESS)
}

fn synthetic(
    path: u64,
    files: u64,
    blobs: &dyn BlobService,
    directories: &dyn DirectoryService,
) -> Result<PathInfo, Box<dyn std::error::Error>> {
    let mut entries = Vec::new();
    for file in 0..files {
        let content = format!("file {file} of path {path}\n");
        let blob = HashedBlob::new(content.as_bytes());
        blobs.put(&blob)?;
        entries.push(Entry {
            name: PathComponent::try_from(format!("file-{file}").as_str())?,
            node: Node::File {
                digest: *blob.digest(),
                size: content.len() as u64,
                executable: file % 10 == 0,
            },
        });
    }
    let directory = Directory::new(entries)?;
    let digest = directories.put(&directory)?;
    let mut hash = [0; 20];
    hash.copy_from_slice(&digest.as_bytes()[..20]);
    Ok(PathInfo {
        store_path: StorePath::new(hash, format!("synthetic-{path}"))?,
        node: Node::directory(&directory),
        references: BTreeSet::new(),
        nar_size: 0,
        nar_sha256: *digest.as_bytes(),
        signatures: Vec::new(),
        deriver: None,
        ca: None,
    })
}
