//! The supervisor and its workers.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    harness::{Mount, PROGRAM, Place, assert_same_trees, plant, require_root, runs},
    reader::Reader,
};

fn planted(place: &Place) -> String {
    plant(&place.path("tree"));
    place.import(&place.path("tree"))
}

#[test]
fn a_killed_worker_is_replaced_and_nobody_notices() {
    for mode in [&["--integrity", "on-read"][..], &["--test-no-resend"]] {
        let place = Place::new();
        let name = planted(&place);
        let mut mount = place.mount(mode);
        let reader = Reader::start(mount.path(&name));
        for _ in 0..5 {
            reader.once_more();
            let worker = mount.worker();
            kill(worker, Signal::SIGKILL).unwrap();
            mount.wait_for("another worker serves");
            reader.once_more();
            assert_ne!(mount.worker(), worker);
        }
        reader.stop();
        assert!(mount.is_running());
        mount.stop();
    }
}

#[test]
fn nothing_on_disk_is_needed_once_it_runs() {
    let place = Place::new();
    let name = planted(&place);
    let copy = place.path("copy");
    fs::copy(PROGRAM, &copy).unwrap();
    let (cwd, mountpoint) = (place.path("cwd"), place.path("mnt"));
    fs::create_dir(&cwd).unwrap();
    fs::create_dir(&mountpoint).unwrap();
    let mut command = Command::new(&copy);
    command
        .current_dir(&cwd)
        .args(["--store", "../store", "mount", "../mnt"]);
    let mount = Mount::start(&mut command, mountpoint);
    fs::remove_file(&copy).unwrap();
    fs::remove_dir(&cwd).unwrap();
    fs::rename(place.store(), place.path("moved")).unwrap();
    kill(mount.worker(), Signal::SIGKILL).unwrap();
    mount.wait_for("another takes over");
    assert_same_trees(&place.path("tree"), &mount.path(&name));
    mount.stop();
}

#[test]
fn both_processes_are_left_alone_at_shutdown_and_run_from_memory() {
    let place = Place::new();
    planted(&place);
    let mount = place.mount(&[]);
    for pid in [mount.pid(), mount.worker()] {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(command.starts_with("@store-mountd\0"), "{command:?}");
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert!(exe.starts_with("/memfd:store-mountd (deleted)"), "{exe:?}");
    }
    mount.stop();
}

#[test]
fn a_worker_that_hangs_is_replaced_and_readers_see_a_pause() {
    let place = Place::new();
    let name = planted(&place);
    let mount = place.mount(&["--hang-timeout", "1", "--test-fault", "hang:readlink:taken"]);
    let hung = mount.worker();
    let link = fs::read_link(mount.path(&name).join("link")).unwrap();
    assert_eq!(link, Path::new("bin/run"));
    mount.wait_for("the worker hangs");
    mount.wait_for("it hung");
    assert_ne!(mount.worker(), hung);
    assert_same_trees(&place.path("tree"), &mount.path(&name));
    mount.stop();
}

#[test]
fn who_asks_the_mount_is_replaced_and_nothing_is_left_of_it() {
    let place = Place::new();
    planted(&place);
    // It is asked as often as that.
    let mount = place.mount(&["--hang-timeout", "1"]);
    let killed = mount.asker();
    kill(killed, Signal::SIGKILL).unwrap();
    // A process whose end nobody waited for stays.
    let end = Instant::now() + Duration::from_secs(30);
    while Path::new(&format!("/proc/{killed}")).exists() {
        assert!(Instant::now() < end, "process {killed} is still there");
        thread::sleep(Duration::from_millis(20));
    }
    assert_ne!(mount.asker(), killed);
    mount.stop();
}

/// Whether each of its threads is.
fn is_stopped(process: Pid) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    tasks
        .map(|task| task.unwrap().path().join("stat"))
        .all(|stat| {
            let stat = fs::read_to_string(stat).unwrap();
            stat.rsplit(')')
                .next()
                .unwrap()
                .trim_start()
                .starts_with('T')
        })
}

#[test]
fn a_stopped_worker_is_not_a_dead_one() {
    let place = Place::new();
    let name = planted(&place);
    let mount = place.mount(&["--hang-timeout", "1"]);
    let worker = mount.worker();
    kill(worker, Signal::SIGSTOP).unwrap();
    // Its threads stop one after the other, and until then they serve.
    while !is_stopped(worker) {
        thread::sleep(Duration::from_millis(5));
    }
    let link = mount.path(&name).join("link");
    let reader = thread::spawn(move || fs::read_link(link).unwrap());
    thread::sleep(Duration::from_secs(3));
    assert!(!reader.is_finished());
    kill(worker, Signal::SIGCONT).unwrap();
    assert_eq!(reader.join().unwrap(), Path::new("bin/run"));
    assert_eq!(mount.worker(), worker);
    mount.stop();
}

