//! The fields of every form and command, one entry each.
//!
//! Flags of the command line, rows of the forms, validation, help texts and JSON keys all come from these tables, so
//! that a field is added in one place. They must never hold a rule that needs the store or a server: whether a name
//! is free, or a server answers, is decided where that can be seen.

pub mod rules;

use std::collections::BTreeMap;

use super::field::{Field, FieldKind};
use super::{command_line, retry, uri};
use crate::error::{Error, ErrorKind, Result};
use rules::{
    absolute_rule, compression_rule, cron_rule, events_rule, folder_rule, host_of, hours_rule, interval_rule,
    metrics_rule, name_rule, pattern_rule, plain_rule, rename_rule, stale_rule, start_rule, timezone_rule,
    webhook_rule, when_rule,
};

/// A MongoDB deployment.
pub const SERVICE_FIELDS: &[Field] = &[
    Field::new("name", "Name", FieldKind::Text, "how this service is called here").required().check(name_rule),
    Field::new("uri", "Connection string", FieldKind::Secret, "mongodb://user:password@host:27017/?replicaSet=rs0")
        .required()
        .check(uri::check),
    Field::new("cluster", "Cluster label", FieldKind::Text, "the folder of its backups unless another is given")
        .check(folder_rule),
    Field::new(
        "engine",
        "Engine",
        FieldKind::Choice(&["native", "pbm"]),
        "what makes the backups: this program, or PBM",
    )
    .default("native")
    .advanced()
    .not_built(&["pbm"]),
    Field::new(
        "production_hours",
        "Production hours",
        FieldKind::Text,
        "08:00-18:00 or Mon-Fri 08:00-18:00, in which a full backup is unwelcome; empty: the setting production_hours",
    )
    .advanced()
    .check(hours_rule),
];

const SERVICE: Field =
    Field::new("service", "Service", FieldKind::Service, "what is backed up").required().check(name_rule);
const MODEL: Field =
    Field::new("model", "Data model", FieldKind::Choice(&["logical", "physical"]), "documents, or a copy of the files")
        .default("logical")
        .not_built(&["physical"]);
const STORAGE: Field =
    Field::new("storage", "Storage", FieldKind::Storage, "where it is kept").required().check(name_rule);
const FOLDER: Field =
    Field::new("folder", "Folder", FieldKind::Text, "below the storage's prefix; empty: the service's cluster label")
        .check(folder_rule);
const INCLUDE: Field =
    Field::new("include", "Include", FieldKind::List, "only these namespaces: shop, shop.orders, shop.*, *.events")
        .advanced()
        .check(pattern_rule);
const EXCLUDE: Field =
    Field::new("exclude", "Exclude", FieldKind::List, "not these namespaces").advanced().check(pattern_rule);
const COMPRESSION: Field = Field::new(
    "compression",
    "Compression",
    FieldKind::Text,
    "zstd[:1-19], gzip[:1-9] or none; empty: the setting backup.compression",
)
.advanced()
.check(compression_rule);
const RETRY: Field = Field::new(
    "retry",
    "Retry",
    FieldKind::Choice(&["manual", "auto"]),
    "whether a failed run is retried automatically",
)
.default("manual")
.advanced();
const RETRIES: Field =
    Field::new("retries", "Retries", FieldKind::Integer(0, retry::MAX_RETRIES as u64), "how often, with --retry auto")
        .default("3")
        .advanced();
const RETRY_INTERVAL: Field =
    Field::new("retry_interval", "Retry interval", FieldKind::Duration, "how long between two attempts, up to 8h")
        .default("15m")
        .advanced()
        .check(interval_rule);

/// `backup create`, in the order in which a person decides.
pub const BACKUP_FIELDS: &[Field] = &[
    Field::new("name", "Name", FieldKind::Text, "must be free; empty: made of the service and the time")
        .check(name_rule),
    SERVICE,
    MODEL,
    STORAGE,
    FOLDER,
    INCLUDE,
    EXCLUDE,
    COMPRESSION,
    RETRY,
    RETRIES,
    RETRY_INTERVAL,
];

