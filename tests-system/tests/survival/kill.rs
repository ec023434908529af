//! kill -9 of the worker at random moments.

use super::scene::{CACHED, PASSTHROUGH, Pauses, Scene};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use system_tests::counts::{full, repetitions};
use system_tests::mountd::MountOptions;
use system_tests::mountd::processes::{kill_in_flight, signal};

/// Between two kills at most.
const APART: Duration = Duration::from_millis(1500);

fn kill_many(what: &str, options: MountOptions) -> Result<()> {
    let kills = repetitions(&format!("kill -9 of the worker, {what}"), 200, 20);
    let operations = if full() { 1_000_000 } else { 10_000 };
    let mut scene = Scene::new(options)?;
    let (mut hits, mut left) = (0, 0);
    let mut pauses = Pauses::default();
    for round in 0..kills {
        scene.pause(APART);
        let worker = scene.worker()?;
        let waiting = kill_in_flight(worker, &scene.connection)?;
        let killed = Instant::now();
        hits += usize::from(waiting > 0);
        left += waiting;
        // Only the next worker can answer, so the next kill hits one that serves.
        scene.ask()?;
        pauses.add(killed.elapsed());
        if round % 10 == 9 {
            scene.check()?;
        }
    }
    scene.work_until(operations)?;
    let summary = scene.finish()?;
    println!(
        "REPORT {what}: {kills} kills of the worker, {hits} of them with requests in flight ({left} \
         in all); answered again after: {pauses}; {summary}"
    );
    ensure!(
        hits * 2 >= kills,
        "only {hits} of {kills} kills hit a request in flight"
    );
    Ok(())
}

#[test]
fn killed_workers_are_not_noticed_cached() -> Result<()> {
    kill_many("cached", CACHED)
}

#[test]
fn killed_workers_are_not_noticed_passthrough() -> Result<()> {
    kill_many("passthrough", PASSTHROUGH)
}

#[test]
fn killed_workers_are_not_noticed_without_resend() -> Result<()> {
    let options = MountOptions {
        more: &["--test-no-resend"],
        ..CACHED
    };
    kill_many("cached, without RESEND", options)
}

/// Without being stopped first, for that changes where it dies; and before it serves, too.
#[test]
fn workers_die_while_they_start_and_while_they_serve() -> Result<()> {
    let kills = repetitions("kill -9 of whatever worker there is", 100, 15);
    let mut scene = Scene::new(CACHED)?;
    for round in 0..kills {
        if round % 4 == 0 {
            // The end of a crash loop, in which workers would be started ever more seldom.
            scene.ask()?;
            std::thread::sleep(Duration::from_millis(1050));
        }
        let worker = scene.worker()?;
        scene.pause(Duration::from_millis(40));
        // It may be gone already.
        let _ = signal(worker, nix::sys::signal::Signal::SIGKILL);
    }
    scene.ask()?;
    scene.check()?;
    println!(
        "REPORT {kills} kills of whatever worker there was: {}",
        scene.finish()?
    );
    Ok(())
}

/// One who asks, and nothing else, so that the pause is the restart's own.
#[test]
fn a_lone_asker_waits_for_a_restart() -> Result<()> {
    let kills = repetitions("kill -9 of the worker of a lone asker", 100, 10);
    for (what, options) in [("cached", CACHED), ("passthrough", PASSTHROUGH)] {
        let mut scene = Scene::with(options, &[])?;
        let mut pauses = Pauses::default();
        let mut usual = Pauses::default();
        for _ in 0..kills {
            // Long enough that this is no crash loop.
            std::thread::sleep(Duration::from_millis(1050));
            usual.add(scene.ask()?);
            let worker = scene.worker()?;
            let killed = Instant::now();
            signal(worker, nix::sys::signal::Signal::SIGKILL)?;
            scene.ask()?;
            pauses.add(killed.elapsed());
        }
        println!("REPORT a lone asker, {what}: in peace {usual}; after a kill {pauses}");
        scene.finish()?;
    }
    Ok(())
}
