//! Other programs that do what store-mountd does, where they are installed: found in PATH, or
//! named by an environment variable.

use super::super::{Bench, usage};
use super::{Counters, Mounted, Subject, remove, unmount};
use crate::mount::is_mounted;
use crate::process::{output, run, which};
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn all(bench: &Bench<'_>, tree: &Path) -> Result<Vec<Box<dyn Subject>>> {
    let mut subjects = Vec::new();
    for (name, make) in [
        ("squashfuse", squashfuse as Make),
        ("snix-store", snix_store),
        ("composefs", composefs),
    ] {
        if bench.is_without(name) {
            continue;
        }
        match make(bench, tree).with_context(|| name.to_owned())? {
            Some(rival) => subjects.push(Box::new(rival) as _),
            None => println!("{name} is left out: it is not installed"),
        }
    }
    Ok(subjects)
}

type Make = fn(&Bench<'_>, &Path) -> Result<Option<Rival>>;

/// The program that a variable names, or one in PATH.
fn find(variable: &str, program: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.or_else(|| which(program))
}

/// Serves the image that the kernel's squashfs mounts, too.
fn squashfuse(bench: &Bench<'_>, _: &Path) -> Result<Option<Rival>> {
    let image = bench.dir.join("squashfs");
    let program = find("SQUASHFUSE", "squashfuse_ll").filter(|_| image.exists());
    let mountpoint = bench.mountpoint()?;
    Ok(program.map(|program| Rival {
        name: "squashfuse",
        program,
        // In the foreground.
        arguments: vec!["-f".into(), image, mountpoint.clone()],
        tree: mountpoint.clone(),
        mountpoint,
        serves: true,
    }))
}

fn snix_store(bench: &Bench<'_>, tree: &Path) -> Result<Option<Rival>> {
    let Some(program) = find("SNIX_STORE", "snix-store") else {
        return Ok(None);
    };
    let dir = bench.dir.join("snix");
    remove(&dir)?;
    std::fs::create_dir_all(&dir)?;
    let services = [
        ("blob", "objectstore+file", "blobs"),
        ("directory", "redb", "directories.redb"),
        ("path-info", "redb", "pathinfo.redb"),
    ];
    let services = services.map(|(service, scheme, name)| {
        let path = dir.join(name);
        format!("--{service}-service-addr={scheme}://{}", path.display())
    });
    let mut import = Command::new(&program);
    let imported = output(import.arg("import").args(&services).arg(tree))?;
    let name = Path::new(imported.trim()).file_name();
    let mountpoint = bench.mountpoint()?;
    Ok(Some(Rival {
        name: "snix-store",
        program,
        arguments: std::iter::once("mount".into())
            .chain(services.map(Into::into))
            .chain([mountpoint.clone()])
            .collect(),
        tree: mountpoint.join(name.context("import printed no path")?),
        mountpoint,
        serves: true,
    }))
}

fn composefs(bench: &Bench<'_>, tree: &Path) -> Result<Option<Rival>> {
    let programs =
        find("MKCOMPOSEFS", "mkcomposefs").zip(find("MOUNT_COMPOSEFS", "mount.composefs"));
    let Some((make, program)) = programs else {
        return Ok(None);
    };
    let dir = bench.dir.join("composefs");
    remove(&dir)?;
    let (objects, image) = (dir.join("objects"), dir.join("image"));
    std::fs::create_dir_all(&objects)?;
    let store = format!("--digest-store={}", objects.display());
    run(Command::new(make).arg(store).arg(tree).arg(&image))?;
    let mountpoint = bench.mountpoint()?;
    Ok(Some(Rival {
        name: "composefs",
        program,
        arguments: vec![
            "-o".into(),
            format!("basedir={}", objects.display()).into(),
            image,
            mountpoint.clone(),
        ],
        tree: mountpoint.clone(),
        mountpoint,
        serves: false,
    }))
}

struct Rival {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<PathBuf>,
    mountpoint: PathBuf,
    tree: PathBuf,
    /// Whether the program is the server, or ends when it has mounted.
    serves: bool,
}

impl Subject for Rival {
    fn name(&self) -> &str {
        self.name
    }

    fn mount(&self) -> Result<Box<dyn Mounted>> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        let mut server = None;
        if self.serves {
            server = Some(command.stdout(Stdio::null()).spawn()?);
            let end = Instant::now() + PATIENCE;
            while !is_mounted(&self.mountpoint) || !self.tree.exists() {
                ensure!(Instant::now() < end, "{} did not mount", self.name);
                std::thread::sleep(Duration::from_millis(20));
            }
        } else {
            run(&mut command)?;
        }
        Ok(Box::new(RivalMount {
            server,
            mountpoint: self.mountpoint.clone(),
            tree: self.tree.clone(),
        }))
    }
}

struct RivalMount {
    server: Option<Child>,
    mountpoint: PathBuf,
    tree: PathBuf,
}

impl Mounted for RivalMount {
    fn tree(&self) -> &Path {
        &self.tree
    }

    fn counters(&mut self) -> Result<Counters> {
        let Some(server) = &self.server else {
            return Ok(Counters::default());
        };
        let usage = usage::of(server.id())?;
        Ok(Counters {
            cpu: usage.cpu,
            requests: None,
            memory: usage.memory,
        })
    }

    fn unmount(mut self: Box<Self>) -> Result<()> {
        unmount(&self.mountpoint)?;
        if let Some(mut server) = self.server.take() {
            server.wait()?;
        }
        Ok(())
    }
}
