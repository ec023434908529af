//! Removing paths, pins, and freeing space.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read as _,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
};

use crate::harness::{Mount, Place, fail, golden, plant, said, succeed};

const TOP: &str = "snivjg24jzfwkz6r6r70d98y6b2hmpi4-top-0.1";
const MID: &str = "nw7ms1f2zqxn8v0g05arf2vq0xdfymzq-mid-2.3";
const BASE: &str = "6460hws9pz86r3vvyjn88kbf3g1aqj40-base-1.0";
const NOTE: &str = "rxwh5d90qcsjs40band2j5axi75vxwga-note.txt";
const ZEROS: &str = "w9wnwc2ygccspx9frs8vs3yj8qw5rd6s-zeros300k";

/// A store with the nine paths of a cache.
fn filled() -> Place {
    let place = Place::new();
    fill(&place);
    place
}

fn fill(place: &Place) {
    let url = format!("nix+file://{}", golden("cache-none").display());
    place.run(["import", "--from", &url, "--all", "--no-check-sigs"]);
}

fn paths(place: &Place) -> BTreeSet<String> {
    let list = place.run(["ls"]);
    list.lines()
        .map(|line| line.rsplit('/').next().unwrap().to_owned())
        .collect()
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn bytes_of(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            metadata if metadata.is_dir() => bytes_of(&entry.path()),
            metadata => metadata.len(),
        })
        .sum()
}

#[test]
fn a_path_that_others_refer_to_is_refused() {
    let place = filled();
    let error = place.fail(["remove", BASE]);
    assert!(
        error.contains(BASE) && error.contains("--with-referrers"),
        "{error}"
    );
    assert!(error.contains(MID) || error.contains(TOP), "{error}");
    assert_eq!(paths(&place).len(), 9);
    let error = place.fail(["remove", "5cq8g09l6map5dgp4a68nz6j2b1xwvqq-other"]);
    assert!(error.contains("is not in the store"), "{error}");

    // The one that refers to it, too.
    assert_eq!(place.run(["remove", TOP]), format!("/nix/store/{TOP}\n"));
    let removed = place.run(["remove", "--with-referrers", BASE]);
    assert_eq!(removed, format!("/nix/store/{BASE}\n/nix/store/{MID}\n"));
    assert_eq!(paths(&place).len(), 6);
    place.run(["verify"]);
    fill(&place);
    assert_eq!(paths(&place).len(), 9);
    place.run(["verify"]);
}

#[test]
fn pins_keep_paths_with_what_they_refer_to() {
    let place = filled();
    let error = place.fail(["gc"]);
    assert!(error.contains("--even-everything"), "{error}");
    assert_eq!(paths(&place).len(), 9);

    place.run(["pin", "top", TOP]);
    let listed = place.run(["pin", "--list"]);
    assert_eq!(listed, format!("top /nix/store/{TOP}\n"));
    let error = place.fail(["remove", TOP]);
    assert!(
        error.contains("pinned by 'top'") && error.contains("--force"),
        "{error}"
    );

    let dry = place.command(["gc", "--dry-run"]).output().unwrap();
    assert!(dry.status.success(), "{}", said(&dry));
    assert!(
        said(&dry).contains("5 paths would be removed, 4 stay"),
        "{}",
        said(&dry)
    );
    assert_eq!(paths(&place).len(), 9);
    let before = bytes_of(&place.store());
    let removed = place.run(["gc"]);
    assert_eq!(removed, String::from_utf8(dry.stdout).unwrap());
    let kept = [TOP, MID, BASE, NOTE].map(str::to_owned);
    assert_eq!(paths(&place), BTreeSet::from(kept));
    assert!(bytes_of(&place.store()) < before - 300_000);
    place.run(["verify"]);

    let error = place.fail(["pin", "--remove", "other"]);
    assert!(error.contains("there is no pin 'other'"), "{error}");
    let error = place.fail(["pin", "other", ZEROS]);
    assert!(error.contains("is not in the store"), "{error}");
    let error = place.fail(["pin", "a/b", TOP]);
    assert!(error.contains("letters"), "{error}");
    place.run(["pin", "note", NOTE, BASE]);
    place.run(["pin", "--remove", "top"]);
    place.run(["gc", "--all"]);
    assert_eq!(
        paths(&place),
        BTreeSet::from([NOTE, BASE].map(str::to_owned))
    );

    // By force; the pin stays, and keeps what comes back.
    place.run(["remove", "--force", NOTE]);
    let listed = place.run(["pin", "--list"]);
    assert!(listed.contains("not in the store"), "{listed}");
    fill(&place);
    place.run(["gc"]);
    assert_eq!(
        paths(&place),
        BTreeSet::from([NOTE, BASE].map(str::to_owned))
    );
    place.run(["pin", "--remove", "note"]);
    place.run(["gc", "--even-everything"]);
    assert_eq!(paths(&place).len(), 0);
    assert_eq!(names(&place.store().join("packs")).len(), 0);
    place.run(["verify"]);
}

