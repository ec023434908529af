//! What is said to the service manager, line by line.

use super::scene::{CACHED, LIMIT};
use super::service::Service;
use anyhow::{Context as _, Result, anyhow, ensure};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use std::fs::File;
use std::time::{Duration, Instant};
use system_tests::mountd::processes::{Connection, signal, wait_until, worker};
use system_tests::systemd::{Manager, Unit};

/// The package's unit, with a watchdog that a test can wait for.
fn watched() -> Result<Unit> {
    Ok(Unit {
        watchdog: Some(Duration::from_secs(3)),
        ..Unit::shipped()?
    })
}

fn count(manager: &Manager, line: &str) -> usize {
    let records = manager.records();
    let said = records.iter().filter(|record| record.message.says(line));
    said.count()
}

/// Only the main process may notify (`NotifyAccess=main`), so nobody else tries.
fn expect_all_accepted(manager: &Manager) -> Result<()> {
    let records = manager.records();
    let foreign = records.iter().find(|record| !record.is_accepted);
    ensure!(foreign.is_none(), "not from the main process: {foreign:?}");
    Ok(())
}

#[test]
fn a_life_from_ready_to_stopping() -> Result<()> {
    let service = Service::start(watched()?, CACHED)?;
    let mut asker = service.asker()?;
    asker.ask(LIMIT)?;
    let manager = &service.manager;
    ensure!(count(manager, "READY=1") == 1);
    let stored = manager.stored();
    ensure!(
        stored.len() >= 2 && stored.iter().all(|name| name.contains(".v")),
        "kept, with versions in their names: {stored:?}"
    );
    let records = manager.records();
    let kept = records
        .iter()
        .filter(|record| record.message.says("FDSTORE=1"));
    for record in kept {
        ensure!(record.message.says("FDPOLL=0"), "{record:?}");
    }
    let mut status = None;
    wait_until("a status", LIMIT, || {
        let records = manager.records();
        let last = records.iter().rev().find_map(|r| r.message.get("STATUS"));
        status = last.map(str::to_owned);
        let mountpoint = service.path().to_string_lossy().into_owned();
        Ok(last.is_some_and(|text| text.contains("Serving 1 ") && text.contains(&mountpoint)))
    })
    .with_context(|| format!("{status:?}"))?;

    drop(asker);
    let connection = Connection::of(service.path())?;
    let before = Instant::now();
    let ended = service.told(manager.stop())?;
    ensure!(ended.success(), "{ended}: {}", service.log());
    manager.wait_for("STOPPING=1", before)?;
    ensure!(manager.stored().is_empty(), "{:?}", manager.stored());
    ensure!(manager.lost().is_empty(), "{:?}", manager.lost());
    ensure!(connection.waiting().is_err(), "it is still mounted");
    expect_all_accepted(manager)
}

#[test]
fn the_watchdog_hears_of_it_while_a_worker_is_replaced() -> Result<()> {
    let service = Service::start(watched()?, CACHED)?;
    let mut load = service.load()?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(8) {
        signal(service.worker()?, Signal::SIGKILL)?;
        std::thread::sleep(Duration::from_millis(700));
    }
    service.told(load.expect_alive(LIMIT))?;
    let manager = &service.manager;
    let said = count(manager, "WATCHDOG=1");
    println!("REPORT WATCHDOG=1 {said} times in {:?}", begin.elapsed());
    ensure!(said >= 3, "{said} times only");
    ensure!(manager.exits().is_empty(), "{:?}", manager.exits());
    load.finish()?;
    service.told(manager.stop())?;
    expect_all_accepted(manager)
}

#[test]
fn a_supervisor_that_stands_still_is_replaced_by_the_watchdog() -> Result<()> {
    let service = Service::start(watched()?, CACHED)?;
    let mut load = service.load()?;
    let manager = &service.manager;
    let main = manager.main_pid()?;
    let before = Instant::now();
    signal(main, Signal::SIGSTOP)?;
    service.told(manager.wait_for("READY=1", before))?;
    let exits = manager.exits();
    ensure!(
        exits.len() == 1 && exits[0].by_watchdog && exits[0].pid == main,
        "{exits:?}"
    );
    service.told(load.expect_alive(LIMIT))?;
    println!(
        "REPORT the watchdog replaced the supervisor: {}",
        load.finish()?
    );
    service.told(manager.stop())?;
    Ok(())
}