#[test]
fn a_worker_that_is_asked_by_a_supervisor_that_is_gone_serves_on() {
    require_root();
    let place = Place::new();
    let name = planted(&place);
    let mut mount = place.mount(&["--hang-timeout", "1"]);
    let worker = mount.worker();
    kill(worker, Signal::SIGSTOP).unwrap();
    // It is asked each second.
    thread::sleep(Duration::from_millis(2500));
    mount.signal(Signal::SIGKILL);
    mount.wait();
    kill(worker, Signal::SIGCONT).unwrap();
    assert_same_trees(&place.path("tree"), &mount.path(&name));
    thread::sleep(Duration::from_millis(300));
    assert!(runs(worker));
    assert_same_trees(&place.path("tree"), &mount.path(&name));
    nix::mount::umount(&mount.path("")).unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while runs(worker) {
        assert!(std::time::Instant::now() < end, "the worker stays");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn who_asks_the_mount_is_replaced_and_waited_for() {
    let place = Place::new();
    planted(&place);
    let mount = place.mount(&["--hang-timeout", "1"]);
    let children = || {
        let pid = mount.pid();
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let children = text.split_whitespace();
        let children: Vec<_> = children
            .map(|pid| Pid::from_raw(pid.parse().unwrap()))
            .collect();
        children
    };
    let worker = mount.worker();
    for _ in 0..3 {
        let asker = loop {
            let found = children()
                .into_iter()
                .find(|pid| *pid != worker && runs(*pid));
            if let Some(asker) = found {
                break asker;
            }
            thread::sleep(Duration::from_millis(20));
        };
        kill(asker, Signal::SIGKILL).unwrap();
        while runs(asker) {
            thread::sleep(Duration::from_millis(5));
        }
    }
    thread::sleep(Duration::from_millis(3500));
    let left = children();
    assert!(left.len() <= 2, "{left:?}");
    assert_eq!(mount.worker(), worker);
    mount.stop();
}

#[test]
fn a_crash_loop_is_slowed_down_and_survived() {
    let place = Place::new();
    let name = planted(&place);
    let mut args = Vec::new();
    for _ in 0..6 {
        args.extend(["--test-fault", "kill:readlink:taken"]);
    }
    let mount = place.mount(&args);
    let link = fs::read_link(mount.path(&name).join("link")).unwrap();
    assert_eq!(link, Path::new("bin/run"));
    mount.wait_for("in a row were of no use");
    assert_same_trees(&place.path("tree"), &mount.path(&name));
    mount.stop();
}

#[test]
fn a_signal_dumps_what_was_done() {
    let place = Place::new();
    let name = planted(&place);
    let mount = place.mount(&[]);
    fs::read(mount.path(&name).join("big")).unwrap();
    kill(mount.worker(), Signal::SIGKILL).unwrap();
    mount.wait_for("another takes over");
    fs::metadata(mount.path(&name).join("nothing")).unwrap();
    mount.signal(Signal::SIGUSR1);
    let line = mount.wait_for("statistics: ");
    let read = line
        .split(' ')
        .skip_while(|word| *word != "bytes-read")
        .nth(1);
    let read: u64 = read.unwrap().parse().unwrap();
    assert!(read >= 3_000_000, "over all workers: {line}");
    mount.stop();
}

#[test]
fn a_worker_is_no_use_by_itself() {
    let place = Place::new();
    let error = place.fail(["worker"]);
    assert!(error.contains("for the supervisor"), "{error}");
}

#[test]
fn files_that_are_passed_through_stay_open_over_a_restart() {
    require_root();
    let place = Place::new();
    let name = planted(&place);
    let mount = place.mount(&["--integrity", "at-rest", "--data-path", "passthrough"]);
    let reader = Reader::start(mount.path(&name));
    for _ in 0..3 {
        reader.once_more();
        kill(mount.worker(), Signal::SIGKILL).unwrap();
        mount.wait_for("another takes over");
        reader.once_more();
    }
    reader.stop();
    mount.stop();
}

#[test]
fn a_mount_whose_server_died_is_replaced() {
    require_root();
    let place = Place::new();
    let name = planted(&place);
    let mut mount = place.mount(&[]);
    let worker = mount.worker();
    mount.signal(Signal::SIGKILL);
    mount.wait();
    kill(worker, Signal::SIGKILL).unwrap();
    // ENOTCONN, once what was under way has failed otherwise.
    let errno = |result: std::io::Result<fs::Metadata>| result.err()?.raw_os_error();
    while errno(fs::metadata(mount.path(&name))) != Some(107) {
        thread::sleep(Duration::from_millis(10));
    }
    let mut command = place.command(["mount".as_ref(), mount.path("").as_os_str()]);
    let again = Mount::start(&mut command, mount.path(""));
    assert_same_trees(&place.path("tree"), &again.path(&name));
    again.stop();
    assert!(!mount.is_mounted());
}
