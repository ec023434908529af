//! Which objects of a mount are one inode, and which are not, as processes notice it.

use anyhow::{Context as _, Result};
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use system_tests::mountd::{MountOptions, Mounted, Store, name_of};
use system_tests::scratch;

/// Two equal directories, and the same bytes in files of both kinds.
fn twins() -> Result<(tempfile::TempDir, Mounted, PathBuf)> {
    scratch::require_root_and_fuse()?;
    let dir = scratch::dir("identity")?;
    let tree = dir.path().join("tree");
    for twin in ["one", "two"] {
        let bin = tree.join(twin).join("bin");
        fs::create_dir_all(&bin)?;
        fs::write(bin.join("plain"), "#!/bin/sh\nreadlink /proc/$$/cwd\n")?;
        fs::copy(bin.join("plain"), bin.join("program"))?;
        fs::set_permissions(bin.join("program"), Permissions::from_mode(0o755))?;
    }
    let store = Store::new(&dir.path().join("store"))?;
    let path = store.import(&[&tree])?.remove(0);
    let mounted = store.mount(MountOptions::default())?;
    let top = mounted.path().join(name_of(&path)?);
    Ok((dir, mounted, top))
}

#[test]
fn a_working_directory_stays_where_it_is_while_its_twin_is_looked_at() -> Result<()> {
    let (_dir, _mounted, top) = twins()?;
    let one = top.join("one/bin");
    // A shell that tells its working directory as the kernel knows it, once for each line.
    let mut shell = Command::new("sh")
        .args(["-c", "while read -r line; do readlink /proc/$$/cwd; done"])
        .current_dir(&one)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = shell.stdin.take().context("no standard input")?;
    let mut stdout = BufReader::new(shell.stdout.take().context("no standard output")?);
    for round in 0..20 {
        for twin in ["two", "one", "two"] {
            fs::metadata(top.join(twin).join("bin"))?;
            fs::read_dir(top.join(twin).join("bin"))?.count();
        }
        writeln!(stdin)?;
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        assert_eq!(Path::new(line.trim_end()), one, "round {round}");
    }
    drop(stdin);
    assert!(shell.wait()?.success());
    Ok(())
}

#[test]
fn equal_files_are_one_inode_and_the_executable_bit_makes_another() -> Result<()> {
    let (_dir, _mounted, top) = twins()?;
    let inode = |path: &str| Ok::<u64, std::io::Error>(fs::metadata(top.join(path))?.ino());
    assert_eq!(inode("one/bin/plain")?, inode("two/bin/plain")?);
    assert_eq!(inode("one/bin/program")?, inode("two/bin/program")?);
    assert_ne!(inode("one/bin/plain")?, inode("one/bin/program")?);
    assert_ne!(inode("one/bin")?, inode("two/bin")?);
    let mode = |path: &str| {
        let metadata = fs::metadata(top.join(path))?;
        Ok::<u32, std::io::Error>(metadata.permissions().mode() & 0o7777)
    };
    assert_eq!(mode("one/bin/plain")?, 0o444);
    assert_eq!(mode("one/bin/program")?, 0o555);
    Ok(())
}
