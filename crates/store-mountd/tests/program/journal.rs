//! Logs under systemd, whose journal is emulated: its socket, and standard error
//! as a stream to it.

use std::{
    fs,
    io::{ErrorKind, Read as _},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixStream},
    },
    path::Path,
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::harness::{Mount, PROGRAM, Place, plant, require_root};

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the rest in a mount namespace whose /run has the journal's socket, or
/// nothing.
const UNDER_JOURNAL: &str = "
    set -e
    mount -t tmpfs none /run
    if test -n \"$1\"; then
        mkdir -p /run/systemd/journal
        mount --bind \"$1\" /run/systemd/journal
    fi
    shift
    exec \"$@\"";

struct Fixture {
    place: Place,
    name: String,
    journal: UnixDatagram,
}

/// A store with a file that lost its contents, and a journal.
fn fixture() -> Fixture {
    require_root();
    let place = Place::new();
    plant(&place.path("tree"));
    let name = place.import(&place.path("tree"));
    fs::remove_dir_all(place.store().join("blobs")).unwrap();
    fs::create_dir(place.store().join("blobs")).unwrap();
    fs::create_dir(place.path("journal")).unwrap();
    let journal = UnixDatagram::bind(place.path("journal/socket")).unwrap();
    journal.set_read_timeout(Some(PATIENCE)).unwrap();
    Fixture {
        place,
        name,
        journal,
    }
}

impl Fixture {
    fn mount(&self, journal: &str) -> Mount {
        let mountpoint = self.place.path("mnt");
        fs::create_dir(&mountpoint).unwrap();
        let (ours, theirs, variable) = stream();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", UNDER_JOURNAL, "sh", journal])
            .arg(PROGRAM)
            .arg("--store")
            .arg(self.place.store())
            .arg("mount")
            .arg(&mountpoint)
            .env_remove("RUST_LOG")
            .env("JOURNAL_STREAM", variable)
            .stderr(theirs);
        Mount::start_with(&mut command, mountpoint, "mounted ", |_| ours)
    }

    fn mount_with_journal(&self) -> Mount {
        self.mount(self.place.path("journal").to_str().unwrap())
    }

    /// Reads the file that lost its contents, which fails in time.
    fn read(&self, mount: &Mount) {
        let path = mount.seen_by_server(&format!("{}/big", self.name));
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(fs::read(path).unwrap_err().raw_os_error()));
        let errno = receiver.recv_timeout(PATIENCE).expect("an answer");
        assert_eq!(errno, Some(nix::errno::Errno::EIO as i32));
    }

    /// The fields of the next entry that has this one.
    fn entry(&self, wanted: &str) -> Vec<String> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let len = match self.journal.recv(&mut buffer) {
                Ok(len) => len,
                Err(error) => panic!("there is no entry with {wanted}: {error}"),
            };
            let fields = fields(&buffer[..len]);
            if fields.iter().any(|field| field.starts_with(wanted)) {
                return fields;
            }
        }
    }
}

/// A stream: the journal's end, the program's, and what tells it what that is.
fn stream() -> (UnixStream, OwnedFd, String) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = OwnedFd::from(theirs);
    let stat = nix::sys::stat::fstat(&theirs).unwrap();
    let variable = format!("{}:{}", stat.st_dev, stat.st_ino);
    (ours, theirs, variable)
}

/// The journal's native protocol: `NAME=VALUE\n`, or `NAME\n`, the length of
/// the value in 8 bytes, the value and `\n`.
fn fields(mut entry: &[u8]) -> Vec<String> {
    let mut fields = Vec::new();
    while !entry.is_empty() {
        let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
        let (line, rest) = (&entry[..end], &entry[end + 1..]);
        let line = String::from_utf8_lossy(line).into_owned();
        if line.contains('=') {
            fields.push(line);
            entry = rest;
            continue;
        }
        let (len, rest) = rest.split_first_chunk().unwrap();
        let (value, rest) = rest.split_at(u64::from_le_bytes(*len) as usize);
        fields.push(format!("{line}={}", String::from_utf8_lossy(value)));
        entry = rest.strip_prefix(b"\n").unwrap();
    }
    fields
}

#[test]
fn damage_is_an_entry_with_fields() {
    let fixture = fixture();
    let mount = fixture.mount_with_journal();
    fixture.read(&mount);
    let entry = fixture.entry("STORE_PATH=");
    let field = |name: &str| {
        let prefix = format!("{name}=");
        let field = entry.iter().find_map(|field| field.strip_prefix(&prefix));
        field.unwrap_or_else(|| panic!("no {name} in {entry:?}"))
    };
    assert_eq!(field("STORE_PATH"), fixture.name);
    assert!(field("FILE").ends_with("/big"), "{entry:?}");
    assert_eq!(field("ERRNO"), "5");
    assert_eq!(field("OPERATION"), "read");
    assert_eq!(field("PRIORITY"), "3");
    assert_eq!(field("SYSLOG_IDENTIFIER"), "store-mountd");
    let message = field("MESSAGE");
    assert!(message.starts_with("cannot serve contents: "), "{message}");
    assert!(message.contains(&fixture.name), "{message}");
    assert!(field("DIGEST").len() > 32, "{entry:?}");
    mount.stop();
}

#[test]
fn without_the_journals_socket_lines_with_priorities_go_to_its_stream() {
    let fixture = fixture();
    let mount = fixture.mount("");
    fixture.read(&mount);
    let line = mount.wait_for("cannot serve contents");
    assert!(line.starts_with("<3>cannot serve contents"), "{line}");
    assert!(
        line.contains(&fixture.name) && line.contains("errno=5"),
        "{line}"
    );
    mount.stop();
}

#[test]
fn a_journal_that_does_not_read_keeps_nobody_waiting() {
    let fixture = fixture();
    let mount = fixture.mount_with_journal();
    for _ in 0..64 {
        fixture.read(&mount);
    }
    // What it did read is there.
    fixture.entry("STORE_PATH=");
    fixture.journal.set_nonblocking(true).unwrap();
    let mut entries = 0;
    loop {
        match fixture.journal.recv(&mut [0; 64]) {
            Ok(_) => entries += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        entries < 64,
        "all of them: the queue is too long for this test"
    );
    mount.stop();
}

#[test]
fn a_stream_that_is_not_the_journals_is_not_taken_for_it() {
    let place = Place::new();
    let output = place
        .command([Path::new("import"), Path::new("/nonexistent")])
        .env("JOURNAL_STREAM", "1:2")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !said.contains("<3>") && said.contains("/nonexistent"),
        "{said}"
    );
}

#[test]
fn why_a_mount_does_not_start_is_an_error_in_the_journal() {
    let place = Place::new();
    let (mut ours, theirs, variable) = stream();
    let mut command = place.command(["mount", "/nonexistent"]);
    command.env("JOURNAL_STREAM", variable).stderr(theirs);
    assert_eq!(command.status().unwrap().code(), Some(1));
    drop(command);
    let mut said = String::new();
    ours.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("<3>store-mountd: "), "{said}");
    assert!(said.lines().all(|line| line.starts_with("<3>")), "{said}");
}
