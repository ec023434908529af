use std::{
    num::NonZero,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
};

use anyhow::{Context as _, Result, bail};
use castore::local::{Integrity, LocalStore};
use clap::{Args, ValueEnum};
use nix::sys::signal::Signal;
use store_fs::{
    Filesystem,
    fuse::{
        DataPath, End, MountHandle, MountOptions, ServeError, ServeOptions, Serving, Session,
        UnmountError,
    },
};

use crate::{failure, open::StoreDir, root::StoreRoot, signals::Termination};

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
    /// An empty directory.
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,

    /// How well what is read is checked.
    #[arg(long, value_name = "MODE", default_value = "on-read")]
    integrity: IntegrityArg,

    /// How contents get to who reads them.
    #[arg(long, value_name = "PATH", default_value = "auto")]
    data_path: DataPathArg,

    /// Let the top directory be listed. Without it, its entries are found by
    /// name only, as many tools list /nix/store for no good reason.
    #[arg(long)]
    list_root: bool,

    /// Let other users use the mount: the default for root. Others need
    /// user_allow_other in /etc/fuse.conf.
    #[arg(long, overrides_with = "no_allow_other")]
    allow_other: bool,

    /// Keep other users out, root included: the default for other users.
    #[arg(long, overrides_with = "allow_other")]
    no_allow_other: bool,

    /// How many requests to handle at a time. Without it, twice as many as there
    /// are processors, and at least four.
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,

    /// Show digests as extended attributes, at the cost of a request for each
    /// file whose attributes a program asks for.
    #[arg(long)]
    xattrs: bool,

    /// Mount even if the directory has entries, which the mount hides, or is a
    /// mountpoint already.
    #[arg(long)]
    allow_nonempty: bool,
}

const EXAMPLES: &str = "\
Examples:
  store-mountd mount /mnt/store --list-root
  unshare --mount store-mountd mount /nix/store --allow-nonempty";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum IntegrityArg {
    /// Every byte is verified each time it is read from the store: damage gives
    /// EIO, never wrong bytes.
    OnRead,
    /// Contents were verified when they were written and are again by `verify`;
    /// damage in between can be read.
    AtRest,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DataPathArg {
    /// What measures best: cached.
    Auto,
    /// Through the kernel's page cache, files opened without a request.
    Cached,
    /// Files of 256 KiB and more are read by the kernel itself. Needs Linux 6.9,
    /// root, and the integrity mode at-rest.
    Passthrough,
}

impl From<DataPathArg> for DataPath {
    fn from(arg: DataPathArg) -> Self {
        match arg {
            DataPathArg::Auto => Self::Auto,
            DataPathArg::Cached => Self::Cached,
            DataPathArg::Passthrough => Self::Passthrough,
        }
    }
}

impl Mount {
    pub(crate) fn run(self, dir: &StoreDir) -> Result<ExitCode> {
        if let (DataPathArg::Passthrough, IntegrityArg::OnRead) = (self.data_path, self.integrity) {
            bail!("--data-path passthrough reads around every check: it needs --integrity at-rest");
        }
        // First of all: every thread is to inherit it.
        let termination = Termination::block_with(&[Signal::SIGUSR1])?;
        let integrity = match self.integrity {
            IntegrityArg::OnRead => Integrity::OnRead,
            IntegrityArg::AtRest => Integrity::AtRest,
        };
        let store = dir.open_with(integrity)?;
        let count = store.statistics()?.records;
        let filesystem = self.filesystem(&store);
        let session = self.start(filesystem.clone())?;
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

    fn filesystem(&self, store: &Arc<LocalStore>) -> Arc<Filesystem> {
        let options = store_fs::Options {
            list_root: self.list_root,
            xattrs: self.xattrs,
            ..Default::default()
        };
        let root = Arc::new(StoreRoot::new(store.clone()));
        Arc::new(Filesystem::new(root, store.clone(), store.clone(), options))
    }

    fn start(&self, filesystem: Arc<Filesystem>) -> Result<Session> {
        let mut mount = MountOptions {
            cover: self.allow_nonempty,
            ..Default::default()
        };
        if self.allow_other || self.no_allow_other {
            mount.allow_other = self.allow_other;
        }
        let mut serve = ServeOptions {
            data_path: self.data_path.into(),
            ..Default::default()
        };
        if let Some(threads) = self.threads {
            serve.threads = threads.get();
        }
        Ok(Session::start(
            &self.mountpoint,
            filesystem,
            &mount,
            &serve,
        )?)
    }
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
