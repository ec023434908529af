//! A store for the load to work on.

use super::process::Load;
use super::scene::Scene;
use crate::mountd::{MountOptions, Mounted, Store, name_of};
use crate::rng::Rng;
use crate::scratch;
use anyhow::Result;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A store with a scene in it.
#[derive(Debug)]
pub struct Plan {
    dir: TempDir,
    store: Store,
    name: PathBuf,
    seed: u64,
    scene: Scene,
}

impl Plan {
    /// Creates the scene and imports it.
    pub fn new(rng: &mut Rng, load: &Path) -> Result<Self> {
        scratch::require_root_and_fuse()?;
        let dir = scratch::dir("survival")?;
        let top = dir.path().join("scene");
        let mut scene = Scene::create(rng, &top)?;
        scene.copy_program(&top, load, "bin/load")?;
        fs::write(dir.path().join("scene.txt"), scene.to_text()?)?;
        let store = Store::new(&dir.path().join("store"))?;
        let path = store.import(&[&top])?.remove(0);
        fs::remove_dir_all(&top)?;
        Ok(Self {
            name: name_of(&path)?.to_owned(),
            seed: rng.next_u64(),
            dir,
            store,
            scene,
        })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What is in it.
    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    /// The directory of the store, for other files of the test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The name of the scene at the top of the mount.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Mounts the store, its root listed.
    pub fn mount(&self, options: MountOptions) -> Result<Mounted> {
        self.store.mount(MountOptions {
            list_root: true,
            ..options
        })
    }

    /// Starts a load on a mount whose root can be listed: so many of each role.
    pub fn start(&self, mountpoint: &Path, roles: &[(&str, usize)]) -> Result<Load> {
        let mut arguments: Vec<OsString> = vec![
            self.dir.path().join("scene.txt").into(),
            mountpoint.into(),
            self.name.clone().into(),
            self.seed.to_string().into(),
            "lists-root".into(),
        ];
        for (role, count) in roles {
            arguments.push(format!("{role}={count}").into());
        }
        let program = mountpoint.join(&self.name).join("bin/load");
        Load::start(Command::new(program).args(arguments))
    }
}
