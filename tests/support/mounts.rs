//! Tests with mounts of their own: each runs once more, in a process whose mounts nobody else sees and that are gone with it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Holds the folder of a test that runs in such a process.
const INSIDE: &str = "MONGOKEEP_TEST_MOUNTS";

/// The folder to mount something at, inside. Outside: runs the test called `name` inside, and `None`.
///
/// Where nobody may mount, that is said and nothing is tried: it is a right that the system gives, not a part to fetch.
pub fn inside(name: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    // A user namespace lets anybody mount, where the system allows it; root needs none.
    let namespaces: &[&str] = if rustix::process::geteuid().is_root() { &["-m"] } else { &["-U", "-r", "-m"] };
    let unshare = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(namespaces).args(words);
        command
    };
    let tried = unshare(&["mount", "-t", "tmpfs", "none"]).arg(folder.path()).output();
    let why = match &tried {
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).into_owned()),
        Err(e) => Some(e.to_string()),
    };
    if let Some(why) = why {
        let why = format!("SKIPPED {name}: nothing can be mounted here: {why}");
        let _ = writeln!(std::io::stderr(), "\n{why}");
        return None;
    }
    let mut run = unshare(&[]);
    run.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]).env(INSIDE, folder.path());
    let output = run.output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
    None
}

/// Runs `mount` with these words.
pub fn mount(words: &[&str]) {
    let ran = Command::new("mount").args(words).output().unwrap();
    assert!(ran.status.success(), "mount {words:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// A disk of memory at `at`, which is made.
pub fn disk(at: &Path) {
    std::fs::create_dir_all(at).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=256m,mode=0700", "none", at.to_str().unwrap()]);
}

/// The disk at `from` is unmounted there, and kept for later at `to`.
pub fn carry(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    mount(&["--move", from.to_str().unwrap(), to.to_str().unwrap()]);
}
