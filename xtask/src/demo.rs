//! `cargo xtask demo`: the README's first command.

mod compare;

use crate::mount::{self, Mount};
use crate::{process, sys, workspace};
use anyhow::{Context as _, Result, bail, ensure};
use std::fs::{self, File};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) tree: Option<PathBuf>,
    pub(crate) store: Option<PathBuf>,
    pub(crate) once: bool,
}

/// A tree of this machine, and how store-mountd is told to import it.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    is_nix_closure: bool,
}

/// How many entries of the listing are shown.
const LISTED: usize = 15;

pub(crate) fn run(options: &Options) -> Result<()> {
    check_machine()?;
    let source = choose_source(options)?;
    sys::catch_signals();

    heading("Building store-mountd");
    let program = workspace::build_mountd()?;
    println!("{}", program.display());

    let dir = workspace::target_dir()?.join("demo");
    let store = prepare_store(&dir, options)?;
    let mountpoint = dir.join("mnt");
    mount::prepare_mountpoint(&mountpoint)?;

    heading(&format!("Importing {}", source.path.display()));
    let paths = import(&program, &store, &source)?;

    heading(&format!("Mounting on {}", mountpoint.display()));
    let mut mount = Mount::start(&program, &store, &mountpoint, &["--list-root".to_owned()])?;
    let result = look_around(&source, &paths, &mountpoint).and_then(|()| {
        if !options.once {
            suggest(&program, &store, &mountpoint, &paths[0])?;
            mount.wait_for_signal()?;
        }
        Ok(())
    });
    heading("Unmounting");
    mount.stop().and(result)?;
    println!("done; the store stays in {}", store.display());
    Ok(())
}

fn heading(text: &str) {
    let (bold, plain) = if std::io::stdout().is_terminal() {
        ("\x1b[1m", "\x1b[0m")
    } else {
        ("", "")
    };
    println!("\n{bold}== {text}{plain}");
}

fn check_machine() -> Result<()> {
    ensure!(
        cfg!(target_os = "linux"),
        "the demo mounts a FUSE filesystem and needs Linux"
    );
    ensure!(
        sys::is_root(),
        "the demo mounts a filesystem for all users and needs root: \
         try `sudo -E env PATH=\"$PATH\" cargo xtask demo`"
    );
    match File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(error) => bail!(
            "cannot open /dev/fuse ({error}): load the kernel's module with `modprobe fuse`, or \
             start the container with `--device /dev/fuse --cap-add SYS_ADMIN`"
        ),
    }
}

fn choose_source(options: &Options) -> Result<Source> {
    if let Some(tree) = &options.tree {
        let path = tree
            .canonicalize()
            .with_context(|| format!("--tree {}", tree.display()))?;
        return Ok(Source {
            path,
            is_nix_closure: false,
        });
    }
    if let Some(path) = installed_nix() {
        return Ok(Source {
            path,
            is_nix_closure: true,
        });
    }
    let path = PathBuf::from("/usr/share");
    ensure!(
        path.is_dir(),
        "there is no /usr/share: name a tree with --tree DIR"
    );
    Ok(Source {
        path,
        is_nix_closure: false,
    })
}

/// The store path of the `nix` in PATH, when it was installed by Nix itself.
fn installed_nix() -> Option<PathBuf> {
    let program = process::which("nix")?.canonicalize().ok()?;
    let name = program
        .strip_prefix("/nix/store")
        .ok()?
        .components()
        .next()?;
    Some(Path::new("/nix/store").join(name))
}

fn prepare_store(dir: &Path, options: &Options) -> Result<PathBuf> {
    if let Some(store) = &options.store {
        return Ok(std::path::absolute(store)?);
    }
    let store = dir.join("store");
    match fs::remove_dir_all(&store) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("removing {}", store.display()));
        }
    }
    Ok(store)
}

fn import(program: &Path, store: &Path, source: &Source) -> Result<Vec<PathBuf>> {
    let mut command = Command::new(program);
    command
        .arg("--store")
        .arg(store)
        .arg("import")
        .arg(&source.path);
    if source.is_nix_closure {
        command.arg("--closure");
    }
    let begin = Instant::now();
    let text = process::output(command.stdin(Stdio::null()))?;
    let paths: Vec<PathBuf> = text.lines().map(PathBuf::from).collect();
    ensure!(!paths.is_empty(), "the import named no path");
    ensure!(!sys::interrupted(), "interrupted");
    println!("{} path(s) in {:.1?}", paths.len(), begin.elapsed());
    Ok(paths)
}

fn look_around(source: &Source, paths: &[PathBuf], mountpoint: &Path) -> Result<()> {
    let first = in_mount(mountpoint, &paths[0])?;
    heading(&format!("ls -l {}", first.display()));
    let listing = process::output(Command::new("ls").arg("-l").arg(&first))?;
    for line in listing.lines().take(LISTED) {
        println!("{line}");
    }
    if let Some(more) = listing
        .lines()
        .count()
        .checked_sub(LISTED)
        .filter(|n| *n > 0)
    {
        println!("… and {more} more");
    }

    heading("Comparing a sample with the source");
    let begin = Instant::now();
    let mut report = compare::Report::default();
    for path in paths {
        let original = if source.is_nix_closure {
            path
        } else {
            &source.path
        };
        compare::compare(original, &in_mount(mountpoint, path)?, &mut report)?;
    }
    println!("{report} in {:.1?}", begin.elapsed());
    Ok(())
}

fn in_mount(mountpoint: &Path, store_path: &Path) -> Result<PathBuf> {
    let name = store_path
        .file_name()
        .with_context(|| format!("{} is no store path", store_path.display()))?;
    Ok(mountpoint.join(name))
}

fn suggest(program: &Path, store: &Path, mountpoint: &Path, path: &Path) -> Result<()> {
    heading("Mounted. Try, in another terminal:");
    let tree = in_mount(mountpoint, path)?;
    println!(
        "  tree={}
  mountd='{} --store {}'
  find $tree | head
  touch $tree/new               # it is read-only
  $mountd import /etc/ssl       # appears in {} at once
  $mountd ls {path}
  $mountd info {path}
  $mountd export {path} --nar -o /tmp/demo.nar
  $mountd verify
\nCtrl-C unmounts.",
        tree.display(),
        program.display(),
        store.display(),
        mountpoint.display(),
        path = path.display(),
    );
    Ok(())
}
