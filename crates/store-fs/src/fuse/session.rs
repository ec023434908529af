use std::{io, path::Path, sync::Arc, time::Duration};

use super::{
    DataPath, End, MountError, MountHandle, MountOptions, ServeError, ServeOptions, Serving,
    UnmountError, mount, serve,
};
use crate::Filesystem;

/// The kernel asks for the connection's set-up at once.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A mount served by this process. Dropping it unmounts, as dropping its
/// [`MountHandle`] does.
#[derive(Debug)]
pub struct Session {
    // Dropped first: serving ends when the mount does.
    handle: MountHandle,
    serving: Serving,
}

/// Why a mount could not be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It could not be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// No thread could be started.
    #[error("cannot serve the mount: {0}")]
    Serve(#[from] io::Error),
    /// The kernel did not set the connection up.
    #[error("the kernel did not set the connection up within {} s", INIT_TIMEOUT.as_secs())]
    NoInit,
}

impl Session {
    /// Mounts, and returns when the mount is served.
    ///
    /// # Errors
    /// See [`StartError`]; then nothing is mounted.
    pub fn start(
        mountpoint: &Path,
        filesystem: Arc<Filesystem>,
        mount_options: &MountOptions,
        serve_options: &ServeOptions,
    ) -> Result<Self, StartError> {
        let mounted = mount(mountpoint, mount_options)?;
        let handle = mounted.handle;
        let serving = serve(mounted.fd, filesystem, serve_options)?;
        if !serving.is_ready_within(INIT_TIMEOUT) {
            return Err(StartError::NoInit);
        }
        handle.read_far_ahead();
        Ok(Self { handle, serving })
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        self.handle.mountpoint()
    }

    /// How contents are read: what was chosen, or what could be had instead.
    pub fn data_path(&self) -> Option<DataPath> {
        self.serving.data_path()
    }

    /// As [`Invalidator::invalidate_entry`](super::Invalidator::invalidate_entry).
    ///
    /// # Errors
    /// As there.
    pub fn invalidate_entry(&self, name: &[u8]) -> io::Result<()> {
        match self.serving.invalidator() {
            Some(invalidator) => invalidator.invalidate_entry(name),
            None => Ok(()),
        }
    }

    /// As [`MountHandle::unmount`].
    ///
    /// # Errors
    /// As there.
    pub fn unmount(&mut self) -> Result<(), UnmountError> {
        self.handle.unmount()
    }

    /// As [`MountHandle::detach`].
    ///
    /// # Errors
    /// As there.
    pub fn detach(&mut self) -> Result<(), UnmountError> {
        self.handle.detach()
    }

    /// Waits until the connection ends: the mount was unmounted everywhere and
    /// nobody uses it any more, or it was aborted.
    ///
    /// # Errors
    /// If serving failed.
    pub fn wait(&mut self) -> Result<End, ServeError> {
        self.serving.wait()
    }

    /// Whether the connection ended.
    pub fn has_ended(&self) -> bool {
        self.serving.has_ended()
    }

    /// The two parts, for who wants to watch over them apart.
    pub fn into_parts(self) -> (MountHandle, Serving) {
        (self.handle, self.serving)
    }
}
