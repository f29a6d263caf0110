//! Wall time and peak memory of a process; the time until a screen shows something.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One run of a command.
pub struct Sample {
    pub seconds: f64,
    /// Bytes of memory at its peak.
    pub peak: u64,
}

/// Runs `command` to its end, which must be a good one.
pub fn run(mut command: Command) -> Sample {
    let shown = format!("{command:?}");
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        // Its peak can be read only while it lives; a file of /proc costs microseconds.
        peak = peak.max(peak_of(child.id()));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    assert!(status.success(), "{shown}: {status}");
    Sample { seconds, peak }
}

/// The most memory process `pid` had so far, in bytes; 0 where the system does not say.
pub fn peak_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds from the start of the program until its screen holds text.
pub fn first_frame(program: &str, home: &Path) -> f64 {
    let size = portable_pty::PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };
    let pty = portable_pty::native_pty_system().openpty(size).unwrap();
    let mut command = portable_pty::CommandBuilder::new(program);
    command.arg("--home");
    command.arg(home);
    command.env("TERM", "xterm-256color");
    let mut reader = pty.master.try_clone_reader().unwrap();
    let start = Instant::now();
    let mut child = pty.slave.spawn_command(command).unwrap();
    let mut screen = vt100::Parser::new(24, 80, 0);
    let mut buffer = [0; 65536];
    let seconds = loop {
        let n = reader.read(&mut buffer).unwrap();
        assert!(n > 0, "the screen closed before it showed anything");
        screen.process(&buffer[..n]);
        // More than a line: a frame, not a message.
        if screen.screen().rows(0, 80).filter(|row| !row.trim().is_empty()).count() > 3 {
            break start.elapsed().as_secs_f64();
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    seconds
}