#[test]
fn the_command_line_can_say_what_stays() {
    let place = filled();
    let list = place.path("list");
    fs::write(&list, format!("/nix/store/{MID}\n\n{NOTE}\n")).unwrap();
    let links = place.path("links");
    fs::create_dir(&links).unwrap();
    symlink(format!("/elsewhere/{ZEROS}/x"), links.join("root-1-link")).unwrap();
    let error = place.fail(["gc", "--keep", "5cq8g09l6map5dgp4a68nz6j2b1xwvqq-other"]);
    assert!(error.contains("is not in the store"), "{error}");
    let pattern = links.join("root-*-link");
    let arguments = [
        "gc".as_ref(),
        "--keep-closure-of".as_ref(),
        list.as_os_str(),
        "--roots".as_ref(),
        pattern.as_os_str(),
    ];
    place.run(arguments);
    let kept = [MID, BASE, NOTE, ZEROS].map(str::to_owned);
    assert_eq!(paths(&place), BTreeSet::from(kept));
    place.run(["verify"]);
}

#[test]
fn a_damaged_pin_is_an_error() {
    let place = filled();
    place.run(["pin", "top", TOP]);
    let pin = place.store().join("pins/top");
    let text = fs::read_to_string(&pin).unwrap();
    fs::write(&pin, text.replace("top-0.1", "top-0.2")).unwrap();
    for command in [["gc", "--all"], ["remove", ZEROS]] {
        let error = place.fail(command);
        assert!(error.contains("pins/top"), "{error}");
    }
    assert_eq!(paths(&place).len(), 9);
    place.run(["pin", "top", TOP]);
    place.run(["gc"]);
}

#[test]
fn a_removed_path_is_gone_from_a_mount_and_comes_back() {
    let place = filled();
    let tree = place.path("tree");
    plant(&tree);
    let base = place.import(&tree);
    let mount = place.mount(&["--list-root"]);
    let path = mount.path(&base);
    let kept = fs::read(mount.path(ZEROS)).unwrap();
    assert_eq!(fs::read(path.join("big")).unwrap().len(), 3_000_000);
    assert!(names(&mount.path("")).contains(&base));

    assert_eq!(place.run(["remove", &base]), format!("/nix/store/{base}\n"));
    assert!(!path.exists() && !path.join("big").exists());
    assert!(!names(&mount.path("")).contains(&base));
    // The next worker does not bring it back.
    kill(mount.worker(), Signal::SIGKILL).unwrap();
    assert!(!path.exists());
    assert!(!names(&mount.path("")).contains(&base));

    place.run(["gc", "--only-space", "--all"]);
    assert_eq!(paths(&place).len(), 9);
    assert!(fs::read(mount.path(ZEROS)).unwrap() == kept);
    // What was removed takes no space: nobody has it open.
    let worker = mount.worker();
    let open = fs::read_dir(format!("/proc/{worker}/fd")).unwrap();
    let deleted = open
        .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
        .filter(|link| {
            link.starts_with(place.store()) && link.to_string_lossy().ends_with(" (deleted)")
        });
    assert_eq!(deleted.count(), 0);

    assert_eq!(place.import(&tree), base);
    assert_eq!(fs::read(path.join("big")).unwrap().len(), 3_000_000);
    assert!(names(&mount.path("")).contains(&base));
    mount.stop();
}

