//! What the project wants to reach, and whether it did.

use super::measure::Cache::{self, Cold, Warm};
use super::results::Results;
use super::subject::DEFAULT;
use std::fmt::Write as _;

/// A number that a run makes, and the bound that it is to keep.
struct Aim {
    what: &'static str,
    bound: Bound,
    measure: Measure,
}

enum Bound {
    Most(f64),
    Least(f64),
}

use Bound::{Least, Most};

type Measure = fn(&Results) -> Option<f64>;

fn time(results: &Results, work: &str, cache: Cache) -> Option<f64> {
    results.ratio(work, cache, DEFAULT)
}

fn rate(results: &Results, work: &str, cache: Cache) -> Option<f64> {
    time(results, work, cache).map(|time| 1.0 / time)
}

fn of_20000(results: &Results, kind: &str) -> Option<f64> {
    let seconds = |size| results.seconds(&format!("{kind}-of-{size}"), Cold, DEFAULT);
    Some(seconds(20_000)? / seconds(20)?)
}

const AIMS: &[Aim] = &[
    aim("cold `find -ls`, time", Most(1.0), |r| {
        time(r, "walk", Cold)
    }),
    aim("warm `find -ls`, time", Most(1.3), |r| {
        time(r, "walk", Warm)
    }),
    aim("all small files cold, time", Most(1.3), |r| {
        time(r, "small", Cold)
    }),
    aim("all small files warm, time", Most(1.3), |r| {
        time(r, "small", Warm)
    }),
    aim("1 GiB in sequence cold, rate", Least(0.95), |r| {
        rate(r, "sequential", Cold)
    }),
    aim("1 GiB in sequence warm, rate", Least(0.9), |r| {
        rate(r, "sequential", Warm)
    }),
    aim("random 4 KiB cold, 1 job, rate", Least(0.95), |r| {
        rate(r, "random-1", Cold)
    }),
    aim("random 4 KiB cold, 4 jobs, rate", Least(0.95), |r| {
        rate(r, "random-4", Cold)
    }),
    aim("open, read, close warm, time", Most(2.0), |r| {
        time(r, "open-read-close", Warm)
    }),
    aim("python3 start warm, time", Most(1.1), |r| {
        time(r, "python3", Warm)
    }),
    aim("gcc start warm, time", Most(1.1), |r| time(r, "gcc", Warm)),
    aim(
        "hit in a directory of 20,000, time of the same in one of 20",
        Most(1.5),
        |r| of_20000(r, "hit"),
    ),
    aim(
        "miss in a directory of 20,000, time of the same in one of 20",
        Most(1.5),
        |r| of_20000(r, "miss"),
    ),
    aim(
        "daemon's CPU, all small files cold, s per 30,000 files",
        Most(1.0),
        |r| {
            let cpu = r.cell("small", Cold, DEFAULT)?.cpu_seconds();
            Some(cpu * 30_000.0 / r.small_files as f64)
        },
    ),
    aim(
        "start to first answered look-up, 100,000 paths, cold, ms",
        Most(100.0),
        |r| Some(r.scale.as_ref()?.first_answer_ms),
    ),
    aim(
        "memory of all processes without nodes, MB",
        Most(40.0),
        |r| Some(r.scale.as_ref()?.base as f64 / 1e6),
    ),
    // 100 bytes for each, above 40 MB.
    aim(
        "memory of all processes with 1,000,000 live inodes, MB",
        Most(140.0),
        |r| Some(r.scale.as_ref()?.full as f64 / 1e6),
    ),
];

const fn aim(what: &'static str, bound: Bound, measure: Measure) -> Aim {
    Aim {
        what,
        bound,
        measure,
    }
}

/// The aims that something was measured for.
pub(super) fn table(results: &Results) -> String {
    let mut text = String::from("| aim | bound | measured | |\n|---|---|---|---|\n");
    for aim in AIMS {
        let Some(measured) = (aim.measure)(results) else {
            continue;
        };
        let (bound, is_met) = match aim.bound {
            Most(most) => (format!("≤ {most}"), measured <= most),
            Least(least) => (format!("≥ {least}"), measured >= least),
        };
        let verdict = if is_met { "met" } else { "**not met**" };
        let _ = writeln!(
            text,
            "| {} | {bound} | {} | {verdict} |",
            aim.what,
            round(measured)
        );
    }
    text
}

fn round(number: f64) -> String {
    if number < 10.0 {
        format!("{number:.2}")
    } else {
        format!("{number:.0}")
    }
}
