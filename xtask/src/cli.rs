//! The command line.

use crate::{bench, demo, dist, test, vm};
use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;

const HELP: &str = "\
The project's own commands.

Usage: cargo xtask <COMMAND>

Commands:
  demo            Import a real tree, mount it and look at it; needs root and /dev/fuse
      --tree DIR    Import DIR (default: the closure of an installed Nix, else /usr/share)
      --store DIR   Use this store directory (default: a new one in target/demo)
      --once        Unmount and leave after the checks instead of waiting for Ctrl-C
  test            Everything that CI checks, the repeated tests with reduced counts
      --only STAGE  Run one stage (repeatable); `--only list` names them
  soak            The same with full counts; takes --only too
  bench [SUITE…]  Measure against other ways; suites: import, read, scale (default: all)
      --rounds N    Rounds, interleaved (default: 5)
      --without X   Leave a row or a subject out (repeatable)
      --write       Put the tables into docs/performance.md
  vm-test [SCENARIO…]  Whole systems under QEMU; `list` names the scenarios (default: all)
      --accel NAME  QEMU's accelerator (default: tcg, which needs nothing; kvm is much faster)
      --full        Full counts
  static          Build a static store-mountd and print where it is
  help            Print this text
";

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Demo(demo::Options),
    Test(test::Options),
    Bench(bench::Options),
    /// What `bench` starts to be measured; not for people.
    BenchWork {
        work: String,
        tree: PathBuf,
        manifest: PathBuf,
    },
    Static,
    VmTest(vm::Options),
}

/// Parses the arguments after the program's name.
pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Command> {
    let mut args = Args(args.peekable());
    let Some(command) = args.0.next() else {
        return Ok(Command::Help);
    };
    match command.as_str() {
        "help" | "--help" | "-h" => Ok(Command::Help),
        "demo" => parse_demo(args),
        "test" => parse_test(args, false),
        "soak" => parse_test(args, true),
        "bench" => parse_bench(args),
        "bench-work" => {
            let mut next = || args.0.next().context("bench-work WORK TREE MANIFEST");
            let (work, tree, manifest) = (next()?, next()?.into(), next()?.into());
            args.end(Command::BenchWork {
                work,
                tree,
                manifest,
            })
        }
        "static" => args.end(Command::Static),
        "vm-test" => parse_vm_test(args),
        other => bail!("no such command: {other}\n\n{HELP}"),
    }
}

/// Runs the command; false means that it ran and found a failure.
pub(crate) fn run(command: Command) -> Result<bool> {
    match command {
        Command::Help => {
            print!("{HELP}");
            Ok(true)
        }
        Command::Demo(options) => demo::run(&options).map(|()| true),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options).map(|()| true),
        Command::BenchWork {
            work,
            tree,
            manifest,
        } => bench::work(&work, &tree, &manifest).map(|()| true),
        Command::Static => dist::run().map(|()| true),
        Command::VmTest(options) => vm::run(&options),
    }
}

struct Args<I: Iterator<Item = String>>(std::iter::Peekable<I>);

impl<I: Iterator<Item = String>> Args<I> {
    /// The next argument as an option's name, with a value given as `--name=value` split off.
    fn next(&mut self) -> Option<(String, Option<String>)> {
        let argument = self.0.next()?;
        match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => {
                Some((name.to_owned(), Some(value.to_owned())))
            }
            _ => Some((argument, None)),
        }
    }

    fn value(&mut self, name: &str, inline: Option<String>) -> Result<String> {
        inline
            .or_else(|| self.0.next())
            .with_context(|| format!("{name} needs a value"))
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str, inline: Option<String>) -> Result<T> {
        let value = self.value(name, inline)?;
        match value.parse() {
            Ok(number) => Ok(number),
            Err(_) => bail!("{name}: {value:?} is not a number"),
        }
    }

    fn end(mut self, command: Command) -> Result<Command> {
        match self.next() {
            None => Ok(command),
            Some((name, _)) if is_help(&name) => Ok(Command::Help),
            Some((name, _)) => Err(unexpected(&name)),
        }
    }
}