/// `schedule add`, in the order in which a person decides. What it shares with a backup reads the same.
pub const SCHEDULE_FIELDS: &[Field] = &[
    Field::new("name", "Name", FieldKind::Text, "how this schedule is called; its backups begin with it")
        .required()
        .check(name_rule),
    SERVICE,
    MODEL,
    STORAGE,
    FOLDER,
    Field::new("type", "Backup type", FieldKind::Choice(&["full", "pitr"]), "whole backups, or every second between")
        .default("full"),
    Field::new(
        "cron",
        "Frequency",
        FieldKind::Text,
        "minute hour day month weekday, six fields with seconds first, or @hourly @daily @weekly @monthly @yearly",
    )
    .required()
    .check(cron_rule),
    Field::new("timezone", "Time zone", FieldKind::Text, "UTC, or a name such as Europe/Paris; empty: of this machine")
        .check(timezone_rule),
    Field::new("start", "Start time", FieldKind::Text, "nothing runs before, such as 2026-11-21T02:00:00Z; empty: now")
        .check(start_rule),
    Field::new("retention", "Retention", FieldKind::Integer(0, 100_000), "keep the newest N backups; 0 keeps all")
        .default("0"),
    Field::new(
        "keep_daily",
        "Keep daily",
        FieldKind::Integer(0, 100_000),
        "also keep the last backup of each of N days",
    )
    .default("0")
    .advanced(),
    Field::new(
        "keep_weekly",
        "Keep weekly",
        FieldKind::Integer(0, 100_000),
        "also keep the last backup of each of N weeks",
    )
    .default("0")
    .advanced(),
    Field::new(
        "keep_monthly",
        "Keep monthly",
        FieldKind::Integer(0, 100_000),
        "also keep the last backup of each of N months",
    )
    .default("0")
    .advanced(),
    Field::new(
        "keep_yearly",
        "Keep yearly",
        FieldKind::Integer(0, 100_000),
        "also keep the last backup of each of N years",
    )
    .default("0")
    .advanced(),
    Field::new("keep_within", "Keep within", FieldKind::Duration, "also keep all that are younger, such as 30d")
        .advanced(),
    RETRY,
    RETRIES,
    RETRY_INTERVAL,
    COMPRESSION,
    INCLUDE,
    EXCLUDE,
];

/// What `schedule add` takes besides; later it is `schedule enable` and `schedule disable`.
pub const SCHEDULE_DISABLED: &[Field] =
    &[Field::new("disabled", "Switched off", FieldKind::Bool, "nothing runs before it is enabled").default("false")];

/// `restore`.
pub const RESTORE_FIELDS: &[Field] = &[
    Field::new("backup", "Backup", FieldKind::Backup, "what is restored").required().check(name_rule),
    Field::new("to", "Into service", FieldKind::Service, "where it is written").required().check(name_rule),
    Field::new("include", "Include", FieldKind::List, "only these namespaces, by their names in the backup")
        .check(pattern_rule),
    Field::new("rename", "Rename", FieldKind::List, "FROM=TO: two databases (a=b) or two namespaces (a.x=b.y)")
        .check(rename_rule),
    Field::new(
        "exact",
        "Exact",
        FieldKind::Bool,
        "also drop collections of the restored databases that the backup lacks",
    )
    .default("false"),
    Field::new(
        "no_ttl",
        "Without TTL indexes",
        FieldKind::Bool,
        "so that the target does not delete what was recovered",
    )
    .default("false"),
    Field::new(
        "users_and_roles",
        "Users and roles",
        FieldKind::Bool,
        "of the restored databases; all of them when everything is restored",
    )
    .default("false"),
    Field::new("safety_backup", "Safety backup", FieldKind::Bool, "back the target up first")
        .default("false")
        .advanced(),
];

/// `restore` to a moment, instead of the backup.
pub const MOMENT_FIELDS: &[Field] = &[
    Field::new("service", "Service", FieldKind::Service, "point in time: the service whose past is restored")
        .required()
        .check(name_rule),
    Field::new(
        "time",
        "Moment",
        FieldKind::Text,
        "point in time: a time such as 2026-11-21T14:02:03Z (the end of that second), a position T,I, or latest",
    )
    .required()
    .check(when_rule),
    Field::new(
        "base",
        "Base",
        FieldKind::Backup,
        "point in time: the backup to begin with; empty: the newest before the moment",
    )
    .advanced()
    .check(name_rule),
];

