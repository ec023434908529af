//! `/proc`, held open.
//!
//! A process that was started in an initrd keeps that as its root directory,
//! and finds nothing there once the system has taken over: not `/proc` either.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::OnceLock,
};

use rustix::fs::{Dir, Mode, OFlags, open, openat};

static PROC: OnceLock<OwnedFd> = OnceLock::new();

/// Takes the directory from whoever started this process. To be called before
/// it is used.
pub fn take(dir: OwnedFd) {
    // Whoever was first has the same.
    let _ = PROC.set(dir);
}

/// The directory, which is opened at the first call.
///
/// # Errors
///
/// If it cannot be opened.
pub fn dir() -> io::Result<BorrowedFd<'static>> {
    if let Some(dir) = PROC.get() {
        return Ok(dir.as_fd());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = open("/proc", flags, Mode::empty())?;
    Ok(PROC.get_or_init(|| dir).as_fd())
}

/// Opens what has this path in the directory.
///
/// # Errors
///
/// Those of openat(2), and if there is no such directory.
pub fn open_at(path: &str, flags: OFlags) -> io::Result<File> {
    let file = openat(dir()?, path, flags | OFlags::CLOEXEC, Mode::empty())?;
    Ok(file.into())
}

/// What is in the file of this path in the directory.
///
/// # Errors
///
/// Those of [`open_at`] and of reading.
pub fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_at(path, OFlags::RDONLY)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The names in the directory of this path in the directory, without `.` and
/// `..`.
///
/// # Errors
///
/// Those of [`open_at`] and of reading.
pub fn names(path: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::new(open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    #[test]
    fn files_are_found_in_it() {
        let name = super::read("self/comm").unwrap();
        assert_eq!(name, std::fs::read("/proc/self/comm").unwrap());
        let thread = rustix::thread::gettid().as_raw_pid().to_string();
        assert!(super::names("self/task").unwrap().contains(&thread));
    }
}
