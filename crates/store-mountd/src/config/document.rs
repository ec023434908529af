//! `docs/configuration.md`, made from what the command line says of itself.

use std::{env, fmt::Write as _, fs, path::Path};

use clap::{Arg, ArgAction, CommandFactory as _};

use super::{Settings, file::names};
use crate::cli::Cli;

const HEAD: &str = "\
# Configuration

`store-mountd mount` is configured by flags and, with `--config FILE`, by a file
in [TOML](https://toml.io). A flag goes before the file, the file before the
default. The service reads `/etc/tvix-store-mount/config.toml`:

```toml
mountpoint = \"/nix/store\"
store = \"/var/lib/tvix-store-mount\"
```

`store-mountd check-config [FILE]` says whether a file is sound, and if not, in
which line and why. What is no setting is refused.

The variable `STORE_MOUNTD_STORE` goes before the file as `--store` does, and
`RUST_LOG` before `log-level`.

<!-- From here on made from the program: `UPDATE_DOCS=1 cargo test -p store-mountd config` -->

## Settings
";

fn document() -> String {
    let mut cli = Cli::command();
    cli.build();
    let mount = cli.find_subcommand("mount").expect("a subcommand");
    let defaults = serde_json::to_value(Settings::defaults()).expect("settings are plain");
    let mut document = HEAD.to_owned();
    let mut missing = names();
    for arg in mount.get_arguments() {
        let name = name(arg);
        if !missing.contains(&name) {
            continue;
        }
        missing.retain(|other| *other != name);
        let default = match &defaults[&name] {
            serde_json::Value::Null => None,
            default => Some(default.to_string()),
        };
        section(&mut document, arg, &name, default.as_deref());
    }
    assert_eq!(
        missing,
        <[String; 0]>::default(),
        "settings that are no flags"
    );
    document
}

fn name(arg: &Arg) -> String {
    arg.get_long()
        .map_or_else(|| arg.get_id().to_string(), str::to_owned)
}

fn section(document: &mut String, arg: &Arg, name: &str, default: Option<&str>) {
    let flag = match (arg.get_long(), arg.get_value_names()) {
        (None, _) => "the argument of `mount`".to_owned(),
        (Some(long), Some(values)) if arg.is_require_equals_set() => {
            format!("`--{long}[={}]`", values[0])
        }
        (Some(long), values) => {
            assert!(matches!(arg.get_action(), ArgAction::Set), "{long}");
            format!("`--{long} {}`", values.map_or("", |values| &values[0]))
        }
    };
    let default = default.map_or("as said".to_owned(), |default| format!("`{default}`"));
    let help = arg.get_long_help().or(arg.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut text = format!("\n### `{name}`\n\n{}.\n\n", wrap(&quote(&help)));
    let values = arg.get_possible_values();
    let told: Vec<_> = (values.iter())
        .filter_map(|value| Some((value.get_name(), value.get_help()?)))
        .collect();
    for (value, help) in &told {
        let line = format!("- `\"{value}\"`: {}.", quote(&help.to_string()));
        let _ = writeln!(text, "{}", wrap(&line).replace('\n', "\n  "));
    }
    if !told.is_empty() {
        text.push('\n');
    }
    let _ = writeln!(text, "Flag: {flag}. Default: {default}.");
    document.push_str(&text);
}

/// Marks what would be read as something else than text.
fn quote(text: &str) -> String {
    text.split(' ')
        .map(
            |word| match word.starts_with(['/', '$', '~']) && word.len() > 1 {
                true => {
                    let end = word.trim_end_matches([',', '.', ':']).len();
                    format!("`{}`{}", &word[..end], &word[end..])
                }
                false => word.to_owned(),
            },
        )
        .collect::<Vec<_>>()
        .join(" ")
}

fn wrap(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= 78 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

#[test]
fn the_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let document = document();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &document).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == document,
        "docs/configuration.md is not what the program says of itself; run\n    \
         UPDATE_DOCS=1 cargo test -p store-mountd config"
    );
}