/// The dotted keys of `config.toml`.
pub const SETTING_FIELDS: &[Field] = &[
    Field::new(
        "backup.enabled",
        "Backup management",
        FieldKind::Bool,
        "with false nothing starts a backup, and no changes are kept for point in time",
    )
    .default("true"),
    Field::new("backup.compression", "Compression", FieldKind::Text, "zstd[:1-19], gzip[:1-9] or none")
        .default("zstd:2")
        .check(compression_rule),
    Field::new(
        "backup.parallel_collections",
        "Parallel collections",
        FieldKind::Integer(1, 64),
        "cursors that read, or connections that write, at once",
    )
    .default("4"),
    Field::new(
        "backup.bandwidth_limit",
        "Bandwidth limit",
        FieldKind::Integer(0, i64::MAX as u64),
        "stored bytes per second of one job; 0: no limit",
    )
    .default("0"),
    Field::new(
        "backup.split_bytes",
        "Split above",
        FieldKind::Integer(1, i64::MAX as u64),
        "a collection above this many bytes is read by several cursors",
    )
    .default("1073741824"),
    Field::new(
        "backup.read_back",
        "Read back",
        FieldKind::Bool,
        "read everything back from the storage before a backup, or a slice of the oplog, counts as stored",
    )
    .default("false"),
    Field::new(
        "jobs.concurrency",
        "Jobs at once",
        FieldKind::Integer(1, 64),
        "jobs of different services that run at the same time",
    )
    .default("2"),
    Field::new(
        "scheduler.missed_run_grace",
        "Grace for missed runs",
        FieldKind::Duration,
        "a run that was missed by less than this is still made",
    )
    .default("6h"),
    Field::new("pitr.slice_seconds", "Slice length", FieldKind::Integer(5, 3600), "seconds of oplog in one slice")
        .default("60"),
    Field::new(
        "production_hours",
        "Production hours",
        FieldKind::Text,
        "08:00-18:00 or Mon-Fri 08:00-18:00, in which a full backup is unwelcome; empty: none",
    )
    .check(hours_rule),
    Field::new(
        "notify.command",
        "Command",
        FieldKind::Text,
        "/path/of/program and its arguments, without a shell; it reads a notice as JSON on standard input",
    )
    .check(command_line::check),
    Field::new("notify.webhook_url", "Webhook", FieldKind::Text, "https://... that each notice is posted to as JSON")
        .check(webhook_rule)
        .shown(host_of),
    Field::new(
        "notify.webhook_secret_file",
        "Webhook secret file",
        FieldKind::Path,
        "a file (mode 0600) whose text is sent in the header X-Mongokeep-Secret",
    )
    .check(absolute_rule),
    Field::new(
        "notify.on",
        "Notify on",
        FieldKind::Text,
        "failure, success, missed, retention_failure, stale, storage_full, pitr_gap, pitr_lag, pitr_stopped, pitr_held",
    )
    .default("failure, missed, retention_failure, stale, storage_full, pitr_gap, pitr_lag, pitr_stopped, pitr_held")
    .check(events_rule),
    Field::new(
        "notify.stale_hours",
        "Stale after",
        FieldKind::Integer(0, 1_000_000),
        "hours without a good backup of a service before it is called stale; 0: never",
    )
    .default("192"),
    Field::new(
        "notify.stale_services",
        "Stale by service",
        FieldKind::Text,
        "SERVICE=HOURS, ... where it is not the same for all",
    )
    .check(stale_rule),
    Field::new(
        "notify.storage_full_percent",
        "Storage full at",
        FieldKind::Integer(0, 100),
        "percent of the disk of a storage in use; 0: never",
    )
    .default("90"),
    Field::new(
        "notify.pitr_seconds",
        "Recording behind",
        FieldKind::Integer(0, 1_000_000),
        "seconds that recording may stand still, or lag beyond the length of a slice, before a notification; 0: never",
    )
    .default("300"),
    Field::new(
        "metrics.file",
        "Metrics file",
        FieldKind::Path,
        "a file NAME.prom that the daemon keeps up to date for Prometheus; empty: metrics.prom beside its log",
    )
    .check(metrics_rule),
    Field::new("ui.theme", "Theme", FieldKind::Text, "name of a theme").default("default").check(plain_rule),
    Field::new("ui.motion", "Motion", FieldKind::Bool, "spinners move").default("true"),
    Field::new("ui.mouse", "Mouse", FieldKind::Bool, "clicks and the wheel work").default("true"),
    Field::new(
        "ui.sort",
        "Order of backups",
        FieldKind::Choice(&["age", "-age", "name", "-name", "service", "-service", "state", "-state", "size", "-size"]),
        "what lists of backups and jobs are sorted by; with a dash reversed",
    )
    .default("age"),
    Field::new("ui.timezone", "Time zone", FieldKind::Text, "local, UTC, or a name such as Europe/Paris")
        .default("local")
        .check(timezone_rule),
];

/// Checks `values` against `fields`: every key is known, every required field is there (unless `partial`, for edits),
/// every value is valid, and only lists have several.
///
/// Errors: `Invalid`, or `Unsupported` for what is not built yet; the message names the flag.
pub fn check(fields: &[&[Field]], values: &BTreeMap<String, Vec<String>>, partial: bool) -> Result<()> {
    let all = || fields.iter().flat_map(|f| f.iter());
    // What is not built has no fields yet: that is what is wrong, and not the fields that were given with it.
    for field in all() {
        for text in values.get(field.key).into_iter().flatten() {
            if field.is_not_built(text) {
                let why = field.validate(text).err().unwrap_or_default();
                return Err(Error::of_field(ErrorKind::Unsupported, &field.name(), why));
            }
        }
    }
    for (key, texts) in values {
        let Some(field) = all().find(|f| f.key == key) else {
            return Err(Error::invalid(&key.replace('_', "-"), "does not apply here"));
        };
        if texts.len() > 1 && field.kind != FieldKind::List {
            return Err(Error::invalid(&field.name(), "is given more than once"));
        }
    }
    for field in all() {
        let texts = values.get(field.key).map(Vec::as_slice).unwrap_or_default();
        if texts.is_empty() {
            if field.required && !partial && field.default.is_empty() {
                return Err(invalid(field, "is needed".into()));
            }
            continue;
        }
        for text in texts {
            field.validate(text).map_err(|why| invalid(field, why))?;
        }
    }
    Ok(())
}

fn invalid(field: &Field, why: String) -> Error {
    Error::invalid(&field.name(), why)
}

#[cfg(test)]
mod tests;
