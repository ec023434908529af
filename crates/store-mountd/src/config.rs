//! How a mount is configured: by flags, else by a file, else by defaults.
//!
//! [`Settings`] is the one list of what there is to set. Its fields are the
//! flags of `mount` (clap), the keys of the file (serde), and, with what they
//! say in their help, `docs/configuration.md`.

#[cfg(test)]
mod document;
mod file;
mod values;

use std::{fmt, num::NonZero, path::PathBuf, time::Duration};

use clap::Args;
use serde::{Deserialize, Serialize};
use store_fs::fuse::ServeOptions;

pub(crate) use self::{
    file::SettingsFile,
    values::{Bytes, ControlSocket, DataPathChoice, Integrity, Listen, LogLevel},
};

/// Where the service's settings are.
pub(crate) const DEFAULT_FILE: &str = "/etc/tvix-store-mount/config.toml";

/// What can be set, as far as it is.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Settings {
    /// Set from the global flag of that name.
    #[arg(skip)]
    pub(crate) store: Option<PathBuf>,

    /// Set from the global flag of that name.
    #[arg(skip)]
    pub(crate) log_level: Option<LogLevel>,

    /// Where to mount: an empty directory.
    #[arg(value_name = "MOUNTPOINT", required_unless_present = "config")]
    pub(crate) mountpoint: Option<PathBuf>,

    /// How well what is read is checked.
    #[arg(long, value_name = "MODE")]
    pub(crate) integrity: Option<Integrity>,

    /// How contents get to who reads them.
    #[arg(long, value_name = "PATH")]
    pub(crate) data_path: Option<DataPathChoice>,

    /// Let the top directory be listed. Without it, its entries are found by
    /// name only, as many tools list /nix/store for no good reason.
    #[arg(long, value_name = YES_NO, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) list_root: Option<bool>,

    /// Show digests as extended attributes, at the cost of a request for each
    /// file whose attributes a program asks for.
    #[arg(long, value_name = YES_NO, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) xattrs: Option<bool>,

    /// Let other users use the mount. Without it, yes for root, else no: then
    /// root is kept out too. Others than root need user_allow_other in
    /// /etc/fuse.conf.
    #[arg(long, value_name = YES_NO, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_other: Option<bool>,

    /// Mount even if the directory has entries, which the mount hides, or is a
    /// mountpoint already.
    #[arg(long, value_name = YES_NO, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_nonempty: Option<bool>,

    /// How many requests to handle at a time, as long as none of them waits.
    /// Without it, twice as many as there are processors, and 4 to 16.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZero<usize>>,

    /// How many requests to handle at a time, those included that wait for a
    /// disk or a remote: for each that does, another is handled.
    #[arg(long, value_name = "N")]
    pub(crate) max_threads: Option<NonZero<usize>>,

    /// How many bytes of decoded directories to keep in memory: a number, or
    /// one with KiB, MiB or GiB behind it.
    #[arg(long, value_name = "BYTES")]
    pub(crate) directory_cache: Option<Bytes>,

    /// How many blobs to keep open. Each may hold a file descriptor.
    #[arg(long, value_name = "N")]
    pub(crate) opened_blobs: Option<usize>,

    /// After how many seconds without an answer a worker is replaced that does
    /// nothing; 0 for never. One that works, waits for a disk or was stopped is
    /// given more time.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) hang_timeout: Option<u32>,

    /// Take away from the processes that serve what they do not need: system
    /// calls, capabilities, files outside the store, the network.
    #[arg(long, value_name = YES_NO, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) confine: Option<bool>,

    /// The socket by which `status`, `upgrade` and `unmount` find the mount: a
    /// path, off, or auto, which is one named after the mountpoint in
    /// /run/tvix-store-mount for root and in $XDG_RUNTIME_DIR/tvix-store-mount
    /// for others. Only its owner and root may use it.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) control_socket: Option<ControlSocket>,

    /// Where to offer metrics to Prometheus: an address with a port, unix: and
    /// the path of a socket, or off.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics_listen: Option<Listen>,
}

/// The value of a flag that needs none.
const YES_NO: &str = "true|false";

impl Settings {
    /// What is set if nothing is; without what depends on who asks where.
    pub(crate) fn defaults() -> Self {
        let filesystem = store_fs::Options::default();
        Self {
            log_level: Some(LogLevel::default()),
            integrity: Some(Integrity::default()),
            data_path: Some(DataPathChoice::default()),
            list_root: Some(false),
            xattrs: Some(filesystem.xattrs),
            max_threads: NonZero::new(ServeOptions::default().max_threads),
            allow_nonempty: Some(false),
            directory_cache: Some(Bytes(filesystem.directory_cache)),
            opened_blobs: Some(filesystem.opened_blobs),
            hang_timeout: Some(10),
            confine: Some(true),
            control_socket: Some(ControlSocket::default()),
            metrics_listen: Some(Listen::default()),
            store: None,
            mountpoint: None,
            allow_other: None,
            threads: None,
        }
    }

