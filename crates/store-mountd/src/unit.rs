//! The unit files, against the program.

use std::collections::BTreeMap;

use clap::Parser as _;

use crate::{
    cli::{Cli, Command},
    config::DEFAULT_FILE,
};

const UNIT: &str = include_str!("../../../systemd/tvix-store-mount.service");
const CHECK_UNIT: &str = include_str!("../../../systemd/tvix-store-mount-check.service");

/// The values of each option by section and name, those of repeated ones one
/// after the other.
fn options() -> BTreeMap<(String, String), Vec<String>> {
    let mut options = BTreeMap::<_, Vec<String>>::new();
    let mut section = "";
    for line in UNIT.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            section = name;
            continue;
        }
        let (name, value) = line.split_once('=').expect("an option");
        let key = (section.to_owned(), name.to_owned());
        options.entry(key).or_default().push(value.to_owned());
    }
    options
}

fn option(section: &str, name: &str) -> String {
    let key = (section.to_owned(), name.to_owned());
    match options().get(&key) {
        Some(values) => values.join(" "),
        None => panic!("[{section}] has no {name}="),
    }
}

#[test]
fn the_program_understands_how_it_is_started() {
    let start = option("Service", "ExecStart");
    let mut words = start.split(' ');
    let path = words.next().unwrap();
    assert!(
        path.starts_with("@/") && path.ends_with("/store-mountd"),
        "{path}"
    );
    let cli = Cli::try_parse_from(words.clone()).unwrap();
    assert!(
        matches!(cli.command, Command::Mount(_)),
        "{:?}",
        cli.command
    );
    // The name that it goes by, for systemd-shutdown.
    assert_eq!(words.next(), Some("@store-mountd"));
    assert_eq!(words.next_back(), Some(DEFAULT_FILE));
    assert_eq!(option("Unit", "ConditionPathExists"), DEFAULT_FILE);
}

#[test]
fn the_program_understands_how_the_system_is_checked() {
    let start = CHECK_UNIT
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let cli = Cli::try_parse_from(start.unwrap().split(' ')).unwrap();
    assert!(
        matches!(cli.command, Command::CheckBoot(_)),
        "{:?}",
        cli.command
    );
}

#[test]
fn nothing_stops_it_by_the_way() {
    for (section, name, value) in [
        ("Unit", "DefaultDependencies", "no"),
        ("Unit", "IgnoreOnIsolate", "yes"),
        ("Unit", "SurviveFinalKillSignal", "yes"),
        ("Unit", "StartLimitIntervalSec", "0"),
        ("Service", "Restart", "always"),
        ("Service", "RestartPreventExitStatus", "0"),
        ("Service", "SuccessExitStatus", "75"),
        ("Service", "KillMode", "process"),
        ("Service", "SendSIGKILL", "no"),
        ("Service", "FileDescriptorStorePreserve", "yes"),
        ("Service", "OOMScoreAdjust", "-1000"),
        ("Service", "LimitCORE", "1"),
    ] {
        assert_eq!(option(section, name), value, "{name}");
    }
    for (section, name) in options().into_keys() {
        let stops = [
            "Requires",
            "BindsTo",
            "Requisite",
            "PartOf",
            "Conflicts",
            "RequiresMountsFor",
        ];
        assert!(!stops.contains(&&*name), "[{section}] {name}=");
    }
}

/// What makes a mount namespace, by systemd.exec(5).
#[test]
fn the_mount_is_everybodys() {
    for (_, name) in options().into_keys() {
        let is_namespace = [
            "RootDirectory",
            "RootImage",
            "RootEphemeral",
            "MountAPIVFS",
            "MountFlags",
            "BindPaths",
            "BindReadOnlyPaths",
            "BindLogSockets",
            "MountImages",
            "ExtensionImages",
            "ExtensionDirectories",
            "ReadWritePaths",
            "ReadOnlyPaths",
            "InaccessiblePaths",
            "ExecPaths",
            "NoExecPaths",
            "TemporaryFileSystem",
            "PrivateTmp",
            "PrivateDevices",
            "PrivateMounts",
            "PrivateIPC",
            "PrivateUsers",
            "PrivatePIDs",
            "ProtectSystem",
            "ProtectHome",
            "ProtectHostname",
            "ProtectKernelTunables",
            "ProtectKernelModules",
            "ProtectKernelLogs",
            "ProtectControlGroups",
            "ProtectProc",
            "ProcSubset",
            "DynamicUser",
        ];
        assert!(
            !is_namespace.contains(&&*name),
            "{name}= makes a mount namespace"
        );
    }
}

#[test]
fn the_program_may_what_it_keeps_and_says_so() {
    let allowed = option("Service", "CapabilityBoundingSet");
    let allowed: Vec<_> = allowed.split(' ').collect();
    let document = include_str!("../../../docs/operations.md");
    for (name, _) in crate::confine::SUPERVISOR_CAPABILITIES.iter_names() {
        let name = format!("CAP_{name}");
        assert!(allowed.contains(&&*name), "{name}");
        assert!(document.contains(&name), "{name} is not documented");
    }
}
