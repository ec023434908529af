use std::{
    mem,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
};

use anyhow::{Context as _, Result, bail};
use castore::local::LocalStore;
use clap::Args;
use nix::sys::signal::Signal;
use store_fs::{
    Filesystem,
    fuse::{
        End, MountHandle, MountOptions, ServeError, ServeOptions, Serving, Session, UnmountError,
    },
};

use crate::{
    config::{Config, LogLevel, Settings, SettingsFile},
    failure,
    open::StoreDir,
    root::StoreRoot,
    signals::Termination,
};

/// Serve the store on a directory until it is unmounted.
///
/// Runs in the foreground. When the filesystem answers, a line on standard error
/// says "mounted STORE on MOUNTPOINT (N paths)". Paths that are imported later
/// appear at once.
///
/// SIGINT (Ctrl-C) and SIGTERM unmount. If the filesystem is in use, they say by
/// whom, take it out of the directory tree, and serve on until the last user is
/// done; a second signal ends at once. SIGUSR1 prints what was done so far.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Mount {
    #[command(flatten)]
    settings: Settings,

    /// Take what no flag says from this file of settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// What flags and file come to.
    #[arg(skip)]
    configured: Option<Config>,
}

const EXAMPLES: &str = "\
Examples:
  store-mountd mount /mnt/store --list-root
  unshare --mount store-mountd mount /nix/store --allow-nonempty";

impl Mount {
    /// Answers how much to log.
    pub(crate) fn configure(&mut self, globals: Settings) -> Result<Option<LogLevel>> {
        let flags = mem::take(&mut self.settings).or(globals);
        let (config, level) = match &self.config {
            Some(path) => {
                let file = SettingsFile::read(path)?;
                let level = flags.log_level.or(file.settings.log_level);
                (file.under(flags)?, level)
            }
            None => (flags.clone().resolve()?, flags.log_level),
        };
        self.configured = Some(config);
        Ok(level)
    }

    pub(crate) fn run(self) -> Result<ExitCode> {
        let config = self.configured.context("the mount is not configured")?;
        // First of all: every thread is to inherit it.
        let termination = Termination::block_with(&[Signal::SIGUSR1])?;
        let store = StoreDir::new(config.store.clone()).open_with(config.integrity.into())?;
        let count = store.statistics()?.records;
        let filesystem = filesystem(&config, &store);
        let session = start(&config, filesystem.clone())?;
        let mountpoint = session.mountpoint().to_owned();
        let (handle, serving) = session.into_parts();
        eprintln!(
            "mounted {} on {} ({count} {})",
            store.path().display(),
            mountpoint.display(),
            if count == 1 { "path" } else { "paths" },
        );
        until_unmounted(handle, serving, termination, &filesystem)
    }
}

fn filesystem(config: &Config, store: &Arc<LocalStore>) -> Arc<Filesystem> {
    let options = store_fs::Options {
        list_root: config.list_root,
        xattrs: config.xattrs,
        directory_cache: config.directory_cache,
        opened_blobs: config.opened_blobs,
    };
    let root = Arc::new(StoreRoot::new(store.clone()));
    Arc::new(Filesystem::new(root, store.clone(), store.clone(), options))
}

fn start(config: &Config, filesystem: Arc<Filesystem>) -> Result<Session> {
    let mut mount = MountOptions {
        cover: config.allow_nonempty,
        ..Default::default()
    };
    if let Some(allow_other) = config.allow_other {
        mount.allow_other = allow_other;
    }
    let mut serve = ServeOptions {
        data_path: config.data_path.into(),
        ..Default::default()
    };
    if let Some(threads) = config.threads {
        serve.threads = threads.get();
    }
    Ok(Session::start(
        &config.mountpoint,
        filesystem,
        &mount,
        &serve,
    )?)
}

enum Event {
    /// A signal asks for the end.
    Terminate,
    /// A signal asks what was done so far.
    Report,
    /// The connection ended.
    Ended(Result<End, ServeError>),
}

/// Waits for the end of the mount, by whatever way.
fn until_unmounted(
    mut handle: MountHandle,
    mut serving: Serving,
    termination: Termination,
    filesystem: &Filesystem,
) -> Result<ExitCode> {
    let mountpoint = handle.mountpoint().to_owned();
    let (events, happened) = mpsc::channel();
    let signalled = events.clone();
    // Nobody listens any more when the program is about to end.
    termination.on_each(move |signal| {
        tracing::debug!(%signal, "signalled");
        let _ = signalled.send(match signal {
            Signal::SIGUSR1 => Event::Report,
            _ => Event::Terminate,
        });
    })?;
    thread::Builder::new()
        .name("end".to_owned())
        .spawn(move || {
            let _ = events.send(Event::Ended(serving.wait()));
        })
        .context("cannot start a thread")?;

    let mut detached = false;
    loop {
        match happened.recv()? {
            Event::Ended(Ok(End::Unmounted)) => {
                tracing::info!("unmounted {}", mountpoint.display());
                return Ok(ExitCode::SUCCESS);
            }
            Event::Ended(Ok(End::Aborted)) => bail!(
                "the mount on {} was aborted; its users get errors from now on",
                mountpoint.display()
            ),
            Event::Ended(Err(error)) => {
                return Err(error).context("cannot serve the mount any more");
            }
            Event::Report => {
                let stats = filesystem.stats();
                eprintln!(
                    "statistics: requests {} nodes {} bytes-read {} errors {}",
                    stats.requests(),
                    stats.nodes,
                    stats.bytes_read,
                    stats.content_errors,
                );
            }
            Event::Terminate if detached => {
                bail!("ended while the mount was in use; its users get errors from now on")
            }
            Event::Terminate => match unmount(&mut handle) {
                Ok(still_used) => detached = still_used,
                Err(error) => eprintln!("store-mountd: {}", failure::message(&error.into())),
            },
        }
    }
}

/// Answers whether the filesystem is still in use.
fn unmount(handle: &mut MountHandle) -> Result<bool, UnmountError> {
    match handle.unmount() {
        Ok(()) => Ok(false),
        Err(busy @ UnmountError::Busy { .. }) => {
            handle.detach()?;
            eprintln!(
                "store-mountd: {busy}\nTaken out of the directory tree, and served until the last \
                 user is done. Signal again to end at once."
            );
            Ok(true)
        }
        Err(error) => Err(error),
    }
}
