//! Hooks for what must never happen, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A panic is a bug: say so, with a backtrace for the report. Nothing of the environment, which may hold credentials.
    let _ = color_eyre::config::HookBuilder::default().display_env_section(false).install();
    mongokeep::cli::main(std::env::args_os().collect())
}
