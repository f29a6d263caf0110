//! The settings.

use super::rules::{
    absolute_rule, bandwidth_rule, compression_rule, events_rule, host_of, hours_rule, metrics_rule, name_rule,
    plain_rule, stale_rule, timezone_rule, webhook_rule,
};
use crate::domain::command_line;
use crate::domain::field::{Field, FieldKind};

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
        FieldKind::NumberOrText,
        "stored bytes per second of one job: 20MB, or by the hour: 08:00-18:00 20MB, 100MB; 0: no limit",
    )
    .default("0")
    .check(bandwidth_rule),
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
        "encryption.identity_file",
        "Identity file",
        FieldKind::Path,
        "the file (mode 0600) with the identity that opens encrypted backups; empty: it is asked for each time",
    )
    .check(absolute_rule),
    Field::new(
        "state.backup_storage",
        "Copy of the store",
        FieldKind::Text,
        "name of the storage that keeps a copy of services, storages, schedules and settings; empty: none",
    )
    .check(name_rule),
    Field::new(
        "pbm.path",
        "Program pbm",
        FieldKind::Text,
        "the pbm of Percona Backup for MongoDB, for services with the engine pbm; empty: the one on the search path",
    )
    .check(absolute_rule),
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
        "failure, success, missed, retention_failure, stale, storage_full, pitr_gap, pitr_lag, pitr_stopped, pitr_held, state_copy",
    )
    .default("failure, missed, retention_failure, stale, storage_full, pitr_gap, pitr_lag, pitr_stopped, pitr_held, state_copy")
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
