//! Large trees, end to end, by the programs that people use.

use anyhow::{Context as _, Result, ensure};
use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use system_tests::counts::full;
use system_tests::mountd::{MountOptions, Mounted, Store, name_of};
use system_tests::scratch;

const ENTRIES: usize = 100_000;

/// Runs a program to its end and returns the lines that it printed.
fn lines(program: &str, arguments: &[&str], path: &Path) -> Result<Vec<String>> {
    let mut command = Command::new(program);
    match program {
        // find wants its paths first.
        "find" => command.arg(path).args(arguments),
        _ => command.args(arguments).arg(path),
    };
    let output = command
        .output()
        .with_context(|| format!("starting {program}"))?;
    ensure!(
        output.status.success(),
        "{program}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn import_and_mount(dir: &Path, tree: &Path) -> Result<(Mounted, PathBuf)> {
    let store = Store::new(&dir.join("store"))?;
    let path = store.import(&[tree])?.remove(0);
    let mounted = store.mount(MountOptions::default())?;
    let path = mounted.path().join(name_of(&path)?);
    Ok((mounted, path))
}

#[test]
fn a_directory_of_100_000_entries_lists_each_once() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let dir = scratch::dir("scale")?;
    let tree = dir.path().join("tree");
    fs::create_dir(&tree)?;
    let mut names = BTreeSet::new();
    for number in 0..ENTRIES {
        // Names of different lengths, so that replies do not all end at the same entry.
        let name = format!("{number}{}", "x".repeat(number % 41));
        fs::write(tree.join(&name), (number % 1000).to_string())?;
        names.insert(name);
    }
    let (mounted, path) = import_and_mount(dir.path(), &tree)?;

    // ls reads names only; find with -size asks for each entry's attributes as well.
    let by_ls = lines("ls", &["-U"], &path)?;
    assert_eq!(by_ls.len(), ENTRIES);
    assert!(by_ls.into_iter().collect::<BTreeSet<_>>() == names);
    let by_find = lines(
        "find",
        &["-type", "f", "-size", "-2", "-printf", "%f\\n"],
        &path,
    )?;
    assert_eq!(by_find.len(), ENTRIES);
    assert!(by_find.into_iter().collect::<BTreeSet<_>>() == names);

    let finished = mounted.stop()?;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    Ok(())
}

#[test]
fn an_imported_system_tree_equals_its_source() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let source = Path::new(if full() { "/usr/lib" } else { "/usr/share" });
    let dir = scratch::dir("system-tree")?;
    let (mounted, path) = import_and_mount(dir.path(), source)?;
    let differences = Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args([source, &path])
        .output()?;
    let text = String::from_utf8_lossy(&differences.stdout);
    assert!(
        differences.status.success() && text.is_empty(),
        "{text}{}",
        String::from_utf8_lossy(&differences.stderr)
    );
    let checked = check_attributes(source, &path)?;
    println!(
        "REPORT {} equals its import, {checked} entries",
        source.display()
    );

    let finished = mounted.stop()?;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    Ok(())
}

/// Modes, owner and times by the store's rules.
fn check_attributes(source: &Path, mounted: &Path) -> Result<usize> {
    let mut checked = 0;
    let mut queue = VecDeque::from([(source.to_owned(), mounted.to_owned())]);
    while let Some((source, mounted)) = queue.pop_front() {
        checked += 1;
        let original = fs::symlink_metadata(&source)?;
        let metadata = fs::symlink_metadata(&mounted)?;
        let permissions = if original.is_symlink() {
            0o777
        } else if original.is_dir() || original.permissions().mode() & 0o100 != 0 {
            0o555
        } else {
            0o444
        };
        ensure!(
            metadata.permissions().mode() & 0o7777 == permissions
                && (metadata.uid(), metadata.gid(), metadata.mtime()) == (0, 0, 1),
            "{}: {metadata:?}",
            mounted.display()
        );
        if original.is_dir() {
            for entry in fs::read_dir(&source)? {
                let name = entry?.file_name();
                queue.push_back((source.join(&name), mounted.join(&name)));
            }
        }
    }
    Ok(checked)
}
