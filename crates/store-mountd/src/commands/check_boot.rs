use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::startup;

/// Read what the first process of a system needs, before the switch to its root.
///
/// For the initrd of a system that runs from the mounted store: the program that
/// init= on the kernel's command line names, below DIR, its interpreter and its
/// shared libraries, and the same of the systemd in the system that the program
/// belongs to. Nothing of it is executed. If something cannot be read, this fails
/// and says what, while there is still a shell.
#[derive(Debug, Args)]
pub(crate) struct CheckBoot {
    /// Where the system's root is mounted.
    #[arg(long, value_name = "DIR", default_value = "/sysroot")]
    root: PathBuf,

    /// The program, instead of the one that the kernel's command line names.
    #[arg(long, value_name = "PATH")]
    init: Option<PathBuf>,
}

const KERNEL_COMMAND_LINE: &str = "/proc/cmdline";
/// What systemd starts if it is told nothing.
const DEFAULT_INIT: &str = "/sbin/init";

const REMEDY: &str = "\
The journal of tvix-store-mount.service names what is damaged, `store-mountd --store DIR verify` all
of it. Boot another generation, or a store on the disk, and import the system again from there, with
`store-mountd import --closure --repair`.";

impl CheckBoot {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let init = match self.init {
            Some(init) => init,
            None => init_of(
                &fs::read_to_string(KERNEL_COMMAND_LINE)
                    .with_context(|| format!("cannot read {KERNEL_COMMAND_LINE}"))?,
            ),
        };
        let root = self.root.display();
        // The system's links are meant from its own root.
        std::os::unix::fs::chroot(&self.root)
            .and_then(|()| std::env::set_current_dir("/"))
            .with_context(|| format!("cannot change the root to {root}"))?;
        match startup::read(&init) {
            Ok(count) => {
                eprintln!(
                    "{}: all {count} files that it starts with can be read",
                    init.display()
                );
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                bail!("the system in {root} cannot be started from its store: {error:#}\n{REMEDY}")
            }
        }
    }
}

/// The last one counts, as for systemd.
fn init_of(command_line: &str) -> PathBuf {
    let words = command_line.split_ascii_whitespace();
    let init = words
        .filter_map(|word| word.strip_prefix("init="))
        .next_back();
    Path::new(init.unwrap_or(DEFAULT_INIT)).to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_kernels_command_line_names_it() {
        let init = |line| super::init_of(line);
        assert_eq!(
            init("quiet init=/nix/store/x/init rw\n"),
            Path::new("/nix/store/x/init")
        );
        assert_eq!(init("init=/a rdinit=/b init=/c"), Path::new("/c"));
        assert_eq!(init("quiet"), Path::new("/sbin/init"));
    }
}
