//! Serves one directory of a local store, until it is unmounted.
//!
//! ```text
//! serve_directory STORE DIGEST MOUNTPOINT [cached|passthrough] [on-read|at-rest]
//! ```
//!
//! DIGEST is that of the directory, as its extended attribute
//! `user.snix.castore.directory.digest` has it. It is to be found in the mount
//! as `tree`.

use std::{env, error::Error, path::Path, sync::Arc};

use castore::{
    Digest, DirectoryService, Node,
    local::{self, Integrity, LocalStore},
};
use store_fs::{
    Filesystem, Options, Root, RootEntry, RootKey,
    fuse::{DataPath, MountOptions, ServeOptions, Session},
};

/// A root with one entry.
#[derive(Debug)]
struct Only(RootEntry);

impl Root for Only {
    fn lookup(&self, name: &[u8]) -> Result<Option<RootEntry>, castore::Error> {
        Ok((self.0.name.as_bytes() == name).then(|| self.0.clone()))
    }

    fn get(&self, key: &RootKey) -> Result<Option<RootEntry>, castore::Error> {
        Ok((self.0.key == *key).then(|| self.0.clone()))
    }

    fn list(&self) -> Result<Vec<RootEntry>, castore::Error> {
        Ok(vec![self.0.clone()])
    }

    fn generation(&self) -> u64 {
        0
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let mut next = |name: &'static str| args.next().ok_or(name);
    let store = next("a store is missing")?;
    let digest: Digest = next("a digest is missing")?.parse()?;
    let mountpoint = next("a mountpoint is missing")?;
    let mut data_path = DataPath::Auto;
    let mut integrity = Integrity::OnRead;
    for choice in args {
        match choice.as_str() {
            "cached" => data_path = DataPath::Cached,
            "passthrough" => data_path = DataPath::Passthrough,
            "on-read" => integrity = Integrity::OnRead,
            "at-rest" => integrity = Integrity::AtRest,
            other => return Err(format!("{other} is no choice").into()),
        }
    }
    let options = local::Options {
        integrity,
        ..Default::default()
    };
    let store = LocalStore::open(Path::new(&store), &options)?;
    let directory = DirectoryService::get(&*store, &digest)?.ok_or("no such directory")?;
    let root = Only(RootEntry {
        key: RootKey(*digest.as_bytes()),
        name: "tree".try_into()?,
        node: Node::directory(&directory),
    });
    let filesystem = Filesystem::new(
        Arc::new(root),
        store.clone(),
        store.clone(),
        Options::default(),
    );
    let mut session = Session::start(
        Path::new(&mountpoint),
        Arc::new(filesystem),
        &MountOptions::default(),
        &ServeOptions {
            data_path,
            ..Default::default()
        },
    )?;
    session.wait()?;
    Ok(())
}
