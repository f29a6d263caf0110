//! The arrows of the house, as `src/lib.rs` draws them: read from the `use crate::` lines and the paths in the code.

use std::collections::{BTreeMap, BTreeSet};
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

/// Files by the path of their module: `storage::s3::config` is `src/storage/s3/config.rs`.
struct Sources {
    code: BTreeMap<Vec<String>, String>,
}

impl Sources {
    fn read() -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut sources = Self { code: BTreeMap::new() };
        sources.visit(&src, &src);
        sources
    }

    fn visit(&mut self, src: &Path, path: &Path) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                let entry = entry.unwrap().path();
                if entry.file_name().is_some_and(|n| n != "tests" && n != "tests.rs") {
                    self.visit(src, &entry);
                }
            }
            return;
        }
        let mut module: Vec<String> = path
            .strip_prefix(src)
            .unwrap()
            .with_extension("")
            .components()
            .map(|c| c.as_os_str().to_str().unwrap().to_owned())
            .collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        if module != ["lib"] && module != ["main"] {
            let source = std::fs::read_to_string(path).unwrap();
            let code: Vec<&str> = without_tests(&source).lines().map(|l| l.split("//").next().unwrap_or("")).collect();
            self.code.insert(module, code.join("\n"));
        }
    }

    /// The paths in the `use` items of `code`, groups taken apart: whether it is a re-export, and the path.
    fn used(code: &str) -> Vec<(bool, String)> {
        let mut out = Vec::new();
        for (at, _) in code.match_indices("use ") {
            let line = &code[..at];
            let before = line.rsplit('\n').next().unwrap_or("").trim();
            if !(before.is_empty() || before.starts_with("pub")) {
                continue;
            }
            let item: String =
                code[at + 4..].split(';').next().unwrap_or("").split_whitespace().collect::<Vec<_>>().join(" ");
            take_apart("", &item, &mut |path| out.push((before.starts_with("pub"), path)));
        }
        out
    }

    /// The file that `path`, written in `module`, leads to; through re-exports to the file that has the thing.
    fn resolve(&self, module: &[String], path: &str, depth: usize) -> Option<Vec<String>> {
        let path = path.split(" as ").next().unwrap_or(path).trim();
        let mut segments: Vec<String> = path.split("::").map(|s| s.trim().to_owned()).collect();
        let mut base = module.to_vec();
        match segments[0].as_str() {
            "crate" => {
                base.clear();
                segments.remove(0);
            }
            "self" => drop(segments.remove(0)),
            "super" => {
                while segments.first().is_some_and(|s| s == "super") {
                    base.pop();
                    segments.remove(0);
                }
            }
            first => {
                base.push(first.to_owned());
                if !self.code.contains_key(&base) {
                    return None;
                }
                base.pop();
            }
        }
        base.extend(segments);
        for n in (1..=base.len()).rev() {
            let file = base[..n].to_vec();
            let Some(code) = self.code.get(&file) else { continue };
            let Some(name) = base.get(n).filter(|_| depth < 4) else { return Some(file) };
            let through =
                Self::used(code).into_iter().filter(|(public, used)| *public && used.rsplit("::").next() == Some(name));
            for (_, used) in through {
                if let Some(found) = self.resolve(&file, &used, depth + 1) {
                    return Some(found);
                }
            }
            return Some(file);
        }
        None
    }

    /// Which files each file needs. That a module has children is none of it.
    fn graph(&self) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
        let needs = |(module, code): (&Vec<String>, &String)| {
            let used = Self::used(code).into_iter().filter(|(public, _)| !public);
            let found = used.filter_map(|(_, path)| self.resolve(module, &path, 0)).filter(|to| to != module);
            (module.clone(), found.collect())
        };
        self.code.iter().map(needs).collect()
    }
}

/// `a::{b, c::{d, self}}` is `a::b`, `a::c::d` and `a::c`.
fn take_apart(before: &str, item: &str, out: &mut impl FnMut(String)) {
    let item = item.trim();
    let joined = |part: &str| if before.is_empty() { part.to_owned() } else { format!("{before}::{part}") };
    let Some((head, group)) = item.split_once('{') else {
        return out(if item == "self" { before.to_owned() } else { joined(item) });
    };
    let head = joined(head.trim().trim_end_matches("::"));
    let head = head.trim_end_matches("::").to_owned();
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut from) = (0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !group[from..at].trim().is_empty() {
                    take_apart(&head, &group[from..at], out);
                }
                from = (at + 1).min(group.len());
            }
            _ => {}
        }
    }
}

