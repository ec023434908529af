//! What the load did, and what went wrong.

use std::fmt::Display;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// More failures than this are only counted.
const KEPT: usize = 20;
/// How many actors there may be.
const ACTORS: usize = 64;

/// Kept by all actors of a load together.
#[derive(Debug)]
pub struct Record {
    start: Instant,
    ended: AtomicBool,
    operations: AtomicU64,
    bytes: AtomicU64,
    programs: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
    longest: Mutex<Longest>,
    /// What each actor waits for, and since when; 0 if for nothing.
    since: [AtomicU64; ACTORS],
    waits_for: [Mutex<String>; ACTORS],
}

#[derive(Debug, Default, Clone)]
struct Longest {
    call: Duration,
    call_name: String,
    program: Duration,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            ended: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            programs: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failures: Mutex::default(),
            longest: Mutex::default(),
            since: [const { AtomicU64::new(0) }; ACTORS],
            waits_for: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Record {
    /// Tells all actors to end.
    pub fn end(&self) {
        self.ended.store(true, Relaxed);
    }

    /// Whether they are to end.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// Does one operation: counts it, takes its time, and keeps its error.
    pub fn call<T, E: Display>(
        &self,
        actor: usize,
        what: &str,
        path: impl Display,
        operation: impl FnOnce() -> Result<T, E>,
    ) -> Option<T> {
        let begin = self.begin(actor, what, &path);
        let result = operation();
        let took = self.done(actor, begin);
        self.operations.fetch_add(1, Relaxed);
        let mut longest = lock(&self.longest);
        if took > longest.call {
            longest.call = took;
            longest.call_name = what.to_owned();
        }
        drop(longest);
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail(format!("{what} {path}: {error}"));
                None
            }
        }
    }

    /// As [`Self::call`], of a program from its start to its end.
    pub fn program<T, E: Display>(
        &self,
        actor: usize,
        what: &str,
        run: impl FnOnce() -> Result<T, E>,
    ) -> Option<T> {
        let begin = self.begin(actor, what, &"");
        let result = run();
        let took = self.done(actor, begin);
        self.programs.fetch_add(1, Relaxed);
        let mut longest = lock(&self.longest);
        longest.program = longest.program.max(took);
        drop(longest);
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail(format!("{what}: {error}"));
                None
            }
        }
    }

    fn begin(&self, actor: usize, what: &str, path: &dyn Display) -> Instant {
        let now = Instant::now();
        // Only the text of what takes long is ever read, but nobody knows yet which that will be.
        let mut text = lock(&self.waits_for[actor]);
        text.clear();
        text.push_str(what);
        text.push(' ');
        text.push_str(&path.to_string());
        drop(text);
        let since = now.duration_since(self.start).as_millis() as u64;
        self.since[actor].store(since + 1, Relaxed);
        now
    }

    fn done(&self, actor: usize, begin: Instant) -> Duration {
        self.since[actor].store(0, Relaxed);
        begin.elapsed()
    }

    /// Keeps what went wrong.
    pub fn fail(&self, text: String) {
        self.failed.fetch_add(1, Relaxed);
        let mut failures = lock(&self.failures);
        if failures.len() < KEPT {
            let at = self.start.elapsed().as_secs_f64();
            failures.push(format!("after {at:.3} s: {text}").replace('\n', " "));
        }
    }

    /// Fails unless it is so.
    pub fn expect(&self, is_so: bool, text: impl FnOnce() -> String) {
        if !is_so {
            self.fail(text());
        }
    }

    /// Counts bytes that were found right.
    pub fn add_bytes(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Relaxed);
    }

    /// One line, which [`Summary`](super::Summary) reads.
    pub fn line(&self) -> String {
        let longest = lock(&self.longest).clone();
        format!(
            "operations={} bytes={} programs={} failed={} stall={} stall-of={} program={} waits={}",
            self.operations.load(Relaxed),
            self.bytes.load(Relaxed),
            self.programs.load(Relaxed),
            self.failed.load(Relaxed),
            longest.call.as_micros(),
            longest.call_name,
            longest.program.as_micros(),
            self.waits().as_millis(),
        )
    }

    /// What failed.
    pub fn failures(&self) -> Vec<String> {
        lock(&self.failures).clone()
    }

    /// For how long the actor has waited that waits longest.
    fn waits(&self) -> Duration {
        self.waiting().map_or(Duration::ZERO, |(waits, _)| waits)
    }

    /// Which actor waits longest: for how long, and for what.
    pub fn waiting(&self) -> Option<(Duration, String)> {
        let now = self.start.elapsed();
        let each = (0..ACTORS).filter_map(|actor| {
            let since = self.since[actor].load(Relaxed).checked_sub(1)?;
            Some((now.saturating_sub(Duration::from_millis(since)), actor))
        });
        let (waits, actor) = each.max()?;
        Some((waits, lock(&self.waits_for[actor]).clone()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
