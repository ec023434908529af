//! When a worker that died is replaced.

use std::time::Duration;

/// So many deaths without use in between are not waited for: what happened once
/// need not happen again.
const FREE: u32 = 3;
const FIRST_DELAY: Duration = Duration::from_millis(25);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// The requests after which a worker was of use, or the time. A request that
/// ends each worker is asked of the next one first of all.
const USEFUL_REQUESTS: u64 = 1000;
const USEFUL_TIME: Duration = Duration::from_millis(100);

/// Deaths of workers. It never gives up: as long as there is a mount, somebody
/// waits for a worker.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// All of them.
    pub(super) total: u64,
    /// Those without use in between.
    in_a_row: u32,
}

impl Restarts {
    /// A worker died that served for this long, and so many requests. Answers
    /// how long to wait.
    pub(super) fn died(&mut self, served: Duration, requests: u64) -> Duration {
        self.total += 1;
        if served >= USEFUL_TIME || requests >= USEFUL_REQUESTS {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        match self.in_a_row.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(doublings) => FIRST_DELAY
                .saturating_mul(1 << doublings.min(16))
                .min(LONGEST_DELAY),
        }
    }

    /// How many workers died in a row, if it is a crash loop.
    pub(super) fn crash_loop(&self) -> Option<u32> {
        (self.in_a_row > FREE).then_some(self.in_a_row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_loops_are_slowed_down_but_never_end() {
        let mut restarts = Restarts::default();
        let delays: Vec<_> = (0..100)
            .map(|_| restarts.died(Duration::from_millis(3), 5).as_millis())
            .collect();
        assert_eq!(delays[..6], [0, 0, 0, 25, 50, 100]);
        assert_eq!(delays[99], 5000);
        assert_eq!(restarts.crash_loop(), Some(100));
        assert_eq!(restarts.total, 100);
    }

    #[test]
    fn a_worker_that_was_of_use_is_replaced_at_once() {
        let mut restarts = Restarts::default();
        for _ in 0..100 {
            assert_eq!(
                restarts.died(Duration::from_millis(3), 5000),
                Duration::ZERO
            );
            assert_eq!(restarts.died(Duration::from_secs(2), 0), Duration::ZERO);
        }
        assert_eq!(restarts.crash_loop(), None);
    }
}
