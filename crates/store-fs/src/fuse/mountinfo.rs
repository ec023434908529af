//! The mounts that this process sees, from `/proc/self/mountinfo`.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use crate::proc;

/// A line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) id: u64,
    /// Device number of the filesystem, major and minor.
    pub(super) device: (u32, u32),
    pub(super) mountpoint: PathBuf,
    pub(super) fs_type: String,
    pub(super) source: String,
}

/// All mounts, later ones covering earlier ones of the same path.
pub(super) fn read() -> io::Result<Vec<Mount>> {
    let table = proc::read("self/mountinfo")?;
    Ok(table.split(|&b| b == b'\n').filter_map(parse).collect())
}

/// What is mounted at exactly this path, if anything.
pub(super) fn at(path: &Path) -> io::Result<Option<Mount>> {
    Ok(read()?.into_iter().rfind(|mount| mount.mountpoint == path))
}

fn parse(line: &[u8]) -> Option<Mount> {
    // 36 35 98:0 /root /mountpoint options optional-fields… - type source options
    let mut fields = line.split(|&b| b == b' ');
    let id = text(fields.next()?)?.parse().ok()?;
    let (major, minor) = text(fields.nth(1)?)?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let mountpoint = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    fields.find(|field| *field == b"-")?;
    Some(Mount {
        id,
        device,
        mountpoint,
        fs_type: text(fields.next()?)?.to_owned(),
        source: String::from_utf8_lossy(&unescape(fields.next()?)).into_owned(),
    })
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\');
        match octal.and_then(|digits| u8::from_str_radix(text(digits)?, 8).ok()) {
            Some(escaped) => {
                out.push(escaped);
                rest = &after[3..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// Whether `path` is `directory` or under it.
pub(super) fn is_under(path: &Path, directory: &Path) -> bool {
    // Not by components: the kernel's paths are normal, and this must not
    // take part of one to be equal to another.
    match path
        .as_os_str()
        .as_bytes()
        .strip_prefix(directory.as_os_str().as_bytes())
    {
        Some(rest) => rest.is_empty() || rest[0] == b'/' || directory == Path::new("/"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_parsed() {
        let line =
            br"36 35 0:98 / /mnt/a\040b rw,nosuid shared:1 master:2 - fuse.store-mountd a\011b rw";
        let mount = parse(line).expect("it is a line of mountinfo");
        assert_eq!(mount.id, 36);
        assert_eq!(mount.device, (0, 98));
        assert_eq!(mount.mountpoint, Path::new("/mnt/a b"));
        assert_eq!(mount.fs_type, "fuse.store-mountd");
        assert_eq!(mount.source, "a\tb");
    }

    #[test]
    fn under_is_not_a_prefix_of_a_name() {
        assert!(is_under(Path::new("/mnt/a"), Path::new("/mnt")));
        assert!(is_under(Path::new("/mnt"), Path::new("/mnt")));
        assert!(is_under(Path::new("/mnt"), Path::new("/")));
        assert!(!is_under(Path::new("/mnt2"), Path::new("/mnt")));
    }
}
