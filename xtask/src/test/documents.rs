//! What README, CONTRIBUTING and docs say must be there: links, paths, commands, options.

mod markdown;

use super::{Context, Counts, suites};
use crate::{cli, process, workspace};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = "store-mountd";

pub(super) fn run(_: &Context) -> Result<Counts> {
    let root = workspace::root();
    let mut program = Program::new(suites::program()?);
    let mut counts = Counts::default();
    for document in documents(&root)? {
        let path = root.join(&document);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let findings: Vec<String> = check(&root, &document, &text, &mut program)
            .into_iter()
            .map(|finding| format!("{}: {finding}", document.display()))
            .collect();
        counts += Counts::of_findings(&findings);
    }
    Ok(counts)
}

/// The documents, relative to the checkout.
fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let mut documents = Vec::new();
    for dir in ["", "docs", "fuzz"] {
        let Ok(entries) = fs::read_dir(root.join(dir)) else {
            continue;
        };
        for entry in entries {
            let name = Path::new(dir).join(entry?.file_name());
            if name.extension().is_some_and(|extension| extension == "md") {
                documents.push(name);
            }
        }
    }
    documents.sort();
    Ok(documents)
}

fn check(root: &Path, document: &Path, text: &str, program: &mut Program) -> Vec<String> {
    let mut findings = Vec::new();
    let dir = document.parent().unwrap_or(Path::new(""));
    for link in markdown::links(text) {
        let file = link.split('#').next().unwrap_or_default();
        if !link.contains("://") && !file.is_empty() && !root.join(dir).join(file).exists() {
            findings.push(format!("the link to {link} leads nowhere"));
        }
    }
    for code in markdown::code(text) {
        if let Some(path) = repository_path(root, &code)
            && !root.join(path).exists()
        {
            findings.push(format!("there is no {path}"));
        }
        for words in markdown::commands(&code) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words.as_slice() {
                ["cargo", "xtask", arguments @ ..] => {
                    findings.extend(check_xtask(arguments));
                }
                [first, arguments @ ..] if first.rsplit('/').next() == Some(PROGRAM) => {
                    findings.extend(program.check(arguments));
                }
                _ => {}
            }
        }
    }
    findings
}

/// The code when it looks like a path in this repository: its first component exists here.
fn repository_path<'a>(root: &Path, code: &'a str) -> Option<&'a str> {
    let (first, rest) = code.split_once('/')?;
    let is_path = !rest.is_empty()
        && !first.is_empty()
        && first != "."
        && first != "target"
        && code
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    (is_path && root.join(first).is_dir()).then_some(code)
}

fn check_xtask(arguments: &[&str]) -> Option<String> {
    let arguments = arguments.iter().take_while(|word| !is_placeholder(word));
    let error = cli::parse(arguments.map(|word| (*word).to_owned())).err()?;
    let message = error.to_string();
    let is_cut = message.contains("needs a value");
    (!is_cut).then(|| message.lines().next().unwrap_or_default().to_owned())
}

/// `…`, `<COMMAND>`, `[--once]`: a word that stands for others.
fn is_placeholder(word: &str) -> bool {
    word.contains('…') || word.starts_with(['<', '[', '('])
}

/// The built program and what it says of itself.
#[derive(Debug)]
struct Program {
    path: PathBuf,
    help: BTreeMap<Option<String>, Option<String>>,
}

impl Program {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            help: BTreeMap::new(),
        }
    }

    /// The help of the program, or of a subcommand if it has that.
    fn help(&mut self, subcommand: Option<&str>) -> Option<&str> {
        let key = subcommand.map(str::to_owned);
        let path = &self.path;
        self.help
            .entry(key)
            .or_insert_with(|| {
                let mut command = Command::new(path);
                command
                    .args(subcommand)
                    .arg("--help")
                    .stderr(std::process::Stdio::null());
                process::output(&mut command).ok()
            })
            .as_deref()
    }

    fn check(&mut self, arguments: &[&str]) -> Vec<String> {
        let mut findings = Vec::new();
        let general = self.help(None).unwrap_or_default().to_owned();
        let subcommand = subcommand(arguments, &general);
        let specific = match subcommand {
            None => String::new(),
            Some(name) => match self.help(Some(name)) {
                Some(help) => help.to_owned(),
                None => return vec![format!("`{PROGRAM}` has no subcommand `{name}`")],
            },
        };
        for word in arguments {
            let word = word.trim_start_matches(['[', '(']);
            let option = word.split(['=', ']', ')', '|']).next().unwrap_or_default();
            let is_option = option.starts_with('-') && option.len() > 1 && option != "--";
            if is_option && !has_word(&general, option) && !has_word(&specific, option) {
                let subcommand = subcommand.unwrap_or_default();
                findings.push(format!("`{PROGRAM} {subcommand}` has no option `{option}`"));
            }
        }
        findings
    }
}

/// The first argument that is neither an option nor a global option's value.
fn subcommand<'a>(arguments: &[&'a str], general_help: &str) -> Option<&'a str> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if is_placeholder(word) {
            continue;
        }
        if word.starts_with('-') {
            let takes_value = general_help.contains(&format!("{word} <"));
            if takes_value && !word.contains('=') {
                words.next();
            }
            continue;
        }
        return word
            .chars()
            .all(|c| c.is_ascii_lowercase() || c == '-')
            .then_some(*word);
    }
    None
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| c.is_whitespace() || ",=[]".contains(c))
        .any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::{check_xtask, has_word, subcommand};

    #[test]
    fn finds_the_subcommand_behind_global_options() {
        let help = "  -s, --store <DIR>  The store\n  -q, --quiet";
        assert_eq!(subcommand(&["--store", "x", "ls", "-l"], help), Some("ls"));
        assert_eq!(
            subcommand(&["--quiet", "[--store", "verify"], help),
            Some("verify")
        );
        assert_eq!(subcommand(&["--store=x", "/nix"], help), None);
    }

    #[test]
    fn options_are_whole_words() {
        assert!(has_word("-R, --recursive  All", "-R"));
        assert!(!has_word("--recursive", "--rec"));
    }

    #[test]
    fn xtask_commands_are_parsed_by_xtask() {
        assert_eq!(check_xtask(&["demo", "--tree", "DIR", "--once"]), None);
        assert_eq!(check_xtask(&["bench", "…"]), None);
        assert!(check_xtask(&["dmeo"]).unwrap().contains("dmeo"));
    }
}
