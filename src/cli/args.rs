//! Flags made of described fields, and their values collected for the client.

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::output::Out;
use super::secret;
use crate::client::Values;
use crate::domain::field::{Field, FieldKind};
use crate::domain::secret::redact_uri;
use crate::error::{Error, ErrorKind, Result};

/// One flag for each field, in the order of the table.
pub fn flags(fields: &[Field]) -> Vec<Arg> {
    fields.iter().flat_map(flag).collect()
}

/// The same for a command that changes what is there: what is not given stays, so there is no default.
pub fn edit_flags(fields: &[Field]) -> Vec<Arg> {
    let without_default = |field: &Field| Field { default: "", ..*field };
    fields.iter().map(without_default).flat_map(|field| flag(&field)).collect()
}

/// The positional argument that a command takes for the field `name` (or an ID).
pub fn positional(id: &'static str, shown: &'static str, help: &'static str) -> Arg {
    Arg::new(id).value_name(shown).help(help).required(true).value_parser(NonEmptyStringValueParser::new())
}

fn flag(field: &Field) -> Vec<Arg> {
    let arg = Arg::new(field.key).long(field.flag()).help(help(field));
    match field.kind {
        // The one secret that people paste; it may also be given in the open, with a warning.
        FieldKind::Secret if field.key == "uri" => vec![
            Arg::new("uri").long("uri").value_name("URI").help(help(field)).conflicts_with("uri-file"),
            Arg::new("uri-file").long("uri-file").value_name("F").help("the same, from a file; -: standard input"),
        ],
        FieldKind::Secret => {
            vec![arg.value_name("F").help(format!("{}; a file, or - for standard input", help(field)))]
        }
        FieldKind::Bool => vec![
            // `--exact`, or `--exact=false` to turn it off again in an edit.
            arg.value_name("true|false").num_args(0..=1).require_equals(true).default_missing_value("true"),
        ],
        FieldKind::List => vec![arg.value_name(value_name(field)).action(ArgAction::Append)],
        _ => vec![arg.value_name(value_name(field))],
    }
}

fn help(field: &Field) -> String {
    match field.default {
        "" | "false" => field.help.to_owned(),
        default => format!("{} [default: {default}]", field.help),
    }
}

fn value_name(field: &Field) -> String {
    match field.kind {
        FieldKind::Choice(words) => words.join("|"),
        FieldKind::Integer(low, high) if high < 1_000_000 => format!("{low}..{high}"),
        FieldKind::Integer(..) => "N".into(),
        FieldKind::Duration => "DURATION".into(),
        FieldKind::Path => "PATH".into(),
        FieldKind::Service => "SERVICE".into(),
        FieldKind::Storage => "STORAGE".into(),
        FieldKind::Backup => "BACKUP".into(),
        _ => match field.key {
            "include" | "exclude" => "NS".into(),
            "rename" => "FROM=TO".into(),
            "endpoint" => "URL".into(),
            "cron" => "EXPR".into(),
            "timezone" => "TZ".into(),
            "start" => "RFC3339".into(),
            "time" => "WHEN".into(),
            "compression" => "zstd[:LEVEL]|gzip[:LEVEL]|none".into(),
            key => key.to_ascii_uppercase(),
        },
    }
}

/// The values of `fields` that were given. `adding`: an empty secret is a mistake, where an edit removes it.
pub fn values(matches: &ArgMatches, fields: &[Field], adding: bool, out: &Out) -> Result<Values> {
    let mut values = Values::new();
    for field in fields {
        let texts = match field.kind {
            FieldKind::Secret => secret_of(matches, field, adding, out)?.into_iter().collect(),
            _ => many(matches, field.key),
        };
        // The variable of a script that was not set would otherwise choose everything. In an edit it alone empties the list.
        let may_be_empty = field.kind != FieldKind::List || (!adding && texts.len() == 1);
        if !may_be_empty && texts.iter().any(String::is_empty) {
            return Err(Error::invalid(&field.flag(), "is empty"));
        }
        if !texts.is_empty() {
            values.insert(field.key.to_owned(), texts);
        }
    }
    Ok(values)
}

