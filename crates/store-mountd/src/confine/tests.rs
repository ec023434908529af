//! Each test runs itself again, in a process that can be confined: what is
//! taken away does not come back.

#![allow(unsafe_code)]

use std::{
    env,
    ffi::CString,
    fs::{self, File},
    io::{self, ErrorKind},
    net::TcpStream,
    os::{
        fd::AsFd as _,
        unix::net::{UnixDatagram, UnixStream},
    },
    panic,
    path::PathBuf,
    process::Command,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use castore::local::LocalStore;
use nix::{errno::Errno, sys::signal, unistd};
use rustix::thread::capabilities;
use store_fs::fuse;

use super::*;

const CHILD: &str = "STORE_MOUNTD_CONFINED";

/// Runs `body` in a process with one thread, with a store.
fn in_child(test: &str, body: impl FnOnce(&Store)) {
    alone(test, |store| with_one_thread(|| body(store)));
}

/// Runs `body` in a process that has no other test, with a store.
fn alone(test: &str, body: impl FnOnce(&Store)) {
    if let Some(dir) = env::var_os(CHILD) {
        return body(&Store(dir.into()));
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("store")).unwrap();
    fs::write(dir.path().join("store/in"), "in").unwrap();
    fs::write(dir.path().join("out"), "out").unwrap();
    let module = module_path!().split_once("::").unwrap().1;
    let output = Command::new(env::current_exe().unwrap())
        .args([&format!("{module}::{test}"), "--exact"])
        .args(["--test-threads=1", "--nocapture"])
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{}: {said}", output.status);
    assert!(said.contains("1 passed"), "{said}");
}

/// The test harness has a thread of its own.
fn with_one_thread(body: impl FnOnce()) {
    beside(body, || {});
}

/// Runs `confined` in a process with one thread, and `free` in this one.
fn beside(confined: impl FnOnce(), free: impl FnOnce()) {
    // SAFETY: no other thread of this process does anything but wait, so none
    // holds a lock that the new process will want.
    match unsafe { unistd::fork() }.unwrap() {
        unistd::ForkResult::Parent { child } => {
            // Not here: it would keep what the other is to be the last to have.
            drop(confined);
            let freely = panic::catch_unwind(panic::AssertUnwindSafe(free));
            if freely.is_err() {
                signal::kill(child, signal::Signal::SIGKILL).unwrap();
            }
            let ended = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, 0));
            assert!(freely.is_ok());
        }
        unistd::ForkResult::Child => {
            let result = panic::catch_unwind(panic::AssertUnwindSafe(confined));
            // SAFETY: it ends the process, without what the harness would do.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
    }
}

/// A directory with a store and something else in it.
struct Store(PathBuf);

impl Store {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn confine(&self) {
        self.confine_with(&SeccompAction::KillProcess);
    }

    fn confine_with(&self, otherwise: &SeccompAction) {
        let store = File::open(self.path("store")).unwrap();
        let needs = WorkerNeeds {
            store: store.as_fd(),
            network: false,
        };
        worker_with(&needs, otherwise).unwrap();
    }
}

fn refused<T>(result: io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("it was let through"),
        Err(error) => error.kind(),
    }
}

#[test]
fn a_worker_reads_its_store_and_no_other_file() {
    in_child("a_worker_reads_its_store_and_no_other_file", |store| {
        let open_before = File::open(store.path("out")).unwrap();
        store.confine();
        assert_eq!(fs::read_to_string(store.path("store/in")).unwrap(), "in");
        assert_eq!(fs::read_dir(store.path("store")).unwrap().count(), 1);
        assert_eq!(io::read_to_string(open_before).unwrap(), "out");
        for path in [store.path("out"), "/etc/passwd".into(), "/dev/null".into()] {
            assert_eq!(
                refused(File::open(&path)),
                ErrorKind::PermissionDenied,
                "{path:?}"
            );
        }
        for result in [
            File::options().write(true).open(store.path("store/in")),
            File::create(store.path("store/new")),
        ] {
            assert_eq!(refused(result), ErrorKind::PermissionDenied);
        }
        assert_eq!(
            refused(fs::remove_file(store.path("store/in"))),
            ErrorKind::PermissionDenied
        );
    });
}

