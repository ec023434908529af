//! A real Nix beside the program: store paths, metadata, archives, and a Nix that lives on the
//! mounted store.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::process::{Command, Stdio};
use system_tests::{mountd, scratch};

#[test]
fn nix_and_the_program_agree() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let version = Command::new("nix-store").arg("--version").output();
    let version = version.context("this test needs Nix: apt-get install nix-bin")?;
    println!("{}", String::from_utf8_lossy(&version.stdout).trim());
    // Only a mount point: the test mounts over it in a namespace of its own.
    let made = fs::create_dir("/nix").is_ok();
    let dir = scratch::dir("nix")?;
    let output = Command::new("unshare")
        .args(["--mount", "sh"])
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/nix/scenario.sh"
        ))
        .env("MOUNTD", mountd::program()?)
        .env("WORK", dir.path())
        .stdin(Stdio::null())
        .output();
    if made {
        fs::remove_dir("/nix").context("removing /nix again")?;
    }
    let output = output.context("starting unshare")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && stdout.ends_with("done\n"),
        "{}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
