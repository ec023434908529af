//! The system whose every program is in /nix/store, and the ways to have that.

use super::files;
use super::lab::{CHECK_UNIT, CONFIG_FILE, Lab, UNIT, config, guest_file};
use super::machine::{Disk, Machine};
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(25 * 60);

/// Where the mount is that an overlay is over.
const LOWER: &str = "/run/tvix-store-mount/lower";

/// What /nix/store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NixStore {
    /// The mount.
    Mount,
    /// An overlay over the mount, the upper layer on the root's disk.
    Overlay,
    /// A directory on the root's disk.
    Directory,
}

/// The root's files and the initramfs', which a scenario may still change.
#[derive(Debug)]
pub(super) struct System {
    nix_store: NixStore,
    pub(super) root: PathBuf,
    pub(super) initrd: PathBuf,
}

impl System {
    /// The system, and this test's script. Everything of it is called `name`.
    pub(super) fn new(
        lab: &Lab<'_>,
        name: &str,
        nix_store: NixStore,
        script: &str,
    ) -> Result<Self> {
        let dir = lab.disks()?.join(name);
        let this = Self {
            nix_store,
            root: dir.join("root"),
            initrd: dir.join("initrd.d"),
        };
        this.make_root(lab)?;
        lab.script(&this.root, script)?;
        match nix_store {
            NixStore::Directory => {
                files::copy_tree(&lab.images.store_dir(), &this.root.join("nix/store"))?;
            }
            NixStore::Mount | NixStore::Overlay => {
                this.import(lab)?;
                this.install(lab)?;
            }
        }
        this.make_initrd(lab)?;
        Ok(this)
    }

    /// The same root with the daemon installed, and another initramfs, which mounts the store over
    /// what the root has in /nix/store. The root's store is left to be imported.
    pub(super) fn with_mount(&self, lab: &Lab<'_>) -> Result<Self> {
        let this = Self {
            nix_store: NixStore::Overlay,
            root: self.root.clone(),
            initrd: self.initrd.with_file_name("initrd-mount.d"),
        };
        this.install(lab)?;
        this.make_initrd(lab)?;
        Ok(this)
    }

    /// The store's directory in the root.
    pub(super) fn store(&self) -> PathBuf {
        self.root.join("var/lib/tvix-store-mount")
    }

