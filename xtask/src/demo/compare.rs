//! Compares a mounted tree with the one it was imported from.

use anyhow::{Context as _, Result, bail, ensure};
use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The content of every nth file is compared, so that about this many are.
const SAMPLE: usize = 3000;

/// What was compared and found equal.
#[derive(Debug, Default)]
pub(crate) struct Report {
    directories: usize,
    symlinks: usize,
    files: usize,
    compared: usize,
    bytes: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "equal: all names of {} directories, {} symlinks, type and mode of {} files, the \
             bytes of {} of them ({:.1} MiB)",
            self.directories,
            self.symlinks,
            self.files,
            self.compared,
            self.bytes as f64 / f64::from(1 << 20)
        )
    }
}

/// Walks both trees side by side and fails at the first difference.
pub(crate) fn compare(source: &Path, mounted: &Path, report: &mut Report) -> Result<()> {
    let mut queue = VecDeque::from([(source.to_owned(), mounted.to_owned())]);
    let mut files = Vec::new();
    while let Some((source, mounted)) = queue.pop_front() {
        let (left, right) = (metadata(&source)?, metadata(&mounted)?);
        ensure!(
            left.file_type() == right.file_type(),
            "{} is of another type than {}",
            mounted.display(),
            source.display()
        );
        if left.is_dir() {
            report.directories += 1;
            let names = names(&source)?;
            ensure!(
                names == self::names(&mounted)?,
                "{} lists other names than {}",
                mounted.display(),
                source.display()
            );
            queue.extend(
                names
                    .iter()
                    .map(|name| (source.join(name), mounted.join(name))),
            );
        } else if left.is_symlink() {
            report.symlinks += 1;
            ensure!(
                fs::read_link(&source)? == fs::read_link(&mounted)?,
                "{} points elsewhere than {}",
                mounted.display(),
                source.display()
            );
        } else {
            report.files += 1;
            check_attributes(&mounted, &left, &right)?;
            files.push((source, mounted));
        }
    }
    let step = files.len().div_ceil(SAMPLE).max(1);
    for (source, mounted) in files.iter().step_by(step) {
        report.compared += 1;
        report.bytes += compare_content(source, mounted)?;
    }
    Ok(())
}

fn check_attributes(path: &Path, source: &Metadata, mounted: &Metadata) -> Result<()> {
    // Nix looks at the owner's execute bit only.
    let executable = source.permissions().mode() & 0o100 != 0;
    let wanted = if executable { 0o555 } else { 0o444 };
    let mode = mounted.permissions().mode() & 0o7777;
    ensure!(
        mode == wanted,
        "{} has mode {mode:o} and not {wanted:o}",
        path.display()
    );
    ensure!(
        source.len() == mounted.len(),
        "{} has {} bytes and not {}",
        path.display(),
        mounted.len(),
        source.len()
    );
    Ok(())
}

fn compare_content(source: &Path, mounted: &Path) -> Result<u64> {
    let mut left = open(source)?;
    let mut right = open(mounted)?;
    let mut buffers = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut total = 0;
    loop {
        let len = read_full(&mut left, &mut buffers.0).with_context(|| name(source))?;
        let other = read_full(&mut right, &mut buffers.1).with_context(|| name(mounted))?;
        if len != other || buffers.0[..len] != buffers.1[..len] {
            bail!(
                "{} differs from {} after byte {total}",
                mounted.display(),
                source.display()
            );
        }
        if len == 0 {
            return Ok(total);
        }
        total += len as u64;
    }
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..])? {
            0 => break,
            more => len += more,
        }
    }
    Ok(len)
}

fn name(path: &Path) -> String {
    format!("reading {}", path.display())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("opening {}", path.display()))
}

fn metadata(path: &Path) -> Result<Metadata> {
    fs::symlink_metadata(path).with_context(|| format!("asking for {}", path.display()))
}

fn names(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?;
    let mut names = entries
        .map(|entry| entry.map(|entry| PathBuf::from(entry.file_name())))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("listing {}", dir.display()))?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::{Report, compare};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    fn tree(name: &str, content: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/file"), content).unwrap();
        fs::set_permissions(dir.join("sub/file"), PermissionsExt::from_mode(0o444)).unwrap();
        let _ = symlink("target", dir.join("link"));
        dir
    }

    fn difference(left: &Path, right: &Path) -> Option<String> {
        let result = compare(left, right, &mut Report::default());
        result.err().map(|error| error.to_string())
    }

    #[test]
    fn finds_each_kind_of_difference() {
        let [a, b] = ["a", "b"].map(|name| tree(name, "same"));
        assert_eq!(difference(&a, &b), None);
        fs::set_permissions(b.join("sub/file"), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(difference(&a, &b).unwrap().contains("mode 644"));
        fs::write(b.join("sub/file"), "othr").unwrap();
        fs::set_permissions(b.join("sub/file"), PermissionsExt::from_mode(0o444)).unwrap();
        assert!(difference(&a, &b).unwrap().contains("differs from"));
        fs::remove_file(b.join("sub/file")).unwrap();
        assert!(difference(&a, &b).unwrap().contains("lists other names"));
        for dir in [a, b] {
            fs::remove_dir_all(dir).unwrap();
        }
    }
}