#[test]
fn a_worker_makes_no_connection() {
    in_child("a_worker_makes_no_connection", |store| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (pair, _other) = UnixStream::pair().unwrap();
        store.confine();
        assert_eq!(
            refused(TcpStream::connect(address)),
            ErrorKind::PermissionDenied
        );
        assert_eq!(
            refused(std::net::UdpSocket::bind("127.0.0.1:0")),
            ErrorKind::PermissionDenied
        );
        assert_eq!(
            refused(UnixStream::connect("/run/x")),
            ErrorKind::PermissionDenied
        );
        assert_eq!(
            refused(UnixDatagram::unbound()),
            ErrorKind::PermissionDenied
        );
        // What was connected before still is.
        io::Write::write_all(&mut &pair, b"x").unwrap();
    });
}

#[test]
fn a_worker_starts_no_program_and_ends_no_process() {
    in_child("a_worker_starts_no_program_and_ends_no_process", |store| {
        store.confine();
        let program = CString::new("/bin/true").unwrap();
        let result = unistd::execv(&program, &[&program]);
        assert_eq!(result.unwrap_err(), Errno::EPERM);
        let result = signal::kill(unistd::getppid(), None);
        assert_eq!(result.unwrap_err(), Errno::EPERM);
        // But to oneself; this one does nothing.
        signal::kill(unistd::getpid(), signal::Signal::SIGURG).unwrap();
        signal::raise(signal::Signal::SIGURG).unwrap();
        let sets = capabilities(None).unwrap();
        assert!(sets.permitted.is_empty() && sets.effective.is_empty());
        assert!(rustix::thread::no_new_privs().unwrap());
    });
}

#[test]
fn what_is_forbidden_or_unheard_of_is_an_error_and_not_the_end() {
    in_child(
        "what_is_forbidden_or_unheard_of_is_an_error_and_not_the_end",
        |store| {
            store.confine_with(&unknown_to_the_kernel());
            let result = nix::mount::umount("/nonexistent");
            assert_eq!(result.unwrap_err(), Errno::EPERM);
            // Nobody thought of it.
            let result = unistd::getpgid(None);
            assert_eq!(result.unwrap_err(), Errno::ENOSYS);
        },
    );
}

/// Everything that serving does besides reading files; a call that is not on
/// the list would end the process.
#[test]
fn a_worker_has_threads_memory_time_and_proc() {
    in_child("a_worker_has_threads_memory_time_and_proc", |store| {
        store.confine();
        let (sender, receiver) = mpsc::channel();
        let threads: Vec<_> = (0..20)
            .map(|number| {
                let sender = sender.clone();
                let name = format!("thread-{number}");
                let work = move || {
                    let memory = vec![number as u8; 4 << 20];
                    thread::sleep(Duration::from_millis(5));
                    sender.send(memory[number]).unwrap();
                };
                thread::Builder::new().name(name).spawn(work).unwrap()
            })
            .collect();
        assert_eq!(receiver.iter().take(20).map(u32::from).sum::<u32>(), 190);
        for thread in threads {
            thread.join().unwrap();
        }
        let panicked = thread::spawn(|| panic!("as it should")).join();
        assert!(panicked.is_err());
        let memory = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&memory, 4096).unwrap();
        let mut grown = Vec::new();
        for round in 0..1_000_000_u64 {
            grown.push(round);
        }
        drop(grown);
        for status in ["/proc/self/status", "/proc/1/status"] {
            let text = fs::read_to_string(status).unwrap();
            assert!(text.contains("SigPnd:"), "{status}: {text}");
        }
        assert!(thread::available_parallelism().is_ok());
    });
}

#[test]
fn threads_that_would_stay_free_are_an_error() {
    in_child("threads_that_would_stay_free_are_an_error", |store| {
        let (ended, end) = mpsc::channel::<()>();
        let other = thread::spawn(move || end.recv().is_err());
        let dir = File::open(store.path("store")).unwrap();
        let needs = WorkerNeeds {
            store: dir.as_fd(),
            network: false,
        };
        let error = worker(&needs).unwrap_err().to_string();
        assert!(error.contains("2 threads"), "{error}");
        drop(ended);
        assert!(other.join().unwrap());
    });
}

