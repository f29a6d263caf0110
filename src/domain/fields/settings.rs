//! The settings.

use super::rules::{
    absolute_rule, bandwidth_rule, compression_rule, events_rule, host_of, hours_rule, metrics_rule, name_rule,
    plain_rule, stale_rule, timezone_rule, webhook_rule,
};
use crate::domain::command_line;
use crate::domain::field::{Field, FieldKind};

const ALL_BUT_SUCCESS: &str =
    "failure, missed, retention_failure, stale, storage_full, pitr_gap, pitr_lag, pitr_stopped, pitr_held, state_copy";

const ON_OFF: &[(&str, &str)] = &[("true", "on"), ("false", "off")];

/// The dotted keys of `config.toml`.
pub const SETTING_FIELDS: &[Field] = &[
    Field::new(
        "backup.enabled",
        "Backup management",
        FieldKind::Bool,
        "off: nothing starts a backup, and no changes are kept for point in time",
    )
    .default("true")
    .picks(ON_OFF),
    Field::new("backup.compression", "Compression", FieldKind::Text, "zstd[:1-19], gzip[:1-9] or none")
        .default("zstd:2")
        .check(compression_rule)
    .picks(&[
        ("zstd:1", "zstd 1, the fastest"),
        ("zstd:2", "zstd 2, fast"),
        ("zstd:6", "zstd 6, smaller"),
        ("zstd:12", "zstd 12, small, and slow to write"),
        ("gzip:6", "gzip 6, for tools without zstd"),
        ("none", "none"),
    ]),
    Field::new(
        "backup.parallel_collections",
        "Parallel collections",
        FieldKind::Integer(1, 64),
        "cursors that read, or connections that write, at once",
    )
    .default("4")
    .picks(&[("1", "1 at a time"), ("2", "2 at once"), ("4", "4 at once"), ("8", "8 at once"), ("16", "16 at once")])
    .unit("at once"),
    Field::new(
        "backup.parallel_parts",
        "Parts on their way",
        FieldKind::Integer(1, 64),
        "parts of 5 MiB of one job that are under way to a remote storage, or from it, at once at most",
    )
    .default("16")
    .picks(&[("2", "2 at most"), ("4", "4 at most"), ("8", "8 at most"), ("16", "16 at most"), ("32", "32 at most")])
    .unit("at most"),
    Field::new(
        "backup.bandwidth_limit",
        "Bandwidth limit",
        FieldKind::NumberOrText,
        "stored bytes per second of one job: 20MB, or by the hour: 08:00-18:00 20MB, 100MB; 0: no limit",
    )
    .default("0")
    .check(bandwidth_rule)
    .picks(&[
        ("0", "no limit"),
        ("5MB", "5 MB a second"),
        ("20MB", "20 MB a second"),
        ("100MB", "100 MB a second"),
        ("08:00-18:00 20MB", "20 MB a second from 08:00 to 18:00"),
    ])
    .unit("bytes a second"),
    Field::new(
        "backup.split_bytes",
        "Split above",
        FieldKind::Integer(1, i64::MAX as u64),
        "a collection above this many bytes is read by several cursors",
    )
    .default("1073741824")
    .picks(&[
        ("268435456", "256 MiB"),
        ("1073741824", "1 GiB"),
        ("4294967296", "4 GiB"),
        ("9223372036854775807", "never"),
    ])
    .unit("bytes"),
    Field::new(
        "backup.read_back",
        "Read back",
        FieldKind::Bool,
        "read everything back from the storage before a backup, or a slice of the oplog, counts as stored",
    )
    .default("false")
    .picks(ON_OFF),
    Field::new(
        "backup.storage_wait",
        "Wait for storage",
        FieldKind::Duration,
        "how long a job tries again to reach a storage that is away before the attempt fails",
    )
    .default("5m")
    .picks(&[("30s", "30 seconds"), ("1m", "1 minute"), ("5m", "5 minutes"), ("30m", "30 minutes"), ("2h", "2 hours")]),
    Field::new(
        "jobs.concurrency",
        "Jobs at once",
        FieldKind::Integer(1, 64),
        "jobs of different services that run at the same time",
    )
    .default("2")
    .picks(&[("1", "1 at a time"), ("2", "2 at once"), ("4", "4 at once"), ("8", "8 at once")])
    .unit("at once"),
    Field::new(
        "scheduler.missed_run_grace",
        "Grace for missed runs",
        FieldKind::Duration,
        "a run that was missed by less than this is still made",
    )
    .default("6h")
    .picks(&[("15m", "15 minutes"), ("1h", "1 hour"), ("6h", "6 hours"), ("1d", "1 day"), ("3d", "3 days")]),
    Field::new("pitr.slice_seconds", "Slice length", FieldKind::Integer(5, 3600), "seconds of oplog in one slice")
        .default("60")
    .picks(&[("10", "10 seconds"), ("30", "30 seconds"), ("60", "1 minute"), ("300", "5 minutes"), ("900", "15 minutes")])
    .unit("seconds"),
    Field::new(
        "production_hours",
        "Production hours",
        FieldKind::Text,
        "08:00-18:00 or Mon-Fri 08:00-18:00, in which a full backup is unwelcome; empty: none",
    )
    .check(hours_rule)
    .picks(&[
        ("", "none"),
        ("08:00-18:00", "08:00 to 18:00, every day"),
        ("Mon-Fri 08:00-18:00", "08:00 to 18:00, Monday to Friday"),
        ("Mon-Sat 06:00-22:00", "06:00 to 22:00, Monday to Saturday"),
    ]),
    Field::new(
        "encryption.identity_file",
        "Identity file",
        FieldKind::Path,
        "the file (mode 0600) with the identity that opens encrypted backups; empty: it is asked for each time",
    )
    .check(absolute_rule)
    .picks(&[("", "none: it is asked for each time")]),
    Field::new(
        "state.backup_storage",
        "Copy of the store",
        FieldKind::Text,
        "name of the storage that keeps a copy of services, storages, schedules and settings; empty: none",
    )
    .check(name_rule)
    .picks(&[("", "none")]),
    Field::new(
        "pbm.path",
        "Program pbm",
        FieldKind::Text,
        "the pbm of Percona Backup for MongoDB, for services with the engine pbm; empty: the one on the search path",
    )
    .check(absolute_rule)
    .picks(&[("", "the one on the search path")]),
    Field::new(
        "notify.command",
        "Command",
        FieldKind::Text,
        "/path/of/program and its arguments, without a shell; it reads a notice as JSON on standard input",
    )
    .check(command_line::check)
    .picks(&[("", "none")]),
    Field::new("notify.webhook_url", "Webhook", FieldKind::Text, "https://... that each notice is posted to as JSON")
        .check(webhook_rule)
        .shown(host_of)
    .picks(&[("", "none")]),
    Field::new(
        "notify.webhook_secret_file",
        "Webhook secret file",
        FieldKind::Path,
        "a file (mode 0600) whose text is sent in the header X-Mongokeep-Secret",
    )
    .check(absolute_rule)
    .picks(&[("", "none")]),
    Field::new(
        "notify.on",
        "Notify on",
        FieldKind::Text,
        "failure, success, missed, retention_failure, stale, storage_full, pitr_gap, pitr_lag, pitr_stopped, pitr_held, state_copy",
    )
    .default(ALL_BUT_SUCCESS)
    .check(events_rule)
    .picks(&[
        (ALL_BUT_SUCCESS, "all but success"),
        ("failure", "failures only"),
        ("failure, missed, pitr_gap, pitr_stopped", "failures, missed runs, and recording that stopped"),
    ]),
    Field::new(
        "notify.stale_hours",
        "Stale after",
        FieldKind::Integer(0, 1_000_000),
        "hours without a good backup of a service before it is called stale; 0: never",
    )
    .default("192")
    .picks(&[("0", "never"), ("26", "26 hours"), ("50", "50 hours"), ("192", "8 days"), ("768", "32 days")])
    .unit("hours"),
    Field::new(
        "notify.stale_services",
        "Stale by service",
        FieldKind::Text,
        "SERVICE=HOURS, ... where it is not the same for all",
    )
    .check(stale_rule)
    .picks(&[("", "none")]),
    Field::new(
        "notify.storage_full_percent",
        "Storage full at",
        FieldKind::Integer(0, 100),
        "percent of the disk of a storage in use; 0: never",
    )
    .default("90")
    .picks(&[("0", "never"), ("80", "80 %"), ("90", "90 %"), ("95", "95 %")])
    .unit("%"),
    Field::new(
        "notify.pitr_seconds",
        "Recording behind",
        FieldKind::Integer(0, 1_000_000),
        "seconds that recording may stand still, or lag beyond the length of a slice, before a notification; 0: never",
    )
    .default("300")
    .picks(&[("0", "never"), ("60", "1 minute"), ("300", "5 minutes"), ("1800", "30 minutes"), ("7200", "2 hours")])
    .unit("seconds"),
    Field::new(
        "metrics.file",
        "Metrics file",
        FieldKind::Path,
        "a file NAME.prom that the daemon keeps up to date for Prometheus; empty: metrics.prom beside its log",
    )
    .check(metrics_rule)
    .picks(&[("", "metrics.prom, beside the daemon's log")]),
    Field::new("ui.theme", "Theme", FieldKind::Text, "dark, light, colour-blind, mono, or one of your own: themes/NAME.toml beside the settings").default("default")
        .picks(&[("default", "dark")]).check(plain_rule),
    Field::new("ui.motion", "Motion", FieldKind::Bool, "spinners move").default("true")
    .picks(ON_OFF),
    Field::new("ui.mouse", "Mouse", FieldKind::Bool, "clicks and the wheel work").default("true")
    .picks(ON_OFF),
    Field::new(
        "ui.sort",
        "Order of backups",
        FieldKind::Choice(&["age", "-age", "name", "-name", "service", "-service", "state", "-state", "size", "-size"]),
        "what lists of backups and jobs are sorted by; with a dash reversed",
    )
    .default("age")
    .picks(&[
        ("age", "newest first"),
        ("-age", "oldest first"),
        ("name", "by name, from A"),
        ("-name", "by name, from Z"),
        ("service", "by service, from A"),
        ("-service", "by service, from Z"),
        ("state", "by state"),
        ("-state", "by state, reversed"),
        ("size", "largest first"),
        ("-size", "smallest first"),
    ]),
    Field::new("ui.timezone", "Time zone", FieldKind::Text, "local, UTC, or a name such as Europe/Paris")
        .default("local")
        .check(timezone_rule)
    .picks(&[("local", "that of this machine"), ("UTC", "UTC")]),
];
