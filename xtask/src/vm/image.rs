//! The guests' systems, built once for each recipe.

use crate::{process, workspace};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The images, as directories of what was built.
#[derive(Debug)]
pub(super) struct Images {
    debian: PathBuf,
    store: PathBuf,
}

impl Images {
    /// Builds what is not there yet.
    pub(super) fn prepare(logs: &Path) -> Result<Self> {
        fs::create_dir_all(logs).with_context(|| logs.display().to_string())?;
        let cache = workspace::target_dir()?.join("vm");
        fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
        let recipes = workspace::root().join("tests-vm/image");
        let log = logs.join("image.log");
        let debian = built(&cache, &recipes, "debian", None, &log)?;
        let store = built(&cache, &recipes, "store", Some(&debian), &log)?;
        Ok(Self { debian, store })
    }

    /// The kernel of both systems.
    pub(super) fn kernel(&self) -> PathBuf {
        self.debian.join("kernel")
    }

    /// The initramfs of the Debian system.
    pub(super) fn debian_initrd(&self) -> PathBuf {
        self.debian.join("initrd")
    }

    /// The Debian system, unpacked.
    pub(super) fn debian_root(&self) -> PathBuf {
        self.debian.join("root")
    }

    /// The Debian system's disk.
    pub(super) fn debian_disk(&self) -> PathBuf {
        self.debian.join("debian.img")
    }

    /// The initramfs with systemd, for the system in /nix/store.
    pub(super) fn store_initrd(&self) -> PathBuf {
        self.store.join("initrd")
    }

    /// The directory whose entries are that system's store paths.
    pub(super) fn store_dir(&self) -> PathBuf {
        self.store.join("nix/store")
    }

    /// What Nix knows of them.
    pub(super) fn registration(&self) -> PathBuf {
        self.store.join("registration")
    }

    /// How many store paths it has.
    pub(super) fn path_count(&self) -> Result<usize> {
        Ok(self.text("paths")?.lines().count())
    }

    /// The store path that has all others in its closure.
    pub(super) fn top(&self) -> Result<String> {
        self.text("system")
    }

    fn text(&self, name: &str) -> Result<String> {
        let file = self.store.join(name);
        fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    /// What a link of that system leads to, `init`, `usr` or `etc`: a path in /nix/store.
    pub(super) fn system(&self, link: &str) -> Result<PathBuf> {
        let top = self.top()?;
        let link = self.outside(Path::new(top.trim()))?.join(link);
        fs::read_link(&link).with_context(|| link.display().to_string())
    }

    /// Where a path in the system's /nix/store is here.
    pub(super) fn outside(&self, path: &Path) -> Result<PathBuf> {
        let inside = path.strip_prefix("/nix/store");
        Ok(self.store_dir().join(inside.context("not in /nix/store")?))
    }
}

/// The directory that `tests-vm/image/NAME/build.sh` fills, made anew when anything of that recipe,
/// or of the image it starts from, has changed.
fn built(
    cache: &Path,
    recipe: &Path,
    name: &str,
    base: Option<&Path>,
    log: &Path,
) -> Result<PathBuf> {
    let recipe = recipe.join(name);
    let dir = cache.join(format!("{name}-{:016x}", hash(&recipe, base)?));
    if dir.exists() {
        return Ok(dir);
    }
    remove_others(cache, name)?;
    println!("building the {name} image: some minutes, once");
    let begin = Instant::now();
    let unfinished = cache.join(format!("{name}-unfinished"));
    fs::create_dir(&unfinished).with_context(|| unfinished.display().to_string())?;
    // In a mount namespace of its own: whatever ends it, its mounts end with it.
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh"])
        .arg(recipe.join("build.sh"))
        .arg(&unfinished)
        .args(base);
    let run = process::logged(&mut command, log, BUILD_LIMIT)?;
    ensure!(
        run.success,
        "building the {name} image failed; {} ends with\n{}",
        log.display(),
        process::tail(&run.output, 20)
    );
    fs::rename(&unfinished, &dir).with_context(|| dir.display().to_string())?;
    println!("built in {:.0?}", begin.elapsed());
    Ok(dir)
}

/// A hash of the names and contents of all files of the recipe, and of the base's name, which has
/// the hash of its recipe.
fn hash(recipe: &Path, base: Option<&Path>) -> Result<u64> {
    let mut names: Vec<PathBuf> = fs::read_dir(recipe)
        .with_context(|| recipe.display().to_string())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    names.sort();
    let mut hasher = DefaultHasher::new();
    base.and_then(Path::file_name).hash(&mut hasher);
    for path in names {
        path.file_name().hash(&mut hasher);
        fs::read(&path)
            .with_context(|| path.display().to_string())?
            .hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Images of earlier recipes, and what an interrupted build left.
fn remove_others(cache: &Path, name: &str) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(name) {
            let path = entry.path();
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}
