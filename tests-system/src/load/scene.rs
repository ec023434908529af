//! The tree that the load works on, and what is known of it.

use super::content;
use crate::rng::Rng;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A directory.
    Directory,
    /// A file whose bytes are those of [`content`], or of a program, without a seed.
    File {
        /// Its length.
        size: u64,
        /// What makes its content.
        seed: Option<u64>,
        /// Its executable bit.
        executable: bool,
    },
    /// A symlink.
    Symlink(PathBuf),
}

/// All entries by their path relative to the top, which is the empty path. It is also the root of
/// a small system: programs run in it by `chroot`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scene {
    entries: BTreeMap<PathBuf, What>,
}

/// Dynamically linked programs that the load runs in the scene.
const PROGRAMS: [&str; 3] = ["cat", "find", "sh"];
/// A program that glibc links statically, on every distribution.
const STATIC_PROGRAM: &str = "/sbin/ldconfig";

impl Scene {
    /// Writes a scene to `top`, which must not exist.
    pub fn create(rng: &mut Rng, top: &Path) -> Result<Self> {
        let mut scene = Self::default();
        scene.entries.insert(PathBuf::new(), What::Directory);
        fs::create_dir(top)?;
        scene.add_data(rng, top)?;
        scene.add_programs(top)?;
        Ok(scene)
    }

    fn add_data(&mut self, rng: &mut Rng, top: &Path) -> Result<()> {
        for number in 0..12_u64 {
            // Sizes around and over that from which a file is passed through.
            let size = (250 << 10) + number * number * 30_011;
            let name = Path::new("big").join(format!("lib{number}.so"));
            self.add_file(rng, top, &name, size, number % 2 == 0)?;
        }
        for dir in 0..24_u64 {
            let place = Path::new("small")
                .join(format!("dir-{}", dir % 6))
                .join(format!("sub-{dir}"));
            for number in 0..16 {
                let size = [0, 1, 200, 4096, 9000, 17_000, 70_000][number % 7];
                let size = size + rng.below(1 + size / 4);
                let name = place.join(format!("file-{number}"));
                self.add_file(rng, top, &name, size, number % 5 == 0)?;
            }
            for number in 0..4 {
                let link = place.join(format!("link-{number}"));
                let target = PathBuf::from(format!("file-{}", number * 3));
                symlink(&target, top.join(&link))?;
                self.entries.insert(link, What::Symlink(target));
            }
        }
        // More entries than one reply to READDIR holds.
        for number in 0..300 {
            let name = Path::new("many").join(format!("entry-{number}-{}", "x".repeat(40)));
            self.add_file(rng, top, &name, number % 90, false)?;
        }
        Ok(())
    }

    fn add_file(
        &mut self,
        rng: &mut Rng,
        top: &Path,
        name: &Path,
        size: u64,
        executable: bool,
    ) -> Result<()> {
        let seed = rng.next_u64();
        self.add_parents(top, name)?;
        let path = top.join(name);
        fs::write(&path, content::bytes(seed, 0, size as usize))?;
        set_executable(&path, executable)?;
        let file = What::File {
            size,
            seed: Some(seed),
            executable,
        };
        self.entries.insert(name.to_owned(), file);
        Ok(())
    }

    fn add_parents(&mut self, top: &Path, name: &Path) -> Result<()> {
        let parent = name.parent().context("the top is no file")?;
        for dir in parent.ancestors() {
            self.entries.insert(dir.to_owned(), What::Directory);
        }
        fs::create_dir_all(top.join(parent))?;
        Ok(())
    }

    fn add_programs(&mut self, top: &Path) -> Result<()> {
        for program in PROGRAMS {
            let path = find_program(program)?;
            self.copy(top, &path, Path::new("bin").join(program))?;
            for library in libraries(&path)? {
                let name = library.strip_prefix("/")?.to_owned();
                self.copy(top, &library, name)?;
            }
        }
        ensure!(
            libraries(Path::new(STATIC_PROGRAM))?.is_empty(),
            "{STATIC_PROGRAM} is not linked statically"
        );
        self.copy(top, Path::new(STATIC_PROGRAM), PathBuf::from("bin/static"))
    }

