//! Asking Nix.

use std::{ffi::OsStr, io, process::Command};

use anyhow::{Context as _, Result, anyhow, bail};
use nix_compat::{
    StorePath,
    path_info_json::{self, Entry},
};
use store::Metadata;

/// What Nix knows of `paths`, and with `closure` of everything that they refer
/// to.
pub(crate) fn path_info(paths: &[StorePath], closure: bool) -> Result<Vec<Metadata>> {
    let mut command = Command::new("nix");
    command.args([
        "--extra-experimental-features",
        "nix-command",
        "path-info",
        "--json",
    ]);
    if closure {
        command.arg("--recursive");
    }
    command.args(paths.iter().map(StorePath::to_absolute_path));
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow!(
            "the program nix, which knows what store paths are, is not in PATH; give what is known \
             of them with --registration FILE (`nix-store --dump-db` writes it), or import them as \
             trees under new paths with --name NAME"
        ),
        _ => anyhow!("cannot run nix: {error}"),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("nix path-info failed ({}): {}", output.status, said.trim());
    }
    let entries =
        path_info_json::parse(&output.stdout).context("cannot read what nix path-info printed")?;
    entries
        .into_iter()
        .map(|entry| match entry {
            Entry::Valid(info) => Ok((*info).into()),
            Entry::Invalid(path) => Err(anyhow!(
                "{} is not known to Nix; import it as a tree under a new path with --name NAME",
                path.to_absolute_path()
            )),
        })
        .collect()
}

/// The store path, if `path` is directly one of /nix/store.
pub(crate) fn as_store_path(path: &OsStr) -> Option<StorePath> {
    let path = path.as_encoded_bytes();
    let path = path.strip_suffix(b"/").unwrap_or(path);
    StorePath::from_absolute_path(path).ok()
}
