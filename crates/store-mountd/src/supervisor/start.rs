//! The beginning: a mount is made, or taken over.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, Result};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::fs::{Mode, OFlags, open};
use store_fs::{
    State,
    fuse::{BackingFiles, MountHandle, MountOptions, clear_dead, mount},
    proc,
};

use super::{
    Binary, Faults, Phase, Supervisor,
    handed::{Handed, Record, Turn},
    mounting::Mounting,
    probe::Probe,
    removals::Removals,
    requests::Mailbox,
    restarts::Restarts,
    stop::Stop,
    watch::Told,
};
use crate::{
    config::{Config, LogLevel},
    confine, control, failure,
    link::Service,
    metrics,
    notify::{self, Notifier},
    open::StoreDir,
};

/// Mounts, or takes the mount over that the service manager has the descriptors
/// of, and has it served until it is unmounted.
pub(crate) fn run(
    config: Config,
    log_level: LogLevel,
    faults: Faults,
    binary: Binary,
) -> Result<ExitCode> {
    // While there is one. Where there is none, it is missed later.
    let _ = proc::dir();
    // Before all else: every thread is to inherit it, and so is every worker, who
    // are not to end by a signal for us.
    let signals = block_signals()?;
    let notifier = Notifier::from_environment();
    let handed = notify::handed_over().context("cannot take what the manager hands over")?;
    if notifier.is_managed() && !notifier.says_what_it_keeps() {
        tracing::warn!(
            "the service manager does not say that it keeps descriptors (FDSTORE): if it keeps \
             none, the mount does not survive this process and its worker"
        );
    }
    confine::no_core_dumps();
    confine::protect_from_oom();
    confine::lock_memory(confine::Locked::All);
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("cannot open /dev/null")?;
    let beginning = Beginning {
        store: StoreDir::new(config.store.clone()).path()?,
        config,
        log_level,
        faults,
        binary,
        null,
        notifier,
        signals,
    };
    // Whatever can fail does so before there is a mount. One that is there
    // already is better without metrics than without a supervisor.
    let metrics = metrics::Listener::bind(&beginning.config.metrics_listen);
    let taken = match Handed::from(handed) {
        Some(handed) => take_over(handed, &beginning.notifier)?,
        None => None,
    };
    let (taken, metrics) = match taken {
        Some(taken) => (taken, metrics.unwrap_or_else(without_metrics)),
        None => {
            let metrics = metrics?;
            (mount_anew(&beginning)?, metrics)
        }
    };
    let supervisor = beginning.assemble(taken, metrics)?;
    supervisor.supervise()
}

/// What there is before there is a mount.
struct Beginning {
    store: PathBuf,
    config: Config,
    log_level: LogLevel,
    faults: Faults,
    binary: Binary,
    null: OwnedFd,
    notifier: Notifier,
    signals: SignalFd,
}

struct Taken {
    handed: Handed,
    state: State,
    /// `None` if nobody but those who use it already can get at it.
    handle: Option<MountHandle>,
    resumed: bool,
}

fn mount_anew(beginning: &Beginning) -> Result<Taken> {
    let config = &beginning.config;
    let store = File::open(&beginning.store)
        .with_context(|| format!("cannot open {}", beginning.store.display()))?;
    let state = State::new()?;
    let turn = Turn::new().context("cannot make a file in memory")?;
    let mut options = MountOptions {
        cover: config.allow_nonempty,
        ..Default::default()
    };
    if let Some(allow_other) = config.allow_other {
        options.allow_other = allow_other;
    }
    let dead = clear_dead(&config.mountpoint, &options.name)?;
    if dead > 0 {
        tracing::warn!(
            "took a mount away from {} whose server had died",
            config.mountpoint.display()
        );
    }
    let mounted = mount(&config.mountpoint, &options)?;
    let handle = mounted.handle;
    turn.write(&Record::new(&handle))?;
    let handed = Handed {
        device: mounted.fd,
        state: state.fd().try_clone_to_owned()?,
        store: store.into(),
        turn,
    };
    // From now on the mount outlives this process.
    handed.store(&beginning.notifier);
    Ok(Taken {
        handed,
        state,
        handle: Some(handle),
        resumed: false,
    })
}