    fn make_root(&self, lab: &Lab<'_>) -> Result<()> {
        for dir in [
            "dev",
            "proc",
            "sys",
            "run",
            "tmp",
            "root",
            "var/log",
            "nix/store",
        ] {
            let dir = self.root.join(dir);
            fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        }
        symlink("/run", self.root.join("var/run"))?;
        symlink(lab.images.system("usr")?, self.root.join("usr"))?;
        for dir in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{dir}"), self.root.join(dir))?;
        }
        let etc = lab.images.outside(&lab.images.system("etc")?)?;
        files::copy_tree(&etc, &self.root.join("etc"))
    }

    fn import(&self, lab: &Lab<'_>) -> Result<()> {
        let registration = lab.images.registration().display().to_string();
        let mut arguments = vec![
            "import".to_owned(),
            "--registration".to_owned(),
            registration,
        ];
        let dir = lab.images.store_dir();
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            arguments.push(entry?.path().display().to_string());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        lab.mountd(&self.store(), &arguments).map(drop)
    }

    /// What the main system has of the daemon, which comes from the initramfs.
    fn install(&self, lab: &Lab<'_>) -> Result<()> {
        let root = &self.root;
        lab.unit(UNIT, root, "etc/systemd/system")?;
        files::write(root, CONFIG_FILE, &self.config(""))?;
        // Where the unit says, the program would be on the mount.
        files::copy(lab.program, root, "opt/store-mountd")?;
        drop_in(
            root,
            UNIT,
            "[Service]\nExecStart=\nExecStart=@/opt/store-mountd @store-mountd mount \
             --config /etc/tvix-store-mount/config.toml\n",
        )?;
        // What systemd itself is executed from is not to be unmounted before the end.
        let mut mounts = vec!["nix-store.mount"];
        if self.nix_store == NixStore::Overlay {
            mounts.push(r"run-tvix\x2dstore\x2dmount-lower.mount");
            for dir in ["store", "work"] {
                fs::create_dir_all(root.join("nix/.rw-store").join(dir))?;
            }
        }
        for mount in mounts {
            drop_in(root, mount, "[Unit]\nDefaultDependencies=no\n")?;
        }
        Ok(())
    }

    /// The settings of the daemon while the root is at `prefix`.
    fn config(&self, prefix: &str) -> String {
        match self.nix_store {
            // An overlay lists its lower layer.
            NixStore::Overlay => format!("{}list-root = true\n", config(prefix, LOWER)),
            NixStore::Mount | NixStore::Directory => config(prefix, &format!("{prefix}/nix/store")),
        }
    }

    /// Beside the initramfs of the image: the daemon, though a system that has its store in a
    /// directory does not start it.
    fn make_initrd(&self, lab: &Lab<'_>) -> Result<()> {
        let (root, units) = (&self.initrd, "usr/lib/systemd/system");
        lab.package(root)?;
        files::write(root, CONFIG_FILE, &self.config("/sysroot"))?;
        files::copy(
            &guest_file("root/etc/systemd/journald.conf.d/vm.conf"),
            root,
            "etc/systemd/journald.conf.d/vm.conf",
        )?;
        if self.nix_store == NixStore::Directory {
            return Ok(());
        }
        drop_in(
            root,
            UNIT,
            "[Unit]\nConditionKernelCommandLine=!tvix-store-mount=off\n\
             Requires=sysroot.mount\nAfter=sysroot.mount\nBefore=initrd-fs.target\n\
             [Service]\nStandardError=journal+console\nRestart=on-abnormal\n",
        )?;
        for unit in [UNIT, CHECK_UNIT] {
            link_to(root, units, "initrd-fs.target.requires", unit)?;
        }
        if self.nix_store == NixStore::Overlay {
            files::copy_tree(&guest_file("overlay"), root)?;
            link_to(
                root,
                units,
                "initrd-fs.target.requires",
                "sysroot-nix-store.mount",
            )?;
        }
        Ok(())
    }

    /// The root's disk, as its files are now.
    pub(super) fn disk(&self) -> Result<Disk> {
        self.disk_with_room(128)
    }

    /// The same, with so much room for what is written.
    pub(super) fn disk_with_room(&self, mib: u64) -> Result<Disk> {
        let path = self.root.with_extension("img");
        files::ext4(&self.root, "root", mib, &path)?;
        Ok(Disk {
            path,
            serial: "root",
            keep_writes: true,
        })
    }

    pub(super) fn machine(
        &self,
        lab: &Lab<'_>,
        name: &'static str,
        disk: &Disk,
    ) -> Result<Machine> {
        let initrd = self.initrd.with_extension("img");
        files::initrd(&lab.images.store_initrd(), &self.initrd, &initrd)?;
        Ok(Machine {
            name,
            kernel: lab.images.kernel(),
            initrd,
            command_line: format!(
                "quiet root=/dev/disk/by-label/root rootfstype=ext4 rw init={} \
                 systemd.wants=vm-test.service systemd.show_status=false",
                lab.images.system("init")?.display()
            ),
            disks: vec![disk.clone()],
            memory_mib: 1024,
            limit: LIMIT,
            until: None,
        })
    }
}

/// Adds to a unit, in an initramfs too: systemd looks for units there as anywhere.
fn drop_in(root: &Path, unit: &str, text: &str) -> Result<()> {
    files::write(root, &format!("etc/systemd/system/{unit}.d/vm.conf"), text)
}

/// Makes a unit one that another needs or wants, by that one's directory for it.
pub(super) fn link_to(root: &Path, units: &str, dir: &str, unit: &str) -> Result<()> {
    let dir = root.join(units).join(dir);
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    symlink(format!("../{unit}"), dir.join(unit)).with_context(|| unit.to_owned())
}

/// A script of the tests, for other services than the test itself.
pub(super) fn copy_script(root: &Path, name: &str) -> Result<()> {
    files::copy(&guest_file(name), root, &format!("vm/{name}"))
}
