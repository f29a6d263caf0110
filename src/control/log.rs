//! The log of a daemon in the background: one file, and the one before it.
//!
//! The file is emptied in place rather than moved away, because it is also the daemon's standard error: what a panic
//! says must end up in the file that people look at.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// A log above this is put aside.
pub const LIMIT: u64 = 8 << 20;

/// Where the log that was put aside is.
pub fn earlier(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// Appends whole lines, and puts the file aside when it has grown to its limit.
pub struct RotatedLog {
    path: PathBuf,
    limit: u64,
    file: Mutex<File>,
}

impl RotatedLog {
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, LIMIT)
    }

    fn open_with(path: &Path, limit: u64) -> io::Result<Self> {
        let file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { path: path.to_owned(), limit, file: Mutex::new(file) })
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.metadata()?.len() + line.len() as u64 > self.limit {
            // Also when the copy fails: on a full disk an old log is the least that is worth keeping.
            let _ = put_aside(&self.path);
            file.set_len(0)?;
        }
        file.write_all(line)
    }
}

fn put_aside(path: &Path) -> io::Result<()> {
    let earlier = earlier(path);
    let fresh = path.with_extension("log.new");
    let copied = fs::copy(path, &fresh).and_then(|_| fs::rename(&fresh, earlier));
    if copied.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    copied
}

/// One event; the layer that formats it writes it as a whole.
pub struct Line<'a>(&'a RotatedLog);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for RotatedLog {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_hold_the_last_lines_and_others_append_to_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let log = RotatedLog::open_with(&path, 1_000).unwrap();
        let mut stderr = fs::OpenOptions::new().append(true).open(&path).unwrap();
        for i in 0..500 {
            writeln!(log.make_writer(), "line {i:04}").unwrap();
            assert!(fs::metadata(&path).unwrap().len() <= 1_000);
        }
        stderr.write_all(b"a panic\n").unwrap();
        let text = fs::read_to_string(earlier(&path)).unwrap() + &fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.last(), Some(&"a panic"), "in the file that people look at, and not behind a hole");
        let numbers: Vec<u32> = lines[..lines.len() - 1].iter().map(|l| l[5..].parse().unwrap()).collect();
        assert!(numbers.len() >= 100 && numbers.windows(2).all(|w| w[1] == w[0] + 1), "{numbers:?}");
        assert_eq!(numbers.last(), Some(&499));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
