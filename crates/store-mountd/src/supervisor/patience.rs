//! Telling a worker that hangs from one that is slow.
//!
//! A worker that does not answer hangs if nothing else explains its silence:
//! it was not stopped, it waits for no disk, it did not want for a processor,
//! and neither did the supervisor. Then its threads wait for each other.

use std::{
    io,
    time::{Duration, Instant},
};

use rustix::process::Pid;
use store_fs::proc;

/// A worker that works all the time but does not answer hangs too, after so
/// many times the deadline.
const BUSY: u32 = 10;
/// So does one that stays stopped.
const STOPPED: u32 = 10;

/// What is known of a silence.
#[derive(Debug)]
pub(super) struct Patience {
    deadline: Duration,
    last: Option<(Instant, Seen)>,
    quiet: Duration,
    busy: Duration,
    stopped: Duration,
}

/// What a worker's threads do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    /// All of them are stopped, by a signal or a debugger.
    stopped: bool,
    /// One wants a processor.
    runnable: bool,
    /// One waits for a disk.
    disk: bool,
    /// Time on processors, in the system's ticks.
    ticks: u64,
}

/// What to make of a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There may be an answer yet.
    Wait,
    /// As `Wait`, and this is why.
    WaitFor(&'static str),
    /// There will be none.
    Hangs,
}

impl Patience {
    pub(super) fn new(deadline: Duration) -> io::Result<Self> {
        proc::dir()?;
        Ok(Self {
            deadline,
            last: None,
            quiet: Duration::ZERO,
            busy: Duration::ZERO,
            stopped: Duration::ZERO,
        })
    }

    /// There was an answer, or another worker is asked.
    pub(super) fn reset(&mut self) {
        self.last = None;
        self.quiet = Duration::ZERO;
        self.busy = Duration::ZERO;
        self.stopped = Duration::ZERO;
    }

    /// How often to look at a worker that does not answer.
    pub(super) fn interval(&self) -> Duration {
        (self.deadline / 4).min(Duration::from_secs(1))
    }

    /// Looks once more at a worker that does not answer, and at who asks: if
    /// that one wants for a processor, or is stopped, nothing may have been
    /// asked yet.
    pub(super) fn look(&mut self, worker: Pid, asker: Option<Pid>) -> Verdict {
        let mut seen = self.see(worker).unwrap_or_default();
        if let Some(asker) = asker.and_then(|pid| self.see(pid).ok()) {
            seen.runnable |= asker.runnable || asker.stopped;
            seen.ticks += asker.ticks;
        }
        self.judge(Instant::now(), seen)
    }

    fn judge(&mut self, now: Instant, seen: Seen) -> Verdict {
        let Some((at, before)) = self.last.replace((now, seen)) else {
            return Verdict::Wait;
        };
        let passed = now.saturating_duration_since(at);
        let interval = self.interval();
        if seen.stopped {
            self.stopped += passed;
            return match self.stopped >= self.deadline * STOPPED {
                true => Verdict::Hangs,
                false => Verdict::WaitFor("it was stopped"),
            };
        }
        if seen.disk {
            return Verdict::WaitFor("it waits for a disk");
        }
        if seen.runnable || seen.ticks > before.ticks {
            self.busy += passed;
            return match self.busy >= self.deadline * BUSY {
                true => Verdict::Hangs,
                false => Verdict::WaitFor("it is busy"),
            };
        }
        // Of a time in which this process did not run itself, nothing is known.
        self.quiet += passed.min(interval * 2);
        match self.quiet >= self.deadline {
            true => Verdict::Hangs,
            false => Verdict::Wait,
        }
    }

    fn see(&self, pid: Pid) -> io::Result<Seen> {
        let tasks = format!("{}/task", pid.as_raw_nonzero());
        let mut seen = Seen {
            stopped: true,
            ..Seen::default()
        };
        for task in proc::names(&tasks)? {
            if let Ok(stat) = proc::read(&format!("{tasks}/{task}/stat")) {
                seen.add(&String::from_utf8_lossy(&stat));
            }
        }
        Ok(seen)
    }
}

impl Seen {
    /// Takes in a thread's /proc/…/stat.
    fn add(&mut self, stat: &str) {
        // pid (name, which may have anything in it) state ppid … utime stime …
        let Some((_, after)) = stat.rsplit_once(") ") else {
            return;
        };
        let mut fields = after.split(' ');
        let state = fields.next().unwrap_or_default();
        self.stopped &= matches!(state, "T" | "t");
        self.runnable |= state == "R";
        self.disk |= state == "D";
        let times = fields.skip(10).take(2);
        self.ticks += times
            .filter_map(|time| time.parse::<u64>().ok())
            .sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Seen = Seen {
        stopped: false,
        runnable: false,
        disk: false,
        ticks: 5,
    };

    fn verdict(looks: u32, mut seen: impl FnMut(u32) -> Seen, apart: Duration) -> Verdict {
        let mut patience = Patience::new(Duration::from_secs(4)).unwrap();
        let mut now = Instant::now();
        let mut verdict = Verdict::Wait;
        for look in 0..looks {
            verdict = patience.judge(now, seen(look));
            now += apart;
        }
        verdict
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_without_a_reason_is_a_hang() {
        assert_eq!(verdict(4, |_| QUIET, SECOND), Verdict::Wait);
        assert_eq!(verdict(5, |_| QUIET, SECOND), Verdict::Hangs);
    }

    #[test]
    fn time_in_which_the_supervisor_did_not_run_counts_little() {
        assert_eq!(verdict(2, |_| QUIET, SECOND * 100), Verdict::Wait);
        assert_eq!(verdict(3, |_| QUIET, SECOND * 100), Verdict::Hangs);
    }

    #[test]
    fn work_delays_the_verdict_and_does_not_prevent_it() {
        let works = |look| Seen {
            ticks: u64::from(look),
            ..QUIET
        };
        assert_eq!(verdict(20, works, SECOND), Verdict::WaitFor("it is busy"));
        assert_eq!(verdict(50, works, SECOND), Verdict::Hangs);
        let wants = |_| Seen {
            runnable: true,
            ..QUIET
        };
        assert_eq!(verdict(20, wants, SECOND), Verdict::WaitFor("it is busy"));
    }

    #[test]
    fn disks_are_waited_for_and_stopped_workers_long() {
        let disk = |_| Seen {
            disk: true,
            ..QUIET
        };
        let wait = Verdict::WaitFor("it waits for a disk");
        assert_eq!(verdict(5000, disk, SECOND), wait);
        let stopped = |_| Seen {
            stopped: true,
            ..QUIET
        };
        let wait = Verdict::WaitFor("it was stopped");
        assert_eq!(verdict(40, stopped, SECOND), wait);
        assert_eq!(verdict(42, stopped, SECOND), Verdict::Hangs);
    }

    #[test]
    fn threads_are_seen() {
        let patience = Patience::new(SECOND).unwrap();
        let seen = patience.see(rustix::process::getpid()).unwrap();
        assert!(seen.runnable && !seen.stopped, "{seen:?}");
        let mut seen = Seen {
            stopped: true,
            ..Seen::default()
        };
        seen.add("7 (a) b) (c) T 1 7 7 0 -1 4194304 1 2 3 4 11 22 0 0 20 0 1 0");
        assert!(seen.stopped && !seen.runnable);
        assert_eq!(seen.ticks, 33);
    }
}
