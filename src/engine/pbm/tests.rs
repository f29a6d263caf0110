//! Answers that PBM 2.15.0 gave, recorded from a sharded cluster.

use std::path::{Path, PathBuf};

use super::output::{Answer, Output};

/// A recorded standard output.
pub fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pbm").join(format!("{name}.json"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A recorded answer, parsed.
pub fn answer<T: serde::de::DeserializeOwned>(name: &str) -> T {
    match Output::of(fixture(name).as_bytes()) {
        Output::Answer(answer) => answer.parse(name).unwrap_or_else(|e| panic!("{name}: {e}")),
        other => panic!("{name}: {other:?}"),
    }
}

/// The same before it is parsed.
pub fn raw(name: &str) -> Answer {
    match Output::of(fixture(name).as_bytes()) {
        Output::Answer(answer) => answer,
        other => panic!("{name}: {other:?}"),
    }
}

/// What `pbm` wrote to its standard error, by name.
pub fn refusal(name: &str) -> String {
    let all: Vec<serde_json::Value> = serde_json::from_str(&fixture("refusals")).unwrap();
    let found = all.into_iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name} is not recorded"));
    found["stderr"].as_str().unwrap().to_owned()
}

/// A program that stands in for `pbm`: each call of `pbm COMMAND ...` gets the next of the answers of that command, the
/// last one for ever. It writes the arguments of every call to `calls`.
pub struct StandIn {
    pub folder: tempfile::TempDir,
}

impl StandIn {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" >>"$here/calls"
command=$1
[ "$1" = status ] && command="status-$3"
n=$(cat "$here/$command.n" 2>/dev/null || echo 0)
n=$((n + 1))
[ -e "$here/$command.$n.out" ] || n=$((n - 1))
echo "$n" >"$here/$command.n"
[ -e "$here/$command.$n.out" ] || { echo "Error: nothing stands for $command" >&2; exit 1; }
cat "$here/$command.$n.out"
cat "$here/$command.$n.err" >&2
exit "$(cat "$here/$command.$n.rc")"
"#;
        let stand_in = Self { folder };
        stand_in.write_program(script);
        stand_in
    }

    pub fn write_program(&self, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path();
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("pbm")
    }

    /// Adds an answer of `command` (`status-backups` for `pbm status -s backups`).
    pub fn answers(&self, command: &str, stdout: &str, stderr: &str, code: u8) -> &Self {
        let path = |n: u32, what: &str| self.folder.path().join(format!("{command}.{n}.{what}"));
        let n = (1..).find(|n| !path(*n, "out").exists()).unwrap();
        for (what, text) in [("out", stdout), ("err", stderr), ("rc", &code.to_string())] {
            std::fs::write(path(n, what), text).unwrap();
        }
        self
    }

    /// Adds what was recorded as `name`.
    pub fn recorded(&self, command: &str, name: &str) -> &Self {
        self.answers(command, &fixture(name), "", 0)
    }

    /// Adds the refusal that was recorded as `name`.
    pub fn refuses(&self, command: &str, name: &str) -> &Self {
        self.answers(command, "", &refusal(name), 1)
    }

    pub fn calls(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default()
    }
}
