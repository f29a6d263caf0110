//! What `-v` shows on stderr. Only this program's own events: those of the libraries below may hold secrets.

use clap::ArgMatches;
use tracing_subscriber::EnvFilter;

use super::tree;

/// Starts logging. A daemon tells what it does without being asked; everything else only with `-v`.
pub fn start(matches: &ArgMatches, quiet: bool) {
    let verbose = matches.get_count("verbose");
    let level = match (tree::is_daemon_run(matches), quiet, verbose) {
        (true, true, 0) => "warn",
        (true, _, 0) => "info",
        (_, _, 0) => return,
        (true, _, _) => "debug",
        (_, _, 1) => "info",
        _ => "debug",
    };
    // Fails only when somebody was first, as in a test that runs commands in one process.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("mongokeep={level}")))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}
