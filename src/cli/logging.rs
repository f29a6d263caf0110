//! What `-v` shows on stderr, and what a daemon logs. Only this program's own events: those of the libraries below may
//! hold secrets.

use std::os::unix::fs::MetadataExt;

use clap::ArgMatches;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::args;
use crate::config::Home;
use crate::control::log::RotatedLog;

/// Starts logging. A daemon tells what it does without being asked; everything else only with `-v`.
pub fn start(matches: &ArgMatches, quiet: bool, home: &Home) {
    let verbose = matches.get_count("verbose");
    let level = match (is_daemon_run(matches), quiet, verbose) {
        (true, true, 0) => "warn",
        (true, _, 0) => "info",
        (_, _, 0) => return,
        (true, _, _) => "debug",
        (_, _, 1) => "info",
        _ => "debug",
    };
    let file = if in_background(matches) { RotatedLog::open(&home.log_file()).ok() } else { None };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("mongokeep={level}")))
        .with_ansi(false)
        .with_target(false)
        .with_writer(match file {
            Some(file) => BoxMakeWriter::new(file),
            None => BoxMakeWriter::new(std::io::stderr),
        });
    // Fails only when somebody was first, as in a test that runs commands in one process.
    let _ = if is_journal() { builder.without_time().try_init() } else { builder.try_init() };
}

pub fn is_daemon_run(matches: &ArgMatches) -> bool {
    matches.subcommand().is_some_and(|(name, sub)| name == "daemon" && sub.subcommand_name() == Some("run"))
}

fn in_background(matches: &ArgMatches) -> bool {
    let run = matches.subcommand_matches("daemon").and_then(|daemon| daemon.subcommand_matches("run"));
    run.is_some_and(|run| args::given(run, "background"))
}

/// Whether stderr goes to the journal, which notes the time by itself: systemd.exec(5) names its device and inode.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}
