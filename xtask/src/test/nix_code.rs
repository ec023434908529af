//! The Nix code: it parses, is formatted, has no dead code, and its page of options is current.
//! Where nixpkgs is to be had the module is evaluated in real NixOS configurations too.

use super::{Context, Counts};
use crate::{process, workspace};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10 * 60);
const INSTALL_LIMIT: Duration = Duration::from_secs(30 * 60);

/// A program, the crate that has it, and that crate's version: another may format differently.
struct Tool {
    program: &'static str,
    package: &'static str,
    version: &'static str,
}

const FORMATTER: Tool = Tool {
    program: "nixfmt",
    package: "nixfmt_rs",
    version: "0.5.3",
};

const LINTER: Tool = Tool {
    program: "deadnix",
    package: "deadnix",
    version: "1.3.1",
};

const PAGE: &str = "docs/nixos-options.md";

pub(super) fn run(context: &Context) -> Result<Counts> {
    let files = files()?;
    let mut counts = parse(context, &files)?;
    counts += page_of_options()?;
    counts += checked_by(context, &FORMATTER, &["--check"], &files)?;
    counts += checked_by(context, &LINTER, &["--fail"], &files)?;
    counts += evaluate(context)?;
    Ok(counts)
}

/// All Nix files, those too that are about to be committed.
fn files() -> Result<Vec<String>> {
    let list = process::output(Command::new("git").current_dir(workspace::root()).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.nix",
    ]))?;
    let names = list.split('\0').filter(|name| !name.is_empty());
    let there = names.filter(|name| workspace::root().join(name).exists());
    Ok(there.map(str::to_owned).collect())
}

/// nix-instantiate, which writes to no store.
fn nix_instantiate() -> Command {
    let mut command = Command::new("nix-instantiate");
    command.current_dir(workspace::root());
    command.args(["--store", "dummy://"]);
    command
}

fn parse(context: &Context, files: &[String]) -> Result<Counts> {
    let log = context.log("nix-parse");
    let mut counts = Counts::default();
    for file in files {
        let mut command = nix_instantiate();
        command.arg("--parse").arg(file);
        counts += Counts::of_program(&process::logged(&mut command, &log, LIMIT)?);
    }
    println!("{} files parsed", files.len());
    Ok(counts)
}

/// What the module declares is what the page says. This takes no nixpkgs.
fn page_of_options() -> Result<Counts> {
    let mut command = nix_instantiate();
    command.args(["--eval", "--strict", "--json", "--expr"]);
    command.arg("import ./nixos/options-doc.nix { }");
    let json = process::output(&mut command)?;
    let text: String = serde_json::from_str(&json).context("the text of the page")?;
    let path = workspace::root().join(PAGE);
    let current = fs::read_to_string(&path).unwrap_or_default();
    if text == current {
        return Ok(Counts::PASSED);
    }
    let new = workspace::target_dir()?.join("nixos-options.md");
    fs::write(&new, text).with_context(|| new.display().to_string())?;
    println!("{PAGE} is not what nixos/module/options.nix declares; it should be");
    println!("{}", new.display());
    Ok(Counts::FAILED)
}

fn checked_by(
    context: &Context,
    tool: &Tool,
    options: &[&str],
    files: &[String],
) -> Result<Counts> {
    let log = context.log(tool.program);
    let root = workspace::target_dir()?.join("tools");
    let program = root.join("bin").join(tool.program);
    if !is_current(tool, &root) {
        println!("installing {} {}", tool.package, tool.version);
        let mut install = workspace::cargo();
        // Some dozens of small files: building it fast counts for more than that it is fast.
        install.args(["install", "--quiet", "--debug", "--locked", "--root"]);
        install.arg(&root);
        install.args([tool.package, "--version", tool.version]);
        let run = process::logged(&mut install, &log, INSTALL_LIMIT)?;
        if !run.success {
            return Ok(Counts::of_program(&run));
        }
    }
    let mut command = Command::new(program);
    command.current_dir(workspace::root());
    command.args(options).args(files);
    Ok(Counts::of_program(&process::logged(
        &mut command,
        &log,
        LIMIT,
    )?))
}

/// Whether cargo installed this version there.
fn is_current(tool: &Tool, root: &std::path::Path) -> bool {
    let list = fs::read_to_string(root.join(".crates.toml")).unwrap_or_default();
    list.contains(&format!("\"{} {} ", tool.package, tool.version))
}

fn evaluate(context: &Context) -> Result<Counts> {
    let Some(nixpkgs) = nixpkgs() else {
        println!("there is no <nixpkgs>: nixos/tests/eval.nix is not evaluated");
        return Ok(Counts::default());
    };
    println!("evaluating nixos/tests/eval.nix with {}", nixpkgs.display());
    let mut command = nix_instantiate();
    // A file that is a function would be shown, and not called.
    command.args(["--eval", "--strict", "--expr"]);
    command.arg("import ./nixos/tests/eval.nix { }");
    let run = process::logged(&mut command, &context.log("nix-eval"), LIMIT)?;
    if !run.success {
        return Ok(Counts::of_program(&run));
    }
    let passed = run.output.matches(" = true;").count();
    if passed == 0 {
        println!("nixos/tests/eval.nix has no check");
        return Ok(Counts::FAILED);
    }
    Ok(Counts { passed, failed: 0 })
}

/// nixpkgs as NIX_PATH has it.
fn nixpkgs() -> Option<PathBuf> {
    let output = nix_instantiate().args(["--find-file", "nixpkgs"]).output();
    let output = output.ok().filter(|output| output.status.success())?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end());
    path.join("nixos/lib/eval-config.nix")
        .exists()
        .then_some(path)
}
