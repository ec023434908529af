//! The workspace's crates may depend on each other only as docs/architecture.md says.
//!
//! The document has a table whose header row begins with the cells `crate` and `uses`; crate names
//! are in backquotes. A crate that is not in the table is a tool beside the layers: it may use none
//! of them, and none may use it. Development dependencies do not count.

use super::{Context, Counts};
use crate::workspace;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

const DOCUMENT: &str = "docs/architecture.md";

type Graph = BTreeMap<String, BTreeSet<String>>;

pub(super) fn run(_: &Context) -> Result<Counts> {
    let text = fs::read_to_string(workspace::root().join(DOCUMENT)).context(DOCUMENT)?;
    let documented = documented(&text);
    ensure!(
        !documented.is_empty(),
        "{DOCUMENT} has no table with the columns `crate` and `uses`"
    );
    let actual = actual(&workspace::metadata(false)?);
    Ok(Counts::of_findings(&differences(&documented, &actual)))
}

fn documented(text: &str) -> Graph {
    let mut graph = Graph::new();
    let mut in_table = false;
    for line in text.lines() {
        let cells: Vec<&str> = line
            .trim()
            .trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect();
        if cells.len() < 2 {
            in_table = false;
        } else if cells[0] == "crate" && cells[1] == "uses" {
            in_table = true;
        } else if in_table && let Some(name) = quoted(cells[0]).pop() {
            graph.insert(name, quoted(cells[1]).into_iter().collect());
        }
    }
    graph
}

/// The texts between backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn actual(metadata: &Value) -> Graph {
    let packages = metadata["packages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let members: BTreeSet<String> = packages.iter().map(name).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array();
            let dependencies = dependencies
                .into_iter()
                .flatten()
                .filter(|dependency| dependency["kind"] != "dev")
                .map(name)
                .filter(|name| members.contains(name))
                .collect();
            (name(package), dependencies)
        })
        .collect()
}

fn differences(documented: &Graph, actual: &Graph) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, dependencies) in actual {
        let none = BTreeSet::new();
        let allowed = documented.get(name).unwrap_or(&none);
        for dependency in dependencies.difference(allowed) {
            findings.push(format!(
                "`{name}` depends on `{dependency}`, against {DOCUMENT}"
            ));
        }
        for dependency in allowed.difference(dependencies) {
            findings.push(format!(
                "{DOCUMENT}: `{name}` does not depend on `{dependency}`"
            ));
        }
    }
    for name in documented.keys().filter(|name| !actual.contains_key(*name)) {
        findings.push(format!(
            "{DOCUMENT} lists `{name}`, which is no crate of the workspace"
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{actual, differences, documented};

    const TABLE: &str = "text\n\n| crate | uses | what |\n|---|---|---|\n| `top` | `low`, \
                         `mid` | x |\n| `low` | | y |\n| `gone` | nothing | |\n\n| a | b |\n";

    #[test]
    fn names_each_difference() {
        let metadata = serde_json::json!({"packages": [
            {"name": "top", "dependencies": [
                {"name": "low", "kind": null}, {"name": "serde", "kind": null}]},
            {"name": "low", "dependencies": [
                {"name": "top", "kind": "dev"}, {"name": "tool", "kind": "build"}]},
            {"name": "tool", "dependencies": []},
        ]});
        let findings = differences(&documented(TABLE), &actual(&metadata));
        assert_eq!(findings.len(), 3, "{findings:#?}");
        assert!(findings[0].contains("`low` depends on `tool`"));
        assert!(findings[1].contains("`top` does not depend on `mid`"));
        assert!(findings[2].contains("lists `gone`"));
    }
}
