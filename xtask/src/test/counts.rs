//! How many tests passed, as test runners tell it.

use crate::process::{Logged, tail};
use std::fmt;
use std::ops::AddAssign;

/// How much of a failed program's output is shown.
const TAIL_LINES: usize = 60;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Counts {
    /// A check that counts as one test, and passed.
    pub(crate) const PASSED: Self = Self {
        passed: 1,
        failed: 0,
    };
    /// A check that counts as one test, and failed.
    pub(crate) const FAILED: Self = Self {
        passed: 0,
        failed: 1,
    };

    /// A program that counts as one test.
    pub(crate) fn of_program(run: &Logged) -> Self {
        if run.success {
            Self::PASSED
        } else {
            show_failure(run);
            Self::FAILED
        }
    }

    /// A test runner; its exit status has the last word. It counts as failed too when it ran no
    /// test at all.
    pub(crate) fn of_tests(run: &Logged) -> Self {
        let mut counts = from_nextest(&run.output).unwrap_or_else(|| from_libtest(&run.output));
        if counts == Self::default() || (!run.success && counts.failed == 0) {
            counts.failed += 1;
        }
        if counts.failed > 0 {
            show_failure(run);
        }
        counts
    }

    /// Like [`Self::of_tests`], for a runner that may have nothing to run.
    pub(crate) fn of_tests_or_none(run: &Logged) -> Option<Self> {
        let counts = from_nextest(&run.output).unwrap_or_else(|| from_libtest(&run.output));
        (counts != Self::default()).then_some(counts)
    }

    /// One test per finding, or a single one that passed.
    pub(crate) fn of_findings(findings: &[String]) -> Self {
        for finding in findings {
            println!("{finding}");
        }
        if findings.is_empty() {
            Self::PASSED
        } else {
            Self {
                passed: 0,
                failed: findings.len(),
            }
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

fn show_failure(run: &Logged) {
    let text = failures_of_libtest(&run.output).unwrap_or_else(|| run.output.clone());
    println!(
        "{}\n(all of it: {})",
        tail(&text, TAIL_LINES),
        run.log.display()
    );
}

/// What libtest says of the tests that failed, which others may have been run after.
fn failures_of_libtest(output: &str) -> Option<String> {
    let mut failures = String::new();
    let mut is_failure = false;
    for line in output.lines() {
        is_failure = (is_failure || line == "failures:") && !line.starts_with("test result:");
        if is_failure {
            failures.push_str(line);
            failures.push('\n');
        }
    }
    (!failures.is_empty()).then_some(failures)
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …`, once for each test program.
fn from_libtest(output: &str) -> Counts {
    let mut counts = Counts::default();
    for line in output.lines() {
        if let Some((_, rest)) = line.split_once("test result: ") {
            counts.passed += number_before(rest, " passed");
            counts.failed += number_before(rest, " failed");
        }
    }
    counts
}

/// `     Summary [   0.007s] 11 tests run: 9 passed (1 slow), 1 failed, 1 timed out, 0 skipped`.
fn from_nextest(output: &str) -> Option<Counts> {
    let line = output
        .lines()
        .rev()
        .find(|line| line.trim_start().starts_with("Summary [") && line.contains(" run: "))?;
    let (_, rest) = line.split_once(" run: ")?;
    Some(Counts {
        passed: number_before(rest, " passed"),
        failed: [" failed", " timed out", " exec failed"]
            .iter()
            .map(|word| number_before(rest, word))
            .sum(),
    })
}

/// The number in front of a word.
fn number_before(text: &str, word: &str) -> usize {
    let Some((before, _)) = text.split_once(word) else {
        return 0;
    };
    let digits = before
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |at| at + 1);
    before[digits..].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Counts, from_libtest, from_nextest};

    #[test]
    fn reads_libtest() {
        let output = "running 4 tests\ntest result: FAILED. 3 passed; 1 failed; 0 ignored; 0 \
                      measured; 0 filtered out\nx\ntest result: ok. 12 passed; 0 failed; 0 ignored";
        assert_eq!(
            from_libtest(output),
            Counts {
                passed: 15,
                failed: 1
            }
        );
    }

    #[test]
    fn finds_what_failed() {
        let output = "test a ... FAILED\nfailures:\n\n---- a ----\nwhy\n\ntest result: FAILED\n\
                      running 1 test\ntest b ... ok\ntest result: ok";
        let failures = super::failures_of_libtest(output).unwrap();
        assert_eq!(failures, "failures:\n\n---- a ----\nwhy\n\n");
        assert_eq!(super::failures_of_libtest("test result: ok"), None);
    }

    #[test]
    fn reads_nextest() {
        let output = "────\n     Summary [   0.007s] 13 tests run: 9 passed (1 slow), 2 failed, \
                      1 timed out, 3 skipped\n        FAIL [   0.005s] a b";
        assert_eq!(
            from_nextest(output),
            Some(Counts {
                passed: 9,
                failed: 3
            })
        );
        assert_eq!(from_nextest("test result: ok. 1 passed; 0 failed"), None);
        assert_eq!(
            from_nextest("     Summary [   0.007s] 3/9 tests run: 2 passed, 1 failed, 0 skipped"),
            Some(Counts {
                passed: 2,
                failed: 1
            })
        );
    }
}