    /// What is set here, and where nothing is, what is set in `lower`.
    #[must_use]
    pub(crate) fn or(self, lower: Self) -> Self {
        Self {
            store: self.store.or(lower.store),
            log_level: self.log_level.or(lower.log_level),
            mountpoint: self.mountpoint.or(lower.mountpoint),
            integrity: self.integrity.or(lower.integrity),
            data_path: self.data_path.or(lower.data_path),
            list_root: self.list_root.or(lower.list_root),
            xattrs: self.xattrs.or(lower.xattrs),
            allow_other: self.allow_other.or(lower.allow_other),
            allow_nonempty: self.allow_nonempty.or(lower.allow_nonempty),
            threads: self.threads.or(lower.threads),
            max_threads: self.max_threads.or(lower.max_threads),
            directory_cache: self.directory_cache.or(lower.directory_cache),
            opened_blobs: self.opened_blobs.or(lower.opened_blobs),
            hang_timeout: self.hang_timeout.or(lower.hang_timeout),
            confine: self.confine.or(lower.confine),
            control_socket: self.control_socket.or(lower.control_socket),
            metrics_listen: self.metrics_listen.or(lower.metrics_listen),
        }
    }

    /// What it comes to.
    ///
    /// # Errors
    /// If settings do not go together, or one is missing.
    pub(crate) fn resolve(self) -> Result<Config, Invalid> {
        let settings = self.or(Self::defaults());
        let config = Config {
            store: settings.store,
            mountpoint: settings.mountpoint.ok_or(Invalid {
                field: "mountpoint",
                reason: "where to mount is not said",
            })?,
            integrity: settings.integrity.unwrap_or_default(),
            data_path: settings.data_path.unwrap_or_default(),
            list_root: settings.list_root.unwrap_or_default(),
            xattrs: settings.xattrs.unwrap_or_default(),
            allow_other: settings.allow_other,
            allow_nonempty: settings.allow_nonempty.unwrap_or_default(),
            threads: settings.threads,
            max_threads: settings.max_threads,
            directory_cache: settings.directory_cache.map_or(0, |bytes| bytes.0),
            opened_blobs: settings.opened_blobs.unwrap_or_default(),
            hang_timeout: settings.hang_timeout.unwrap_or_default(),
            confine: settings.confine.unwrap_or_default(),
            control_socket: settings.control_socket.unwrap_or_default(),
            metrics_listen: settings.metrics_listen.unwrap_or_default(),
        };
        config.check()?;
        Ok(config)
    }
}

/// The configuration of a mount.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) store: Option<PathBuf>,
    pub(crate) mountpoint: PathBuf,
    pub(crate) integrity: Integrity,
    pub(crate) data_path: DataPathChoice,
    pub(crate) list_root: bool,
    pub(crate) xattrs: bool,
    pub(crate) allow_other: Option<bool>,
    pub(crate) allow_nonempty: bool,
    pub(crate) threads: Option<NonZero<usize>>,
    pub(crate) max_threads: Option<NonZero<usize>>,
    pub(crate) directory_cache: u64,
    pub(crate) opened_blobs: usize,
    pub(crate) hang_timeout: u32,
    pub(crate) confine: bool,
    pub(crate) control_socket: ControlSocket,
    pub(crate) metrics_listen: Listen,
}

impl Config {
    /// After what time of silence a worker counts as hung, if ever.
    pub(crate) fn hang_timeout(&self) -> Option<Duration> {
        (self.hang_timeout > 0).then(|| Duration::from_secs(self.hang_timeout.into()))
    }

    fn check(&self) -> Result<(), Invalid> {
        if (self.data_path, self.integrity) == (DataPathChoice::Passthrough, Integrity::OnRead) {
            return Err(Invalid {
                field: "data-path",
                reason: "passthrough reads around every check: it needs the integrity mode at-rest",
            });
        }
        if let (Some(threads), Some(most)) = (self.threads, self.max_threads)
            && most < threads
        {
            return Err(Invalid {
                field: "max-threads",
                reason: "there cannot be fewer of them than threads",
            });
        }
        Ok(())
    }
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) field: &'static str,
    pub(crate) reason: &'static str,
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

#[cfg(test)]
mod tests;
