//! The threads that serve.
//!
//! Some threads read requests, and each handles what it read itself: a request
//! that needs not wait costs no switch between threads. What one will have to
//! wait for (a disk, a network) nobody knows before. So one thread watches the
//! others, and for each that handles the same request for long it lets another
//! read in its place. Those that come back from waiting and are too many rest,
//! and end after a while.
//!
//! If there are as many threads as there may be, and all wait, a clerk goes on
//! reading. It sets requests aside, so that who is killed is let go; what is
//! set aside is handled when a thread comes back.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
        },
    },
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{
    End, ServeError,
    engine::Engine,
    worker::{self, Job},
};
use crate::state::desk::Desk;

/// Who handles one request for longer than this to twice as long is taken to
/// wait.
const TICK: Duration = Duration::from_millis(2);
/// So many ticks without work, and the watch rests until there is some.
const QUIET_TICKS: u32 = 10;
/// How often those are looked at who were interrupted, in ticks and while the
/// watch rests.
const LOOK_AGAIN_TICKS: u32 = 10;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How many threads are added at a time, at the most.
const MAX_BOOST: usize = 256;
/// How long a thread rests before it ends.
const PATIENCE: Duration = Duration::from_secs(5);
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
    /// The watch is to go on.
    woken: Condvar,
    has_ended: Condvar,
    watch_rests: AtomicBool,
    /// There are more readers than there need be.
    surplus: AtomicBool,
    deferred: AtomicUsize,
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
    has_clerk: bool,
    ended: Option<Result<End, ServeError>>,
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

/// What a clerk is to do.
pub(super) enum Clerk {
    /// Take the next request.
    GoOn,
    /// Handle this one, and leave: the others are back.
    Handle(Job),
}

