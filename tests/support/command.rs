//! The program itself, run as a script runs it, in a home of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A home that does not exist before the first command, and whose daemon ends with it.
pub struct Home {
    dir: tempfile::TempDir,
    home: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The one JSON value on stdout.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Runs words separated by spaces; `~` stands for a space within a word, as in a crontab line.
pub fn run(home: &Home, line: &str) -> Run {
    let words: Vec<String> = line.split_whitespace().map(|word| word.replace('~', " ")).collect();
    home.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The same of a command that must succeed.
pub fn good(home: &Home, line: &str) -> Run {
    let run = run(home, line);
    assert_eq!(run.code, 0, "{line}: {}{}", run.stdout, run.stderr);
    run
}

/// The JSON value of a command that must succeed.
pub fn json_of(home: &Home, line: &str) -> Value {
    good(home, &format!("{line} -o json")).json()
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        Self { dir, home }
    }

    /// With a service `a` whose server does not exist, and a storage `t` in a folder.
    pub fn ready() -> Self {
        let home = Self::new();
        let folder = home.dir().join("storage");
        std::fs::create_dir(&folder).unwrap();
        home.good("service add a --uri mongodb://127.0.0.1:1/?replicaSet=rs");
        home.good(&format!("storage add t --type filesystem --path {}", folder.display()));
        home
    }

    /// The folder of `--home`.
    pub fn path(&self) -> &Path {
        &self.home
    }

    /// A folder beside the home, gone with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mongokeep"));
        command.env("MONGOKEEP_HOME", &self.home).args(args).stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        ended(self.command(args).output().unwrap())
    }

    /// With `text` on standard input.
    pub fn run_with(&self, args: &[&str], text: &str) -> Run {
        let piped = |command: &mut Command| {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut child = piped(&mut self.command(args));
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        ended(child.wait_with_output().unwrap())
    }

    /// Runs words separated by spaces, which must succeed, and returns stdout.
    pub fn good(&self, line: &str) -> String {
        good(self, line).stdout
    }

    /// The JSON value of a command that must succeed.
    pub fn json(&self, line: &str) -> Value {
        json_of(self, line)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.home.exists() {
            let _ = self.command(&["-q", "daemon", "stop"]).output();
        }
    }
}

fn ended(output: std::process::Output) -> Run {
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
