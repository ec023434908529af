//! The tables in `docs/performance.md`, between lines that say which they are; the text around
//! them is written by hand.

use super::aims;
use super::results::Results;
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs;

pub(super) fn write(results: &Results, rounds: usize) -> Result<()> {
    let path = workspace::root().join("docs/performance.md");
    let mut text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let read = !results.cells.is_empty();
    let tree = format!("{}.\n{rounds} rounds.\n", results.tree);
    for (name, table) in [
        // Aims are of one run: one that did not measure all says nothing of the others.
        (
            "aims",
            (read && results.scale.is_some()).then(|| aims::table(results)),
        ),
        ("tree", read.then_some(tree)),
        ("read", read.then(|| results.table())),
        ("import", results.import.clone()),
        ("scale", results.scale.as_ref().map(ToString::to_string)),
    ] {
        if let Some(table) = table {
            text = replaced(&text, name, &table)?;
        }
    }
    fs::write(&path, text)?;
    println!("written to {}", path.display());
    Ok(())
}

/// `text` with another table under that name.
fn replaced(text: &str, name: &str, table: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- bench: {name} -->\n"),
        format!("<!-- end: {name} -->\n"),
    );
    let parts = text.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| format!("the page has no place for {name}"))?;
    Ok(format!(
        "{before}{begin}\n{}\n\n{end}{after}",
        table.trim_end()
    ))
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn a_table_takes_the_place_of_its_predecessor() {
        let page = "a\n<!-- bench: x -->\nold\n<!-- end: x -->\nb\n";
        let new = replaced(page, "x", "new\n").expect("it has a place");
        assert_eq!(new, "a\n<!-- bench: x -->\n\nnew\n\n<!-- end: x -->\nb\n");
        assert_eq!(replaced(&new, "x", "new").expect("it has a place"), new);
        assert!(replaced(page, "y", "new").is_err());
    }
}
