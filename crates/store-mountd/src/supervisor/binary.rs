//! The program as a file in memory.
//!
//! A daemon that serves the store which its own file is on must not need the
//! file: neither to be paged in, nor to start the next worker.

use std::{
    convert::Infallible,
    env,
    ffi::{CString, OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create},
    io::Errno,
};

use super::child;

/// Tells the program that it runs from memory, and what was copied there.
const ORIGIN: &str = "STORE_MOUNTD_COPIED_FROM";
/// The first character tells systemd-shutdown to leave the process alone.
pub(crate) const ARGV0: &str = "@store-mountd";
/// MFD_EXEC, since Linux 6.3: where files in memory are not executable unless
/// asked for.
const EXECUTABLE: MemfdFlags = MemfdFlags::from_bits_retain(0x10);

/// Nothing changes any more what has them.
const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// A program that can be run without a path.
#[derive(Debug)]
pub(crate) struct Binary {
    file: OwnedFd,
    origin: PathBuf,
}

impl Binary {
    /// The one that runs, if it runs from memory.
    pub(crate) fn running() -> Result<Option<Self>> {
        let Some(origin) = env::var_os(ORIGIN) else {
            return Ok(None);
        };
        Ok(Self::sealed(own_file()?, origin.into()).ok())
    }

    /// The one that runs, where it is.
    pub(crate) fn in_place() -> Result<Self> {
        Ok(Self {
            file: own_file()?.into(),
            origin: own_path()?,
        })
    }

    /// A copy of the one that runs.
    pub(crate) fn copy_of_this() -> Result<Self> {
        copy(own_file()?, own_path()?)
    }

    /// A copy of the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, or is no regular file.
    pub(crate) fn copy_of(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let is_file = file.metadata()?.is_file();
        anyhow::ensure!(is_file, "{} is not a file", path.display());
        copy(file, path.to_owned())
    }

    /// A copy of the file at `origin` that was made elsewhere.
    ///
    /// # Errors
    /// If it can still be changed, or is not in memory.
    pub(crate) fn sealed(file: File, origin: PathBuf) -> Result<Self> {
        let is_sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SEALS));
        anyhow::ensure!(
            is_sealed,
            "{} is not a sealed file in memory",
            origin.display()
        );
        Ok(Self {
            file: file.into(),
            origin,
        })
    }

    /// What it was copied from.
    pub(crate) fn origin(&self) -> &Path {
        &self.origin
    }

    /// Runs it in place of this program, with the same arguments. Returns only
    /// if that fails.
    pub(crate) fn become_it(&self) -> io::Result<Infallible> {
        let arguments = env::args_os().skip(1);
        let arguments: Vec<_> = [OsString::from(ARGV0)]
            .into_iter()
            .chain(arguments)
            .map(c_string)
            .collect::<Result<_, _>>()?;
        let mut environment = environment_without(&[ORIGIN])?;
        environment.push(variable(OsStr::new(ORIGIN), self.origin.as_os_str())?);
        child::exec(self.as_fd(), &arguments, &environment)
    }
}

impl AsFd for Binary {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn own_file() -> Result<File> {
    File::open("/proc/self/exe").context("cannot open /proc/self/exe")
}

fn own_path() -> Result<PathBuf> {
    env::current_exe().context("cannot read /proc/self/exe")
}

fn copy(mut from: File, origin: PathBuf) -> Result<Binary> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match memfd_create("store-mountd", flags | EXECUTABLE) {
        Err(Errno::INVAL) => memfd_create("store-mountd", flags),
        made => made,
    };
    let mut memory = File::from(memory.context("cannot make a file in memory")?);
    io::copy(&mut from, &mut memory)
        .with_context(|| format!("cannot copy {} to memory", origin.display()))?;
    fcntl_add_seals(&memory, SEALS).context("cannot seal a file in memory")?;
    Ok(Binary {
        file: memory.into(),
        origin,
    })
}

/// The environment of this process but for some variables.
pub(super) fn environment_without(names: &[&str]) -> io::Result<Vec<CString>> {
    env::vars_os()
        .filter(|(name, _)| !names.iter().any(|left_out| name == left_out))
        .map(|(name, value)| variable(&name, &value))
        .collect()
}

fn variable(name: &OsStr, value: &OsStr) -> io::Result<CString> {
    let text = [name.as_bytes(), b"=", value.as_bytes()].concat();
    Ok(CString::new(text)?)
}

fn c_string(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.into_vec())?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_copy_cannot_be_changed() {
        let copy = Binary::copy_of_this().unwrap();
        assert_eq!(copy.origin(), env::current_exe().unwrap());
        let mut file = File::from(copy.file);
        let error = file.write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn only_files_are_copied() {
        let error = Binary::copy_of("/".as_ref()).unwrap_err();
        assert!(error.to_string().contains("not a file"), "{error}");
    }

    #[test]
    fn what_can_be_changed_is_refused() {
        let error = Binary::sealed(own_file().unwrap(), own_path().unwrap()).unwrap_err();
        assert!(error.to_string().contains("not a sealed file"), "{error}");
        let copy = Binary::copy_of_this().unwrap();
        Binary::sealed(copy.file.into(), copy.origin).unwrap();
    }
}
