//! Filesystems on loop devices.

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount, umount2};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A filesystem the tests know how to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsType {
    /// ext4 with its defaults (ordered data, journal checksums, barriers).
    Ext4,
}

impl FsType {
    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
        }
    }

    /// Makes an empty filesystem of `size` bytes in the file `path`.
    pub fn make(self, path: &Path, size: u64) -> Result<()> {
        let file =
            std::fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
        file.set_len(size)?;
        drop(file);
        let mut command = Command::new("mkfs.ext4");
        // Nothing is left to a background thread of the kernel: the first mount finds it complete.
        command.args(["-q", "-F", "-b", "4096", "-E"]);
        command.arg("lazy_itable_init=0,lazy_journal_init=0,nodiscard");
        run(command.arg(path)).map(drop)
    }
}

/// A loop device with a mounted filesystem.
#[derive(Debug)]
pub struct LoopMount {
    device: PathBuf,
    mountpoint: TempDir,
    /// Once mounted, the device goes away with the mount, even if this process is killed.
    is_mounted: bool,
}

impl LoopMount {
    /// Attaches `file` and mounts it.
    pub fn new(file: &Path, fs: FsType) -> Result<Self> {
        let output = run(Command::new("losetup")
            .args(["--find", "--show", "--direct-io=off"])
            .arg(file))?;
        let mut this = Self {
            device: PathBuf::from(output.trim()),
            mountpoint: crate::scratch::dir("loop")?,
            is_mounted: false,
        };
        mount(
            Some(&this.device),
            this.mountpoint.path(),
            Some(fs.name()),
            MsFlags::MS_NOATIME,
            None::<&str>,
        )
        .with_context(|| format!("mounting {} as {}", this.device.display(), fs.name()))?;
        this.is_mounted = true;
        // In use, so this is done at the last close, which is the unmount.
        this.detach()?;
        Ok(this)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    /// Unmounts and detaches, and fails if that is not possible in an orderly way.
    pub fn unmount(mut self) -> Result<()> {
        self.is_mounted = false;
        let unmounted = umount(self.mountpoint.path());
        if unmounted.is_err() {
            let _ = umount2(self.mountpoint.path(), MntFlags::MNT_DETACH);
        }
        self.wait_until_detached();
        unmounted.with_context(|| format!("unmounting {}", self.mountpoint.path().display()))
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        if self.is_mounted {
            self.unmount_somehow();
        }
        if self.is_attached() {
            if let Err(error) = self.detach() {
                eprintln!("{error:#}");
            }
            eprintln!("{} stayed attached", self.device.display());
        }
    }
}

impl LoopMount {
    fn unmount_somehow(&mut self) {
        self.is_mounted = false;
        if umount(self.mountpoint.path()).is_err() {
            // A process that is about to die still holds it: give it a moment.
            std::thread::sleep(Duration::from_millis(300));
            if umount(self.mountpoint.path()).is_err() {
                let _ = umount2(self.mountpoint.path(), MntFlags::MNT_DETACH);
            }
        }
        self.wait_until_detached();
    }

    fn detach(&self) -> Result<()> {
        run(Command::new("losetup").arg("--detach").arg(&self.device)).map(drop)
    }

    /// The kernel does it a moment after the last close.
    fn wait_until_detached(&self) {
        let end = Instant::now() + Duration::from_secs(5);
        while self.is_attached() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_attached(&self) -> bool {
        let name = self.device.file_name().unwrap_or_default();
        let block = Path::new("/sys/block").join(name);
        block.join("loop/backing_file").exists()
    }
}

/// Runs a command to its end and returns what it printed; a failure has its messages.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A filesystem in memory with a limit.
#[derive(Debug)]
pub struct TmpfsMount {
    mountpoint: TempDir,
}

impl TmpfsMount {
    /// Mounts a tmpfs of `size` bytes.
    pub fn new(size: u64) -> Result<Self> {
        let mountpoint = crate::scratch::dir("tmpfs")?;
        let options = format!("size={size},mode=755");
        mount(
            Some("tmpfs"),
            mountpoint.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .context("mounting a tmpfs")?;
        Ok(Self { mountpoint })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.mountpoint.path()
    }
}

impl Drop for TmpfsMount {
    fn drop(&mut self) {
        let _ = umount2(self.mountpoint.path(), MntFlags::MNT_DETACH);
    }
}
