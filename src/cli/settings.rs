//! `mongokeep settings`: the dotted keys of `config.toml`.
//!
//! Reading them needs no store, so that it works when the store cannot be opened.

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::args::{group, needed, one, positional};
use super::context::Context;
use super::table::{Column, Table};
use crate::client::identity_warning;
use crate::config::{STATE_STORAGE, Settings};
use crate::domain::bandwidth;
use crate::domain::field::FieldKind;
use crate::domain::fields::SETTING_FIELDS;
use crate::domain::notification::Channel;
use crate::domain::retry::parse_duration;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

pub fn command() -> Command {
    group("settings", "The settings in config.toml")
        .subcommand(
            Command::new("get")
                .about("Print a setting, or all of them")
                .arg(Arg::new("key").value_name("KEY").help("for example backup.compression")),
        )
        .subcommand(
            Command::new("set")
                .about("Change a setting; a running daemon takes it with its next job")
                .arg(positional("key", "KEY", "for example backup.compression"))
                .arg(Arg::new("value").value_name("VALUE").required(true).allow_hyphen_values(true)),
        )
        .subcommand(
            Command::new("test-notification").about("Send a test notice; exit 1 when it does not arrive").arg(
                positional("channel", "command|webhook", "by which it is sent").value_parser(["command", "webhook"]),
            ),
        )
        .subcommand(Command::new("path").about("Print where config.toml is"))
}

pub async fn run_settings(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let out = &context.out;
    let Some((verb, sub)) = matches.subcommand() else { return Ok(2) };
    match verb {
        "path" => {
            let path = context.home.settings_file().display().to_string();
            out.result(&json!({"path": path}), || format!("{}\n", escape(&path)))?;
        }
        "test-notification" => {
            let channel: Channel =
                needed(sub, "channel")?.parse().map_err(|why: String| Error::invalid("channel", why))?;
            let told = context.client()?.test_notification(channel).await?;
            out.result(&told, || format!("{}\n", escape(&told.detail)))?;
        }
        "set" => {
            let (key, text) = (needed(sub, "key")?, needed(sub, "value")?);
            if context.read_only {
                return Err(Error::new(ErrorKind::Denied, "nothing can be changed: --read-only")
                    .hint("run it again without --read-only"));
            }
            // Only what has to do with the copy of the store needs the store.
            if key == STATE_STORAGE || Settings::load(&context.home).is_ok_and(|s| s.state_storage().is_some()) {
                let (client, key, text) = (context.client()?, key.clone(), text.clone());
                client.call(move |c| c.set_setting(&key, &text)).await?;
            } else {
                Settings::set(&context.home, &key, &text)?;
            }
            if key == "encryption.identity_file"
                && let Some(warning) = identity_warning(&text)
            {
                out.warn(&warning);
            }
            if let Some(warning) = (key == "backup.bandwidth_limit").then(|| bandwidth::warning(&text)).flatten() {
                out.warn(&warning);
            }
            let text = shown(&key, &text);
            out.result(&object(&key, &text), || format!("{key} = {}\n", escape(&text)))?;
        }
        _ => match one(sub, "key") {
            Some(key) => {
                let text = shown(&key, &settings(context)?.get(&key)?);
                out.result(&object(&key, &text), || format!("{}\n", escape(&text)))?;
            }
            None => {
                let mut all = settings(context)?.all();
                all.iter_mut().for_each(|(key, text)| *text = shown(key, text));
                let values: Vec<Value> = all.iter().map(|(key, text)| object(key, text)).collect();
                out.list(&values, || table(&all), "no settings")?;
            }
        },
    }
    Ok(0)
}

fn settings(context: &Context) -> Result<Settings> {
    let settings = Settings::load(&context.home)?;
    for warning in &settings.warnings {
        context.out.warn(warning);
    }
    Ok(settings)
}

/// A value without what is secret of it: what is printed ends up in logs and in the history of a terminal.
fn shown(key: &str, text: &str) -> String {
    SETTING_FIELDS.iter().find(|f| f.key == key).map_or_else(|| text.to_owned(), |f| (f.shown)(text))
}

fn object(key: &str, text: &str) -> Value {
    json!({"key": key, "value": typed(key, text)})
}

/// The value as scripts want it: switches and numbers as such, durations in seconds.
fn typed(key: &str, text: &str) -> Value {
    let kind = SETTING_FIELDS.iter().find(|f| f.key == key).map(|f| f.kind);
    let value = match kind {
        Some(FieldKind::Bool) => text.parse::<bool>().ok().map(Value::from),
        Some(FieldKind::Integer(..)) => text.parse::<u64>().ok().map(Value::from),
        Some(FieldKind::NumberOrText) => text.parse::<u64>().ok().map(Value::from),
        Some(FieldKind::Duration) => parse_duration(text).ok().map(|d| Value::from(d.as_secs())),
        _ => None,
    };
    value.unwrap_or_else(|| Value::from(text))
}

fn table(all: &[(String, String)]) -> Table {
    let mut table = Table::new([Column::new("KEY"), Column::new("VALUE"), Column::long("MEANING")]);
    for (key, text) in all {
        let help = SETTING_FIELDS.iter().find(|f| f.key == key).map_or("", |f| f.help);
        table.row([key.clone(), text.clone(), help.to_owned()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_address_of_a_webhook_the_host_is_shown() {
        for (url, expected) in [
            ("https://hooks.example.com/services/T0KEN", "https://hooks.example.com/..."),
            ("http://127.0.0.1:9?key=T0KEN", "http://127.0.0.1:9/..."),
            ("https://hooks.example.com/", "https://hooks.example.com/"),
            ("", ""),
        ] {
            assert_eq!(shown("notify.webhook_url", url), expected);
        }
        assert_eq!(shown("notify.command", "/usr/bin/alert --x"), "/usr/bin/alert --x");
    }

    #[test]
    fn json_values_have_their_types() {
        assert_eq!(typed("backup.enabled", "true"), json!(true));
        assert_eq!(typed("jobs.concurrency", "2"), json!(2));
        assert_eq!(typed("scheduler.missed_run_grace", "1h"), json!(3600));
        assert_eq!(typed("backup.compression", "zstd:1"), json!("zstd:1"));
        assert_eq!(typed("production_hours", ""), json!(""));
    }
}
