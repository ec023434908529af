//! The threads that serve.
//!
//! Some threads read requests, and each handles what it read itself: a request
//! that needs not wait costs no switch between threads. What one will have to
//! wait for (a disk, a network) nobody knows before. So one thread watches the
//! others, and for each that handles the same request for long it lets another
//! read in its place. Those that come back from waiting and are too many rest,
//! and end after a while.
//!
//! If all wait, and there are as many as there may be or no more can be had, a
//! clerk goes on reading. It sets requests aside, so that who is killed is let
//! go. Whoever comes back handles what was set aside; when nothing is left, he
//! rests, and takes over with the next request. So nobody else reads while the
//! clerk does, and what is set aside does not wait for somebody who waits for
//! the kernel.

mod watch;

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Relaxed, SeqCst},
        },
    },
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use self::watch::Watch;
use super::{
    End, ServeError,
    engine::Engine,
    worker::{self, Job},
};
use crate::state::desk::Desk;

/// How long a thread rests before it ends.
const PATIENCE: Duration = Duration::from_secs(5);
/// When the clerk looks again for a free desk.
const DESK_AGAIN: Duration = Duration::from_millis(50);
/// Handlers need little; and there may be many.
const STACK: usize = 512 << 10;
/// Left for what is set aside.
const MAX_THREADS: usize = crate::state::layout::DESKS / 2;

pub(super) struct Pool {
    engine: Arc<Engine>,
    /// How many are to read, or to handle what needs not wait.
    threads: usize,
    max_threads: usize,
    inner: Mutex<Inner>,
    /// There is work for those who rest, or the end.
    called: Condvar,
    /// The clerk is to read; or the end.
    clerk_called: Condvar,
    /// The watch is to go on.
    woken: Condvar,
    has_ended: Condvar,
    watch_rests: AtomicBool,
    /// Who is done does not simply read on.
    detour: AtomicBool,
}

#[derive(Default)]
struct Inner {
    seats: Vec<Arc<Seat>>,
    /// Those that do not wait for anything but requests.
    readers: usize,
    resting: usize,
    /// How many of those who rest are to go on.
    calls: usize,
    started: u64,
    deferred: VecDeque<Job>,
    /// The clerk reads, and nobody else does.
    clerk_reads: bool,
    is_over: bool,
    /// Until somebody waited for it.
    end: Option<Result<End, ServeError>>,
}

/// What the watch sees of a thread: how many requests it handled, and in the
/// lowest bits what it does.
#[derive(Default)]
pub(super) struct Seat {
    turn: AtomicU64,
    /// What the watch saw last.
    seen: AtomicU64,
}

const DOES: u64 = 3;
const READS: u64 = 0;
const HANDLES: u64 = 1;
const WAITS: u64 = 2;
const RESTS: u64 = 3;

impl Seat {
    fn has_handled_any(&self) -> bool {
        self.turn.load(Relaxed) > DOES
    }
}

/// What a thread is to do next.
pub(super) enum Turn {
    /// Read a request.
    Read,
    /// Handle one that was set aside.
    Handle(Job),
    /// End: it is not counted any more.
    Leave,
}

