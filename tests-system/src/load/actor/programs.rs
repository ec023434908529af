//! Programs that lie on the mount, with their loader and libraries, started again and again.

use super::super::content;
use super::super::scene::What;
use super::Actor;
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs one program after the other and compares what it prints. Their pages are made cold now
/// and then, so that the start itself has to read.
pub(super) fn run(actor: &mut Actor<'_>) -> Result<()> {
    let version = Command::new("/sbin/ldconfig").arg("--version").output()?;
    while actor.goes_on() {
        if actor.rng.percent(60) {
            cool_programs(actor);
        }
        match actor.rng.below(4) {
            0 => {
                let program = actor.path("bin/static".as_ref());
                let output = start(actor, "static", || {
                    Command::new(&program).arg("--version").output()
                });
                compare(actor, "static", output, &version.stdout);
            }
            1 => {
                let found = start(actor, "find", || {
                    enter(actor, &["/bin/find", "/small", "-printf", "x"])
                });
                let small = actor.site.scene.entries();
                let count = small.filter(|(path, _)| path.starts_with("small")).count();
                compare(actor, "find", found, &vec![b'x'; count]);
            }
            kind => cat(actor, kind == 2)?,
        }
    }
    Ok(())
}

/// `cat`, by itself or from a shell.
fn cat(actor: &mut Actor<'_>, by_shell: bool) -> Result<()> {
    let (name, size, seed) = actor.pick();
    let path = Path::new("/").join(&name);
    let name = path.to_string_lossy();
    let output = start(actor, "cat", || {
        if by_shell {
            // A second command: else the shell becomes cat.
            let script = format!("/bin/cat {name} && exit 0");
            enter(actor, &["/bin/sh", "-c", &script])
        } else {
            enter(actor, &["/bin/cat", &name])
        }
    });
    compare(
        actor,
        &name,
        output,
        &content::bytes(seed, 0, size as usize),
    );
    Ok(())
}

fn enter(actor: &Actor<'_>, command: &[&str]) -> std::io::Result<Output> {
    Command::new("chroot")
        .arg(&actor.site.top)
        .args(command)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
}

fn start(
    actor: &Actor<'_>,
    what: &str,
    run: impl FnOnce() -> std::io::Result<Output>,
) -> Option<Output> {
    let run = || {
        let output = run()?;
        ensure!(
            output.status.success(),
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output)
    };
    // An anyhow error does not tell its causes unless asked.
    let run = || run().map_err(|error: anyhow::Error| format!("{error:#}"));
    actor.site.record.program(actor.number, what, run)
}

fn compare(actor: &Actor<'_>, what: &str, output: Option<Output>, expected: &[u8]) {
    let Some(output) = output else { return };
    if output.stdout == expected {
        actor.site.record.add_bytes(expected.len());
    } else {
        let (found, expected) = (output.stdout.len(), expected.len());
        actor.site.record.fail(format!(
            "{what} printed {found} bytes, not the {expected} that it should"
        ));
    }
}

/// Drops what is cached of programs and libraries.
fn cool_programs(actor: &Actor<'_>) {
    for (name, what) in actor.site.scene.entries() {
        if let What::File { seed: None, .. } = what {
            let path = actor.path(name);
            if let Some(fd) = actor.open(&path) {
                actor.cool_file(&fd, &path);
            }
        }
    }
}
