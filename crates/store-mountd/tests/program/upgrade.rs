//! Upgrades of the worker, and unmounting by command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nix::{sys::signal::Signal, unistd::Pid};

use crate::{
    harness::{Mount, PROGRAM, Place, assert_same_trees, fail, plant, runs, succeed},
    manager::Manager,
    reader::Reader,
};

struct Fixture {
    place: Place,
    name: String,
    copy: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let place = Place::new();
        plant(&place.path("tree"));
        let name = place.import(&place.path("tree"));
        let copy = place.path("new");
        fs::copy(PROGRAM, &copy).unwrap();
        fs::create_dir(place.path("mnt")).unwrap();
        Self { place, name, copy }
    }

    fn socket(&self) -> PathBuf {
        self.place.path("control")
    }

    fn mount(&self, more: &[&str]) -> Mount {
        let socket = self.socket();
        let mut args = vec!["--control-socket", socket.to_str().unwrap()];
        args.extend(more);
        self.place.mount(&args)
    }

    fn command(&self, command: &str, args: &[&str]) -> Command {
        let mut program = Command::new(PROGRAM);
        program.arg(command).arg("--socket").arg(self.socket());
        program.args(args);
        program
    }

    fn upgrade_to(&self, binary: &Path) -> Command {
        self.command("upgrade", &["--binary", binary.to_str().unwrap()])
    }

    fn assert_served(&self, mount: &Mount) {
        assert_same_trees(&self.place.path("tree"), &mount.path(&self.name));
    }
}

fn size_of_exe(pid: Pid) -> u64 {
    fs::metadata(format!("/proc/{pid}/exe")).unwrap().len()
}

#[test]
fn another_program_takes_over_and_nobody_notices() {
    let fixture = Fixture::new();
    // Not the same file any more.
    let mut bytes = fs::read(&fixture.copy).unwrap();
    bytes.extend([0; 4096]);
    fs::write(&fixture.copy, &bytes).unwrap();
    let mount = fixture.mount(&[]);
    let reader = Reader::start(mount.path(&fixture.name));
    let old = mount.worker();
    let said = succeed(&mut fixture.upgrade_to(&fixture.copy));
    assert!(
        said.contains("upgraded to") && said.contains("/new"),
        "{said}"
    );
    assert!(!runs(old));
    let new = mount.worker();
    assert_eq!(size_of_exe(new), bytes.len() as u64);
    reader.once_more();
    // And the next is of the new program, too.
    nix::sys::signal::kill(new, Signal::SIGKILL).unwrap();
    mount.wait_for("another takes over");
    reader.once_more();
    assert_eq!(size_of_exe(mount.worker()), bytes.len() as u64);
    reader.stop();
    mount.stop();
}

#[test]
fn what_is_no_program_or_none_of_ours_is_refused() {
    let fixture = Fixture::new();
    let mount = fixture.mount(&[]);
    let worker = mount.worker();
    let reader = Reader::start(mount.path(&fixture.name));
    fs::write(&fixture.copy, "no program").unwrap();
    for (binary, reason) in [
        (fixture.copy.as_path(), "could not be executed"),
        (Path::new("/bin/true"), "ended with status 0"),
        (Path::new("/"), "not a file"),
    ] {
        let error = fail(&mut fixture.upgrade_to(binary));
        assert!(error.contains(reason), "{error}");
        assert_eq!(mount.worker(), worker);
    }
    reader.once_more();
    reader.stop();
    mount.stop();
}

#[test]
fn a_program_that_does_not_serve_is_taken_back() {
    let fixture = Fixture::new();
    let never = "kill:statfs:taken:1000000";
    // The first request of all after the new worker took over is the question
    // whether it serves.
    let faults = ["--test-fault", never, "--test-fault", "kill:statfs:taken"];
    let mount = fixture.mount(&faults);
    let reader = Reader::start(mount.path(&fixture.name));
    let error = fail(&mut fixture.upgrade_to(&fixture.copy));
    assert!(error.contains("the old program is back"), "{error}");
    assert!(error.contains("was ended by signal 9"), "{error}");
    reader.once_more();
    reader.stop();
    fixture.assert_served(&mount);
    mount.stop();
}

#[test]
fn an_upgrade_ends_a_crash_loop() {
    let fixture = Fixture::new();
    // The next worker of the old program would be the thirteenth, after 3 s.
    let faults = ["--test-fault", "kill:readlink:taken"].repeat(11);
    let mount = fixture.mount(&faults);
    let link = mount.path(&fixture.name).join("link");
    let reader = thread::spawn(move || fs::read_link(link).unwrap());
    mount.wait_for("11 in a row were of no use");
    let said = succeed(&mut fixture.upgrade_to(&fixture.copy));
    assert!(said.contains("upgraded to"), "{said}");
    assert_eq!(reader.join().unwrap(), Path::new("bin/run"));
    fixture.assert_served(&mount);
    mount.stop();
}

#[test]
fn a_reload_goes_on_with_what_is_in_the_programs_place() {
    let fixture = Fixture::new();
    let mut manager = Manager::new(&fixture.place);
    let mountpoint = fixture.place.path("mnt");
    let mut command = manager.mount(&fixture.place, &mountpoint, &[]);
    let mount = Mount::start(&mut command, mountpoint);
    manager.wait_for("READY=1");
    let old = mount.worker();
    mount.signal(Signal::SIGHUP);
    manager.wait_for("RELOADING=1");
    assert!(manager.was_told("RELOADING=1"));
    let with_time = manager
        .messages
        .iter()
        .any(|message| message.contains("RELOADING=1") && message.contains("MONOTONIC_USEC="));
    assert!(with_time, "{:?}", manager.messages);
    manager.wait_for("READY=1");
    assert_ne!(mount.worker(), old);
    fixture.assert_served(&mount);
    mount.stop();
}

#[test]
fn unmounting_by_command_says_who_uses_the_mount() {
    let fixture = Fixture::new();
    let mut mount = fixture.mount(&[]);
    let file = fs::File::open(mount.path(&fixture.name).join("big")).unwrap();
    let error = fail(&mut fixture.command("unmount", &[]));
    let pid = format!("pid {}", std::process::id());
    assert!(
        error.contains("in use by") && error.contains(&pid),
        "{error}"
    );
    assert!(mount.is_mounted() && mount.is_running());
    drop(file);
    let said = succeed(&mut fixture.command("unmount", &[]));
    assert!(said.contains("unmounted"), "{said}");
    assert_eq!(mount.wait().code(), Some(0));
    assert!(!mount.is_mounted());
}

#[test]
fn detaching_by_command_leaves_the_mount_to_its_users() {
    let fixture = Fixture::new();
    let mut mount = fixture.mount(&[]);
    let file = fs::File::open(mount.path(&fixture.name).join("big")).unwrap();
    let said = succeed(&mut fixture.command("unmount", &["--detach"]));
    assert!(said.contains("served until the last user"), "{said}");
    assert!(!mount.is_mounted() && mount.is_running());
    assert_eq!(file.metadata().unwrap().len(), 3_000_000);
    drop(file);
    assert_eq!(mount.wait().code(), Some(0));
}