fn is_help(name: &str) -> bool {
    matches!(name, "--help" | "-h")
}

fn unexpected(name: &str) -> anyhow::Error {
    anyhow::anyhow!("unexpected argument {name:?}; see `cargo xtask help`")
}

fn parse_demo<I: Iterator<Item = String>>(mut args: Args<I>) -> Result<Command> {
    let mut options = demo::Options::default();
    while let Some((name, inline)) = args.next() {
        match name.as_str() {
            "--tree" => options.tree = Some(PathBuf::from(args.value(&name, inline)?)),
            "--store" => options.store = Some(PathBuf::from(args.value(&name, inline)?)),
            "--once" => options.once = true,
            _ if is_help(&name) => return Ok(Command::Help),
            _ => return Err(unexpected(&name)),
        }
    }
    Ok(Command::Demo(options))
}

fn parse_test<I: Iterator<Item = String>>(mut args: Args<I>, full: bool) -> Result<Command> {
    let mut options = test::Options {
        full,
        only: Vec::new(),
    };
    while let Some((name, inline)) = args.next() {
        match name.as_str() {
            "--only" => options.only.push(args.value(&name, inline)?),
            _ if is_help(&name) => return Ok(Command::Help),
            _ => return Err(unexpected(&name)),
        }
    }
    Ok(Command::Test(options))
}

fn parse_bench<I: Iterator<Item = String>>(mut args: Args<I>) -> Result<Command> {
    let mut options = bench::Options::default();
    while let Some((name, inline)) = args.next() {
        match name.as_str() {
            "--rounds" => options.rounds = args.number(&name, inline)?,
            "--without" => options.without.push(args.value(&name, inline)?),
            "--write" => options.write = true,
            _ if is_help(&name) => return Ok(Command::Help),
            _ if name.starts_with('-') => return Err(unexpected(&name)),
            _ => options.suites.push(name),
        }
    }
    anyhow::ensure!(options.rounds > 0, "--rounds: at least 1");
    Ok(Command::Bench(options))
}

fn parse_vm_test<I: Iterator<Item = String>>(mut args: Args<I>) -> Result<Command> {
    let mut options = vm::Options::default();
    while let Some((name, inline)) = args.next() {
        match name.as_str() {
            "--full" => options.full = true,
            "--accel" => options.accelerator = Some(args.value(&name, inline)?),
            _ if is_help(&name) => return Ok(Command::Help),
            _ if name.starts_with('-') => return Err(unexpected(&name)),
            _ => options.scenarios.push(name),
        }
    }
    Ok(Command::VmTest(options))
}

#[cfg(test)]
mod tests {
    use super::{Command, parse};
    use std::path::PathBuf;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned)).map_err(|error| error.to_string())
    }

    #[test]
    fn options_take_their_values_in_both_spellings() {
        for line in [
            "demo --tree /usr/share --once",
            "demo --once --tree=/usr/share",
        ] {
            let Ok(Command::Demo(options)) = parsed(line) else {
                panic!("{line}");
            };
            assert_eq!(options.tree, Some(PathBuf::from("/usr/share")));
            assert!(options.once);
        }
    }

    #[test]
    fn soak_is_test_with_full_counts() {
        let Ok(Command::Test(options)) = parsed("soak --only fuzz --only format") else {
            panic!();
        };
        assert!(options.full);
        assert_eq!(options.only, ["fuzz", "format"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parsed("dmeo").unwrap_err().contains("dmeo"));
        assert!(parsed("demo --trees x").unwrap_err().contains("--trees"));
        assert!(parsed("demo --tree").unwrap_err().contains("needs a value"));
        assert!(parsed("bench --rounds many").unwrap_err().contains("many"));
        assert_eq!(parsed("test --help"), Ok(Command::Help));
        assert_eq!(parsed(""), Ok(Command::Help));
    }
}
