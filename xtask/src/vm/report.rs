//! What a scenario says of its checks.

use super::Totals;
use anyhow::{Context as _, Result};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// Collects the checks of a scenario, from the guests' results ports and from the host.
#[derive(Debug)]
pub(super) struct Report {
    scenario: &'static str,
    file: File,
    totals: Totals,
}

/// A line of a guest's results port.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// A check that held.
    Ok(&'a str),
    /// A check that did not, and why.
    Fail(&'a str, &'a str),
    /// Something to tell.
    Note(&'a str),
    /// Something that was measured.
    Value(&'a str, f64),
    /// The guest's script came to its end.
    End,
}

impl<'a> Line<'a> {
    pub(super) fn parse(line: &'a str) -> Self {
        let line = line.trim_end();
        if line == "end" {
            return Self::End;
        }
        match line.split_once(' ') {
            Some(("ok", name)) => Self::Ok(name),
            Some(("FAIL", rest)) => {
                let (name, reason) = rest.split_once(": ").unwrap_or((rest, ""));
                Self::Fail(name, reason)
            }
            Some(("note", text)) => Self::Note(text),
            // Whatever else it is, it is not to be lost.
            Some(("value", rest)) => Self::value(rest).unwrap_or(Self::Note(line)),
            _ => Self::Note(line),
        }
    }

    fn value(text: &'a str) -> Option<Self> {
        let (name, number) = text.split_once(' ')?;
        Some(Self::Value(name, number.parse().ok()?))
    }
}

impl Report {
    pub(super) fn new(scenario: &'static str, path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self {
            scenario,
            file,
            totals: Totals::default(),
        })
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    pub(super) fn ok(&mut self, name: &str) {
        self.totals.passed += 1;
        self.say(&format!("ok    {name}"));
    }

    pub(super) fn fail(&mut self, name: &str, reason: &str) {
        self.totals.failed += 1;
        self.say(&format!("FAIL  {name}: {reason}"));
    }

    pub(super) fn note(&mut self, text: &str) {
        self.say(&format!("      {text}"));
    }

    /// A check made on the host.
    pub(super) fn check(&mut self, name: &str, held: bool, reason: impl FnOnce() -> String) {
        if held {
            self.ok(name);
        } else {
            self.fail(name, &reason());
        }
    }

    fn say(&mut self, line: &str) {
        println!("   {:10} {line}", self.scenario);
        // The same is on standard output.
        let _ = writeln!(self.file, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn lines_of_the_protocol() {
        assert_eq!(Line::parse("ok it starts\r"), Line::Ok("it starts"));
        assert_eq!(
            Line::parse("FAIL it stops: still there: 3"),
            Line::Fail("it stops", "still there: 3")
        );
        assert_eq!(Line::parse("note 3 s"), Line::Note("3 s"));
        assert_eq!(Line::parse("value reads 12"), Line::Value("reads", 12.0));
        assert_eq!(Line::parse("value reads"), Line::Note("value reads"));
        assert_eq!(Line::parse("end"), Line::End);
        assert_eq!(Line::parse("sh: oops"), Line::Note("sh: oops"));
    }
}
