use std::{io, os::fd::AsFd, sync::Arc};

use fuse_backend_rs::abi::fuse_abi::Opcode;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::{
    End, ServeError,
    engine::{Buffer, Engine},
    pool::{Clerk, Pool, Seat},
};
use crate::{fuse::wire::Header, state::desk::Desk};

/// A request that was taken.
pub(super) struct Job {
    pub(super) desk: Desk,
    pub(super) header: Header,
}

/// One thread that serves: until the connection ends or it is one too many.
pub(super) fn run(pool: &Pool, seat: &Seat, first: Option<Job>) {
    let engine = pool.engine();
    let mut buffer = Buffer::default();
    let mut mine = None;
    if let Some(Job { mut desk, header }) = first {
        pool.begin(seat);
        engine.handle(&mut desk, &header, &mut buffer);
        mine = Some(desk);
        if !pool.finish(seat, &mut || buffer = Buffer::default()) {
            return;
        }
    }
    let Some(mut desk) = mine.or_else(|| engine.desks.take()) else {
        tracing::error!("there are no desks left");
        return pool.leave(seat);
    };
    loop {
        if let Some(mut job) = pool.deferred() {
            pool.begin(seat);
            engine.handle(&mut job.desk, &job.header, &mut buffer);
        } else {
            match next(engine, &mut desk) {
                Ok(None) => continue,
                Ok(Some(header)) => {
                    pool.begin(seat);
                    engine.handle(&mut desk, &header, &mut buffer);
                }
                Err(end) => {
                    drop(desk);
                    pool.end(end);
                    return pool.leave(seat);
                }
            }
        }
        let mut rest = || {
            desk.read();
            buffer = Buffer::default();
        };
        if !pool.finish(seat, &mut rest) {
            return;
        }
    }
}

/// Reads while everybody else waits for the store, lest those go unheard who
/// ask to be let go. It waits for nothing, and leaves the rest to whoever is
/// done first.
pub(super) fn run_clerk(pool: &Pool) {
    let engine = pool.engine();
    let mut buffer = Buffer::default();
    while let Some(mut desk) = pool.desk_for_clerk() {
        match next(engine, &mut desk) {
            Ok(None) => {}
            Ok(Some(header)) if header.is(Opcode::Interrupt) || !header.wants_reply() => {
                engine.handle(&mut desk, &header, &mut buffer);
            }
            Ok(Some(header)) => match pool.defer(Job { desk, header }) {
                Clerk::GoOn => {}
                Clerk::Handle(Job { mut desk, header }) => {
                    engine.handle(&mut desk, &header, &mut buffer);
                    return;
                }
            },
            Err(end) => {
                drop(desk);
                pool.end(end);
                return;
            }
        }
    }
}

/// Waits for a request; `None` if there was one that went away.
fn next(engine: &Arc<Engine>, desk: &mut Desk) -> Result<Option<Header>, Result<End, ServeError>> {
    match rustix::io::read(&engine.fd, desk.read()) {
        Ok(_) => Ok(engine.take(desk)),
        // A signal; or the request was taken back before it was read.
        Err(Errno::INTR | Errno::NOENT) => Ok(None),
        Err(Errno::AGAIN) => match wait(engine) {
            Ok(()) => Ok(None),
            Err(error) => Err(Err(error.into())),
        },
        Err(Errno::NODEV) => Err(Ok(End::Unmounted)),
        Err(Errno::CONNABORTED) => Err(Ok(End::Aborted)),
        Err(errno) => {
            let error = ServeError::Read(errno.into());
            tracing::error!(%error, "a thread that serves ends");
            Err(Err(error))
        }
    }
}

/// For a descriptor that was handed over in non-blocking mode.
fn wait(engine: &Engine) -> io::Result<()> {
    match poll(
        &mut [PollFd::from_borrowed_fd(engine.fd.as_fd(), PollFlags::IN)],
        None,
    ) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