/// Answers nothing if there is nothing left to take over. Whoever serves the
/// mount goes on until this supervisor has a worker to start.
fn take_over(handed: Handed, notifier: &Notifier) -> Result<Option<Taken>> {
    let record = handed.turn.read()?;
    let mountpoint = record.mountpoint();
    if !handed.is_connected() {
        tracing::warn!("the mount on {} is gone", mountpoint.display());
        Handed::forget(notifier);
        // It serves nothing any more, and is in nobody's way.
        if let Err(error) = handed.turn.kill_holder() {
            tracing::warn!("{error:#}");
        }
        clear(&record);
        return Ok(None);
    }
    let state = State::open(handed.state.try_clone()?).context(
        "this program cannot take the mount over; start the one that made it, or unmount it",
    )?;
    let handle = record.handle().context("cannot read the mount table")?;
    tracing::info!("takes the mount on {} over", mountpoint.display());
    Ok(Some(Taken {
        handed,
        state,
        handle,
        resumed: true,
    }))
}

/// Unmounts what is left of a mount whose connection ended.
fn clear(record: &Record) {
    match record.handle() {
        Ok(Some(mut handle)) => match handle.detach() {
            Ok(()) => tracing::info!("cleared {}", handle.mountpoint().display()),
            Err(error) => tracing::error!(%error, "a dead mount stays"),
        },
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "cannot look for a dead mount"),
    }
}

impl Beginning {
    fn assemble(self, taken: Taken, metrics: Option<metrics::Listener>) -> Result<Supervisor> {
        let Taken {
            handed,
            state,
            handle,
            resumed,
        } = taken;
        let mailbox = Mailbox::new()?;
        let hang_after = self.config.hang_timeout();
        let record = handed.turn.read()?;
        let mountpoint = match &handle {
            Some(handle) => handle.mountpoint().to_owned(),
            None => record.mountpoint(),
        };
        let probe = Probe::new(&mountpoint, record.device)
            .with_context(|| format!("cannot open the directory of {}", mountpoint.display()))?;
        let phase = match &handle {
            Some(_) if !record.detached => Phase::Starting,
            _ => Phase::Detached,
        };
        // What has to be there first; then privileges go; and only then there are
        // threads.
        let control = control_socket(&self.config, &mountpoint);
        if self.config.confine {
            let needs = confine::SupervisorNeeds {
                fusermount: record.by_fusermount,
            };
            confine::supervisor(&needs).context("cannot confine the supervisor")?;
        }
        let handle_of = || Arc::new(mailbox.handle());
        let control = control
            .map(|listener| listener.serve(handle_of()))
            .transpose()?;
        metrics
            .map(|listener| listener.serve(handle_of()))
            .transpose()?;
        let now = Instant::now();
        Ok(Supervisor {
            patience: Supervisor::new_patience(hang_after),
            mounting: Mounting::start(handle, mailbox.post()).context("cannot start a thread")?,
            backing: BackingFiles::new(handed.device.try_clone()?),
            service: Service::of(&self.config, &self.store),
            store: self.store,
            log_level: self.log_level,
            faults: self.faults,
            hang_after,
            binary: self.binary,
            null: self.null,
            handed,
            state: Arc::new(state),
            mountpoint,
            resumed,
            notifier: self.notifier,
            signals: self.signals,
            mailbox,
            control,
            probe,
            asked: None,
            looked: now,
            pings: 0,
            pinged: None,
            waits_for: None,
            restarts: Restarts::default(),
            upgrades: 0,
            worker: None,
            start_worker: None,
            workers: 0,
            phase,
            stop: Stop::No,
            started: now,
            upgrade: None,
            removals: Removals::default(),
            paths: 0,
            last_death: None,
            died_at: None,
            told: Told::new(),
            unmounted: None,
            unmounting: 0,
            answered: false,
            failed: None,
            kept: false,
            end: None,
        })
    }
}

/// A mount without it is better than none.
fn control_socket(config: &Config, mountpoint: &Path) -> Option<control::Listener> {
    let path = control::for_mount(&config.control_socket, mountpoint)?;
    control::Listener::bind(&path)
        .inspect_err(|error| {
            let error = failure::message(error);
            tracing::warn!("{error}: no control of this mount");
        })
        .ok()
}

fn without_metrics(error: anyhow::Error) -> Option<metrics::Listener> {
    let error = failure::message(&error);
    tracing::warn!("{error}: no metrics of this mount");
    None
}

fn block_signals() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        mask.add(signal);
    }
    mask.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("cannot receive signals")
}