#[test]
fn a_supervisor_keeps_what_unmounting_needs() {
    in_child("a_supervisor_keeps_what_unmounting_needs", |store| {
        assert!(
            geteuid().is_root(),
            "this test gives up privileges and needs root"
        );
        let dir = store.path("store");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", &dir, "tmpfs", flags, None).unwrap();
        supervisor(&SupervisorNeeds { fusermount: false }).unwrap();
        let again = rustix::mount::mount("none", &dir, "tmpfs", flags, None);
        assert_eq!(again.unwrap_err(), rustix::io::Errno::PERM);
        rustix::mount::unmount(&dir, rustix::mount::UnmountFlags::empty()).unwrap();
        // Workers are programs that are run.
        assert!(Command::new("/bin/true").status().unwrap().success());
        // And a worker can be confined further.
        store.confine();
        assert!(capabilities(None).unwrap().permitted.is_empty());
    });
}

#[test]
fn a_crash_is_not_dumped() {
    in_child("a_crash_is_not_dumped", |_| {
        use nix::sys::resource::{Resource, getrlimit};
        no_core_dumps();
        let (soft, _) = getrlimit(Resource::RLIMIT_CORE).unwrap();
        assert!(soft <= 1, "{soft}");
        let other = Command::new("/bin/sh")
            .args(["-c", "kill -ABRT $$"])
            .status();
        let status = other.unwrap();
        assert!(
            !std::os::unix::process::ExitStatusExt::core_dumped(&status),
            "{status}"
        );
    });
}

#[test]
fn locked_memory_is_still_to_be_had() {
    in_child("locked_memory_is_still_to_be_had", |_| {
        lock_memory(Locked::All);
        // Room that is not used costs nothing.
        let room = vec![0_u8; 8 << 30];
        assert_eq!(room[room.len() / 2], 0);
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let resident = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kib: u64 = resident.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(kib < 1 << 20, "{resident}");
        if geteuid().is_root() {
            assert!(!status.contains("VmLck:\t       0 kB"), "{status}");
        }
    });
}

/// A file, a store that has it, and its name there.
fn imported(store: &Store, name: &str, bytes: usize) -> (Arc<LocalStore>, PathBuf, String) {
    let tree = store.path(name);
    fs::create_dir(&tree).unwrap();
    let contents: Vec<u8> = (0..bytes).map(|byte| (byte / 7) as u8).collect();
    fs::write(tree.join("file"), contents).unwrap();
    for number in 0..300 {
        fs::write(tree.join(format!("small-{number}")), number.to_string()).unwrap();
    }
    let options = castore::local::Options {
        integrity: castore::local::Integrity::OnRead,
        create: true,
    };
    let local = LocalStore::open(&store.path("served"), &options).unwrap();
    let options = store::import::Options::default();
    let mut importer = store::import::Importer::new(&local, options);
    let info = importer.tree(&tree, name).unwrap();
    importer.commit().unwrap();
    (local, tree, info.store_path.to_string())
}

/// The calls that are listed are all that serving makes; another one would end
/// the process.
#[test]
fn a_confined_worker_serves() {
    alone("a_confined_worker_serves", |store| {
        let (local, tree, name) = imported(store, "first", 3_000_000);
        let mountpoint = store.path("mnt");
        fs::create_dir(&mountpoint).unwrap();
        let mounted = fuse::mount(&mountpoint, &fuse::MountOptions::default()).unwrap();
        let (device, mut handle) = (mounted.fd, mounted.handle);
        let root = Arc::new(crate::root::StoreRoot::new(local.clone()));
        let options = store_fs::Options::default();
        let filesystem = store_fs::Filesystem::new(root, local.clone(), local, options);
        let serve = move || {
            let dir = File::open(store.path("served")).unwrap();
            let needs = WorkerNeeds {
                store: dir.as_fd(),
                network: false,
            };
            worker_with(&needs, &SeccompAction::KillProcess).unwrap();
            let options = fuse::ServeOptions::default();
            let mut serving = fuse::serve(device, Arc::new(filesystem), &options).unwrap();
            assert_eq!(serving.wait().unwrap(), fuse::End::Unmounted);
        };
        beside(serve, || {
            let same = |tree: &std::path::Path, name: &str| {
                let output = Command::new("diff")
                    .args([
                        "-r".as_ref(),
                        tree.as_os_str(),
                        mountpoint.join(name).as_os_str(),
                    ])
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{output:?}");
            };
            same(&tree, &name);
            // What was not there when it was confined.
            let (_, tree, name) = imported(store, "second", 300_000);
            same(&tree, &name);
            handle.unmount().unwrap();
        });
    });
}
