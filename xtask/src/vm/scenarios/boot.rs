//! A system that boots with the mount in place of /nix/store.

use crate::vm::files;
use crate::vm::lab::{CONFIG_FILE, Lab, UNIT, config};
use crate::vm::machine::{Disk, Machine};
use crate::vm::report::Report;
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(15 * 60);

pub(super) fn run(lab: &Lab<'_>, report: &mut Report) -> Result<()> {
    let system = System::new(lab, "boot")?;
    let disk = system.disk(lab)?;
    let machine = system.machine(lab, "boot", &disk)?;
    let outcome = lab.run(&machine, report)?;
    outcome.expect_orderly_end(report);
    let (clean, said) = files::is_clean(&disk.path)?;
    report.check("the root file system is clean", clean, || said);
    Ok(())
}

/// The root's files and the initramfs', which a scenario may still change.
#[derive(Debug)]
pub(super) struct System {
    pub(super) root: PathBuf,
    pub(super) initrd: PathBuf,
}

impl System {
    /// The system with its store imported, and this test's script.
    pub(super) fn new(lab: &Lab<'_>, script: &str) -> Result<Self> {
        let disks = lab.disks()?;
        let this = Self {
            root: disks.join("root"),
            initrd: disks.join("initrd.d"),
        };
        this.make_root(lab, script)?;
        this.make_initrd(lab)?;
        Ok(this)
    }

    /// The store's directory in the root.
    pub(super) fn store(&self) -> PathBuf {
        self.root.join("var/lib/tvix-store-mount")
    }

    fn make_root(&self, lab: &Lab<'_>, script: &str) -> Result<()> {
        let root = &self.root;
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
            let dir = root.join(dir);
            fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        }
        symlink("/run", root.join("var/run"))?;
        symlink(lab.images.system("usr")?, root.join("usr"))?;
        for dir in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{dir}"), root.join(dir))?;
        }
        let etc = lab.images.outside(&lab.images.system("etc")?)?;
        files::copy_tree(&etc, &root.join("etc"))?;
        lab.script(root, script)?;

        lab.unit(root, "etc/systemd/system")?;
        files::write(root, CONFIG_FILE, &config(""))?;
        // Where the unit says, the program would be on the mount.
        files::copy(lab.program, root, "opt/store-mountd")?;
        files::write(
            root,
            &format!("etc/systemd/system/{UNIT}.d/program.conf"),
            "[Service]\nExecStart=\nExecStart=@/opt/store-mountd @store-mountd mount \
             --config /etc/tvix-store-mount/config.toml\n",
        )?;
        files::copy(&lab.images.registration(), root, "vm/registration")?;
        self.import(lab)
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

    /// The unit and its configuration, for the root while it is at /sysroot.
    fn make_initrd(&self, lab: &Lab<'_>) -> Result<()> {
        let root = &self.initrd;
        files::copy(lab.program, root, "usr/bin/store-mountd")?;
        lab.unit(root, "usr/lib/systemd/system")?;
        files::write(root, CONFIG_FILE, &config("/sysroot"))?;
        files::write(
            root,
            &format!("usr/lib/systemd/system/{UNIT}.d/initrd.conf"),
            "[Unit]\nRequires=sysroot.mount\nAfter=sysroot.mount\nBefore=initrd-fs.target\n\
             [Service]\nStandardError=journal+console\n",
        )?;
        let requires = root.join("usr/lib/systemd/system/initrd-fs.target.requires");
        fs::create_dir_all(&requires)?;
        symlink(format!("../{UNIT}"), requires.join(UNIT))?;
        let guest = crate::workspace::root().join("tests-vm/guest/root");
        files::copy(
            &guest.join("etc/systemd/journald.conf.d/vm.conf"),
            root,
            "etc/systemd/journald.conf.d/vm.conf",
        )
    }

    /// The root's disk.
    pub(super) fn disk(&self, lab: &Lab<'_>) -> Result<Disk> {
        Ok(Disk {
            keep_writes: true,
            ..lab.disk(&self.root, "root", 128)?
        })
    }

    pub(super) fn machine(
        &self,
        lab: &Lab<'_>,
        name: &'static str,
        disk: &Disk,
    ) -> Result<Machine> {
        let initrd = lab.disks()?.join("initrd");
        files::initrd(&lab.images.store_initrd(), &self.initrd, &initrd)?;
        let init = lab.images.system("init")?;
        Ok(Machine {
            name,
            kernel: lab.images.kernel(),
            initrd,
            command_line: command_line(&init),
            disks: vec![disk.clone()],
            memory_mib: 1024,
            limit: LIMIT,
            until: None,
        })
    }
}

fn command_line(init: &Path) -> String {
    format!(
        "quiet root=/dev/disk/by-label/root rootfstype=ext4 rw init={} \
         systemd.wants=vm-test.service systemd.show_status=false",
        init.display()
    )
}