    /// Copies a program or a library of this machine.
    fn copy(&mut self, top: &Path, from: &Path, name: PathBuf) -> Result<()> {
        if self.entries.contains_key(&name) {
            return Ok(());
        }
        self.add_parents(top, &name)?;
        let path = top.join(&name);
        let size = fs::copy(from, &path).with_context(|| format!("copying {}", from.display()))?;
        set_executable(&path, true)?;
        let file = What::File {
            size,
            seed: None,
            executable: true,
        };
        self.entries.insert(name, file);
        Ok(())
    }

    /// Adds a file that lies in the tree already: the load's own program.
    pub fn copy_program(&mut self, top: &Path, from: &Path, name: &str) -> Result<()> {
        self.copy(top, from, PathBuf::from(name))
    }

    /// All entries, parents first.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &What)> {
        self.entries
            .iter()
            .map(|(path, what)| (path.as_path(), what))
    }

    /// What is at a path.
    pub fn get(&self, path: &Path) -> Option<&What> {
        self.entries.get(path)
    }

    /// The number of entries in a directory.
    pub fn count_in(&self, dir: &Path) -> usize {
        let children = self.entries.keys();
        children.filter(|path| path.parent() == Some(dir)).count()
    }

    /// The files whose content is known, with their sizes and seeds.
    pub fn known_files(&self) -> Vec<(PathBuf, u64, u64)> {
        let known = self.entries.iter().filter_map(|(path, what)| match what {
            What::File {
                size,
                seed: Some(seed),
                ..
            } => Some((path.clone(), *size, *seed)),
            What::File { .. } | What::Directory | What::Symlink(_) => None,
        });
        known.collect()
    }

    /// The scene as text.
    pub fn to_text(&self) -> Result<String> {
        let mut text = String::new();
        for (path, what) in &self.entries {
            let path = path.to_str().context("a path that is no text")?;
            match what {
                What::Directory => writeln!(text, "d {path}")?,
                What::Symlink(target) => writeln!(text, "l {} {path}", target.display())?,
                What::File {
                    size,
                    seed,
                    executable,
                } => {
                    let kind = if *executable { 'x' } else { 'f' };
                    let seed = seed.map_or("-".to_owned(), |seed| seed.to_string());
                    writeln!(text, "{kind} {size} {seed} {path}")?;
                }
            }
        }
        Ok(text)
    }

    /// The scene that [`Self::to_text`] made this text of.
    pub fn from_text(text: &str) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let (path, what) = match fields[..] {
                ["d", path] => (path, What::Directory),
                ["l", target, path] => (path, What::Symlink(target.into())),
                [kind @ ("f" | "x"), size, seed, path] => {
                    let file = What::File {
                        size: size.parse()?,
                        seed: seed.parse().ok(),
                        executable: kind == "x",
                    };
                    (path, file)
                }
                _ => bail!("not a line of a scene: {line}"),
            };
            entries.insert(PathBuf::from(path), what);
        }
        Ok(Self { entries })
    }
}

fn set_executable(path: &Path, executable: bool) -> Result<()> {
    let mode = if executable { 0o755 } else { 0o644 };
    Ok(fs::set_permissions(path, Permissions::from_mode(mode))?)
}

fn find_program(name: &str) -> Result<PathBuf> {
    let places = ["/bin", "/usr/bin"].map(|dir| Path::new(dir).join(name));
    let found = places.into_iter().find(|path| path.exists());
    found.with_context(|| format!("this machine has no {name}"))
}

/// The files that `ldd` says a program is started with; none if it is linked statically.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("starting ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut found = Vec::new();
    for line in text.lines() {
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        ensure!(!line.contains("not found"), "{}: {line}", program.display());
        found.extend(path.map(PathBuf::from));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::Scene;
    use crate::rng::Rng;

    #[test]
    fn a_scene_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let scene = Scene::create(&mut Rng::new(1), &dir.path().join("top")).unwrap();
        let text = scene.to_text().unwrap();
        assert_eq!(Scene::from_text(&text).unwrap(), scene);
        assert!(Scene::from_text("x 1").is_err());
        assert_eq!(scene.count_in("many".as_ref()), 300);
        assert!(scene.known_files().len() > 500);
    }
}
