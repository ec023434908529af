//! Workers that hang, are stopped, or are replaced on purpose: readers see a pause.

use super::scene::{CACHED, PASSTHROUGH, Scene};
use anyhow::{Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use system_tests::counts::repetitions;
use system_tests::mountd::processes::{Connection, signal, state, wait_until};
use system_tests::mountd::{self, MountOptions, Store};
use system_tests::scratch;

const HANGS: MountOptions = MountOptions {
    more: &[
        "--hang-timeout",
        "1",
        "--test-fault",
        "hang:read:taken:200",
        "--test-fault",
        "hang:lookup:done:500",
    ],
    ..CACHED
};

#[test]
fn a_deadlocked_worker_is_replaced() -> Result<()> {
    let mut scene = Scene::new(HANGS)?;
    let first = scene.worker()?;
    for round in 1..=2 {
        let before = scene.worker()?;
        wait_until("another worker", Duration::from_secs(90), || {
            scene.check()?;
            std::thread::sleep(Duration::from_millis(100));
            Ok(scene.worker()? != before)
        })?;
        let pause = scene.ask()?;
        println!("REPORT hung worker {round} was replaced; then one who asks waits for {pause:?}");
    }
    ensure!(scene.worker()? != first);
    println!("REPORT workers that hung: {}", scene.finish()?);
    Ok(())
}

/// As systemd-shutdown does, which spares nobody.
#[test]
fn a_stop_of_everybody_is_survived() -> Result<()> {
    let stops = repetitions("SIGSTOP and SIGCONT of everybody", 10, 2);
    let options = MountOptions {
        more: &["--hang-timeout", "1"],
        ..CACHED
    };
    let mut scene = Scene::new(options)?;
    let worker = scene.worker()?;
    for round in 0..stops {
        let everybody = [scene.load.pid(), worker, scene.mounted.pid()];
        // In every order: for a while the supervisor may look at a worker that is stopped.
        for (place, pid) in everybody.iter().enumerate() {
            let pid = if round % 2 == 0 {
                *pid
            } else {
                everybody[2 - place]
            };
            signal(pid, Signal::SIGSTOP)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(2500));
        for pid in everybody {
            signal(pid, Signal::SIGCONT)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        scene.ask()?;
        scene.check()?;
        ensure!(
            scene.worker()? == worker,
            "the worker was replaced though it was only stopped: {}",
            scene.mounted.messages()
        );
    }
    println!("REPORT {stops} stops of everybody: {}", scene.finish()?);
    Ok(())
}

#[test]
fn a_stopped_worker_is_not_taken_for_dead() -> Result<()> {
    let options = MountOptions {
        more: &["--hang-timeout", "1"],
        ..CACHED
    };
    let mut scene = Scene::new(options)?;
    let worker = scene.worker()?;
    signal(worker, Signal::SIGSTOP)?;
    std::thread::sleep(Duration::from_secs(4));
    ensure!(state(worker) == Some('T'), "{}", scene.mounted.messages());
    signal(worker, Signal::SIGCONT)?;
    scene.ask()?;
    scene.check()?;
    ensure!(scene.worker()? == worker);
    println!("REPORT a worker stopped for 4 s: {}", scene.finish()?);
    Ok(())
}

fn upgrade_many(what: &str, options: MountOptions) -> Result<()> {
    let upgrades = repetitions(&format!("upgrades under load, {what}"), 30, 4);
    let mut scene = Scene::new(options)?;
    let mut longest = Duration::ZERO;
    let program = system_tests::mountd::program()?;
    let program = program.to_string_lossy();
    let mountpoint = scene.mounted.path().to_owned();
    let mountpoint = mountpoint.to_string_lossy();
    for round in 0..upgrades {
        scene.pause(Duration::from_millis(500));
        let before = scene.worker()?;
        // Something that cannot serve is refused, and the worker stays.
        let refused = scene
            .plan
            .store()
            .run(&["upgrade", &mountpoint, "--binary", "/bin/true"])?;
        ensure!(
            refused.code.is_some_and(|code| code != 0),
            "round {round}: /bin/true was taken: {refused:?}"
        );
        ensure!(scene.worker()? == before, "the worker went: {refused:?}");
        let begin = Instant::now();
        let done = scene
            .plan
            .store()
            .run(&["upgrade", &mountpoint, "--binary", &program])?;
        ensure!(
            done.code == Some(0),
            "{done:?}\n{}",
            scene.mounted.messages()
        );
        longest = longest.max(begin.elapsed());
        ensure!(scene.worker()? != before, "the old worker is still there");
        scene.ask()?;
        scene.check()?;
    }
    println!(
        "REPORT {what}: {upgrades} upgrades and as many refusals, the longest upgrade {longest:?}; {}",
        scene.finish()?
    );
    Ok(())
}

#[test]
fn upgrades_are_not_noticed_cached() -> Result<()> {
    upgrade_many("cached", CACHED)
}

#[test]
fn upgrades_are_not_noticed_passthrough() -> Result<()> {
    upgrade_many("passthrough", PASSTHROUGH)
}

/// The program is read through the mount that it is to serve.
#[test]
fn a_reload_of_a_program_on_the_mount_survives_the_worker() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let dir = scratch::dir("reload")?;
    let program = dir.path().join("store-mountd");
    std::fs::copy(mountd::program()?, &program)?;
    let store = Store::new(&dir.path().join("store"))?.used_by(0, 0, &program);
    let paths = store.import(&[&program])?;
    let mounted = store.mount(MountOptions {
        more: &["--test-fault", "kill:read:taken"],
        ..CACHED
    })?;
    let connection = Connection::of(mounted.path())?;
    let on_mount = mounted.path().join(mountd::name_of(&paths[0])?);
    let none = None::<&str>;
    mount(Some(&on_mount), &program, none, MsFlags::MS_BIND, none)?;
    signal(mounted.pid(), Signal::SIGHUP)?;
    let upgraded = wait_until("an upgrade", Duration::from_secs(60), || {
        Ok(mounted.messages().contains("upgraded to"))
    });
    if upgraded.is_err() {
        // Who waits for the mount could not be ended, nor looked at.
        connection.abort()?;
    }
    umount2(&program, MntFlags::MNT_DETACH)?;
    upgraded?;
    let messages = mounted.messages();
    ensure!(messages.contains("worker 1 "), "it did not die: {messages}");
    ensure!(mounted.stop()?.code == Some(0), "{messages}");
    Ok(())
}
