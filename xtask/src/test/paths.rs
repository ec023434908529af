//! Nothing in the repository may tell on which machine it was written.

use super::{Context, Counts};
use crate::{process, workspace};
use anyhow::Result;
use std::fs;
use std::process::Command;

pub(super) fn run(_: &Context) -> Result<Counts> {
    let root = workspace::root();
    // Untracked files too: they are about to be committed.
    let list = process::output(Command::new("git").current_dir(&root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let needles = needles();
    let mut findings = Vec::new();
    let mut count = 0;
    for name in list.split('\0').filter(|name| !name.is_empty()) {
        // A deleted file is still in the index until the commit.
        let Ok(bytes) = fs::read(root.join(name)) else {
            continue;
        };
        count += 1;
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for needle in needles
                .iter()
                .filter(|needle| line.contains(needle.as_str()))
            {
                findings.push(format!("{name}:{}: contains {needle}", number + 1));
            }
        }
    }
    println!("{count} files looked at");
    Ok(Counts::of_findings(&findings))
}

/// This checkout, this user's home directory, and what home directories are mostly called.
fn needles() -> Vec<String> {
    let mut needles = vec![
        // Written in two parts: this file is searched too.
        concat!("/ho", "me/").to_owned(),
        concat!("/Us", "ers/").to_owned(),
        workspace::root().display().to_string(),
    ];
    if let Some(home) = std::env::var("HOME").ok().filter(|home| home.len() > 1) {
        needles.push(format!("{home}/"));
    }
    needles
}
