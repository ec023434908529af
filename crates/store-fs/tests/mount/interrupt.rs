//! Signals to who waits for an answer.

#![allow(unsafe_code)]

use std::{fs, thread, time::Duration};

use castore::{Digest, Node};
use nix::{
    sys::{
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    harness::*,
    served::{in_child, reap},
    tree::*,
};

extern "C" fn ignore(_: i32) {}

/// A mount in which names of `pkg` are not answered, and the digest of that.
fn mount() -> (Fixture, Digest) {
    mount_as(Config::default())
}

fn mount_as(config: Config) -> (Fixture, Digest) {
    let store = Store::default();
    let node = store.add("pkg", &dir([("file", file("content"))]));
    store.add("other", &file("other"));
    let Node::Directory { digest, .. } = node else {
        panic!("it is a directory");
    };
    let fixture = Fixture::mount(store, config);
    fs::symlink_metadata(fixture.at("pkg")).expect("it is there");
    fixture.store.directories.gate.close(digest);
    (fixture, digest)
}

/// A process that asks for the attributes of `pkg/file`, and handles SIGUSR1;
/// it ends with 0 if it gets them.
fn asker(fixture: &Fixture) -> Pid {
    asker_of(fixture, "pkg/file")
}

fn asker_of(fixture: &Fixture, path: &str) -> Pid {
    let path = fixture.at(path);
    let pid = in_child(|| {
        let action = SigAction::new(
            SigHandler::Handler(ignore),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler does nothing.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.expect("it can be handled");
        i32::from(fs::symlink_metadata(path).is_err())
    });
    eventually("it waits", || {
        let in_flight = fixture.filesystem.state().in_flight();
        in_flight
            .iter()
            .any(|request| request.pid == pid.as_raw() as u32)
    });
    pid
}

fn is_alive(pid: Pid) -> bool {
    waitpid(pid, Some(WaitPidFlag::WNOHANG)).expect("it is ours") == WaitStatus::StillAlive
}

#[test]
fn who_is_killed_is_let_go() {
    let lock = CacheLock::exclusive();
    let (fixture, _) = mount();
    let nodes = fixture.stats().nodes;
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let pid = asker(&fixture);
        kill(pid, signal).expect("it is ours");
        let status = reap(pid);
        assert!(
            matches!(status, WaitStatus::Signaled(_, by, _) if by == signal),
            "{status:?}"
        );
    }
    assert_eq!(fs::read(fixture.at("other")).expect("readable"), b"other");
    fixture.store.directories.gate.open();
    eventually("the answers nobody wants are given", || {
        fixture.filesystem.state().in_flight().is_empty()
    });
    // They granted nothing.
    eventually("nothing is held", || {
        lock.drop_caches();
        fixture.stats().nodes < nodes.max(1) || fixture.stats().nodes == 0
    });
    assert_eq!(
        fs::read(fixture.at("pkg/file")).expect("readable"),
        b"content"
    );
}

#[test]
fn who_is_only_signalled_waits_on() {
    let (fixture, _) = mount();
    let pid = asker(&fixture);
    for _ in 0..5 {
        kill(pid, Signal::SIGUSR1).expect("it is ours");
        thread::sleep(Duration::from_millis(20));
        assert!(
            is_alive(pid),
            "no system call that looks at a file gives EINTR"
        );
    }
    fixture.store.directories.gate.open();
    assert_eq!(reap(pid), WaitStatus::Exited(pid, 0));
}

#[test]
fn who_is_killed_after_a_signal_is_let_go() {
    let (fixture, _) = mount();
    let pid = asker(&fixture);
    kill(pid, Signal::SIGUSR1).expect("it is ours");
    thread::sleep(Duration::from_millis(100));
    assert!(is_alive(pid));
    // Of this one the kernel says nothing.
    kill(pid, Signal::SIGKILL).expect("it is ours");
    let status = reap(pid);
    assert!(
        matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)),
        "{status:?}"
    );
    fixture.store.directories.gate.open();
}

#[test]
fn who_is_killed_after_a_signal_is_let_go_by_the_clerk() {
    let (fixture, _) = mount_as(Config {
        threads: Some((1, 2)),
        ..Config::default()
    });
    let pids: Vec<_> = ["pkg/a", "pkg/b", "pkg/c", "pkg/d"]
        .map(|path| asker_of(&fixture, path))
        .into();
    // Until nobody expects anything any more.
    thread::sleep(Duration::from_millis(200));
    for pid in &pids {
        kill(*pid, Signal::SIGUSR1).expect("it is ours");
        thread::sleep(Duration::from_millis(100));
        assert!(is_alive(*pid));
        kill(*pid, Signal::SIGKILL).expect("it is ours");
        let status = reap(*pid);
        assert!(
            matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)),
            "{status:?}"
        );
        thread::sleep(Duration::from_millis(100));
    }
    fixture.store.directories.gate.open();
    assert_eq!(fs::read(fixture.at("other")).expect("readable"), b"other");
}
