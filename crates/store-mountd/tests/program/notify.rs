//! The service manager's protocol, line by line.

use std::{fs, thread, time::Duration};

use nix::sys::signal::{Signal, kill};

use crate::{
    harness::{Mount, Place, assert_same_trees, plant, require_root, runs},
    manager::Manager,
};

fn ready() -> (Place, String) {
    let place = Place::new();
    plant(&place.path("tree"));
    let name = place.import(&place.path("tree"));
    fs::create_dir(place.path("mnt")).unwrap();
    (place, name)
}

/// A mount that a manager has started, and that has said so.
fn served() -> (Place, String, Manager, Mount) {
    let (place, name) = ready();
    let mut manager = Manager::new(&place);
    let mount = started(&place, &manager);
    manager.wait_for("READY=1");
    (place, name, manager, mount)
}

fn started(place: &Place, manager: &Manager) -> Mount {
    let mountpoint = place.path("mnt");
    Mount::start(&mut manager.mount(place, &mountpoint, &[]), mountpoint)
}

/// The next supervisor of the mount that the manager keeps.
fn resumed(place: &Place, manager: &Manager) -> Mount {
    let mountpoint = place.path("mnt");
    let mut command = manager.mount(place, &mountpoint, &[]);
    Mount::start_until(&mut command, mountpoint, "resumed ")
}

#[test]
fn a_service_says_when_it_is_ready_what_it_does_and_when_it_stops() {
    let (place, name) = ready();
    let mut manager = Manager::new(&place);
    let mountpoint = place.path("mnt");
    let mut command = manager.mount(&place, &mountpoint, &[]);
    command.env("WATCHDOG_USEC", "400000");
    let mut mount = Mount::start(&mut command, mountpoint);
    manager.wait_for("READY=1");
    // Told before, so that nothing is lost should it end now.
    let kept: Vec<_> = manager.stored.keys().cloned().collect();
    assert_eq!(kept, ["device.v1", "state.v1", "store.v1", "turn.v1"]);
    assert!(manager.was_told("FDPOLL=0"));
    assert!(mount.path(&name).is_dir());
    let status = manager.wait_for("STATUS=Serving 1 paths on ");
    assert!(status.contains("requests"), "{status}");
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");

    mount.signal(Signal::SIGTERM);
    manager.wait_for("STOPPING=1");
    assert!(mount.wait().success());
    manager.catch_up();
    assert!(manager.stored.is_empty(), "{:?}", manager.stored);
    assert!(!mount.is_mounted());
}

