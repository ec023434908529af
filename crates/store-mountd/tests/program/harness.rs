//! Running the program.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_store-mountd");
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/golden")
        .join(name)
}

/// A directory for a test, with a store in it.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// The program, told of the store.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .env_remove("RUST_LOG")
            .arg("--store")
            .arg(self.store())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs the program, which must succeed; answers what it printed.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        succeed(&mut self.command(args))
    }

    /// Runs the program, which must fail; answers what it said.
    pub(crate) fn fail<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        fail(&mut self.command(args))
    }

    /// Imports a tree; answers the base name of its store path.
    pub(crate) fn import(&self, tree: &Path) -> String {
        let text = self.run([OsStr::new("import"), tree.as_os_str()]);
        base_name(text.trim_end()).to_owned()
    }

    /// Mounts the store.
    pub(crate) fn mount(&self, args: &[&str]) -> Mount {
        let mountpoint = self.path("mnt");
        fs::create_dir_all(&mountpoint).unwrap();
        let mut command = self.command([OsStr::new("mount"), mountpoint.as_os_str()]);
        Mount::start(command.args(args), mountpoint)
    }
}

pub(crate) fn base_name(absolute: &str) -> &str {
    absolute
        .strip_prefix("/nix/store/")
        .unwrap_or_else(|| panic!("no store path: {absolute:?}"))
}

pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

pub(crate) fn fail(command: &mut Command) -> String {
    let output = command.output().expect("the program runs");
    assert!(!output.status.success(), "{command:?} succeeded");
    assert!(output.status.code().is_some(), "{}", output.status);
    said(&output)
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// These tests need what makes mounting possible, and say so.
pub(crate) fn require_fuse() {
    if let Err(error) = fs::File::options().read(true).write(true).open("/dev/fuse") {
        panic!("this test mounts, and cannot: /dev/fuse: {error}");
    }
}

pub(crate) fn require_root() {
    let root = nix::unistd::geteuid().is_root();
    assert!(root, "this test acts as several users and needs root");
}

/// A mount served by a process of its own.
pub(crate) struct Mount {
    child: Child,
    mountpoint: PathBuf,
    stderr: Receiver<String>,
}

impl Mount {
    /// Starts the command and returns when it says that it serves.
    pub(crate) fn start(command: &mut Command, mountpoint: PathBuf) -> Self {
        Self::start_until(command, mountpoint, "mounted ")
    }

    /// Starts the command and returns when it says this.
    pub(crate) fn start_until(command: &mut Command, mountpoint: PathBuf, text: &str) -> Self {
        command.stderr(Stdio::piped());
        Self::start_with(command, mountpoint, text, |child| {
            child.stderr.take().unwrap()
        })
    }

    /// As `start_until`, where what the command says is read from something
    /// else.
    pub(crate) fn start_with<R: Read + Send + 'static>(
        command: &mut Command,
        mountpoint: PathBuf,
        text: &str,
        says: impl FnOnce(&mut Child) -> R,
    ) -> Self {
        require_fuse();
        let mut child = command.spawn().unwrap();
        let (lines, stderr) = mpsc::channel();
        let pipe = says(&mut child);
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let mount = Self {
            child,
            mountpoint,
            stderr,
        };
        mount.wait_for(text);
        mount
    }

    /// Waits for a line with this in it.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let mut seen = Vec::new();
        let end = Instant::now() + PATIENCE;
        loop {
            match self
                .stderr
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("never said {text:?} ({error}), but: {}", seen.join("\n")),
            }
        }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mountpoint.join(name)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// The process that serves.
    pub(crate) fn worker(&self) -> Pid {
        self.child_that(|command| command.ends_with(b"\0worker\0"))
    }

    /// The process that asks the mount whether it answers.
    pub(crate) fn asker(&self) -> Pid {
        self.child_that(|command| command.starts_with(b"@store-mountd\0probe\0"))
    }

    /// The supervisor's child with such a command line.
    fn child_that(&self, is_wanted: impl Fn(&[u8]) -> bool) -> Pid {
        let pid = self.pid();
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            let found = children.split_whitespace().find(|child| {
                fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|command| is_wanted(&command))
            });
            if let Some(child) = found {
                return Pid::from_raw(child.parse().unwrap());
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("there is no such child");
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not end");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn is_mounted(&self) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mountpoint = self.mountpoint.to_str().unwrap();
        table
            .lines()
            .any(|line| line.split(' ').nth(4) == Some(mountpoint))
    }

    /// Unmounts in the usual way.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "{status}");
        assert!(!self.is_mounted());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_running() {
            self.signal(Signal::SIGTERM);
            thread::sleep(Duration::from_millis(300));
            if self.is_running() {
                self.signal(Signal::SIGTERM);
            }
            let _ = self.child.wait();
        }
    }
}

/// Whether a process runs; what nobody waited for yet does not.
pub(crate) fn runs(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, after)| after.as_bytes()[0]);
    !matches!(state, None | Some(b'Z' | b'X'))
}

/// A small tree with one of everything.
pub(crate) fn plant(at: &Path) {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    fs::create_dir_all(at.join("bin")).unwrap();
    fs::create_dir_all(at.join("empty")).unwrap();
    fs::write(at.join("bin/run"), "#!/bin/sh\necho run\n").unwrap();
    fs::set_permissions(at.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(at.join("bin/same-bytes"), "#!/bin/sh\necho run\n").unwrap();
    fs::write(at.join("big"), vec![7; 3_000_000]).unwrap();
    fs::write(at.join("nothing"), "").unwrap();
    symlink("bin/run", at.join("link")).unwrap();
    symlink("/does/not/exist", at.join("dangling")).unwrap();
}

/// `diff -r` of two trees, symlinks compared as such.
pub(crate) fn assert_same_trees(a: &Path, b: &Path) {
    let output = Command::new("diff")
        .args(["--recursive", "--no-dereference"])
        .arg(a)
        .arg(b)
        .output()
        .expect("diff runs");
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{found}{}", said(&output));
}

impl Mount {
    /// A path in the mount, as the server's own mount namespace has it.
    pub(crate) fn seen_by_server(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        let inside = self.path(name);
        root.join(inside.strip_prefix("/").expect("an absolute path"))
    }
}
