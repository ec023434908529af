use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use castore::local::is_pin_name;
use clap::Args;
use nix_compat::StorePath;
use store::{PathInfoService as _, pathinfoservice::LocalPathInfoService};

use crate::{
    open::StoreDir,
    place::{StorePathArg, store_path_parser},
};

/// Keep store paths, with all that they refer to, from being removed.
///
/// A pin is in the store, and has a name: pinning other paths by the same name
/// takes its place. `gc` removes what no pin keeps, and `remove` refuses what is
/// pinned.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Pin {
    /// The name of the pin: letters, digits and +-._=.
    #[arg(value_name = "NAME", value_parser = parse_name, required_unless_present = "list")]
    name: Option<String>,

    /// Store paths.
    #[arg(
        value_name = "PATH",
        value_parser = store_path_parser(),
        required_unless_present_any = ["list", "remove"]
    )]
    paths: Vec<StorePathArg>,

    /// Print the pins, each path on a line behind the name of its pin.
    #[arg(long, conflicts_with_all = ["name", "paths", "remove"])]
    list: bool,

    /// Remove the pin. Its paths stay until they are collected.
    #[arg(long, conflicts_with = "paths")]
    remove: bool,
}

const EXAMPLES: &str = "\
Examples:
  store-mountd pin website /nix/store/HASH-website
  store-mountd pin --list
  store-mountd pin --remove website";

fn parse_name(name: &str) -> Result<String> {
    match is_pin_name(name) {
        true => Ok(name.to_owned()),
        false => Err(anyhow!(
            "a pin's name has letters, digits and +-._= only, and begins with no point"
        )),
    }
}

impl Pin {
    pub(crate) fn run(self, dir: &StoreDir) -> Result<ExitCode> {
        let store = dir.open()?;
        let Some(name) = self.name else {
            let infos = LocalPathInfoService::new(store.clone());
            for (name, paths) in store.pins()? {
                for path in paths {
                    let parsed = StorePath::from_base_name(path.as_bytes())?;
                    let note = match infos.get(parsed.digest())? {
                        Some(info) if info.store_path == parsed => "",
                        _ => " (not in the store)",
                    };
                    println!("{name} {}{note}", parsed.to_absolute_path());
                }
            }
            return Ok(ExitCode::SUCCESS);
        };
        if self.remove {
            if !store.remove_pin(&name)? {
                bail!(
                    "there is no pin '{name}'; `store-mountd pin --list` has those that there are"
                );
            }
            return Ok(ExitCode::SUCCESS);
        }
        // As long as a session lives, nothing is removed.
        let _hold = store.begin()?;
        for path in &self.paths {
            path.info(&store)?;
        }
        let lines: Vec<_> = self.paths.iter().map(|path| path.0.to_string()).collect();
        store.set_pin(&name, &lines)?;
        Ok(ExitCode::SUCCESS)
    }
}