impl Pool {
    /// Starts threads; what was left to be done they do first.
    pub(super) fn start(
        engine: Engine,
        threads: usize,
        max_threads: usize,
        left: Vec<Job>,
    ) -> io::Result<Arc<Self>> {
        let threads = threads.clamp(1, MAX_THREADS);
        let inner = Inner {
            deferred: left.into(),
            ..Inner::default()
        };
        let pool = Arc::new(Self {
            engine: Arc::new(engine),
            threads,
            max_threads: max_threads.clamp(threads, MAX_THREADS),
            detour: AtomicBool::new(!inner.deferred.is_empty()),
            inner: Mutex::new(inner),
            called: Condvar::new(),
            clerk_called: Condvar::new(),
            woken: Condvar::new(),
            has_ended: Condvar::new(),
            watch_rests: AtomicBool::new(false),
        });
        let thread = |name: &str| {
            thread::Builder::new()
                .name(name.to_owned())
                .stack_size(STACK)
        };
        // When it is needed, a thread may be what cannot be had.
        let clerk = Arc::clone(&pool);
        thread("fuse-clerk").spawn(move || worker::run_clerk(&clerk))?;
        pool.spawn()?;
        for _ in 1..threads {
            if let Err(error) = pool.spawn() {
                tracing::warn!(%error, "not all threads can be had yet");
                break;
            }
        }
        let watch = Watch::new(Arc::clone(&pool));
        thread("fuse-watch").spawn(move || watch.run())?;
        Ok(pool)
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn spawn(self: &Arc<Self>) -> io::Result<()> {
        if let Some(faults) = &self.engine.faults {
            faults.at_thread()?;
        }
        let seat = Arc::new(Seat::default());
        let number = {
            let mut inner = self.inner.lock();
            inner.seats.push(Arc::clone(&seat));
            inner.readers += 1;
            inner.started += 1;
            self.note(&inner);
            inner.started
        };
        let (pool, thread_seat) = (Arc::clone(self), Arc::clone(&seat));
        let builder = thread::Builder::new().name(format!("fuse-{number}"));
        let spawned = builder
            .stack_size(STACK)
            .spawn(move || worker::run(&pool, &thread_seat));
        match spawned {
            Ok(_) => Ok(()),
            Err(error) => {
                self.leave(&seat);
                Err(error)
            }
        }
    }

    /// After each change. Who does not see it at once was counted among the
    /// readers all along; so the clerk does not read.
    fn note(&self, inner: &Inner) {
        let detour = inner.readers > self.threads
            || inner.clerk_reads
            || inner.is_over
            || !inner.deferred.is_empty();
        self.detour.store(detour, Relaxed);
    }

    /// The thread begins to handle a request.
    pub(super) fn begin(&self, seat: &Seat) {
        seat.turn.store(seat.turn.load(Relaxed) | HANDLES, SeqCst);
        self.wake_watch();
    }

    /// There is something to look at.
    pub(super) fn wake_watch(&self) {
        if self.watch_rests.load(SeqCst) {
            let _inner = self.inner.lock();
            self.watch_rests.store(false, SeqCst);
            self.woken.notify_one();
        }
    }

    /// The thread handled it.
    pub(super) fn finish(&self, seat: &Seat) {
        let next = (seat.turn.load(Relaxed) | DOES) + 1;
        if seat.turn.swap(next, AcqRel) & DOES == WAITS {
            let mut inner = self.inner.lock();
            inner.readers += 1;
            self.note(&inner);
        }
    }

    /// What the thread does next. Perhaps it rests before, and says so.
    pub(super) fn turn(&self, seat: &Seat, rest: &mut dyn FnMut()) -> Turn {
        if !self.detour.load(Relaxed) {
            return Turn::Read;
        }
        let mut inner = self.inner.lock();
        // Who was called, or started, is not one too many.
        let mut is_called = !seat.has_handled_any();
        loop {
            if inner.is_over {
                self.remove(&mut inner, seat);
                return Turn::Leave;
            }
            if let Some(job) = inner.deferred.pop_front() {
                self.note(&inner);
                return Turn::Handle(job);
            }
            if !inner.clerk_reads && (is_called || inner.readers <= self.threads) {
                self.note(&inner);
                return Turn::Read;
            }
            rest();
            is_called = self.rest(&mut inner, seat);
            if !is_called {
                self.remove(&mut inner, seat);
                return Turn::Leave;
            }
        }
    }

    /// Waits to be called; `false` if nobody does.
    fn rest(&self, inner: &mut MutexGuard<'_, Inner>, seat: &Seat) -> bool {
        inner.readers -= 1;
        self.note(inner);
        inner.resting += 1;
        seat.turn.fetch_or(RESTS, AcqRel);
        while inner.calls == 0 && !inner.is_over {
            let has_waited = self.called.wait_for(inner, PATIENCE).timed_out();
            // The clerk is to be relieved by somebody.
            if has_waited && inner.calls == 0 && !inner.clerk_reads {
                break;
            }
        }
        inner.resting -= 1;
        let is_called = inner.calls > 0;
        inner.calls -= usize::from(is_called);
        // Who is called was counted by the caller.
        inner.readers += usize::from(!is_called);
        seat.turn.fetch_and(!DOES, AcqRel);
        is_called
    }

    /// Calls so many of those who rest, if there are; answers how many.
    fn call(&self, inner: &mut Inner, wanted: usize) -> usize {
        let called = wanted.min(inner.resting - inner.calls);
        inner.calls += called;
        inner.readers += called;
        for _ in 0..called {
            self.called.notify_one();
        }
        called
    }

    /// The thread ends.
    pub(super) fn leave(&self, seat: &Seat) {
        self.remove(&mut self.inner.lock(), seat);
    }

    fn remove(&self, inner: &mut Inner, seat: &Seat) {
        inner.seats.retain(|other| !std::ptr::eq(&**other, seat));
        inner.readers = inner.readers.saturating_sub(1);
        self.note(inner);
        self.has_ended.notify_all();
    }

    /// The connection ended, or cannot be read.
    pub(super) fn end(&self, end: Result<End, ServeError>) {
        let mut inner = self.inner.lock();
        if !inner.is_over {
            inner.is_over = true;
            inner.end = Some(end);
        }
        inner.deferred.clear();
        self.note(&inner);
        self.called.notify_all();
        self.clerk_called.notify_all();
        self.woken.notify_all();
        self.has_ended.notify_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.inner.lock().is_over
    }

    /// Waits for the end of the connection, and of all threads but those that
    /// still wait for the store.
    pub(super) fn wait(&self) -> Result<End, ServeError> {
        let mut inner = self.inner.lock();
        while !inner.is_over || inner.readers + inner.resting > 0 {
            self.has_ended.wait(&mut inner);
        }
        inner.end.take().unwrap_or(Err(ServeError::Ended))
    }

    /// Everybody waits: the clerk reads.
    fn call_clerk(&self, inner: &mut Inner) {
        inner.clerk_reads = true;
        self.note(inner);
        self.clerk_called.notify_one();
    }

    /// A desk for the clerk's next request, once there is to be one; `None` at
    /// the end.
    pub(super) fn desk_for_clerk(&self) -> Option<Desk> {
        loop {
            self.wait_for_clerks_turn()?;
            match self.engine.desks.take() {
                Some(desk) => return Some(desk),
                None => thread::sleep(DESK_AGAIN),
            }
        }
    }

    fn wait_for_clerks_turn(&self) -> Option<()> {
        let mut inner = self.inner.lock();
        loop {
            if inner.is_over {
                return None;
            }
            if inner.clerk_reads && inner.resting == 0 {
                return Some(());
            }
            if inner.clerk_reads {
                inner.clerk_reads = false;
                self.call(&mut inner, self.threads);
                self.note(&inner);
            }
            self.clerk_called.wait(&mut inner);
        }
    }

    /// Sets a request aside, for the next who is back.
    pub(super) fn defer(&self, job: Job) {
        let mut inner = self.inner.lock();
        if !inner.is_over {
            inner.deferred.push_back(job);
            self.note(&inner);
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.inner.lock();
        f.debug_struct("Pool")
            .field("threads", &inner.seats.len())
            .field("readers", &inner.readers)
            .finish_non_exhaustive()
    }
}
