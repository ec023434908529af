//! Mixed load with restarts for long: what the processes take does not grow.

use super::scene::{CACHED, PASSTHROUGH, Sample, Scene};
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use system_tests::counts::full;
use system_tests::mountd::MountOptions;
use system_tests::mountd::processes::signal;

/// Growth that is none: caches fill, allocators keep a little.
const TOLERATED_KIB: u64 = 4096;

/// Something of a sample.
type Value = fn(&Sample) -> u64;

fn endure(what: &str, options: MountOptions) -> Result<()> {
    let (time, apart) = match full() {
        true => (Duration::from_secs(600), Duration::from_secs(5)),
        false => (Duration::from_secs(20), Duration::from_secs(2)),
    };
    let mut scene = Scene::new(options)?;
    let mut samples = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::thread::sleep(apart);
        samples.push(Sample::of(&scene)?);
        signal(scene.worker()?, Signal::SIGKILL)?;
        scene.ask()?;
        scene.check()?;
    }
    let restarts = samples.len();
    let third = restarts / 3;
    // The first ones fill caches.
    let (early, late) = (&samples[third..2 * third], &samples[2 * third..]);
    let most = |of: &[Sample], value: Value| of.iter().map(value).max().unwrap_or(0);
    let values: [(&str, u64, Value); 6] = [
        ("supervisor, KiB", TOLERATED_KIB, |s| s.supervisor.anonymous),
        ("supervisor, descriptors", 2, |s| {
            s.supervisor.descriptors as u64
        }),
        ("worker, KiB", 8 * TOLERATED_KIB, |s| s.worker.anonymous),
        // Files of the store come and go.
        ("worker, descriptors", 16, |s| s.worker.descriptors as u64),
        ("state, KiB", TOLERATED_KIB, |s| s.memfds),
        ("supervisor, shared KiB", TOLERATED_KIB, |s| {
            s.supervisor.shared
        }),
    ];
    let mut grown = Vec::new();
    for (name, tolerated, value) in values {
        let (before, after) = (most(early, value), most(late, value));
        println!("REPORT {what}, {time:?}, {restarts} restarts: {name}: {before}, later {after}");
        if after > before + tolerated {
            grown.push(format!("{name}: {before}, later {after}"));
        }
    }
    let summary = scene.finish()?;
    println!("REPORT {what}, {time:?} with {restarts} restarts: {summary}");
    ensure!(grown.is_empty(), "{grown:?}: {samples:#?}");
    Ok(())
}

#[test]
fn nothing_grows_cached() -> Result<()> {
    endure("cached", CACHED)
}

#[test]
fn nothing_grows_passthrough() -> Result<()> {
    endure("passthrough", PASSTHROUGH)
}