/// Something that runs, and is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn running_in(mount: &Mount, path: &str) -> Running {
    let mut command = Command::new("sleep");
    let child = command.arg("600").current_dir(mount.path(path)).spawn();
    Running(child.unwrap())
}

#[test]
fn what_is_in_use_stays() {
    let place = Place::new();
    let (used, open) = (place.path("used"), place.path("open"));
    plant(&used);
    fs::create_dir(&open).unwrap();
    fs::write(open.join("file"), "open").unwrap();
    let (used, open) = (place.import(&used), place.import(&open));
    let unused = place.path("unused");
    fs::write(&unused, "unused").unwrap();
    let unused = place.import(&unused);
    let mount = place.mount(&["--list-root"]);
    let process = running_in(&mount, &format!("{used}/bin"));
    let mut file = File::open(mount.path(&open).join("file")).unwrap();

    let error = place.fail(["remove", "--force", &used]);
    let pid = process.0.id();
    assert!(
        error.contains(&format!("in use by sleep (pid {pid})")),
        "{error}"
    );
    assert_eq!(place.run(["gc", "--all"]), format!("/nix/store/{unused}\n"));
    assert!(!mount.path(&unused).exists());
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "open");
    assert_eq!(
        fs::read(mount.path(&used).join("big")).unwrap().len(),
        3_000_000
    );
    drop((file, process));
    let error = place.fail(["gc"]);
    assert!(error.contains("--even-everything"), "{error}");
    place.run(["gc", "--even-everything"]);
    assert_eq!(names(&mount.path("")).len(), 0);
    mount.stop();
}

#[test]
fn an_import_that_is_under_way_is_waited_for() {
    let place = filled();
    // As an import has it.
    let session = place.store().join("tmp/00112233445566778899aabbccddeeff");
    fs::create_dir(&session).unwrap();
    let lock = Flock::lock(File::open(&session).unwrap(), FlockArg::LockExclusive);
    let lock = lock.unwrap();
    let error = place.fail(["gc", "--keep", TOP, "--no-wait"]);
    let me = format!("process {}", std::process::id());
    assert!(
        error.contains("is in use by") && error.contains(&me),
        "{error}"
    );
    let error = place.fail(["remove", ZEROS, "--no-wait"]);
    assert!(error.contains("is in use by"), "{error}");

    let mut command = place.command(["gc", "--keep", TOP]);
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it does not wait");
    drop(lock);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(said(&output).contains("waiting for"), "{}", said(&output));
    assert_eq!(paths(&place).len(), 4);
}

#[test]
fn a_damaged_store_is_not_collected() {
    let place = Place::new();
    let tree = place.path("tree");
    plant(&tree);
    let base = place.import(&tree);
    fs::write(place.path("other"), "other").unwrap();
    let other = place.import(&place.path("other"));
    for entry in fs::read_dir(place.store().join("packs")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        // Of the directories: all that has a name in it.
        while let Some(at) = bytes.windows(8).position(|bytes| bytes == b"dangling") {
            bytes[at] ^= 1;
        }
        fs::write(&path, bytes).unwrap();
    }
    let error = place.fail(["gc", "--keep", &base]);
    assert!(
        error.contains("cannot be told") && error.contains(&base[..32]),
        "{error}"
    );
    assert_eq!(paths(&place).len(), 2);
    // It need not be told of what is not to stay.
    place.run(["gc", "--keep", &other]);
    assert_eq!(paths(&place), BTreeSet::from([other]));
    succeed(&mut place.command(["verify"]));
}

#[test]
fn where_no_store_is_nothing_is_collected() {
    let place = Place::new();
    let error = fail(&mut place.command(["gc"]));
    assert!(error.contains("is not a store"), "{error}");
}
