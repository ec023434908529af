//! Help, manual pages, completions.

use std::{fs, process::Command};

use crate::harness::{PROGRAM, Place, succeed};

const COMMANDS: [&str; 14] = [
    "mount",
    "status",
    "check-config",
    "import",
    "ls",
    "export",
    "remove",
    "gc",
    "pin",
    "verify",
    "info",
    "registration",
    "completions",
    "man",
];

fn program(args: &[&str]) -> String {
    succeed(Command::new(PROGRAM).args(args))
}

#[test]
fn help_names_every_command_and_gives_examples() {
    let text = program(&["--help"]);
    for command in COMMANDS {
        assert!(text.contains(&format!("\n  {command} ")), "{command}");
        let own = program(&[command, "--help"]);
        assert!(own.contains("Usage: store-mountd "), "{own}");
    }
    for command in [
        "mount",
        "import",
        "ls",
        "export",
        "remove",
        "gc",
        "pin",
        "registration",
        "completions",
    ] {
        assert!(
            program(&[command, "--help"]).contains("\nExamples:\n"),
            "{command}"
        );
    }
    assert!(text.contains("STORE_MOUNTD_STORE"));
    assert!(program(&["--version"]).starts_with("store-mountd "));
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let place = Place::new();
    let dir = place.path("man/man1");
    program(&["man", dir.to_str().unwrap()]);
    for command in COMMANDS {
        let page = fs::read_to_string(dir.join(format!("store-mountd-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
    }
    assert!(dir.join("store-mountd.1").exists());
}

#[test]
fn shells_get_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = program(&["completions", shell]);
        assert!(script.contains("registration"), "{shell}");
    }
    let script = program(&["completions", "bash"]);
    let mut bash = Command::new("bash");
    assert_eq!(succeed(bash.args(["-n", "-c", &script])), "");
}
