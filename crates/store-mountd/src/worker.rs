//! `store-mountd worker`: serves a mount that the supervisor made.
//!
//! All that it works with comes over the link, its standard input being
//! nothing and its fourth descriptor the link. When the supervisor is gone, it
//! serves on until the next one ends it.

mod backing;
mod removals;

use std::{
    os::fd::{AsFd as _, OwnedFd},
    process::{self, ExitCode},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use castore::local::LocalStore;
use clap::Args;
use store_fs::{
    Filesystem, STATE_VERSION, State,
    fuse::{self, End, Serving},
    proc,
};

use self::{backing::Brokered, removals::Removals};
use crate::{
    confine, failure,
    link::{LINK_VERSION, Link, Order, Report, Service},
    root::StoreRoot,
    supervisor::{Turn, inherited},
};

/// The link's number.
const LINK: i32 = 3;
/// That of `/proc`, if the supervisor has one.
const PROC: i32 = 4;

/// Serve a mount for the supervisor, which starts this.
#[derive(Debug, Args)]
pub(crate) struct Worker {}

impl Worker {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let socket = inherited(LINK).context("this command is for the supervisor alone")?;
        let link = Arc::new(Link::from_fd(socket));
        if let Ok(dir) = inherited(PROC) {
            proc::take(dir);
        }
        confine::expose_to_oom();
        let served = serve(&link);
        if let Err(error) = &served {
            let message = failure::message(error);
            // The supervisor may be gone, too.
            let _ = link.send(&Report::Failed(message), &[], true);
        }
        served
    }
}

fn serve(link: &Arc<Link>) -> Result<ExitCode> {
    let hello = Report::Hello {
        link: LINK_VERSION,
        state: STATE_VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
    };
    link.send(&hello, &[], true)?;
    let Some((Order::Prepare(service), fds)) = link.receive(true)? else {
        bail!("the supervisor says something else than what is to be served");
    };
    let fds: [OwnedFd; 4] = fds
        .try_into()
        .map_err(|_| anyhow!("the supervisor does not hand over what is to be served"))?;
    let [device, state, store, turn] = fds;
    let directory = store.try_clone()?;
    let store = LocalStore::open_at(store, service.store.as_ref(), service.integrity.into())?;
    let paths = store.statistics()?.records;
    link.send(&Report::Prepared { paths }, &[], true)?;

    // Until told, another worker may be at work.
    match link.receive(true)? {
        Some((Order::Serve, _)) => {}
        Some(_) => bail!("the supervisor says something else than to serve"),
        None => return Ok(ExitCode::SUCCESS),
    }
    let turn = Turn::from_fd(turn);
    turn.take().context("another worker serves this mount")?;
    let (brokered, answers) = mpsc::channel();
    let (serving, removals) = start(device, state, (store, directory), &service, link, answers)?;
    let removals = removals.start(link.clone())?;
    {
        let link = link.clone();
        thread::Builder::new()
            .name("serving".to_owned())
            .spawn(move || report(&link, serving))
            .context("cannot start a thread")?;
    }
    // It serves now: nothing that is wrong with the link is a reason to end.
    let why = match obey(link, &brokered, &removals) {
        Ok(()) => String::new(),
        Err(error) => format!(" ({})", failure::message(&error)),
    };
    tracing::warn!("without a supervisor now{why}: serves on until there is another, or no mount");
    loop {
        // The turn is kept as long as the process lives.
        thread::park();
    }
}

fn start(
    device: OwnedFd,
    state: OwnedFd,
    (store, directory): (Arc<LocalStore>, OwnedFd),
    service: &Service,
    link: &Arc<Link>,
    answers: mpsc::Receiver<(u64, Result<u32, i32>)>,
) -> Result<(Serving, Removals)> {
    let state = Arc::new(State::open(state)?);
    let options = store_fs::Options {
        list_root: service.list_root,
        xattrs: service.xattrs,
        directory_cache: service.directory_cache,
        opened_blobs: service.opened_blobs,
    };
    let root = Arc::new(StoreRoot::new(store.clone()));
    let contents = store.clone();
    let filesystem = Filesystem::with_state(root, contents.clone(), contents, options, state)?;
    let filesystem = Arc::new(filesystem);
    let mut options = fuse::ServeOptions {
        data_path: service.data_path.into(),
        backing: Some(Arc::new(Brokered::new(link.clone(), answers))),
        no_resend: service.no_resend,
        ..Default::default()
    };
    if let Some(threads) = service.threads {
        options.threads = threads.get();
    }
    if let Some(threads) = service.max_threads {
        options.max_threads = threads.get();
    }
    if let Some(fault) = &service.fault {
        options.fault = Some(fault.parse()?);
    }
    confine::lock_memory(confine::Locked::Present);
    if service.confine {
        let needs = confine::WorkerNeeds {
            store: directory.as_fd(),
            network: false,
        };
        confine::worker(&needs).context("cannot confine the worker")?;
    }
    let serving = fuse::serve(device, filesystem.clone(), &options)?;
    let removals = Removals {
        store,
        filesystem,
        invalidator: serving.invalidator(),
    };
    Ok((serving, removals))
}

/// Does what the supervisor says, until it is gone.
fn obey(
    link: &Link,
    brokered: &mpsc::Sender<(u64, Result<u32, i32>)>,
    removals: &mpsc::Sender<removals::Order>,
) -> Result<()> {
    while let Some((order, _)) = link.receive(true)? {
        match order {
            Order::Ping(number) => link.send(&Report::Pong(number), &[], true)?,
            Order::Registered { question, result } => {
                // Whoever asked may not wait any more.
                let _ = brokered.send((question, result));
            }
            Order::Removed { number, names } => {
                (removals.send((number, names))).context("removals are not handled any more")?;
            }
            Order::Prepare(_) | Order::Serve => bail!("the supervisor repeats itself"),
        }
    }
    Ok(())
}

/// Says that the mount is served; and when it is not any more, which ends the
/// process.
fn report(link: &Link, mut serving: Serving) {
    while !serving.is_ready_within(Duration::from_secs(1)) && !serving.has_ended() {}
    if let Some(data_path) = serving.data_path() {
        let data_path = data_path.to_string();
        tell(link, &Report::Serving { data_path });
    }
    let (report, status) = match serving.wait() {
        Ok(end) => {
            let aborted = end == End::Aborted;
            (Report::Ended { aborted }, 0)
        }
        Err(error) => (Report::Failed(failure::message(&error.into())), 1),
    };
    tell(link, &report);
    process::exit(status);
}

fn tell(link: &Link, report: &Report) {
    if let Err(error) = link.send(report, &[], true) {
        tracing::debug!(%error, "the supervisor is not told");
    }
}
