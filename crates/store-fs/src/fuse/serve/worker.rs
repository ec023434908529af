use std::{io, os::fd::AsFd};

use fuse_backend_rs::abi::fuse_abi::Opcode;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::{
    End, ServeError,
    engine::{Buffer, Engine},
    pool::{Pool, Seat, Turn},
};
use crate::{fuse::wire::Header, state::desk::Desk};

/// A request that was taken.
pub(super) struct Job {
    pub(super) desk: Desk,
    pub(super) header: Header,
}

/// One thread that serves: until the connection ends or it is one too many.
pub(super) fn run(pool: &Pool, seat: &Seat) {
    let engine = pool.engine();
    let mut buffer = Buffer::default();
    let mut own = None;
    loop {
        let mut rest = || {
            own = None;
            buffer = Buffer::default();
        };
        let (desk, header) = match pool.turn(seat, &mut rest) {
            // The desk of before is free: its request was answered.
            Turn::Handle(Job { desk, header }) => (own.insert(desk), header),
            Turn::Read => {
                own = own.or_else(|| engine.desks.take());
                let Some(desk) = &mut own else {
                    tracing::error!("there are no desks left");
                    return pool.leave(seat);
                };
                match next(engine, desk) {
                    Ok(header) => (desk, header),
                    Err(end) => {
                        drop(own);
                        pool.end(end);
                        return pool.leave(seat);
                    }
                }
            }
            Turn::Leave => return,
        };
        pool.begin(seat);
        engine.handle(desk, &header, &mut buffer);
        pool.finish(seat);
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
            Ok(header) if header.is(Opcode::Interrupt) || !header.wants_reply() => {
                engine.handle(&mut desk, &header, &mut buffer);
            }
            Ok(header) => pool.defer(Job { desk, header }),
            Err(end) => {
                drop(desk);
                return pool.end(end);
            }
        }
        pool.wake_watch();
    }
}

/// Waits for a request.
fn next(engine: &Engine, desk: &mut Desk) -> Result<Header, Result<End, ServeError>> {
    loop {
        match rustix::io::read(&engine.fd, desk.read()) {
            Ok(_) => {
                if let Some(header) = engine.take(desk) {
                    return Ok(header);
                }
            }
            // A signal; or the request was taken back before it was read.
            Err(Errno::INTR | Errno::NOENT) => {}
            Err(Errno::AGAIN) => wait(engine).map_err(|error| Err(error.into()))?,
            Err(Errno::NODEV) => return Err(Ok(End::Unmounted)),
            Err(Errno::CONNABORTED) => return Err(Ok(End::Aborted)),
            Err(errno) => {
                let error = ServeError::Read(errno.into());
                tracing::error!(%error, "a thread that serves ends");
                return Err(Err(error));
            }
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