#[test]
fn a_start_that_takes_long_says_so() {
    let (place, _) = ready();
    let mut manager = Manager::new(&place);
    let mountpoint = place.path("mnt");
    let fault = ["--test-fault", "hang:init:taken"];
    let mut child = manager.mount(&place, &mountpoint, &fault).spawn().unwrap();
    manager.wait_for("STATUS=Starting to serve ");
    manager.wait_for("EXTEND_TIMEOUT_USEC=");
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    // Nor does an upgrade that is refused say that it is ready.
    kill(pid, Signal::SIGHUP).unwrap();
    manager.wait_for("EXTEND_TIMEOUT_USEC=");
    manager.wait_for("EXTEND_TIMEOUT_USEC=");
    assert!(!manager.was_told("READY=1") && !manager.was_told("RELOADING=1"));
    kill(pid, Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    manager.catch_up();
    assert!(manager.stored.is_empty());
}

#[test]
fn the_next_supervisor_takes_over_from_a_killed_one() {
    let (place, name, mut manager, mut first) = served();
    let tree = first.path(&name);
    let held = fs::File::open(tree.join("big")).unwrap();
    let orphan = first.worker();
    first.signal(Signal::SIGKILL);
    first.wait();
    // Somebody serves meanwhile.
    assert_same_trees(&place.path("tree"), &tree);

    let mut second = resumed(&place, &manager);
    manager.wait_for("READY=1");
    assert_ne!(second.worker(), orphan);
    assert!(!runs(orphan), "two workers");
    assert_same_trees(&place.path("tree"), &tree);
    assert_eq!(held.metadata().unwrap().len(), 3_000_000);
    drop(held);
    second.signal(Signal::SIGTERM);
    assert!(second.wait().success());
    assert!(!second.is_mounted());
}

#[test]
fn a_start_that_fails_leaves_the_mount_and_its_worker() {
    let (place, name, mut manager, mut first) = served();
    let held = fs::File::open(first.path(&name).join("big")).unwrap();
    let orphan = first.worker();
    first.signal(Signal::SIGKILL);
    first.wait();
    // Neither a setting that is refused, nor one that cannot be met now, is
    // worth the mount.
    let mountpoint = place.path("mnt");
    let mut broken = manager.mount(&place, &mountpoint, &["--threads", "0"]);
    assert!(!broken.output().unwrap().status.success());
    assert!(first.is_mounted() && runs(orphan));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = manager.mount(&place, &mountpoint, &["--metrics-listen", &address]);
    let second = Mount::start_until(&mut command, mountpoint, "no metrics of this mount");
    second.wait_for("resumed ");
    manager.wait_for("READY=1");
    assert_same_trees(&place.path("tree"), &second.path(&name));
    assert_eq!(held.metadata().unwrap().len(), 3_000_000);
    drop(held);
    second.stop();
}

#[test]
fn a_worker_that_died_with_its_supervisor_is_replaced_by_the_next() {
    let (place, name, manager, mut first) = served();
    let worker = first.worker();
    first.signal(Signal::SIGKILL);
    kill(worker, Signal::SIGKILL).unwrap();
    first.wait();
    let tree = first.path(&name);
    let reader = thread::spawn(move || fs::read(tree.join("bin/run")).unwrap());
    thread::sleep(Duration::from_millis(200));
    assert!(!reader.is_finished(), "nobody serves");
    let second = resumed(&place, &manager);
    assert_eq!(reader.join().unwrap(), b"#!/bin/sh\necho run\n");
    second.stop();
}

#[test]
fn a_mount_that_is_gone_is_mounted_anew() {
    require_root();
    let (place, name, mut manager, mut first) = served();
    let orphan = first.worker();
    first.signal(Signal::SIGKILL);
    first.wait();
    nix::mount::umount(&place.path("mnt")).unwrap();
    // The orphan ends with the mount; the manager has its descriptors still.
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while runs(orphan) {
        assert!(std::time::Instant::now() < end, "the orphan stays");
        thread::sleep(Duration::from_millis(10));
    }
    let second = started(&place, &manager);
    manager.wait_for("READY=1");
    assert_same_trees(&place.path("tree"), &second.path(&name));
    second.stop();
}

#[test]
fn a_restart_keeps_the_mount_and_a_stop_does_not() {
    let (place, name, mut manager, mut first) = served();
    let held = fs::File::open(first.path(&name).join("big")).unwrap();
    // RestartKillSignal= of the unit.
    first.signal(Signal::SIGUSR2);
    // SuccessExitStatus= of the unit.
    assert_eq!(first.wait().code(), Some(75));
    assert!(first.is_mounted());
    assert_same_trees(&place.path("tree"), &first.path(&name));
    manager.catch_up();
    assert_eq!(manager.stored.len(), 4);

    let mut second = resumed(&place, &manager);
    assert_same_trees(&place.path("tree"), &second.path(&name));
    drop(held);
    second.signal(Signal::SIGTERM);
    assert!(second.wait().success());
    assert!(!second.is_mounted());
}

#[test]
fn the_end_of_a_mount_in_use_is_waited_for_over_a_restart() {
    let (place, name, mut manager, mut first) = served();
    let held = fs::File::open(first.path(&name).join("big")).unwrap();
    first.signal(Signal::SIGTERM);
    first.wait_for("served until the last user is done");
    manager.wait_for("STOPPING=1");
    manager.wait_for("EXTEND_TIMEOUT_USEC=");
    manager.wait_for("EXTEND_TIMEOUT_USEC=");
    first.signal(Signal::SIGKILL);
    first.wait();

    manager.messages.clear();
    let mut second = resumed(&place, &manager);
    manager.wait_for("READY=1");
    assert_eq!(held.metadata().unwrap().len(), 3_000_000);
    // It was asked by nobody else yet.
    second.signal(Signal::SIGTERM);
    second.wait_for("Signal again to end at once");
    thread::sleep(Duration::from_millis(300));
    assert!(second.is_running());
    drop(held);
    assert_eq!(second.wait().code(), Some(0));
    manager.catch_up();
    assert!(manager.stored.is_empty());
}

#[test]
fn a_mount_in_another_namespace_is_served_until_a_second_signal() {
    require_root();
    let (place, _) = ready();
    let mut mount = place.mount(&[]);
    let mut holder = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sleep", "1000"])
        .spawn()
        .unwrap();
    let table = format!("/proc/{}/ns/mnt", holder.id());
    let ours = fs::read_link("/proc/self/ns/mnt").unwrap();
    while fs::read_link(&table).unwrap() == ours {
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(300));
    mount.signal(Signal::SIGTERM);
    mount.wait_for("serves it there");
    assert!(!mount.is_mounted() && mount.is_running());
    mount.signal(Signal::SIGTERM);
    assert_eq!(mount.wait().code(), Some(1));
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn a_mount_that_the_manager_has_no_room_for_is_not_left() {
    let (place, name) = ready();
    let manager = Manager::new(&place);
    let mountpoint = place.path("mnt");
    let mut command = manager.mount(&place, &mountpoint, &[]);
    let mut mount = Mount::start(command.env("FDSTORE", "3"), mountpoint);
    mount.signal(Signal::SIGUSR2);
    mount.wait_for("goes on");
    assert!(mount.is_running());
    assert!(mount.path(&name).is_dir());
    mount.stop();
}

#[test]
fn a_mount_that_nobody_keeps_is_not_left() {
    let (place, name) = ready();
    let mut mount = place.mount(&[]);
    mount.signal(Signal::SIGUSR2);
    mount.wait_for("goes on");
    assert!(mount.is_running());
    assert!(mount.path(&name).is_dir());
    mount.stop();
}
