//! docs/troubleshooting.md explains messages that the program has.

use std::path::Path;

/// All of `src`, with the lines of a text put together as the compiler does it.
fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(path).unwrap();
            let mut parts = text.split("\\\n");
            into.push_str(parts.next().unwrap_or_default());
            parts.for_each(|part| into.push_str(part.trim_start()));
        }
    }
}

#[test]
fn every_message_that_is_explained_is_one_of_the_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut src = String::new();
    sources(&root.join("src"), &mut src);
    let page = std::fs::read_to_string(root.join("docs/troubleshooting.md")).unwrap();
    let mut explained = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let message = row.split(" | ").next().unwrap();
        // What stands between backquotes is quoted; dots stand for what differs.
        for quoted in message.split('`').skip(1).step_by(2).filter(|quoted| !quoted.starts_with("--")) {
            for fixed in quoted.split("...").map(|part| part.trim_matches([' ', ':'])).filter(|part| !part.is_empty()) {
                assert!(src.contains(fixed), "no message has {fixed:?}: {row}");
                explained += 1;
            }
        }
    }
    assert!(explained > 20, "{explained}");
}
