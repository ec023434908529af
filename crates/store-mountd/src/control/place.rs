//! Where control sockets are.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use crate::config::ControlSocket;

const DIR: &str = "tvix-store-mount";
const SUFFIX: &[u8] = b".sock";

/// Where the socket of a mount is to be, if anywhere.
pub(crate) fn for_mount(choice: &ControlSocket, mountpoint: &Path) -> Option<PathBuf> {
    match choice {
        ControlSocket::Off => None,
        ControlSocket::At(path) => Some(path.clone()),
        ControlSocket::Auto => Some(own_dir()?.join(name(mountpoint))),
    }
}

/// Where the socket of a mount may be.
pub(crate) fn at_mountpoint(mountpoint: &Path) -> Vec<PathBuf> {
    let name = name(mountpoint);
    dirs().map(|dir| dir.join(&name)).collect()
}

/// All sockets that there are.
pub(crate) fn existing() -> io::Result<Vec<PathBuf>> {
    let mut sockets = Vec::new();
    for dir in dirs() {
        let entries = match dir.read_dir() {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            if path.as_os_str().as_bytes().ends_with(SUFFIX) {
                sockets.push(path);
            }
        }
    }
    sockets.sort();
    Ok(sockets)
}

/// The system's, and the user's own.
fn dirs() -> impl Iterator<Item = PathBuf> {
    let system = system_dir();
    let own = own_dir().filter(|own| *own != system);
    [system].into_iter().chain(own)
}

fn system_dir() -> PathBuf {
    Path::new("/run").join(DIR)
}

fn own_dir() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some(system_dir());
    }
    let runtime = PathBuf::from(env::var_os("XDG_RUNTIME_DIR")?);
    runtime.is_absolute().then(|| runtime.join(DIR))
}

/// The mountpoint as systemd escapes paths, so that it is one name and can be
/// read.
fn name(mountpoint: &Path) -> OsString {
    let mut name = Vec::new();
    for component in mountpoint.components() {
        let std::path::Component::Normal(component) = component else {
            continue;
        };
        if !name.is_empty() {
            name.push(b'-');
        }
        escape(component, &mut name);
    }
    if name.is_empty() {
        name.push(b'-');
    }
    name.extend_from_slice(SUFFIX);
    OsString::from_vec(name)
}

fn escape(component: &OsStr, to: &mut Vec<u8>) {
    for byte in component.as_bytes() {
        let is_hidden = to.is_empty() && *byte == b'.';
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' if !is_hidden => {
                to.push(*byte);
            }
            _ => to.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_named_after_mountpoints() {
        for (mountpoint, expected) in [
            ("/nix/store", "nix-store.sock"),
            ("/", "-.sock"),
            ("/a-b/ü", "a\\x2db-\\xc3\\xbc.sock"),
            ("/.x/.y/", "\\x2ex-.y.sock"),
        ] {
            assert_eq!(name(Path::new(mountpoint)), OsStr::new(expected));
        }
    }

    #[test]
    fn a_socket_is_where_it_is_wanted() {
        let mountpoint = Path::new("/m");
        let at = ControlSocket::At("/x.sock".into());
        assert_eq!(for_mount(&at, mountpoint), Some("/x.sock".into()));
        assert_eq!(for_mount(&ControlSocket::Off, mountpoint), None);
        if let Some(auto) = for_mount(&ControlSocket::Auto, mountpoint) {
            assert!(at_mountpoint(mountpoint).contains(&auto));
        }
    }
}
