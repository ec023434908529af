use std::{collections::BTreeSet, path::Path};

use super::*;

fn parse(text: &str) -> Result<SettingsFile, String> {
    SettingsFile::parse(Path::new("c.toml"), text).map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    let file = match parse(text) {
        Ok(file) => file,
        Err(error) => return error,
    };
    let config = file.under(Settings::default());
    config.expect_err("must be refused").to_string()
}

#[test]
fn flags_go_before_the_file_and_the_file_before_defaults() {
    let file = parse(
        "mountpoint = '/nix/store'\nintegrity = 'at-rest'\nthreads = 3\nlist-root = true\n\
         directory-cache = '1MiB'\nmetrics-listen = '127.0.0.1:9'",
    )
    .unwrap();
    let flags = Settings {
        threads: NonZero::new(2),
        list_root: Some(false),
        ..Default::default()
    };
    let config = file.under(flags).unwrap();
    assert_eq!(config.mountpoint, Path::new("/nix/store"));
    assert_eq!(config.integrity, Integrity::AtRest);
    assert_eq!(config.threads, NonZero::new(2));
    assert!(!config.list_root);
    assert_eq!(config.directory_cache, 1 << 20);
    assert_eq!(config.metrics_listen.to_string(), "127.0.0.1:9");
    assert_eq!(config.data_path, DataPathChoice::Auto);
    assert!(config.confine);
    assert_eq!(config.max_threads, Settings::defaults().max_threads);
}

#[test]
fn numbers_of_bytes_may_be_numbers() {
    let file = parse("directory-cache = 4096\nmountpoint = '/m'").unwrap();
    assert_eq!(file.settings.directory_cache, Some(Bytes(4096)));
}

#[test]
fn what_is_no_setting_is_refused_with_the_nearest_that_is() {
    for (name, nearest) in [
        ("stor", "store"),
        ("list_root", "list-root"),
        ("mount-point", "mountpoint"),
        ("max-thread", "max-threads"),
        ("log", "log-level"),
    ] {
        let expected =
            format!("c.toml:2:1: there is no setting '{name}'; did you mean '{nearest}'?");
        assert_eq!(refused(&format!("# x\n{name} = 1")), expected);
    }
    let error = refused("  quux = 1");
    assert!(
        error.starts_with("c.toml:1:3: there is no setting 'quux'; there are "),
        "{error}"
    );
    assert!(error.contains("integrity"), "{error}");
}

#[test]
fn errors_have_line_and_column() {
    for (text, place) in [
        ("mountpoint = '/m'\nthreads = 0", "c.toml:2:11: "),
        (
            "mountpoint = '/m'\n  integrity = 'on-raed'",
            "c.toml:2:15: ",
        ),
        ("xattrs = 'ä'", "c.toml:1:10: "),
        ("store = 's'\nmountpoint = '/m'", "c.toml:1:1: store: "),
        (
            "mountpoint = '/m'\ndata-path = 'passthrough'",
            "c.toml:2:1: data-path: ",
        ),
        (
            "mountpoint = '/m'\nthreads = 2\nmax-threads = 1",
            "c.toml:3:1: max-threads: ",
        ),
        ("mountpoint = '/m'\nstore = \"x", "c.toml:2:"),
        (
            "mountpoint = '/m'\nxattrs = true\nxattrs = true",
            "c.toml:3:1: ",
        ),
        ("store = '/s'", "c.toml: mountpoint: "),
    ] {
        let error = refused(text);
        assert!(error.starts_with(place), "{error}, not {place}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = SettingsFile::read(Path::new("/nonexistent/c.toml")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nonexistent/c.toml: cannot read"),
        "{error}"
    );
}

#[test]
fn every_setting_has_a_default_or_is_said_not_to() {
    let without: BTreeSet<_> = ["store", "mountpoint", "allow-other", "threads"].into();
    let defaults = serde_json::to_value(Settings::defaults()).unwrap();
    for (name, value) in defaults.as_object().unwrap() {
        assert_eq!(value.is_null(), without.contains(name.as_str()), "{name}");
    }
}
