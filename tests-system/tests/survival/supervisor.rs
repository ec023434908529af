//! kill -9 of the supervisor: the manager starts another, with the descriptors that it kept.

use super::scene::{CACHED, LIMIT, PASSTHROUGH, Pauses};
use super::service::Service;
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use system_tests::counts::repetitions;
use system_tests::mountd::MountOptions;
use system_tests::mountd::processes::{Connection, kill_in_flight, signal};
use system_tests::systemd::Unit;

fn kill_supervisors(what: &str, options: MountOptions) -> Result<()> {
    let kills = repetitions(&format!("kill -9 of the supervisor, {what}"), 20, 5);
    let mut service = Service::start(Unit::shipped()?, options)?;
    ensure!(!service.manager.stored().is_empty(), "nothing is stored");
    let connection = Connection::of(service.path())?;
    let mut asker = service.asker()?;
    let mut load = service.load()?;
    let mut pauses = Pauses::default();
    let (mut both, mut hits) = (0, 0);
    for round in 0..kills {
        let pause = service.rng.below(800);
        std::thread::sleep(Duration::from_millis(pause));
        let killed = Instant::now();
        if round % 2 == 1 {
            // Both at once: nobody is left who serves.
            let worker = service.worker()?;
            let main = service.manager.main_pid()?;
            signal(main, Signal::SIGSTOP)?;
            hits += usize::from(kill_in_flight(worker, &connection)? > 0);
            both += 1;
        }
        service.told(service.manager.kill_main())?;
        service.told(asker.ask(LIMIT))?;
        pauses.add(killed.elapsed());
        service.told(load.expect_alive(LIMIT))?;
    }
    let summary = load.finish()?;
    drop((asker, connection));
    ensure!(service.manager.lost().is_empty(), "{:?}", service.manager);
    let status = service.manager.stop()?;
    ensure!(status.success(), "{status}: {}", service.log());
    println!(
        "REPORT {what}: {kills} kills of the supervisor, {both} of them with its worker ({hits} with \
         requests in flight); ready again after: {pauses}; {summary}"
    );
    Ok(())
}

#[test]
fn killed_supervisors_are_not_noticed_cached() -> Result<()> {
    kill_supervisors("cached", CACHED)
}

#[test]
fn killed_supervisors_are_not_noticed_passthrough() -> Result<()> {
    kill_supervisors("passthrough", PASSTHROUGH)
}
