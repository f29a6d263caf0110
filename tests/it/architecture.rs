//! The arrows of the house, as `src/lib.rs` draws them: read from the `use crate::` lines and the paths in the code.

use std::collections::BTreeSet;
use std::path::Path;

/// Each module and what it may use, from the table in `src/lib.rs`.
fn table() -> Vec<(String, Vec<String>)> {
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | [`")).map(|row| {
        let (module, rest) = row.split_once("`]").unwrap();
        let uses = rest.trim_end().trim_end_matches('|').rsplit('|').next().unwrap();
        (module.to_owned(), uses.split(',').map(|u| u.trim().to_owned()).filter(|u| !u.is_empty()).collect())
    });
    rows.collect()
}

fn may(table: &[(String, Vec<String>)], from: &str, to: &str) -> bool {
    // domain and error are one room: errors escape text, values fail with errors.
    let everywhere = ["error", "domain"].contains(&to);
    let listed = table.iter().any(|(name, uses)| name == from && uses.iter().any(|u| u == to));
    from == to || everywhere || listed
}

/// The modules of this crate that a file names: `use crate::x::...`, `use crate::{x, y::z}`, `crate::x::f()`.
fn named(source: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let code: String =
        without_tests(source).lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut rest = code.as_str();
    while let Some(at) = rest.find("crate::") {
        let before = rest[..at].chars().next_back();
        rest = &rest[at + "crate::".len()..];
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            let mut at_start = true;
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => at_start = true,
                    c if c.is_whitespace() => {}
                    c if depth == 0 && at_start && (c.is_alphanumeric() || c == '_') => name.push(c),
                    _ => at_start = false,
                }
                if (c == ',' || !at_start) && !name.is_empty() {
                    out.insert(std::mem::take(&mut name));
                }
            }
            if !name.is_empty() {
                out.insert(name);
            }
        } else {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            out.insert(name);
        }
    }
    out
}

/// Tests may look anywhere.
fn without_tests(source: &str) -> &str {
    source.split("#[cfg(test)]\nmod ").next().unwrap_or(source)
}

fn violations(module: &str, source: &str) -> Vec<String> {
    let table = table();
    let is_module = |name: &String| table.iter().any(|(module, _)| module == name);
    named(source).into_iter().filter(|to| is_module(to) && !may(&table, module, to)).collect()
}

fn visit(path: &Path, module: &str, out: &mut Vec<String>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap().path();
            if entry.file_name().is_some_and(|n| n != "tests" && n != "tests.rs") {
                visit(&entry, module, out);
            }
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        let source = std::fs::read_to_string(path).unwrap();
        out.extend(violations(module, &source).into_iter().map(|to| format!("{}: {module} -> {to}", path.display())));
    }
}

#[test]
fn modules_only_use_what_the_house_allows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&src).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        assert!(table().iter().any(|(name, _)| *name == module), "{module} is not in the table of the house");
        visit(&path, &module, &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_table_says_what_the_design_says() {
    let table = table();
    assert!(table.len() >= 14, "{table:?}");
    for (from, to) in
        [("engine", "store"), ("storage", "store"), ("tui", "store"), ("cli", "store"), ("mongo", "storage")]
    {
        assert!(!may(&table, from, to), "{from} -> {to}");
    }
    assert!(may(&table, "daemon", "engine") && may(&table, "client", "store") && may(&table, "mongo", "error"));
}

#[test]
fn a_wrong_arrow_is_found_however_it_is_written() {
    for wrong in [
        "use crate::store::Store;",
        "use crate::{error::Result, store::Store};",
        "use crate::{\n    error::{Error, Result},\n    store,\n};",
        "fn f() { crate::store::random_id(); }",
        "pub(crate) fn f(x: &crate::store::Store) {}",
    ] {
        assert_eq!(violations("engine", wrong), ["store"], "{wrong}");
    }
    for right in [
        "use crate::storage::Storage;",
        "// use crate::store::Store;",
        "use crate::{error::{Error, Result}, mongo};",
        "use mycrate::store::x;",
        "#[cfg(test)]\nmod tests { use crate::store::Store; }",
    ] {
        assert_eq!(violations("engine", right), Vec::<String>::new(), "{right}");
    }
    assert_eq!(violations("domain", "use crate::mongo::Server;"), ["mongo"]);
}