#[test]
fn a_reload_replaces_the_worker() -> Result<()> {
    let service = Service::start(watched()?, CACHED)?;
    let mut load = service.load()?;
    let manager = &service.manager;
    let (main, worker) = (manager.main_pid()?, service.worker()?);
    service.told(manager.reload())?;
    ensure!(manager.main_pid()? == main, "the supervisor went");
    ensure!(service.worker()? != worker, "the worker stayed");
    service.told(load.expect_alive(LIMIT))?;
    load.finish()?;
    service.told(manager.stop())?;
    expect_all_accepted(manager)
}

#[test]
fn a_restart_keeps_the_mount() -> Result<()> {
    let service = Service::start(watched()?, CACHED)?;
    let mut load = service.load()?;
    let connection = Connection::of(service.path())?;
    let manager = &service.manager;
    let main = manager.main_pid()?;
    service.told(manager.restart())?;
    ensure!(manager.main_pid()? != main, "the supervisor stayed");
    connection.waiting().context("the connection is another")?;
    service.told(load.expect_alive(LIMIT))?;
    load.finish()?;
    service.told(manager.stop())?;
    expect_all_accepted(manager)
}

#[test]
fn a_stop_waits_for_the_last_user() -> Result<()> {
    let unit = Unit {
        stop_limit: Duration::from_secs(3),
        ..watched()?
    };
    let service = Service::start(unit, CACHED)?;
    let held = File::open(service.path())?;
    let connection = Connection::of(service.path())?;
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| service.manager.stop());
        std::thread::sleep(Duration::from_secs(8));
        ensure!(!stop.is_finished(), "{}", service.log());
        connection.waiting().context("it is not served any more")?;
        drop(held);
        let ended = stop.join().map_err(|_| anyhow!("the stop"))?;
        let ended = service.told(ended)?;
        ensure!(ended.success(), "{ended}: {}", service.log());
        Ok(())
    })
}

#[test]
fn what_is_unmounted_stays_so() -> Result<()> {
    let service = Service::start(watched()?, CACHED)?;
    let main = service.manager.main_pid()?;
    umount2(service.path(), MntFlags::empty())?;
    wait_until("the end", LIMIT, || Ok(!service.manager.exits().is_empty()))?;
    std::thread::sleep(Duration::from_secs(2));
    let exits = service.manager.exits();
    ensure!(exits.len() == 1 && exits[0].pid == main, "{exits:?}");
    ensure!(exits[0].status.success(), "{exits:?}");
    ensure!(
        service.manager.main_pid_now().is_none(),
        "it was started again"
    );
    Ok(())
}

#[test]
fn a_start_that_takes_long_asks_for_time() -> Result<()> {
    let unit = Unit {
        start_limit: Duration::from_secs(10),
        ..watched()?
    };
    // Until it is stopped before it is ready.
    let mut tries = 0;
    let (service, worker) = loop {
        let service = Service::begin(unit, CACHED)?;
        // It cannot get ready without its worker.
        let worker = worker(service.manager.main_pid()?)?;
        signal(worker, Signal::SIGSTOP)?;
        // What it said just before has to arrive.
        std::thread::sleep(Duration::from_millis(300));
        if count(&service.manager, "READY=1") == 0 {
            break (service, worker);
        }
        tries += 1;
        ensure!(tries < 10, "it is always ready before its worker is found");
        signal(worker, Signal::SIGCONT)?;
        service.told(service.manager.stop())?;
    };
    std::thread::sleep(Duration::from_secs(12));
    signal(worker, Signal::SIGCONT)?;
    service.told(service.manager.wait_until_ready())?;
    let records = service.manager.records();
    let names = records.iter().flat_map(|record| record.message.names());
    let extended = names.filter(|name| *name == "EXTEND_TIMEOUT_USEC").count();
    println!("REPORT a slow start asked for more time {extended} times");
    ensure!(extended >= 2);
    service.asker()?.ask(LIMIT)?;
    service.told(service.manager.stop())?;
    Ok(())
}
