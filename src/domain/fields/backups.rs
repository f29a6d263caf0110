//! The fields of a backup and of a schedule, which share most of them.

use chrono::{DateTime, SecondsFormat};

use super::rules::{
    compression_rule, cron_rule, folder_rule, interval_rule, name_rule, pattern_rule, start_rule, timezone_rule,
};
use crate::domain::backup::{BackupDraft, BackupType, Model};
use crate::domain::clock;
use crate::domain::field::{Field, FieldKind};
use crate::domain::retry::{self, RetryMode};
use crate::domain::schedule::Schedule;
use crate::domain::typed::{Typed, described, first, list, number, optional, plain_text, seconds, word};

const THE_SERVICE: Field =
    Field::new("service", "Service", FieldKind::Service, "what is backed up").required().check(name_rule);
const MODEL: Field =
    Field::new("model", "Data model", FieldKind::Choice(Model::WORDS), "documents, or a copy of the files")
        .default("logical");
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
const RETRY: Field =
    Field::new("retry", "Retry", FieldKind::Choice(RetryMode::WORDS), "whether a failed run is retried automatically")
        .default("manual")
        .advanced();
const RETRIES: Field = Field::new(
    "retries",
    "Retries",
    FieldKind::Integer(0, retry::MAX_RETRIES as u64),
    "how often a failed run is tried again, where retries are automatic",
)
.default("3")
.advanced();
const RETRY_INTERVAL: Field =
    Field::new("retry_interval", "Retry interval", FieldKind::Duration, "how long between two attempts, up to 8h")
        .default("15m")
        .advanced()
        .check(interval_rule);

/// `backup create`, in the order in which a person decides.
pub const BACKUP: &[Typed<BackupDraft>] = &[
    plain_text!(
        Field::new("name", "Name", FieldKind::Text, "must be free; empty: made of the service and the time")
            .check(name_rule),
        name
    ),
    plain_text!(THE_SERVICE, service),
    word!(MODEL, model),
    plain_text!(STORAGE, storage),
    plain_text!(FOLDER, folder),
    word!(
        Field::new(
            "type",
            "Backup type",
            FieldKind::Choice(BackupType::ON_DEMAND),
            "everything, or what changed since the last one (physical, by PBM)"
        )
        .default("full"),
        backup_type
    ),
    list!(INCLUDE, selection.include),
    list!(EXCLUDE, selection.exclude),
    optional!(COMPRESSION, compression),
    word!(RETRY, retry.mode),
    number!(RETRIES, retry.retries),
    seconds!(RETRY_INTERVAL, retry.interval),
];
pub const BACKUP_FIELDS: &[Field] = &described::<_, { BACKUP.len() }>(BACKUP);

/// `schedule add`, in the order in which a person decides. What it shares with a backup reads the same.
pub const SCHEDULE: &[Typed<Schedule>] = &[
    plain_text!(
        Field::new("name", "Name", FieldKind::Text, "how this schedule is called; its backups begin with it")
            .required()
            .check(name_rule),
        name
    ),
    plain_text!(THE_SERVICE, service),
    word!(MODEL, model),
    plain_text!(STORAGE, storage),
    plain_text!(FOLDER, folder),
    word!(
        Field::new(
            "type",
            "Backup type",
            FieldKind::Choice(BackupType::WORDS),
            "whole backups, or also every change between them"
        )
        .default("full"),
        backup_type
    ),
    plain_text!(
        Field::new(
            "cron",
            "Frequency",
            FieldKind::Text,
            "minute hour day month weekday, six fields with seconds first, or @hourly @daily @weekly @monthly @yearly",
        )
        .required()
        .check(cron_rule),
        cron
    ),
    plain_text!(
        Field::new(
            "timezone",
            "Time zone",
            FieldKind::Text,
            "UTC, or a name such as Europe/Paris; empty: of this machine"
        )
        .check(timezone_rule),
        timezone
    ),
    Typed::new(
        Field::new(
            "start",
            "Start time",
            FieldKind::Text,
            "nothing runs before, such as 2026-11-21T02:00:00Z; empty: now",
        )
        .check(start_rule),
        |schedule| vec![schedule.start.to_rfc3339_opts(SecondsFormat::Secs, true)],
        |schedule, texts| {
            schedule.start = match first(texts) {
                Some(text) => DateTime::parse_from_rfc3339(text).map_err(|e| e.to_string())?.to_utc(),
                None => clock::now(),
            };
            Ok(())
        },
    ),
    number!(
        Field::new("retention", "Retention", FieldKind::Integer(0, 100_000), "keep the newest N backups; 0 keeps all")
            .default("0"),
        retention.count
    ),
    number!(
        Field::new(
            "keep_daily",
            "Keep daily",
            FieldKind::Integer(0, 100_000),
            "also keep the last backup of each of N days",
        )
        .default("0")
        .advanced(),
        retention.keep_daily
    ),
    number!(
        Field::new(
            "keep_weekly",
            "Keep weekly",
            FieldKind::Integer(0, 100_000),
            "also keep the last backup of each of N weeks",
        )
        .default("0")
        .advanced(),
        retention.keep_weekly
    ),
    number!(
        Field::new(
            "keep_monthly",
            "Keep monthly",
            FieldKind::Integer(0, 100_000),
            "also keep the last backup of each of N months",
        )
        .default("0")
        .advanced(),
        retention.keep_monthly
    ),
    number!(
        Field::new(
            "keep_yearly",
            "Keep yearly",
            FieldKind::Integer(0, 100_000),
            "also keep the last backup of each of N years",
        )
        .default("0")
        .advanced(),
        retention.keep_yearly
    ),
    seconds!(
        Field::new("keep_within", "Keep within", FieldKind::Duration, "also keep all that are younger, such as 30d")
            .advanced(),
        retention.keep_within
    ),
    word!(RETRY, retry.mode),
    number!(RETRIES, retry.retries),
    seconds!(RETRY_INTERVAL, retry.interval),
    optional!(COMPRESSION, compression),
    list!(INCLUDE, selection.include),
    list!(EXCLUDE, selection.exclude),
];
pub const SCHEDULE_FIELDS: &[Field] = &described::<_, { SCHEDULE.len() }>(SCHEDULE);

/// What `schedule add` takes besides; later it is `schedule enable` and `schedule disable`.
pub const SCHEDULE_DISABLED: &[Field] =
    &[Field::new("disabled", "Switched off", FieldKind::Bool, "nothing runs before it is enabled").default("false")];
