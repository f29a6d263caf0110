//! The tree of commands and the flags that stand anywhere.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command};

use super::{args, backup, daemon, job, pitr, restore, schedule, service, settings, storage};
use crate::engine::physical::lock_keeper;

const AFTER: &str = "\
Without a command, the screen opens.

Exit codes: 0 done, 1 failed, 2 wrong usage or value, 3 no such thing, 4 conflict or not confirmed,
5 cannot reach the database, storage or daemon, 130 interrupted.";

pub fn command() -> Command {
    Command::new("mongokeep")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Backs up MongoDB from a terminal")
        .after_help(AFTER)
        .max_term_width(110)
        .subcommand_value_name("COMMAND")
        .args(global())
        .arg(args::switch("ascii", "the screen without symbols"))
        .subcommand(service::command())
        .subcommand(storage::command())
        .subcommand(backup::command())
        .subcommand(restore::command())
        .subcommand(schedule::command())
        .subcommand(pitr::command())
        .subcommand(job::command())
        .subcommand(daemon::command())
        .subcommand(settings::command())
        .subcommand(Command::new(lock_keeper::COMMAND).hide(true))
        .subcommand(
            Command::new("demo")
                .about("A working installation on throw-away replica sets, with a history of three days")
                .arg(args::switch("empty", "one replica set of which nothing was backed up yet"))
                .arg(
                    args::switch("headless", "without a terminal: back up, restore, compare, print a summary")
                        .conflicts_with("empty"),
                ),
        )
}

fn global() -> Vec<Arg> {
    let global = |id: &'static str, help: &'static str| Arg::new(id).long(id).help(help).global(true);
    vec![
        global("home", "configuration, data and state below this folder [env: MONGOKEEP_HOME]").value_name("DIR"),
        global("output", "what stdout holds [default: table]")
            .short('o')
            .value_name("table|json")
            .hide_possible_values(true)
            .value_parser(PossibleValuesParser::new(["table", "json"])),
        global("read-only", "change nothing").action(ArgAction::SetTrue),
        global("quiet", "no progress and no remarks; warnings, errors and what to do about them stay")
            .short('q')
            .action(ArgAction::SetTrue),
        global("verbose", "say more on stderr; twice: even more").short('v').action(ArgAction::Count),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        command().debug_assert();
    }

    /// Every line of the contract, at least once.
    #[test]
    fn every_command_of_the_contract_parses() {
        let lines = "
            service add a --uri mongodb://h --cluster c --engine native
            service add a --uri-file -
            service list
            service show a
            service edit a --uri-file f
            service remove a
            service check a
            storage add a --type filesystem --path /x
            storage add a --type s3 --bucket b --region r --endpoint http://h --prefix p --path-style \
              --access-key-id k --secret-access-key-file f --ca-file c --insecure-skip-tls-verify
            storage list
            storage show a
            storage edit a --region x
            storage remove a
            storage test a
            storage sync a
            backup create --service s --storage t --name n --model logical --folder f --include a --include b \
              --exclude c --compression zstd:3 --retry auto --retries 3 --retry-interval 15m --wait
            backup list --service s --storage t
            backup show a
            backup pin a
            backup unpin a
            backup delete a --keep-files --foreign --dry-run --yes
            backup verify a
            backup export a --to d
            restore b --to s --include a --rename x=y --exact --no-ttl --users-and-roles --safety-backup --dry-run \
              --yes --wait
            restore --service s --time latest --to t --base b
            schedule add a --service s --storage t --cron @daily --timezone UTC --start 2030-01-01T00:00:00Z \
              --type full --model logical --folder f --include a --exclude b --compression none --retention 7 \
              --keep-daily 1 --keep-weekly 1 --keep-monthly 1 --keep-yearly 1 --keep-within 30d --retry auto \
              --retries 3 --retry-interval 15m --disabled
            schedule list
            schedule show a
            schedule edit a --retention 3
            schedule retention a --dry-run
            schedule remove a
            schedule enable a
            schedule disable a
            schedule copy a
            schedule copy a b
            schedule run a --wait
            schedule next a --count 3
            pitr status --service s
            job list
            job show 1
            job log 1 --follow
            job cancel 1
            job retry 1
            job wait 1
            daemon run
            daemon status
            daemon stop
            settings get
            settings get ui.theme
            settings set ui.theme x
            settings path
            settings test-notification command
            settings test-notification webhook
            demo --headless
            --home /x -o json --read-only -q -v service list
            service list --home /x -o json --read-only -q -vv
            service --output table list";
        let lines = lines.replace("\\\n", " ");
        for line in lines.lines().filter(|l| !l.trim().is_empty()) {
            let args = std::iter::once("mongokeep").chain(line.split_whitespace());
            assert!(command().try_get_matches_from(args).is_ok(), "{line}");
        }
    }
}
