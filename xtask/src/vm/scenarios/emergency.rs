//! Boots that cannot succeed, and what they say.

use crate::vm::lab::Lab;
use crate::vm::report::Report;
use crate::vm::system::{NixStore, System};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

/// What systemd's emergency shell says.
const SHELL: &str = "emergency mode";

pub(super) fn run(lab: &Lab<'_>, report: &mut Report) -> Result<()> {
    let system = System::new(lab, "emergency", NixStore::Mount, "boot")?;
    let store = system.store();
    let away = store.with_extension("away");
    fs::rename(&store, &away)?;
    let why = "/sysroot/var/lib/tvix-store-mount is not a store";
    boot(lab, report, &system, "missing", why)?;
    fs::rename(&away, &store)?;
    damage_indexes(&store)?;
    let why = "the system in /sysroot cannot be started from its store: /nix/store/";
    boot(lab, report, &system, "damaged", why)
}

/// The journal is to have `why`, and after it what to do.
fn boot(
    lab: &Lab<'_>,
    report: &mut Report,
    system: &System,
    kind: &'static str,
    why: &str,
) -> Result<()> {
    let disk = system.disk()?;
    let mut machine = system.machine(lab, kind, &disk)?;
    machine.until = Some(SHELL);
    let outcome = lab.run(&machine, report)?;
    report.check(
        &format!("{kind}: a shell is offered"),
        outcome.console.contains(SHELL),
        || "the machine ended".to_owned(),
    );
    // What a unit writes to the console goes to journald's, which is a terminal of its own here.
    let told = fs::read(lab.dir.join(format!("{kind}.journal")))?;
    let told = String::from_utf8_lossy(&told);
    let told: Vec<&str> = told
        .lines()
        .skip_while(|line| !line.contains(why))
        .collect();
    report.check(
        &format!("{kind}: the console says what is wrong"),
        !told.is_empty(),
        || format!("no line has '{why}'"),
    );
    report.check(
        &format!("{kind}: and what to do"),
        told.iter().any(|line| line.contains("store-mountd import")),
        || "it does not".to_owned(),
    );
    for line in told.iter().take(4) {
        report.note(line.trim());
    }
    Ok(())
}

/// Overwrites the beginning of all files that say what is where.
fn damage_indexes(store: &Path) -> Result<()> {
    for entry in fs::read_dir(store.join("packs"))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "meta")
        {
            let mut bytes = fs::read(&path)?;
            let end = bytes.len().min(4096);
            bytes[..end].fill(0x55);
            fs::remove_file(&path)?;
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}
