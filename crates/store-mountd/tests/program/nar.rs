//! NAR archives of trees on disk, and back.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use nix_compat::{
    NixHash,
    hash::{HashFormat, Sha256Stream},
    nar::{Event, NarReader, NarWriter},
};

/// The SHA-256, in hexadecimal, and the size of the NAR of what is at `path`.
pub(crate) fn digest_of(path: &Path) -> (String, u64) {
    let mut nar = NarWriter::new(Sha256Stream::new(io::sink()));
    write(&mut nar, path);
    let (_, sha256, size) = nar.finish().unwrap().finish();
    (NixHash::Sha256(sha256).to_bare(HashFormat::Base16), size)
}

fn write<W: io::Write>(nar: &mut NarWriter<W>, path: &Path) {
    let metadata = path.symlink_metadata().unwrap();
    if metadata.is_symlink() {
        let target = fs::read_link(path).unwrap();
        nar.symlink(target.as_os_str().as_bytes()).unwrap();
    } else if metadata.is_dir() {
        nar.enter_directory().unwrap();
        let mut entries: Vec<PathBuf> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
        for entry in entries {
            nar.entry(entry.file_name().unwrap().as_bytes()).unwrap();
            write(nar, &entry);
        }
        nar.leave_directory().unwrap();
    } else {
        let executable = metadata.permissions().mode() & 0o100 != 0;
        let mut contents = File::open(path).unwrap();
        nar.file(executable, metadata.len(), &mut contents).unwrap();
    }
}

/// Writes what a NAR has to `to`.
pub(crate) fn unpack(nar: &[u8], to: &Path) {
    let mut reader = NarReader::new(nar);
    let mut path = to.to_owned();
    let mut depth = 0;
    while let Some(event) = reader.next_event().unwrap() {
        match event {
            Event::EnterDirectory => {
                fs::create_dir(&path).unwrap();
                depth += 1;
                continue;
            }
            Event::Entry { name } => {
                path.push(OsStr::from_bytes(name));
                continue;
            }
            Event::File {
                executable,
                mut contents,
            } => {
                io::copy(&mut contents, &mut File::create(&path).unwrap()).unwrap();
                let mode = if executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
            Event::Symlink { target } => symlink(OsStr::from_bytes(target), &path).unwrap(),
            Event::LeaveDirectory => depth -= 1,
        }
        if depth > 0 {
            path.pop();
        }
    }
}
