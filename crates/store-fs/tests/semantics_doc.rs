//! `docs/semantics.md` and the tests agree: every statement names the tests
//! that mirror it, and these exist.

use std::{collections::BTreeSet, fs, path::Path};

/// `module::name` of every test under `tests/`, without the program's own name.
fn tests() -> BTreeSet<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut found = BTreeSet::new();
    for directory in [directory.join("mount"), directory] {
        for entry in fs::read_dir(&directory).expect("there are tests") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                let module = path
                    .file_stem()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                let source = fs::read_to_string(&path).expect("text");
                found.extend(functions(&source).map(|name| format!("{module}::{name}")));
            }
        }
    }
    found
}

fn functions(source: &str) -> impl Iterator<Item = &str> {
    // Attributes and comments may stand between the attribute and the name.
    source.split("#[test]").skip(1).filter_map(|after| {
        let (_, after) = after.split_once("fn ")?;
        after.split(['(', '<']).next()
    })
}

/// The statements: bullets, each with its lines joined.
fn statements(document: &str) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    let mut open = false;
    for line in document.lines() {
        match line.strip_prefix("  ") {
            Some(more) if open => {
                if let Some(statement) = statements.last_mut() {
                    statement.push(' ');
                    statement.push_str(more);
                }
            }
            _ => {
                open = line.starts_with("- ");
                if open {
                    statements.push(line.to_owned());
                }
            }
        }
    }
    statements
}

/// What stands in `[…::…]`.
fn markers(text: &str) -> impl Iterator<Item = &str> {
    text.split('[').skip(1).filter_map(|after| {
        let (inside, _) = after.split_once(']')?;
        inside.contains("::").then_some(inside)
    })
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/semantics.md");
    fs::read_to_string(path).expect("docs/semantics.md is there")
}

#[test]
fn every_statement_names_a_test() {
    let document = document();
    let statements = statements(&document);
    assert!(
        statements.len() > 40,
        "only {} statements",
        statements.len()
    );
    let without: Vec<_> = statements
        .iter()
        .filter(|statement| markers(statement).next().is_none())
        .collect();
    assert!(
        without.is_empty(),
        "statements without a test: {without:#?}"
    );
}

#[test]
fn every_test_that_is_named_exists() {
    let tests = tests();
    let statements = statements(&document()).join("\n");
    let unknown: Vec<_> = markers(&statements)
        .filter(|name| !tests.contains(*name))
        .collect();
    assert!(unknown.is_empty(), "no such tests: {unknown:#?}");
}

#[test]
fn every_mount_test_is_named() {
    let document = document();
    let named: BTreeSet<_> = markers(&document).collect();
    let tests = tests();
    let unnamed: Vec<_> = tests
        .iter()
        .filter(|test| !test.starts_with("semantics_doc::"))
        .filter(|test| !named.contains(test.as_str()))
        .collect();
    assert!(
        unnamed.is_empty(),
        "tests that mirror no statement: {unnamed:#?}"
    );
}