fn secret_of(matches: &ArgMatches, field: &Field, adding: bool, out: &Out) -> Result<Option<String>> {
    let flag = field.flag();
    let file_id = if field.key == "uri" { "uri-file" } else { field.key };
    if field.key == "uri"
        && let Some(uri) = one(matches, "uri")
    {
        if redact_uri(&uri) != uri {
            out.warn("the connection string is visible in the process list; --uri-file F, or -, keeps it out");
        }
        return Ok(Some(uri));
    }
    let Some(path) = one(matches, file_id) else { return Ok(None) };
    let text = secret::read(&flag, &path)?;
    if text.is_empty() && adding {
        return Err(Error::invalid(&flag, if path == "-" { "standard input is empty" } else { "the file is empty" }));
    }
    Ok(Some(text))
}

/// A command with subcommands, of which one must be given.
pub fn group(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand_value_name("COMMAND")
}

/// The failure of an edit without a flag.
pub fn nothing_to_change() -> Error {
    Error::new(ErrorKind::Invalid, "nothing to change: no flag is given")
}

/// The text of an argument that this command may or may not have.
pub fn one(matches: &ArgMatches, id: &str) -> Option<String> {
    matches.try_get_one::<String>(id).ok().flatten().cloned()
}

fn many(matches: &ArgMatches, id: &str) -> Vec<String> {
    matches.try_get_many::<String>(id).ok().flatten().map(|texts| texts.cloned().collect()).unwrap_or_default()
}

/// The text of a required positional argument.
pub fn needed(matches: &ArgMatches, id: &str) -> Result<String> {
    one(matches, id).ok_or_else(|| Error::invalid(id, "is needed"))
}

pub fn given(matches: &ArgMatches, id: &str) -> bool {
    matches.try_get_one::<bool>(id).ok().flatten().copied().unwrap_or(false)
}

/// A switch that is no field: `--wait`, `--yes`, `--dry-run`.
pub fn switch(id: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).help(help).action(ArgAction::SetTrue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::storage_fields;
    use crate::domain::fields::{BACKUP_FIELDS, SERVICE_FIELDS};

    fn collected(fields: &[Field], args: &[&str]) -> Values {
        let command = Command::new("x").no_binary_name(true).args(flags(fields));
        values(&command.try_get_matches_from(args).unwrap(), fields, true, &Out::silent()).unwrap()
    }

    #[test]
    fn every_field_can_be_given_and_only_what_was_given_is_passed_on() {
        assert!(collected(BACKUP_FIELDS, &[]).is_empty());
        let got = collected(BACKUP_FIELDS, &["--include", "a", "--include", "b.c", "--retry-interval", "5m"]);
        assert_eq!(got["include"], ["a", "b.c"]);
        assert_eq!(got["retry_interval"], ["5m"]);
        let got = collected(&storage_fields("s3"), &["--path-style", "--insecure-skip-tls-verify=false"]);
        assert_eq!((&*got["path_style"][0], &*got["insecure_skip_tls_verify"][0]), ("true", "false"));
        assert_eq!(collected(SERVICE_FIELDS, &["--uri", "mongodb://h"])["uri"], ["mongodb://h"]);
    }

    #[test]
    fn only_what_is_added_has_defaults() {
        let help = |args: Vec<Arg>| Command::new("x").args(args).render_long_help().to_string();
        assert!(help(flags(SERVICE_FIELDS)).contains("[default: native]"));
        assert!(!help(edit_flags(SERVICE_FIELDS)).contains("[default"));
    }

    #[test]
    fn a_pattern_that_is_empty_does_not_choose_everything() {
        let given = |args: &[&str], adding| {
            let command = Command::new("x").no_binary_name(true).args(flags(BACKUP_FIELDS));
            values(&command.try_get_matches_from(args).unwrap(), BACKUP_FIELDS, adding, &Out::silent())
        };
        assert_eq!(given(&["--include", ""], true).unwrap_err().full(), "include: is empty");
        assert!(given(&["--exclude", "", "--exclude", "a"], false).is_err());
        assert_eq!(given(&["--include", ""], false).unwrap()["include"], [""], "an edit takes the list away");
    }

    #[test]
    fn a_secret_has_no_flag_that_takes_it_in_the_open() {
        let command = Command::new("x").no_binary_name(true).args(flags(&storage_fields("s3")));
        assert!(command.clone().try_get_matches_from(["--secret-access-key", "k"]).is_err());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        std::fs::write(&path, "hunter2\n").unwrap();
        let got = collected(&storage_fields("s3"), &["--secret-access-key-file", path.to_str().unwrap()]);
        assert_eq!(got["secret_access_key"], ["hunter2"]);
    }
}
