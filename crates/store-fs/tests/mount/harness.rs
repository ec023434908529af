//! Mounts a store for a test.
//!
//! A test knows the mount only by its path, so that it holds for every
//! transport. One that cannot be had fails the test.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};
use store_fs::{
    Filesystem, Options,
    core::{Counters, Op},
    fuse::{DataPath, Fault, MountOptions, Readdirplus, ServeOptions, Session},
};
use tempfile::TempDir;

use super::tree::{Store, Tree};

/// What can be chosen of a mount.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) options: Options,
    pub(crate) readdirplus: Readdirplus,
    pub(crate) data_path: DataPath,
    /// As many threads as are the default, unless it is told.
    pub(crate) threads: Option<(usize, usize)>,
    pub(crate) fault: Option<Fault>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            options: Options::default(),
            readdirplus: Readdirplus::default(),
            data_path: data_path(),
            threads: None,
            fault: None,
        }
    }
}

/// What the environment asks for, so that all tests can be run with each.
fn data_path() -> DataPath {
    let wanted = std::env::var("STORE_FS_TEST_DATA_PATH");
    match wanted.as_deref() {
        Err(_) | Ok("auto") => DataPath::Auto,
        Ok("cached") => DataPath::Cached,
        Ok("passthrough") => DataPath::Passthrough,
        Ok(other) => panic!("STORE_FS_TEST_DATA_PATH: {other}"),
    }
}

/// A way to bring a filesystem to a path. Dropping it takes it away.
pub(crate) trait Transport: Sync {
    fn path(&self) -> &Path;

    /// Tells the kernel that an entry of the root is no more.
    fn invalidate_entry(&self, name: &str);
}

/// A store that is mounted.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) filesystem: Arc<Filesystem>,
    pub(crate) data_path: DataPath,
    transport: Box<dyn Transport>,
}

impl Fixture {
    /// Mounts a store with one entry in its root.
    pub(crate) fn of(name: &str, tree: &Tree) -> Self {
        let store = Store::default();
        store.add(name, tree);
        Self::mount(store, Config::default())
    }

    pub(crate) fn mount(store: Store, config: Config) -> Self {
        let filesystem = store.filesystem(config.options.clone());
        let transport = Box::new(Fuse::mount(Arc::clone(&filesystem), &config));
        let data_path = transport.session.data_path().expect("it is set up");
        Self {
            store,
            filesystem,
            data_path,
            transport,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.transport.path()
    }

    /// A path in the mount.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// Removes an entry of the root, and says so.
    pub(crate) fn remove(&self, name: &str) {
        self.store.root.remove(name.as_bytes());
        self.transport.invalidate_entry(name);
    }

    pub(crate) fn stats(&self) -> Counters {
        self.filesystem.stats()
    }

    /// How many requests of a kind `act` causes.
    pub(crate) fn requests<T>(&self, op: Op, act: impl FnOnce() -> T) -> (u64, T) {
        let before = self.stats().of(op);
        let result = act();
        (self.stats().of(op) - before, result)
    }
}

struct Fuse {
    session: Session,
    // Removed after the session is dropped, and with it the mount.
    _mountpoint: TempDir,
}

impl Fuse {
    fn mount(filesystem: Arc<Filesystem>, config: &Config) -> Self {
        let mountpoint = tempfile::tempdir().expect("a temporary directory");
        let mut serve_options = ServeOptions {
            readdirplus: config.readdirplus,
            data_path: config.data_path,
            fault: config.fault,
            ..ServeOptions::default()
        };
        if let Some((threads, max_threads)) = config.threads {
            serve_options.threads = threads;
            serve_options.max_threads = max_threads;
        }
        let session = Session::start(
            mountpoint.path(),
            filesystem,
            &MountOptions::default(),
            &serve_options,
        );
        let session = session.unwrap_or_else(|error| {
            panic!("mount tests need root and /dev/fuse, and must not be skipped: {error}")
        });
        Self {
            session,
            _mountpoint: mountpoint,
        }
    }
}

impl Transport for Fuse {
    fn path(&self) -> &Path {
        self.session.mountpoint()
    }

    fn invalidate_entry(&self, name: &str) {
        let told = self.session.invalidate_entry(name.as_bytes());
        told.expect("the kernel is told");
    }
}

/// Keeps tests that drop the kernel's caches apart from tests that count on
/// them, in this process and in others.
pub(crate) struct CacheLock {
    _file: File,
}

impl CacheLock {
    /// For tests that count on the caches.
    pub(crate) fn shared() -> Self {
        Self::lock(FlockOperation::LockShared)
    }

    /// For tests that drop them.
    pub(crate) fn exclusive() -> Self {
        Self::lock(FlockOperation::LockExclusive)
    }

    fn lock(operation: FlockOperation) -> Self {
        let path = std::env::temp_dir().join("store-fs-test-caches.lock");
        let file = File::create(path).expect("a lock file");
        flock(&file, operation).expect("a lock");
        Self { _file: file }
    }

    /// Drops the kernel's entries and inodes.
    pub(crate) fn drop_caches(&self) {
        fs::write("/proc/sys/vm/drop_caches", "2").expect("mount tests need root");
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Inode number and mode of what stands at `path` itself.
pub(crate) fn stat(path: impl AsRef<Path>) -> (u64, u32) {
    let path = path.as_ref();
    let metadata = fs::symlink_metadata(path)
        .unwrap_or_else(|error| panic!("stat {}: {error}", path.display()));
    (metadata.ino(), metadata.mode())
}
