//! What is measured: ways to have the same tree under some directory.

use super::Bench;
use crate::mount::Mount;
use crate::process::{run, which};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A way to have the tree.
pub(super) trait Subject {
    /// As the table calls it.
    fn name(&self) -> &str;
    /// Makes the tree available, with nothing cached by a server.
    fn mount(&self) -> Result<Box<dyn Mounted>>;
}

/// An available tree.
pub(super) trait Mounted {
    /// Where it is.
    fn tree(&self) -> &Path;
    /// What the server used up to now; zeros if the kernel itself is the server.
    fn counters(&mut self) -> Result<Counters> {
        Ok(Counters::default())
    }
    /// Ends it.
    fn unmount(self: Box<Self>) -> Result<()>;
}

/// What a server used.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    pub(super) cpu: Duration,
    pub(super) requests: u64,
    pub(super) max_rss_kib: u64,
}

/// All subjects that can be had; ext4 is the first.
pub(super) fn all(bench: &Bench<'_>, tree: &Path) -> Result<Vec<Box<dyn Subject>>> {
    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(Plain(tree.to_owned()))];
    let store = bench.dir.join("store-read");
    let mountpoint = bench.dir.join("mount");
    fs::create_dir_all(&mountpoint)?;
    let mut import = Command::new(&bench.program);
    import.arg("--store").arg(&store).arg("import").arg(tree);
    let output = import.output().context("importing the tree")?;
    anyhow::ensure!(
        output.status.success(),
        "the import failed: {}",
        output.status
    );
    let imported = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let base_name = imported.file_name().context("import printed no path")?;
    for (name, integrity, data_path) in [
        ("cached, on-read", "on-read", "cached"),
        ("cached, at-rest", "at-rest", "cached"),
        ("passthrough, at-rest", "at-rest", "passthrough"),
    ] {
        subjects.push(Box::new(Ours {
            name,
            program: bench.program.clone(),
            store: store.clone(),
            mountpoint: mountpoint.clone(),
            tree: mountpoint.join(base_name),
            options: vec![
                format!("--integrity={integrity}"),
                format!("--data-path={data_path}"),
            ],
        }));
    }
    for (name, make, fs_type) in [
        ("erofs", "mkfs.erofs", "erofs"),
        ("squashfs", "mksquashfs", "squashfs"),
    ] {
        if which(make).is_none() {
            println!("{name} is left out: {make} is not installed");
            continue;
        }
        let image = bench.dir.join(name);
        let _ = fs::remove_file(&image);
        let mut command = Command::new(make);
        match name {
            "erofs" => command.arg("--quiet").arg(&image).arg(tree),
            // Compression is another trade; what is compared is reading.
            _ => command
                .arg(tree)
                .arg(&image)
                .args(["-quiet", "-noI", "-noD", "-noF"]),
        };
        run(&mut command)?;
        subjects.push(Box::new(Image {
            name,
            fs_type,
            image,
            mountpoint: mountpoint.clone(),
        }));
    }
    Ok(subjects)
}

struct Plain(PathBuf);

impl Subject for Plain {
    fn name(&self) -> &str {
        "ext4"
    }

    fn mount(&self) -> Result<Box<dyn Mounted>> {
        Ok(Box::new(Self(self.0.clone())))
    }
}

impl Mounted for Plain {
    fn tree(&self) -> &Path {
        &self.0
    }

    fn unmount(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct Ours {
    name: &'static str,
    program: PathBuf,
    store: PathBuf,
    mountpoint: PathBuf,
    tree: PathBuf,
    options: Vec<String>,
}

impl Subject for Ours {
    fn name(&self) -> &str {
        self.name
    }

    fn mount(&self) -> Result<Box<dyn Mounted>> {
        let mount = Mount::start(&self.program, &self.store, &self.mountpoint, &self.options)?;
        Ok(Box::new(OurMount {
            mount,
            tree: self.tree.clone(),
        }))
    }
}

struct OurMount {
    mount: Mount,
    tree: PathBuf,
}

impl Mounted for OurMount {
    fn tree(&self) -> &Path {
        &self.tree
    }

    fn counters(&mut self) -> Result<Counters> {
        let process = PathBuf::from(format!("/proc/{}", self.mount.pid()));
        let stat = fs::read_to_string(process.join("stat"))?;
        // Behind the name, which may have spaces: fields 14 and 15 are ticks, 1/100 s on Linux.
        let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map_while(|field| field.parse::<u64>().ok())
            .sum();
        let status = fs::read_to_string(process.join("status"))?;
        let max_rss_kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse().ok())
            .context("no VmHWM in /proc/PID/status")?;
        Ok(Counters {
            cpu: Duration::from_millis(ticks * 10),
            requests: self.mount.requests()?,
            max_rss_kib,
        })
    }

    fn unmount(self: Box<Self>) -> Result<()> {
        self.mount.stop()
    }
}

struct Image {
    name: &'static str,
    fs_type: &'static str,
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
        mount.args(["-t", self.fs_type, "-o", "loop,ro"]);
        run(mount.arg(&self.image).arg(&self.mountpoint))?;
        Ok(Box::new(ImageMount(self.mountpoint.clone())))
    }
}

impl Mounted for ImageMount {
    fn tree(&self) -> &Path {
        &self.0
    }

    fn unmount(self: Box<Self>) -> Result<()> {
        run(Command::new("umount").arg(&self.0))
    }
}
