use std::{
    sync::{
        Arc,
        atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    },
    time::{Duration, Instant},
};

use super::{DOES, HANDLES, Inner, Pool, READS, Seat, WAITS};

/// Who handles one request for longer than this to twice as long is taken to
/// wait.
const TICK: Duration = Duration::from_millis(2);
/// So many ticks without work, and the watch rests until there is some.
const QUIET_TICKS: u32 = 10;
/// How often those are looked at who were interrupted, in ticks and while the
/// watch rests. While it rests, threads that could not be had are tried again
/// as often.
const LOOK_AGAIN_TICKS: u64 = 10;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How many threads are added at a time, at the most.
const MAX_BOOST: usize = 256;
/// How often it is said that threads are wanting.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// Sees to it that somebody reads.
pub(super) struct Watch {
    pool: Arc<Pool>,
    boost: usize,
    /// Ticks without work.
    quiet: u32,
    /// Threads were needed and could not be had.
    lacks_threads: bool,
    said: Option<Instant>,
}

/// What the threads do.
#[derive(Default)]
struct Seen {
    reading: usize,
    /// Have begun to wait.
    waiting: usize,
    handling: usize,
}

impl Watch {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self {
            pool,
            boost: 0,
            quiet: 0,
            lacks_threads: false,
            said: None,
        }
    }

    /// Until the connection ended, and all threads ended that do not wait.
    pub(super) fn run(mut self) {
        for tick in 1_u64.. {
            if !self.tick() {
                return;
            }
            let engine = &self.pool.engine;
            if let Some(faults) = &engine.faults
                && faults.is_hanging()
            {
                self.quiet = 0;
                continue;
            }
            if self.quiet >= QUIET_TICKS || tick.is_multiple_of(LOOK_AGAIN_TICKS) {
                engine.interrupts.look_again(engine);
            }
            self.quiet = match self.look() {
                true => 0,
                false => self.quiet.saturating_add(1),
            };
        }
    }

    /// Waits for the next tick or, if it is quiet, until somebody handles
    /// something; `false` if nothing is left to be watched.
    fn tick(&self) -> bool {
        let pool = &self.pool;
        let mut inner = pool.inner.lock();
        if inner.is_over && inner.readers + inner.resting == 0 {
            return false;
        }
        if inner.is_over || self.quiet < QUIET_TICKS {
            pool.woken.wait_for(&mut inner, TICK);
            return true;
        }
        pool.watch_rests.store(true, SeqCst);
        // Somebody may have begun before he could see that.
        let handles = |seat: &Arc<Seat>| seat.turn.load(SeqCst) & DOES == HANDLES;
        if !inner.seats.iter().any(handles) {
            if self.lacks_threads || pool.engine.interrupts.are_some() {
                pool.woken.wait_for(&mut inner, LOOK_AGAIN);
            } else {
                pool.woken.wait(&mut inner);
            }
        }
        pool.watch_rests.store(false, SeqCst);
        true
    }

    /// Looks for threads that wait, and sees to it that others read. Answers
    /// whether anybody handles anything.
    fn look(&mut self) -> bool {
        let pool = Arc::clone(&self.pool);
        let mut inner = pool.inner.lock();
        let seen = see(&inner);
        inner.readers = inner.readers.saturating_sub(seen.waiting);
        let is_busy = seen.handling > 0;
        if inner.is_over {
            pool.has_ended.notify_all();
            return is_busy;
        }
        if seen.reading > 0 {
            self.boost = 0;
        } else if seen.waiting > 0 && inner.readers == 0 {
            // It may be long until somebody gets to what needs not wait.
            self.boost = (2 * self.boost).clamp(pool.threads, MAX_BOOST);
        }
        let missing = (pool.threads + self.boost).saturating_sub(inner.readers);
        let at_hand = match inner.clerk_reads {
            // He calls them himself.
            true => inner.resting.min(missing),
            false => pool.call(&mut inner, missing),
        };
        let room = pool.max_threads.saturating_sub(inner.seats.len());
        pool.note(&inner);
        drop(inner);
        self.add((missing - at_hand).min(room));
        let mut inner = pool.inner.lock();
        if inner.readers == 0 && !inner.clerk_reads && !inner.is_over {
            pool.call_clerk(&mut inner);
            drop(inner);
            if self.may_say() {
                let threads = pool.max_threads;
                tracing::warn!(
                    threads,
                    "every thread waits for the store: requests are set aside until one is back"
                );
            }
        }
        is_busy
    }

    fn add(&mut self, threads: usize) {
        self.lacks_threads = false;
        for _ in 0..threads {
            if let Err(error) = self.pool.spawn() {
                self.lacks_threads = true;
                if self.may_say() {
                    tracing::warn!(%error, "no more threads can be had");
                }
                return;
            }
        }
    }

    fn may_say(&mut self) -> bool {
        let may = self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN);
        if may {
            self.said = Some(Instant::now());
        }
        may
    }
}

/// Who handles the same as at the last look is taken to wait from now on.
fn see(inner: &Inner) -> Seen {
    let mut seen = Seen::default();
    for seat in &inner.seats {
        let turn = seat.turn.load(Acquire);
        match turn & DOES {
            READS => seen.reading += 1,
            HANDLES => {
                let is_same = seat.seen.swap(turn, Relaxed) == turn;
                let waits = turn & !DOES | WAITS;
                let waits = || seat.turn.compare_exchange(turn, waits, AcqRel, Relaxed);
                if is_same && waits().is_ok() {
                    seen.waiting += 1;
                } else {
                    seen.handling += 1;
                }
            }
            _ => {}
        }
    }
    seen
}
