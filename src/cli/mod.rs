//! The command line: parses, calls the client, prints.
//!
//! It holds no rule of its own about what is allowed; flags come from [`crate::domain::fields`] and every decision
//! from [`crate::client`]. What stands on stdout is for scripts (one JSON value with `-o json`), everything else goes
//! to stderr. It must never print a secret, not even one that was typed in the wrong place, and never panic because
//! somebody closed its output.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;
use clap::error::ErrorKind as Usage;
use tokio::signal::unix::{SignalKind, signal};

use crate::domain::field::FieldKind;
use crate::domain::fields::SETTING_FIELDS;
use crate::engine::physical::lock_keeper;
use crate::error::{Error, ErrorKind, Result};

mod args;
mod backup;
mod cluster;
mod contents;
mod context;
mod daemon;
mod job;
mod job_result;
mod logging;
mod output;
mod pitr;
mod plan;
mod redact;
mod restore;
mod retention;
mod schedule;
mod secret;
mod service;
mod settings;
mod storage;
mod storage_check;
mod storage_sync;
mod table;
mod tree;
mod wait;

use context::Context;
use redact::Redactor;

/// How long an interrupted command may take to remove what it wrote.
const TAKE_BACK: Duration = Duration::from_secs(2);

/// Runs the program with these arguments (the first is its own name) and returns its exit code.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let redactor = Redactor::new(&args);
    let code = match tree::command().try_get_matches_from(&args) {
        Ok(matches) => run(&matches, &args).unwrap_or_else(|error| {
            output::error(&error, &redactor, args::one(&matches, "home").as_deref());
            error.kind().exit_code()
        }),
        Err(usage) => usage_error(&usage, &redactor),
    };
    ExitCode::from(code)
}

fn run(matches: &ArgMatches, args: &[OsString]) -> Result<u8> {
    if matches.subcommand_name() == Some(lock_keeper::COMMAND) {
        return keep_lock();
    }
    let context = Context::new(matches, args)?;
    // `daemon run` has its own workers; a command needs one for its work and one that listens to Ctrl-C.
    let threads =
        if logging::is_daemon_run(matches) { std::thread::available_parallelism().map_or(2, usize::from) } else { 2 };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(2))
        .max_blocking_threads(blocking_threads())
        .enable_all()
        .build()
        .map_err(|e| crate::error::io("starting", e))?;
    let result = runtime.block_on(dispatch(context, matches.clone()));
    // A blocking call that still waits for the daemon must not keep an interrupted command alive.
    runtime.shutdown_background();
    result
}

/// A process of its own that locks a server for a daemon. It has no home, and says nothing but to whoever started it.
fn keep_lock() -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| crate::error::io("starting", e))?;
    let kept = runtime.block_on(lock_keeper::keep());
    // Its input is read by a thread that may wait for ever.
    runtime.shutdown_background();
    kept.map(|()| 0)
}

/// Threads that may block, started when they are needed. Every job holds one, and one for each collection it reads or writes
/// and for the oplog beside them, for as long as they take: were there no more, what these wait for could never run.
fn blocking_threads() -> usize {
    const OTHERS: usize = 512;
    let most = |key: &str| match SETTING_FIELDS.iter().find(|field| field.key == key).map(|field| field.kind) {
        Some(FieldKind::Integer(_, most)) => usize::try_from(most).unwrap_or(usize::MAX),
        _ => 1,
    };
    OTHERS + most("jobs.concurrency").saturating_mul(most("backup.parallel_collections").saturating_add(2))
}

async fn dispatch(context: Context, matches: ArgMatches) -> Result<u8> {
    match matches.subcommand() {
        None => screen(&context, &matches).await,
        // These two listen to signals themselves.
        Some(("daemon", sub)) if sub.subcommand_name() == Some("run") => daemon::foreground(&context, sub).await,
        Some(("demo", sub)) => demo(&context, sub).await,
        _ => {
            let interrupted = context.interrupted();
            // Listens before the work begins: `ctrl_c` would do so only when it is first polled, and the work runs on
            // another thread, so that a Ctrl-C right after the first line would kill the program without a word.
            let mut ctrl_c =
                signal(SignalKind::interrupt()).map_err(|e| crate::error::io("listening for signals", e))?;
            let mut work = tokio::spawn(async move { command(&context, &matches).await });
            let done = tokio::select! {
                biased;
                done = &mut work => Some(done),
                _ = ctrl_c.recv() => {
                    if interrupted.cancel() { tokio::time::timeout(TAKE_BACK, &mut work).await.ok() } else { None }
                }
            };
            match done {
                Some(done) => done.map_err(|e| Error::new(ErrorKind::Internal, "the command broke off").source(e))?,
                None => Err(interrupted.error()),
            }
        }
    }
}

async fn command(context: &Context, matches: &ArgMatches) -> Result<u8> {
    match matches.subcommand() {
        Some(("service", sub)) => service::run_service(context, sub).await,
        Some(("storage", sub)) => storage::run_storage(context, sub).await,
        Some(("backup", sub)) => backup::run_backup(context, sub).await,
        Some(("restore", sub)) => restore::run_restore(context, sub).await,
        Some(("schedule", sub)) => schedule::run_schedule(context, sub).await,
        Some(("job", sub)) => job::run_job(context, sub).await,
        Some(("daemon", sub)) => daemon::run_daemon(context, sub).await,
        Some(("settings", sub)) => settings::run_settings(context, sub).await,
        Some(("pitr", sub)) => pitr::run_pitr(context, sub),
        _ => Err(Error::new(ErrorKind::Internal, "a command without its code")),
    }
}

/// Prints what is wrong with the command line, or the help that was asked for.
fn usage_error(usage: &clap::Error, redactor: &Redactor) -> u8 {
    let text = usage.render().to_string();
    if matches!(usage.kind(), Usage::DisplayHelp | Usage::DisplayVersion) {
        // A reader that closed its end has seen enough.
        let _ = output::stdout(&text);
        return 0;
    }
    let lines: Vec<String> = text.lines().map(|line| crate::domain::text::escape(&redactor.clean(line))).collect();
    output::stderr(&lines.join("\n"));
    ErrorKind::Invalid.exit_code()
}

/// The screen, which `mongokeep` alone opens.
async fn screen(context: &Context, matches: &ArgMatches) -> Result<u8> {
    if context.out.json || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(Error::new(ErrorKind::Invalid, "the screen needs a terminal, and no command is given")
            .hint("mongokeep --help lists the commands"));
    }
    let options = crate::tui::Options {
        read_only: context.read_only,
        ascii: args::given(matches, "ascii"),
        home: context.out.home.clone(),
        ..crate::tui::Options::default()
    };
    crate::tui::run_screen(context.client()?, options).await.map(|()| 0)
}

/// The demo has a home of its own, and stops and removes what it started.
async fn demo(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let given = |name| args::given(matches, name);
    let options = crate::demo::Options { headless: given("headless"), json: context.out.json, empty: given("empty") };
    crate::demo::run_demo(options).await
}