/// Everything that can be reached from `from`.
fn reached<'a>(
    graph: &'a BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
    from: &'a Vec<String>,
) -> BTreeSet<&'a Vec<String>> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(file) = open.pop() {
        for next in graph.get(file).into_iter().flatten() {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    seen
}

/// Circles between files that are one subject, told over several files. Each is in one folder; this list only shrinks.
const ONE_SUBJECT: &[(&str, &[&str])] = &[
    ("engine::logical", &["dump", "dump::collections"]),
    ("storage::backends", &["filesystem", "filesystem::upload"]),
    // Transactions that change jobs and backups together.
    ("store", &["deletions", "jobs"]),
    ("store", &["retention", "slice_gc"]),
    // The model and what it is made of.
    ("tui", &["form", "layer", "model", "preview", "timeline"]),
    ("tui::update", &["act", "jobs", "reply", "schedules"]),
    // Pages, each of which shows parts of the others.
    ("tui::view", &["areas", "chrome", "details", "lists", "recoverable", "schedules", "service_strip", "timeline"]),
];

#[test]
fn no_file_needs_one_that_needs_it() {
    let sources = Sources::read();
    let graph = sources.graph();
    let reach: BTreeMap<&Vec<String>, BTreeSet<&Vec<String>>> =
        graph.keys().map(|file| (file, reached(&graph, file))).collect();
    let mut circles: BTreeSet<BTreeSet<String>> = BTreeSet::new();
    for (file, seen) in &reach {
        let circle: BTreeSet<String> = seen
            .iter()
            .filter(|other| reach.get(*other).is_some_and(|back| back.contains(file)))
            .map(|other| other.join("::"))
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    let allowed: BTreeSet<BTreeSet<String>> = ONE_SUBJECT
        .iter()
        .map(|(folder, names)| names.iter().map(|name| format!("{folder}::{name}")).collect())
        .collect();
    assert_eq!(circles, allowed, "left: the circles in the code, right: those that are allowed");
}

/// The table of rules is of use only as long as it leads somewhere.
#[test]
fn what_the_rules_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = std::fs::read_to_string(root.join("docs/rules.md")).unwrap();
    let (mut files, mut code) = (Vec::new(), String::new());
    for folder in ["src", "tests", "benches"] {
        gather(&root.join(folder), &mut files, &mut code);
    }
    let ticked = rules.split('`').skip(1).step_by(2);
    let mut missing = Vec::new();
    for name in ticked {
        let is_path = |c: char| c.is_ascii_alphanumeric() || "_/.".contains(c);
        if name.ends_with(".rs") && name.chars().all(is_path) {
            if !files.iter().any(|file| file.ends_with(&format!("/{name}"))) {
                missing.push(name);
            }
            continue;
        }
        // Names of tests: in snake case, of at least three words.
        let test = name.rsplit("::").next().unwrap();
        let is_test = test.matches('_').count() >= 2
            && test.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if is_test && !code.contains(test) {
            missing.push(name);
        }
    }
    assert_eq!(missing, Vec::<&str>::new());
}

fn gather(path: &Path, files: &mut Vec<String>, code: &mut String) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            gather(&entry.unwrap().path(), files, code);
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        files.push(path.to_str().unwrap().to_owned());
        code.push_str(&std::fs::read_to_string(path).unwrap());
    }
}

/// The present of the program is asked for in one place, so that the demo can live in the past. What a server or cloud
/// says about its own time is compared with the machine's.
#[test]
fn only_the_clock_asks_for_the_present() {
    let sources = Sources::read();
    let may = |module: &[String]| {
        ["storage", "sandbox", "demo"].contains(&module[0].as_str()) || module == ["domain", "clock"]
    };
    let asks = |code: &str| code.contains("Utc::now") || code.contains("Local::now");
    let found: Vec<String> =
        sources.code.iter().filter(|(module, code)| !may(module) && asks(code)).map(|(m, _)| m.join("::")).collect();
    assert_eq!(found, Vec::<String>::new());
    assert!(asks(&sources.code[&vec!["domain".to_owned(), "clock".to_owned()]]));
}
