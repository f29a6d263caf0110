//! What the daemon knows in numbers, as a file in the text format of Prometheus.
//!
//! A file needs no port, no password and no second way into the daemon: the textfile collector of the node exporter reads
//! it. It holds names and numbers only, and is replaced as a whole, so that nobody ever reads half of one. It goes when
//! the daemon ends in order: the numbers of a daemon that is gone are none.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::component::Component;
use super::env::Env;
use crate::domain::clock;
use crate::domain::pitr;
use crate::error::{Error, Result, own_io};
use crate::store::{NewestBackup, RecoverySource, Store, blocking, random_id};

/// The collector is rarely asked more often.
const EVERY: Duration = Duration::from_secs(10);
const END_LIMIT: Duration = Duration::from_secs(2);
const READABLE: u32 = 0o644;

/// Keeps the file up to date while the daemon runs, and takes it away at the end.
pub fn metrics(env: &Env) -> Component {
    let env = env.clone();
    Component::start("metrics", END_LIMIT, move |stop| keep_file(env, stop))
}

async fn keep_file(env: Env, stop: CancellationToken) {
    // Where it was written last, and what was last said about a failure.
    let (mut place, mut failed): (Option<PathBuf>, Option<String>) = (None, None);
    loop {
        let (of, before) = (env.clone(), place.clone());
        let written = env.store.with(move |store| {
            let chosen = of.settings.settings().metrics_file();
            let path = chosen.unwrap_or_else(|| of.home.metrics_file());
            if let Some(before) = before.filter(|before| *before != path) {
                let _ = fs::remove_file(before);
            }
            let text = text(&gather(store, clock::now())?);
            replace(&path, &text)?;
            Ok(path)
        });
        match written.await {
            Ok(path) => (place, failed) = (Some(path), None),
            Err(e) => warn_once(&e, &mut failed),
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    if let Some(path) = place {
        let _ = blocking(move || Ok(fs::remove_file(path))).await;
    }
}

fn warn_once(error: &Error, before: &mut Option<String>) {
    let said = error.to_string();
    if before.as_ref() != Some(&said) {
        warn!("{said}");
    }
    *before = Some(said);
}

/// What there is to tell.
struct Gathered {
    at: DateTime<Utc>,
    recorded: Vec<Recorded>,
    backups: Vec<NewestBackup>,
}

/// A service whose oplog is recorded, or was.
struct Recorded {
    service: String,
    running: bool,
    lines: Vec<RecoverySource>,
}

fn gather(store: &Store, at: DateTime<Utc>) -> Result<Gathered> {
    let mut services = store.services_with_slices()?;
    services.extend(store.slicing_wanted()?.into_iter().map(|w| w.service));
    services.sort();
    services.dedup();
    let recorded = services.into_iter().map(|service| {
        let running = store.slicer_state(&service)?.is_some_and(|s| s.running && s.error.is_none());
        Ok(Recorded { lines: store.recovery_sources(&service)?, service, running })
    });
    Ok(Gathered { at, recorded: recorded.collect::<Result<_>>()?, backups: store.newest_backups()? })
}

/// One metric with all its samples: labels in braces, and the number.
struct Metric {
    name: &'static str,
    help: &'static str,
    samples: Vec<(String, f64)>,
}

fn text(gathered: &Gathered) -> String {
    let mut out = String::new();
    let mut metric = |name, help, samples| write_metric(&mut out, &Metric { name, help, samples });
    let info = labels(&[("version", env!("CARGO_PKG_VERSION"))]);
    metric("mongokeep_info", "The daemon that wrote this.", vec![(info, 1.0)]);
    let written = vec![(String::new(), gathered.at.timestamp() as f64)];
    metric("mongokeep_written_timestamp_seconds", "When this was written.", written);
    let of_services = |number: &dyn Fn(&Recorded) -> Option<f64>| {
        let sample = |r: &Recorded| Some((labels(&[("service", &r.service)]), number(r)?));
        gathered.recorded.iter().filter_map(sample).collect::<Vec<_>>()
    };
    let sum = |number: fn(&RecoverySource) -> u64| {
        move |r: &Recorded| Some(r.lines.iter().map(number).fold(0, u64::saturating_add) as f64)
    };
    metric(
        "mongokeep_pitr_recording",
        "Whether the oplog of the service is being recorded and stored: 1 or 0.",
        of_services(&|r| Some(f64::from(u8::from(r.running)))),
    );
    metric(
        "mongokeep_pitr_lag_seconds",
        "Seconds since the last change that is stored.",
        of_services(&|r| {
            let newest = r.lines.iter().filter_map(RecoverySource::newest).max()?;
            Some(pitr::lag_seconds(newest, gathered.at) as f64)
        }),
    );
    // The newest stretch: what an alert asks is whether the present can be restored.
    let range = |r: &Recorded| r.lines.iter().flat_map(RecoverySource::ranges).max_by_key(|range| range.to_ts);
    metric(
        "mongokeep_pitr_recoverable_from_timestamp_seconds",
        "Where the newest stretch without a gap begins of which any second can be restored.",
        of_services(&|r| Some(f64::from(range(r)?.from_ts.t))),
    );
    metric(
        "mongokeep_pitr_recoverable_to_timestamp_seconds",
        "Where that stretch ends.",
        of_services(&|r| Some(f64::from(range(r)?.to_ts.t))),
    );
    metric("mongokeep_pitr_slices", "Slices of the oplog that are stored.", of_services(&sum(|l| l.row.slices)));
    metric("mongokeep_pitr_slices_bytes", "Their bytes as stored.", of_services(&sum(|l| l.row.size_bytes)));
    metric(
        "mongokeep_pitr_gaps",
        "Gaps between the slices that are stored.",
        of_services(&sum(|l| l.gaps().len() as u64)),
    );
    let of_backups = |number: &dyn Fn(&NewestBackup) -> f64| {
        let sample = |b: &NewestBackup| {
            let schedule = b.schedule.as_deref().unwrap_or_default();
            (labels(&[("service", &b.service), ("schedule", schedule)]), number(b))
        };
        gathered.backups.iter().map(sample).collect::<Vec<_>>()
    };
    metric(
        "mongokeep_backup_last_success_timestamp_seconds",
        "When the last good backup ended; schedule is empty for those made by hand.",
        of_backups(&|b| b.finished_at.timestamp() as f64),
    );
    metric("mongokeep_backup_last_size_bytes", "Its bytes as stored.", of_backups(&|b| b.size_bytes as f64));
    metric(
        "mongokeep_backup_last_duration_seconds",
        "How long it took.",
        of_backups(&|b| (b.finished_at - b.started_at).num_milliseconds().max(0) as f64 / 1000.0),
    );
    out
}

fn write_metric(out: &mut String, metric: &Metric) {
    let Metric { name, help, samples } = metric;
    if samples.is_empty() {
        return;
    }
    // Writing into a text does not fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
    for (labels, number) in samples {
        let _ = writeln!(out, "{name}{labels} {number}");
    }
}

/// `{a="1",b="2"}`, with what the format wants escaped.
fn labels(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

/// Not synced: after a power cut there is a new one. The folder is often the collector's, where others may write: the
/// temporary file has a name that nobody can have taken before, and what is there, a link most of all, is not opened.
fn replace(path: &Path, text: &str) -> Result<()> {
    let failed = |e| own_io(format!("writing metrics into {}", path.display()), e);
    let temporary = temporary(path, &random_id()?);
    let mut file = create(&temporary).map_err(failed)?;
    let mut write = || {
        // Whatever the umask is: the collector is another user.
        file.set_permissions(fs::Permissions::from_mode(READABLE))?;
        file.write_all(text.as_bytes())?;
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        failed(e)
    })
}

/// The collector reads whatever ends in .prom, so this does not.
fn temporary(path: &Path, id: &str) -> PathBuf {
    path.with_extension(format!("prom.{id}"))
}

/// Errors: there is something of that name, be it a link that leads nowhere.
fn create(path: &Path) -> std::io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(READABLE).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(labels(&[("a", "x\"y\\z\n"), ("b", "")]), r#"{a="x\"y\\z\n",b=""}"#);
    }

    #[test]
    fn what_others_put_in_the_folder_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let (theirs, path) = (dir.path().join("theirs"), dir.path().join("mongokeep.prom"));
        fs::write(&theirs, "untouched").unwrap();
        let planted = temporary(&path, "guessed");
        std::os::unix::fs::symlink(&theirs, &planted).unwrap();
        assert_eq!(create(&planted).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        std::os::unix::fs::symlink(&theirs, &path).unwrap();
        for text in ["one 1\n", "two 2\n"] {
            replace(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "untouched");
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == READABLE, "{metadata:?}");
        // Nothing is left beside it.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        assert!(replace(&dir.path().join("none/x.prom"), "").is_err());
    }

    #[test]
    fn what_there_is_not_is_left_out() {
        let at = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let recorded = vec![Recorded { service: "a".into(), running: true, lines: Vec::new() }];
        let backup = NewestBackup {
            service: "a".into(),
            schedule: None,
            started_at: at,
            finished_at: at + chrono::TimeDelta::milliseconds(1_500),
            size_bytes: 12_345_678_901,
        };
        let text = text(&Gathered { at, recorded, backups: vec![backup] });
        for line in [
            "mongokeep_written_timestamp_seconds 1790000000",
            "mongokeep_pitr_recording{service=\"a\"} 1",
            "mongokeep_pitr_slices{service=\"a\"} 0",
            "mongokeep_backup_last_size_bytes{service=\"a\",schedule=\"\"} 12345678901",
            "mongokeep_backup_last_duration_seconds{service=\"a\",schedule=\"\"} 1.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("lag_seconds") && !text.contains("recoverable"), "{text}");
    }
}