impl Pool {
    /// Starts threads, and more for what was left to be done.
    pub(super) fn start(
        engine: Engine,
        threads: usize,
        max_threads: usize,
        left: Vec<Job>,
    ) -> io::Result<Arc<Self>> {
        let threads = threads.clamp(1, MAX_THREADS);
        let pool = Arc::new(Self {
            engine: Arc::new(engine),
            threads,
            max_threads: max_threads.clamp(threads, MAX_THREADS),
            inner: Mutex::default(),
            called: Condvar::new(),
            woken: Condvar::new(),
            has_ended: Condvar::new(),
            watch_rests: AtomicBool::new(false),
            surplus: AtomicBool::new(false),
            deferred: AtomicUsize::new(0),
        });
        let watched = Arc::clone(&pool);
        let watch = thread::Builder::new().name("fuse-watch".to_owned());
        watch.stack_size(STACK).spawn(move || watched.watch())?;
        let mut left = left.into_iter();
        for _ in 0..threads {
            pool.spawn(left.next())?;
        }
        for job in left {
            pool.spawn(Some(job))?;
        }
        Ok(pool)
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn spawn(self: &Arc<Self>, first: Option<Job>) -> io::Result<()> {
        let seat = Arc::new(Seat::default());
        let number = {
            let mut inner = self.inner.lock();
            inner.seats.push(Arc::clone(&seat));
            inner.readers += 1;
            inner.started += 1;
            self.note_surplus(&inner);
            inner.started
        };
        let (pool, thread_seat) = (Arc::clone(self), Arc::clone(&seat));
        let builder = thread::Builder::new().name(format!("fuse-{number}"));
        let spawned = builder
            .stack_size(STACK)
            .spawn(move || worker::run(&pool, &thread_seat, first));
        match spawned {
            Ok(_) => Ok(()),
            Err(error) => {
                self.leave(&seat);
                Err(error)
            }
        }
    }

    fn note_surplus(&self, inner: &Inner) {
        self.surplus.store(inner.readers > self.threads, Relaxed);
    }

    /// The thread begins to handle a request.
    pub(super) fn begin(&self, seat: &Seat) {
        seat.turn.store(seat.turn.load(Relaxed) | HANDLES, SeqCst);
        if self.watch_rests.load(SeqCst) {
            let _inner = self.inner.lock();
            self.watch_rests.store(false, SeqCst);
            self.woken.notify_one();
        }
    }

    /// The thread handled it. Perhaps it rests now, and says so before; `false`
    /// if it is to end.
    pub(super) fn finish(&self, seat: &Seat, rest: &mut dyn FnMut()) -> bool {
        let next = (seat.turn.load(Relaxed) | DOES) + 1;
        let waited = seat.turn.swap(next, AcqRel) & DOES == WAITS;
        if !waited && !self.surplus.load(Relaxed) {
            return true;
        }
        let mut inner = self.inner.lock();
        inner.readers += usize::from(waited);
        let is_needed = inner.readers <= self.threads || !inner.deferred.is_empty();
        if !is_needed {
            rest();
            if !self.rest(&mut inner, seat) {
                self.remove(&mut inner, seat);
                return false;
            }
        }
        self.note_surplus(&inner);
        true
    }

    /// Waits to be called; `false` if nobody does.
    fn rest(&self, inner: &mut MutexGuard<'_, Inner>, seat: &Seat) -> bool {
        inner.readers -= 1;
        self.note_surplus(inner);
        inner.resting += 1;
        seat.turn.fetch_or(RESTS, AcqRel);
        while inner.calls == 0 && inner.ended.is_none() {
            if self.called.wait_for(inner, PATIENCE).timed_out() && inner.calls == 0 {
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

    /// The thread ends.
    pub(super) fn leave(&self, seat: &Seat) {
        self.remove(&mut self.inner.lock(), seat);
    }

    fn remove(&self, inner: &mut Inner, seat: &Seat) {
        inner.seats.retain(|other| !std::ptr::eq(&**other, seat));
        inner.readers = inner.readers.saturating_sub(1);
        self.note_surplus(inner);
        self.has_ended.notify_all();
    }

    /// The connection ended, or cannot be read.
    pub(super) fn end(&self, end: Result<End, ServeError>) {
        let mut inner = self.inner.lock();
        if inner.ended.is_none() {
            inner.ended = Some(end);
        }
        inner.deferred.clear();
        self.deferred.store(0, Relaxed);
        self.called.notify_all();
        self.woken.notify_all();
        self.has_ended.notify_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.inner.lock().ended.is_some()
    }

    /// Waits for the end of the connection, and of all threads but those that
    /// still wait for the store.
    pub(super) fn wait(&self) -> Result<End, ServeError> {
        let mut inner = self.inner.lock();
        while inner.ended.is_none() || inner.readers + inner.resting > 0 {
            self.has_ended.wait(&mut inner);
        }
        inner.ended.take().unwrap_or(Err(ServeError::Ended))
    }

    /// Something that was set aside.
    pub(super) fn deferred(&self) -> Option<Job> {
        if self.deferred.load(Relaxed) == 0 {
            return None;
        }
        let mut inner = self.inner.lock();
        let job = inner.deferred.pop_front();
        self.deferred.store(inner.deferred.len(), Relaxed);
        job
    }

    /// A desk for the clerk's next request, if there is to be one.
    pub(super) fn desk_for_clerk(&self) -> Option<Desk> {
        loop {
            let mut inner = self.inner.lock();
            if inner.ended.is_some() || inner.readers > 0 {
                inner.has_clerk = false;
                return None;
            }
            drop(inner);
            match self.engine.desks.take() {
                Some(desk) => return Some(desk),
                None => thread::sleep(LOOK_AGAIN),
            }
        }
    }

    /// Sets a request aside, unless somebody is back who can handle it: he
    /// would not look for it.
    pub(super) fn defer(&self, job: Job) -> Clerk {
        let mut inner = self.inner.lock();
        if inner.readers > 0 {
            inner.has_clerk = false;
            return Clerk::Handle(job);
        }
        inner.deferred.push_back(job);
        self.deferred.store(inner.deferred.len(), Relaxed);
        Clerk::GoOn
    }

    fn watch(self: Arc<Self>) {
        let mut boost = 0;
        let mut quiet = 0;
        for tick in 1_u32.. {
            if !self.tick(quiet >= QUIET_TICKS) {
                return;
            }
            if let Some(faults) = &self.engine.faults
                && faults.is_hanging()
            {
                continue;
            }
            if quiet >= QUIET_TICKS || tick.is_multiple_of(LOOK_AGAIN_TICKS) {
                self.engine.interrupts.look_again(&self.engine);
            }
            quiet = match self.look(&mut boost) {
                true => 0,
                false => quiet.saturating_add(1),
            };
        }
    }

    /// Waits for the next tick or, if it is quiet, until somebody handles
    /// something; `false` if the connection ended.
    fn tick(&self, is_quiet: bool) -> bool {
        let mut inner = self.inner.lock();
        if inner.ended.is_some() {
            return false;
        }
        if !is_quiet {
            self.woken.wait_for(&mut inner, TICK);
            return inner.ended.is_none();
        }
        self.watch_rests.store(true, SeqCst);
        // Somebody may have begun before he could see that.
        let handles = |seat: &Arc<Seat>| seat.turn.load(SeqCst) & DOES == HANDLES;
        if !inner.seats.iter().any(handles) {
            if self.engine.interrupts.are_some() {
                self.woken.wait_for(&mut inner, LOOK_AGAIN);
            } else {
                self.woken.wait(&mut inner);
            }
        }
        self.watch_rests.store(false, SeqCst);
        inner.ended.is_none()
    }

    /// Looks for threads that wait, and sees to it that others read. Answers
    /// whether anybody handles anything.
    fn look(self: &Arc<Self>, boost: &mut usize) -> bool {
        let mut inner = self.inner.lock();
        let mut reading = 0;
        let mut waiting = 0;
        let mut busy = false;
        for seat in &inner.seats {
            let turn = seat.turn.load(Acquire);
            match turn & DOES {
                READS => reading += 1,
                HANDLES => {
                    let is_same = seat.seen.swap(turn, Relaxed) == turn;
                    let waits = turn & !DOES | WAITS;
                    if is_same && (seat.turn.compare_exchange(turn, waits, AcqRel, Relaxed)).is_ok()
                    {
                        waiting += 1;
                    } else {
                        busy = true;
                    }
                }
                _ => {}
            }
        }
        inner.readers = inner.readers.saturating_sub(waiting);
        if reading > 0 {
            *boost = 0;
        } else if waiting > 0 && inner.readers == 0 {
            // It may be long until somebody gets to what needs not wait.
            *boost = (2 * *boost).clamp(self.threads, MAX_BOOST);
        }
        let missing = (self.threads + *boost).saturating_sub(inner.readers);
        let called = missing.min(inner.resting - inner.calls);
        inner.calls += called;
        inner.readers += called;
        for _ in 0..called {
            self.called.notify_one();
        }
        let room = self.max_threads.saturating_sub(inner.seats.len());
        let more = (missing - called).min(room);
        let needs_clerk = inner.readers + more == 0 && !inner.has_clerk && inner.ended.is_none();
        inner.has_clerk |= needs_clerk;
        drop(inner);
        for _ in 0..more {
            if let Err(error) = self.spawn(None) {
                tracing::warn!(%error, "no more threads can be had");
                break;
            }
        }
        if needs_clerk {
            self.start_clerk();
        }
        busy
    }

    fn start_clerk(self: &Arc<Self>) {
        tracing::warn!(
            threads = self.max_threads,
            "every thread waits for the store: requests are set aside until one is back"
        );
        let pool = Arc::clone(self);
        let clerk = thread::Builder::new().name("fuse-clerk".to_owned());
        let started = clerk
            .stack_size(STACK)
            .spawn(move || worker::run_clerk(&pool));
        if let Err(error) = started {
            tracing::warn!(%error, "nobody reads requests until a thread is back");
            self.inner.lock().has_clerk = false;
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
