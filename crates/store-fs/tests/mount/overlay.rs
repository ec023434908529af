use std::{
    ffi::CStr,
    fs,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

/// Unmounts what it names in the end, whoever uses it.
pub(crate) struct Unmount(pub(crate) PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// An overlay with an empty upper layer, unmounted in the end.
pub(crate) struct Overlay {
    merged: Unmount,
    _tmpfs: Unmount,
    _scratch: TempDir,
}

impl Overlay {
    pub(crate) fn over(lower: &Path) -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        // overlayfs wants an upper layer that it did not make itself.
        mount(
            "tmpfs",
            scratch.path(),
            "tmpfs",
            MountFlags::empty(),
            c"mode=700",
        )
        .expect("root mounts a tmpfs");
        let tmpfs = Unmount(scratch.path().to_owned());
        let [upper, work, merged] = ["upper", "work", "merged"].map(|name| {
            let path = scratch.path().join(name);
            fs::create_dir(&path).expect("a directory");
            path
        });
        let options = format!(
            "lowerdir={},upperdir={},workdir={}\0",
            lower.display(),
            upper.display(),
            work.display(),
        );
        let options = CStr::from_bytes_with_nul(options.as_bytes()).expect("no NUL");
        mount("overlay", &merged, "overlay", MountFlags::empty(), options)
            .expect("overlayfs takes the lower layer");
        Self {
            merged: Unmount(merged),
            _tmpfs: tmpfs,
            _scratch: scratch,
        }
    }

    /// A path in it.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.merged.0.join(path)
    }
}
