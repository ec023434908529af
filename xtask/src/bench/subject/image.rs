//! File systems in an image, mounted by the kernel through a loop device.

use super::super::Bench;
use super::{Mounted, Subject, remove, unmount};
use crate::process::{run, which};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) fn all(bench: &Bench<'_>, tree: &Path) -> Result<Vec<Box<dyn Subject>>> {
    let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
    for (name, make) in [("erofs", "mkfs.erofs"), ("squashfs", "mksquashfs")] {
        if bench.is_without(name) {
            continue;
        }
        let Some(make) = which(make) else {
            println!("{name} is left out: {make} is not installed");
            continue;
        };
        let image = bench.dir.join(name);
        remove(&image)?;
        let mut command = Command::new(make);
        match name {
            "erofs" => command.arg("--quiet").arg(&image).arg(tree),
            // Compression is another trade; what is compared is reading.
            _ => command.arg(tree).arg(&image).args([
                "-quiet",
                "-no-progress",
                "-noI",
                "-noD",
                "-noF",
                "-noX",
            ]),
        };
        run(&mut command)?;
        subjects.push(Box::new(Image {
            name,
            image,
            mountpoint: bench.mountpoint()?,
        }));
    }
    Ok(subjects)
}

struct Image {
    name: &'static str,
    image: PathBuf,
    mountpoint: PathBuf,
}

struct ImageMount(PathBuf);

impl Subject for Image {
    fn name(&self) -> &str {
        self.name
    }

    fn mount(&self) -> Result<Box<dyn Mounted>> {
        let mut mount = Command::new("mount");
        mount.args(["-t", self.name, "-o", "loop,ro"]);
        run(mount.arg(&self.image).arg(&self.mountpoint))?;
        Ok(Box::new(ImageMount(self.mountpoint.clone())))
    }
}

impl Mounted for ImageMount {
    fn tree(&self) -> &Path {
        &self.0
    }

    fn unmount(self: Box<Self>) -> Result<()> {
        unmount(&self.0)
    }
}
