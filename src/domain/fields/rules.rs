//! What the text of a field may be. Each rule says what is wrong in words that can follow the name of the field.

use crate::domain::storage::MAX_PREFIX;
use crate::domain::text::quoted;
use crate::domain::{
    backup, bandwidth, command_line, cron, hours, name, namespace, notification, pitr, restore, retry, warning,
};

pub fn name_rule(text: &str) -> Result<(), String> {
    name::check("name", text).map_err(|_| {
        format!(
            "{} is not a name; a name begins with a letter or digit and holds up to 100 letters, digits, dots, \
             dashes and underscores",
            quoted(text)
        )
    })
}

/// The name of a backup that is there.
pub fn backup_rule(text: &str) -> Result<(), String> {
    name::check_backup("backup", text).map_err(|_| format!("{} is not the name of a backup", quoted(text)))
}

pub fn folder_rule(text: &str) -> Result<(), String> {
    name::check_folder("", text).map_err(|e| e.full().trim_start_matches(": ").to_owned())
}

/// A part of a key: S3 bounds the length of the whole.
pub fn prefix_rule(text: &str) -> Result<(), String> {
    folder_rule(text)?;
    if text.len() > MAX_PREFIX {
        return Err(format!("is longer than {MAX_PREFIX} bytes, which leaves too little of a key for backups"));
    }
    if text.split('/').any(|part| part.len() > 255) {
        return Err("has a part of more than 255 bytes".into());
    }
    Ok(())
}

pub fn when_rule(text: &str) -> Result<(), String> {
    text.parse::<pitr::When>().map(drop)
}

pub fn cron_rule(text: &str) -> Result<(), String> {
    cron::Cron::parse(text).map(drop)
}

pub fn start_rule(text: &str) -> Result<(), String> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(drop)
        .map_err(|_| format!("{} is not a time such as 2026-11-21T02:00:00Z", quoted(text)))
}

/// A command line that is run without a shell.
pub fn command_rule(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("cannot contain control characters".into());
    }
    if command_line::words(text)?.is_empty() { Err("names no program".into()) } else { Ok(()) }
}

/// The address of a member of a replica set.
pub fn member_rule(text: &str) -> Result<(), String> {
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"/,@?".contains(c);
        !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if valid { Ok(()) } else { Err(format!("{} is not an address such as db1.example.net:27017", quoted(text))) }
}

/// One line without control characters or spaces around it.
pub fn plain_rule(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("cannot contain control characters".into());
    }
    if text.trim() != text { Err("begins or ends with a space".into()) } else { Ok(()) }
}

pub fn path_rule(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("cannot contain a zero byte".into());
    }
    Ok(())
}

pub fn absolute_rule(text: &str) -> Result<(), String> {
    path_rule(text)?;
    if text.starts_with('/') { Ok(()) } else { Err("must be an absolute path".into()) }
}

/// The collector reads no file of another name; and a file that is replaced should not be one of something else.
pub fn metrics_rule(text: &str) -> Result<(), String> {
    absolute_rule(text)?;
    if text.ends_with(".prom") && !text.ends_with("/.prom") { Ok(()) } else { Err("must end in NAME.prom".into()) }
}

/// The path of a webhook is often its key; a password in front of the host would be one more secret in a plain file.
pub fn webhook_rule(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else { return Err("begins with https:// or http://".into()) };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() || host.contains('@') || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("is not https://host/path; a secret belongs into notify.webhook_secret_file".into());
    }
    Ok(())
}

/// Of an address whose path is often a key: `https://host:port/...`.
pub fn host_of(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return String::new() };
    let (place, below) = rest.split_once(['/', '?', '#']).unwrap_or((rest, ""));
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    if below.is_empty() && host == place { url.to_owned() } else { format!("{scheme}://{host}/...") }
}

pub fn events_rule(text: &str) -> Result<(), String> {
    notification::parse_events(text).map(drop)
}

pub fn stale_rule(text: &str) -> Result<(), String> {
    warning::parse_stale_services(text).map(drop)
}

/// The rules of S3 are stricter for new buckets than for old ones; this keeps out what could be read as something else.
pub fn bucket_rule(text: &str) -> Result<(), String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if plain && (3..=255).contains(&text.len()) && !text.contains("..") {
        return Ok(());
    }
    Err("is not the name of a bucket: 3 or more letters, digits, dots, dashes and underscores".into())
}

pub fn endpoint_rule(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else { return Err("begins with https:// or http://".into()) };
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains(['@', '?', '#', ' ', '\\']) || host.chars().any(char::is_control) {
        return Err("is not https://host:port".into());
    }
    Ok(())
}

pub fn pattern_rule(text: &str) -> Result<(), String> {
    text.parse::<namespace::Pattern>().map(drop)
}

pub fn rename_rule(text: &str) -> Result<(), String> {
    text.parse::<namespace::Rename>().map(drop)
}

pub fn replset_map_rule(text: &str) -> Result<(), String> {
    text.parse::<restore::ReplicaSetMap>().map(drop)
}

pub fn compression_rule(text: &str) -> Result<(), String> {
    text.parse::<backup::Compression>().map(drop)
}

pub fn interval_rule(text: &str) -> Result<(), String> {
    if retry::parse_duration(text)? > retry::MAX_INTERVAL { Err("is more than 8h".into()) } else { Ok(()) }
}

pub fn hours_rule(text: &str) -> Result<(), String> {
    hours::WeeklyHours::parse(text).map(drop)
}

pub fn bandwidth_rule(text: &str) -> Result<(), String> {
    bandwidth::Bandwidth::parse(text).map(drop)
}

pub fn timezone_rule(text: &str) -> Result<(), String> {
    if text == "local" || text.parse::<chrono_tz::Tz>().is_ok() {
        return Ok(());
    }
    Err(format!("{} is not local, UTC, or a name such as Europe/Paris", quoted(text)))
}
