//! `status`, the control socket, metrics, and what the processes gave up.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Mount, Place, assert_same_trees, fail, plant, require_root};

fn mounted(args: &[&str]) -> (Place, Mount, String) {
    let place = Place::new();
    plant(&place.path("tree"));
    let name = place.import(&place.path("tree"));
    let socket = place.path("control.sock");
    let socket = socket.to_str().unwrap();
    let mount = place.mount(&[&["--control-socket", socket], args].concat());
    (place, mount, name)
}

fn status(place: &Place, more: &[&str]) -> String {
    let socket = place.path("control.sock");
    let args = [&["status", "--socket", socket.to_str().unwrap()], more];
    place.run(args.concat())
}

fn status_json(place: &Place) -> serde_json::Value {
    let text = status(place, &["--json"]);
    let mut statuses: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(statuses.len(), 1, "{text}");
    statuses.remove(0)
}

#[test]
fn a_mount_says_how_it_is() {
    let (place, mount, name) = mounted(&[]);
    let before = status_json(&place);
    assert_eq!(before["phase"], "serving");
    assert_eq!(before["paths"], 1);
    assert_eq!(before["restarts"], 0);
    let mountpoint = mount.path("");
    let said = Path::new(before["mountpoint"].as_str().unwrap());
    assert_eq!(said, mountpoint.canonicalize().unwrap());
    let contents = fs::read(mount.path(&name).join("big")).unwrap();
    let after = status_json(&place);
    let grown = |name: &str| after[name].as_u64().unwrap() - before[name].as_u64().unwrap();
    assert!(grown("bytes-served") >= contents.len() as u64, "{after}");
    assert!(grown("inodes") >= 2, "{after}");
    assert!(after["requests"]["read"].as_u64().unwrap() > 0, "{after}");
    let text = status(&place, &[]);
    for part in [
        ": serving\n",
        "  worker      pid ",
        "  restarts    0\n",
        "  in flight   0\n",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    mount.stop();
    assert!(!place.path("control.sock").exists());
}

#[test]
fn a_mount_is_found_by_its_mountpoint() {
    let place = Place::new();
    plant(&place.path("tree"));
    place.import(&place.path("tree"));
    let mount = place.mount(&[]);
    let mountpoint = mount.path("");
    let text = place.run(["status".as_ref(), mountpoint.as_os_str()]);
    assert!(text.contains(": serving\n"), "{text}");
    let all = place.run(["status", "--json"]);
    assert!(
        all.contains(mountpoint.canonicalize().unwrap().to_str().unwrap()),
        "{all}"
    );
    mount.stop();
    let said = fail(&mut place.command(["status".as_ref(), mountpoint.as_os_str()]));
    assert!(said.contains("can be asked"), "{said}");
}

#[test]
fn metrics_are_offered_on_a_socket() {
    let place = Place::new();
    plant(&place.path("tree"));
    place.import(&place.path("tree"));
    let socket = place.path("metrics.sock");
    let mount = place.mount(&["--metrics-listen", &format!("unix:{}", socket.display())]);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let up = answer
        .lines()
        .find(|line| line.starts_with("tvix_store_mount_up{"));
    assert!(up.is_some_and(|line| line.ends_with(" 1")), "{answer}");
    mount.stop();
}

/// What `/proc` says of a process.
fn field(pid: u64, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name}"))
        .trim()
        .to_owned()
}

#[test]
fn the_processes_gave_up_what_they_do_not_need() {
    require_root();
    let (place, mount, name) = mounted(&[]);
    fs::read(mount.path(&name).join("big")).unwrap();
    let status = status_json(&place);
    let worker = status["worker"]["pid"].as_u64().unwrap();
    let supervisor = status["supervisor"]["pid"].as_u64().unwrap();
    for pid in [worker, supervisor] {
        assert_eq!(field(pid, "NoNewPrivs"), "1");
        assert_eq!(field(pid, "Seccomp"), "2");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let soft: Vec<_> = core.unwrap().split_whitespace().skip(4).collect();
        assert!(["0", "1"].contains(&soft[0]), "{core:?}");
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert_eq!(command.first(), Some(&b'@'));
    }
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(field(worker, set).trim_start_matches('0'), "", "{set}");
    }
    assert_ne!(field(supervisor, "CapBnd"), field(1, "CapBnd"));
    // Every thread, those that came later too.
    for task in fs::read_dir(format!("/proc/{worker}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2\n"), "{status}");
    }
    mount.stop();
}

#[test]
fn confined_workers_pass_reads_through() {
    require_root();
    let (place, mount, name) = mounted(&["--data-path", "passthrough", "--integrity", "at-rest"]);
    let worker = status_json(&place)["worker"].clone();
    assert_eq!(worker["data-path"], "passthrough");
    assert_eq!(field(worker["pid"].as_u64().unwrap(), "Seccomp"), "2");
    assert_same_trees(&place.path("tree"), &mount.path(&name));
    // Read by the kernel itself: only small files are asked for.
    let served = status_json(&place)["bytes-served"].as_u64().unwrap();
    assert!(served < 1_000_000, "{served}");
    mount.stop();
}

/// A file of the store that does not answer.
fn block(place: &Place) {
    let blobs = place.store().join("blobs");
    let shard = fs::read_dir(&blobs)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let blob = fs::read_dir(&shard)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::remove_file(&blob).unwrap();
    nix::unistd::mkfifo(&blob, nix::sys::stat::Mode::S_IRUSR).unwrap();
}

#[test]
fn who_waits_is_told_and_can_be_killed() {
    let (place, mount, name) = mounted(&[]);
    block(&place);
    let mut reader = Command::new("cat")
        .arg(mount.path(&name).join("big"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let waiting = eventually(|| {
        let status = status_json(&place);
        status["in-flight"].as_array()?.first().cloned()
    });
    assert_eq!(waiting["operation"], "read");
    assert_eq!(waiting["pid"], reader.id());
    assert!(
        waiting["waits-on"].as_str().unwrap().len() > 32,
        "{waiting}"
    );
    let text = status(&place, &[]);
    assert!(
        text.contains(&format!("pid {} (cat)", reader.id())),
        "{text}"
    );
    // Others are served, and who waits can be killed: a confined worker sees
    // that in /proc.
    fs::read(mount.path(&name).join("bin/run")).unwrap();
    reader.kill().unwrap();
    eventually(|| reader.try_wait().unwrap());
}

fn eventually<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "it never happened");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn confinement_can_be_off() {
    require_root();
    let (place, mount, _) = mounted(&["--confine=false"]);
    let worker = status_json(&place)["worker"]["pid"].as_u64().unwrap();
    assert_eq!(field(worker, "Seccomp"), "0");
    mount.stop();
}
