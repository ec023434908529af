//! The unit in an ordinary Debian system.

use crate::vm::files;
use crate::vm::lab::Lab;
use crate::vm::machine::{Disk, Machine};
use crate::vm::report::Report;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(25 * 60);

pub(super) fn run(lab: &Lab<'_>, report: &mut Report) -> Result<()> {
    let disks = lab.disks()?;
    let store = disks.join("store");
    let tree = disks.join("tree");
    make_tree(lab, &tree)?;
    let path = lab.mountd(&store, &["import", &tree.display().to_string()])?;
    let damaged = disks.join("damaged");
    fs::write(&damaged, vec![b'x'; 300_000])?;
    let damaged = lab.mountd(&store, &["import", &damaged.display().to_string()])?;
    damage(&store)?;
    let store_disk = lab.disk(&store, "store", 64)?;

    let overlay = disks.join("files/overlay");
    lab.guest_files(&overlay, "service")?;
    files::write(&overlay, "vm/tree", &path)?;
    files::write(&overlay, "vm/damaged", &damaged)?;
    let rounds = if lab.full { 5 } else { 1 };
    report.note(&format!("rounds of restart, reload and kills: {rounds}"));
    files::write(&overlay, "vm/rounds", &rounds.to_string())?;
    files::write(
        &overlay,
        "etc/fstab",
        "LABEL=store /var/lib/tvix-store-mount ext4 defaults 0 0\n",
    )?;
    fs::create_dir_all(overlay.join("nix/store"))?;
    let initrd = disks.join("initrd");
    files::initrd(&lab.images.debian_initrd(), &disks.join("files"), &initrd)?;

    let machine = Machine {
        name: "service",
        kernel: lab.images.kernel(),
        initrd,
        command_line: "quiet systemd.wants=vm-test.service systemd.show_status=false".to_owned(),
        disks: vec![
            Disk {
                path: lab.images.debian_disk(),
                serial: "root",
                keep_writes: false,
            },
            Disk {
                keep_writes: true,
                ..store_disk.clone()
            },
        ],
        memory_mib: 1024,
        limit: LIMIT,
        until: None,
    };
    let outcome = lab.run(&machine, report)?;
    outcome.expect_orderly_end(report);
    let (clean, said) = files::is_clean(&store_disk.path)?;
    report.check("the store's file system is clean", clean, || said);
    Ok(())
}

/// Flips a bit of the big file of which every byte is an x.
fn damage(store: &Path) -> Result<()> {
    for dir in fs::read_dir(store.join("blobs"))? {
        for blob in fs::read_dir(dir?.path())? {
            let path = blob?.path();
            let mut bytes = fs::read(&path)?;
            if bytes.iter().all(|byte| *byte == b'x') {
                bytes[100_000] ^= 1;
                // It is there without write permission.
                fs::remove_file(&path)?;
                return fs::write(&path, bytes).with_context(|| path.display().to_string());
            }
        }
    }
    bail!("no blob to damage")
}

/// Small and big files, a program, and a list of their hashes.
fn make_tree(lab: &Lab<'_>, tree: &Path) -> Result<()> {
    files::copy(
        &lab.images.debian_root().join("usr/bin/busybox"),
        tree,
        "bin/busybox",
    )?;
    let mut seed = 1_u64;
    let mut random = move || {
        // xorshift64: these only have to differ.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for index in 0..120 {
        let len = if index % 40 == 0 {
            1 << 20
        } else {
            random() % 20_000
        };
        let bytes: Vec<u8> = (0..len / 8 + 1)
            .flat_map(|_| random().to_le_bytes())
            .collect();
        let name = tree.join(format!("files/{}/{index}", index % 7));
        fs::create_dir_all(name.parent().context("no parent")?)?;
        fs::write(&name, bytes).with_context(|| name.display().to_string())?;
    }
    let manifest = crate::process::output(
        std::process::Command::new("sh")
            .args(["-c", "find . -type f | LC_ALL=C sort | xargs sha256sum"])
            .current_dir(tree),
    )?;
    files::write(tree, "MANIFEST", &manifest)
}
