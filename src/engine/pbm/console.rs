//! PBM of one service: its program, and its configuration, which belongs to mongokeep once a person said so.
//!
//! PBM has one configuration for a cluster, and whoever writes it decides where everybody's backups go. So a configuration that
//! mongokeep did not write is never replaced unasked. What it wrote last is noted; as long as PBM still has that, it may
//! write another one, for a schedule with another storage.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::answers::StatusAnswer;
use super::cluster;
use super::configuration::{Configuration, Difference, PitrWishes, Wishes};
use super::configured;
use super::follow::{Follow, Pace, Watcher};
use super::output::Answer;
use super::program::{self, ASK_LIMIT, Program};
use super::setting_paths::{Path, dotted, flattened};
use super::version::PbmVersion;
use super::watch::OnMeter;
use crate::domain::service::Service;
use crate::domain::storage::StorageConfig;
use crate::domain::text::escape;
use crate::engine::Context;
use crate::error::{Error, ErrorKind, Result};

/// How long an operation of PBM may go on before ours, such as the reading of a storage that was just configured.
const FREE_LIMIT: Duration = Duration::from_secs(900);
/// How long agents may say of a storage that they do not see it. Seen were fifteen seconds.
const SEEN_LIMIT: Duration = Duration::from_secs(60);
/// How long agents may go on recording that was switched off. PBM itself waits so long (`cmd/pbm-agent/pitr.go` of 2.15.0).
const STOP_LIMIT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// PBM, asked for one service.
pub struct Console<'a> {
    ctx: &'a Context,
    service: &'a str,
    pub program: Program,
    pub version: PbmVersion,
}

/// What becomes of the recording of the oplog.
#[derive(Debug, Clone, PartialEq)]
pub enum Recording {
    /// It stays as it is.
    Kept,
    Set(PitrWishes),
}

/// What is remembered of a configuration that was written.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    fingerprint: String,
    /// As PBM gave it back, secrets hidden.
    read_back: Value,
}

/// What writing a configuration would do.
#[derive(Debug, Clone)]
pub struct Planned {
    pub ours: Configuration,
    /// From what PBM has; none when it has no configuration.
    pub differences: Vec<Difference>,
    pub is_configured: bool,
    /// PBM has just this, and a secret that was written last.
    pub is_there: bool,
    /// What PBM has was written by this installation, or nobody.
    pub is_ours: bool,
    /// What PBM has is what was written last, by this installation.
    pub is_noted: bool,
    /// PBM records the oplog now.
    pub records: bool,
    /// PBM recorded when this installation wrote last, and does not any more.
    pub was_switched_off: bool,
    /// The storage and its secrets are those that were written last.
    has_secrets: bool,
}

impl<'a> Console<'a> {
    /// Errors: `NotFound` without the program; `Unsupported` for one that is too old.
    pub async fn open(ctx: &'a Context, service: &'a Service) -> Result<Self> {
        let path = program::find(ctx.around.pbm.as_deref()).await?;
        let program = Program::new(&path, &service.name, &service.uri).reading_locks();
        let version = program.version(&ctx.cancel).await?;
        version.must_be_new_enough()?;
        Ok(Self { ctx, service: &service.name, program, version })
    }

    /// What PBM would have to be told for backups in `folder` of `storage`.
    ///
    /// Errors: what PBM cannot be told; what keeps it from answering.
    pub async fn plan(&self, storage: &StorageConfig, folder: &str, recording: &Recording) -> Result<Planned> {
        let present = configured::read(&self.program, &self.ctx.cancel).await?;
        let pitr = match recording {
            Recording::Set(wishes) => wishes.clone(),
            Recording::Kept => PitrWishes { enabled: records(present.as_ref()), ..PitrWishes::default() },
        };
        let ours = Configuration::new(storage, folder, &Wishes { pitr, ..Wishes::default() })?;
        let note = self.note().await?;
        let fingerprint = ours.fingerprint(&self.ctx.around.notes.key().await?);
        let differences = present.as_ref().map(|present| ours.differences(present)).unwrap_or_default();
        let is_noted = present.as_ref().zip(note.as_ref()).is_some_and(|(present, note)| is_as_noted(present, note));
        let (records, recorded) = (records(present.as_ref()), records(note.as_ref().map(|note| &note.read_back)));
        let has_secrets = note.is_some_and(|note| note.fingerprint == fingerprint);
        Ok(Planned {
            is_there: present.is_some() && differences.is_empty() && has_secrets,
            has_secrets: present.is_some() && has_secrets,
            records,
            was_switched_off: present.is_some() && recorded && !records,
            is_configured: present.is_some(),
            is_ours: present.is_none() || is_noted || differences.is_empty(),
            is_noted,
            differences,
            ours,
        })
    }

    /// Gives PBM the configuration for backups in `folder` of `storage`, unless it has it.
    ///
    /// Errors: `Conflict` naming the differences, when PBM has one that somebody else wrote.
    pub async fn configure(
        &self,
        storage: &StorageConfig,
        folder: &str,
        recording: &Recording,
    ) -> Result<Configuration> {
        let planned = self.plan(storage, folder, recording).await?;
        if planned.is_there {
            return Ok(planned.ours);
        }
        if !planned.is_ours {
            return Err(self.not_ours(&planned.differences));
        }
        let moves = |d: &Difference| d.key.starts_with("storage.");
        if planned.records && *recording == Recording::Kept && planned.differences.iter().any(moves) {
            return Err(self.would_move(&planned.differences));
        }
        self.write(planned).await
    }

    /// Switches the recording of the oplog on, into `folder` of `storage`, as `wishes` say.
    ///
    /// Errors: `Conflict`, naming it, for what somebody else changed: their configuration, or that it is switched off.
    pub async fn record(&self, storage: &StorageConfig, folder: &str, wishes: PitrWishes) -> Result<()> {
        let planned = self.plan(storage, folder, &Recording::Set(wishes)).await?;
        if planned.is_there {
            return Ok(());
        }
        if !planned.is_ours {
            return Err(self.not_ours(&planned.differences));
        }
        if planned.was_switched_off {
            let what =
                format!("service {}: somebody else switched PBM's recording off (pitr.enabled=false)", self.service);
            return Err(Error::new(ErrorKind::Conflict, what).hint(
                "pbm config --set pitr.enabled=true, or mongokeep schedule disable NAME and then enable, switches it on; after \
                 a restore by somebody else make a new base first: mongokeep schedule run NAME",
            ));
        }
        self.write(planned).await.map(drop)
    }

    /// Switches the recording off, if it is on. Returns whether it was.
    ///
    /// Errors: `Conflict` when somebody else changed the configuration since it was switched on.
    pub async fn stop_recording(&self) -> Result<bool> {
        let Some(present) = configured::read(&self.program, &self.ctx.cancel).await? else { return Ok(false) };
        if !records(Some(&present)) {
            return Ok(false);
        }
        let Some(note) = self.note().await?.filter(|note| is_as_noted(&present, note)) else {
            let what = format!(
                "service {}: PBM goes on recording the oplog: somebody else changed its configuration, which is left as it is",
                self.service
            );
            return Err(Error::new(ErrorKind::Conflict, what).hint("pbm config --set pitr.enabled=false ends it"));
        };
        let read_back = configured::set(&self.program, &[("pitr.enabled", "false")], &self.ctx.cancel).await?;
        self.take_note(&Note { read_back, ..note }).await?;
        Ok(true)
    }

    /// The same, whoever wrote what PBM has.
    pub async fn write(&self, planned: Planned) -> Result<Configuration> {
        let of_recording = planned.of_recording();
        let Planned { ours, is_there, is_noted, .. } = planned;
        // What somebody else changed besides is taken over by writing it.
        if is_there && is_noted {
            return Ok(ours);
        }
        self.ctx.meter.set_phase("configuring PBM");
        let fingerprint = ours.fingerprint(&self.ctx.around.notes.key().await?);
        if let Some(settings) = of_recording {
            // By itself: the rest is not written again, and PBM does not look at its storage anew.
            let settings: Vec<(&str, &str)> =
                settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let read_back = configured::set(&self.program, &settings, &self.ctx.cancel).await?;
            self.take_note(&Note { fingerprint, read_back }).await?;
            return Ok(ours);
        }
        let read_back = configured::write(&self.program, &ours, &self.ctx.cancel).await?;
        ours.notes().iter().for_each(|note| self.ctx.meter.info(note.clone()));
        self.take_note(&Note { fingerprint, read_back }).await?;
        self.ctx.meter.info("PBM has the configuration of this service now");
        // With another storage PBM reads what is in it first.
        self.wait_until_free().await?;
        self.wait_until_seen().await?;
        Ok(ours)
    }

    /// Agents look at a storage that was just configured once in some seconds. Until then they refuse to begin.
    ///
    /// Errors: `Failed` with what an agent says of the storage, when that does not pass.
    async fn wait_until_seen(&self) -> Result<()> {
        self.ctx.meter.set_phase("waiting until the agents see the storage");
        let began = Instant::now();
        loop {
            let Some((node, why)) = cluster::storage_error(&self.status(&["cluster"]).await?) else { return Ok(()) };
            if began.elapsed() > SEEN_LIMIT {
                let why = self.program.redactor().shown(&why);
                let what = format!("service {}: {node} does not reach the storage: {why}", self.service);
                return Err(Error::new(ErrorKind::Failed, what).hint(
                    "every node with an agent must reach it, and a folder must be at the same path on all of them",
                ));
            }
            tokio::select! {
                () = self.ctx.cancel.cancelled() => return Err(Error::cancelled()),
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    }

    /// What `pbm status` says of `sections`.
    pub async fn status(&self, sections: &[&str]) -> Result<StatusAnswer> {
        let mut arguments = vec!["status"];
        sections.iter().for_each(|section| arguments.extend(["-s", section]));
        self.program.call(&arguments, ASK_LIMIT, &self.ctx.cancel).await?.parse("status")
    }

    /// Errors: `Unreachable`, naming replica sets whose every agent is missing.
    pub fn must_have_agents(&self, status: &StatusAnswer) -> Result<()> {
        let dead = cluster::without_live_agent(status);
        if dead.is_empty() {
            return Ok(());
        }
        let service = self.service;
        let dead = dead.iter().map(|set| escape(set)).collect::<Vec<_>>().join(", ");
        let what = format!("service {service}: no pbm-agent is alive in the replica sets {dead}");
        Err(Error::new(ErrorKind::Unreachable, what)
            .hint(format!("start pbm-agent at their nodes; mongokeep service check {service} names them")))
    }

    /// Follows what PBM is asked for here, until it ends, the job is cancelled or the daemon ends.
    pub fn follow<'b>(&'b self, watcher: &'b mut dyn Watcher) -> Follow<'b> {
        let Context { cancel, leave, .. } = self.ctx;
        Follow { program: &self.program, cancel, leave, pace: Pace::default(), watcher }
    }

    /// Waits for what PBM is at.
    ///
    /// Errors: `Transient` when it goes on for long.
    pub async fn wait_until_free(&self) -> Result<()> {
        let mut watcher = OnMeter::new(&self.ctx.meter);
        let mut follow = self.follow(&mut watcher);
        self.ctx.meter.set_phase("waiting for PBM");
        if follow.until_free(FREE_LIMIT).await? {
            return Ok(());
        }
        let what =
            format!("service {}: PBM has been at another operation for {} s", self.service, FREE_LIMIT.as_secs());
        Err(Error::new(ErrorKind::Transient, what).hint(format!("mongokeep service check {} names it", self.service)))
    }

    /// Waits until no agent records the oplog any more. They notice it within some seconds, each at its own time, and a restore
    /// fails when one of them begins later than the others.
    ///
    /// Errors: `Transient` when one goes on for long.
    pub async fn wait_until_stopped(&self) -> Result<()> {
        self.ctx.meter.set_phase("waiting until PBM records no longer");
        let began = Instant::now();
        while self.status(&["pitr"]).await?.pitr.is_some_and(|pitr| pitr.run) {
            if began.elapsed() > STOP_LIMIT {
                let what = format!(
                    "service {}: agents of PBM go on recording the oplog {} s after it was switched off",
                    self.service,
                    STOP_LIMIT.as_secs()
                );
                return Err(Error::new(ErrorKind::Transient, what)
                    .hint(format!("mongokeep service check {} says how they do", self.service)));
            }
            tokio::select! {
                () = self.ctx.cancel.cancelled() => return Err(Error::cancelled()),
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
        Ok(())
    }

    /// What somebody else did to `present`, the configuration that PBM has, in words that call it `it`; `None`: this
    /// installation wrote it, and nobody has changed it.
    pub async fn done_by_others(&self, present: &Value, it: &str) -> Result<Option<String>> {
        Ok(match self.note().await? {
            Some(note) if is_as_noted(present, &note) => None,
            Some(note) => Some(format!("somebody else changed {it}: {}", in_words(&changes(&note.read_back, present)))),
            None => Some(format!("somebody else wrote {it}")),
        })
    }

    /// Asks `pbm ARGUMENTS`.
    pub async fn ask(&self, arguments: &[&str], limit: Duration) -> Result<Answer> {
        self.program.call(arguments, limit, &self.ctx.cancel).await
    }

    async fn take_note(&self, note: &Note) -> Result<()> {
        let text = serde_json::to_string(note)
            .map_err(|e| Error::new(ErrorKind::Internal, "noting a configuration of PBM").source(e))?;
        self.ctx.around.notes.write(self.service, text).await
    }

    async fn note(&self) -> Result<Option<Note>> {
        let note = self.ctx.around.notes.read(self.service).await?;
        // One of another version says nothing.
        Ok(note.and_then(|text| serde_json::from_str(&text).ok()))
    }

    fn would_move(&self, differences: &[Difference]) -> Error {
        let what = format!(
            "service {}: PBM records the oplog, and has one storage for that and for backups, which this would change: {}",
            self.service,
            in_words(differences)
        );
        Error::new(ErrorKind::Conflict, what).hint(
            "use the storage and folder of its point-in-time schedule, or switch that off: mongokeep schedule disable NAME",
        )
    }

    fn not_ours(&self, differences: &[Difference]) -> Error {
        let what = format!(
            "service {}: somebody else configured PBM, and mongokeep does not overwrite that unasked: {}",
            self.service,
            in_words(differences)
        );
        Error::new(ErrorKind::Conflict, what).hint(format!(
            "mongokeep service configure {} --storage NAME shows the differences and writes the configuration",
            self.service
        ))
    }
}

impl Planned {
    /// The settings to change, when they are of the recording alone.
    fn of_recording(&self) -> Option<Vec<(String, String)>> {
        if !self.has_secrets || self.differences.is_empty() {
            return None;
        }
        let one = |d: &Difference| Some((d.key.clone(), d.ours.clone()?)).filter(|(key, _)| key.starts_with("pitr."));
        self.differences.iter().map(one).collect()
    }
}

/// Differences, for people.
pub fn in_words(differences: &[Difference]) -> String {
    let shown = |text: &Option<String>| text.as_deref().map_or_else(|| "nothing".to_owned(), escape);
    let one = |difference: &Difference| {
        let key = escape(&difference.key);
        format!("{key} is {} instead of {}", shown(&difference.theirs), shown(&difference.ours))
    };
    differences.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Whether PBM records the oplog.
fn records(configuration: Option<&Value>) -> bool {
    configuration.and_then(|c| c.get("pitr")?.get("enabled")?.as_bool()).unwrap_or(false)
}

/// Whether `present` is what was written last, whether it records or not.
fn is_as_noted(present: &Value, note: &Note) -> bool {
    without_recording(present) == without_recording(&note.read_back)
}

/// What stands in `after` and not in `before`, and the other way round.
fn changes(before: &Value, after: &Value) -> Vec<Difference> {
    let settings = |configuration: &Value| -> BTreeMap<Path, String> {
        let rest = without_recording(configuration);
        let all = rest.as_object().map(flattened).into_iter().flatten();
        all.map(|(path, value)| (path, value.as_str().map_or_else(|| value.to_string(), str::to_owned))).collect()
    };
    let (before, after) = (settings(before), settings(after));
    let paths: BTreeSet<&Path> = before.keys().chain(after.keys()).collect();
    let changed = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    let of = |path: &Path| Difference {
        key: dotted(path),
        ours: before.get(path).cloned(),
        theirs: after.get(path).cloned(),
    };
    changed.map(of).collect()
}

/// A restore switches recording off by itself.
fn without_recording(configuration: &Value) -> Value {
    let mut rest = configuration.clone();
    if let Some(pitr) = rest.get_mut("pitr").and_then(Value::as_object_mut) {
        pitr.remove("enabled");
    }
    rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_somebody_else_changed_is_named_with_both_values() {
        let storage = json!({"type": "s3", "s3": {"bucket": "b", "credentials": {"access-key-id": "***"}}});
        let before =
            json!({"storage": storage, "pitr": {"enabled": true, "oplogSpanMin": 1}, "backup": {"compression": "s2"}});
        let after =
            json!({"storage": storage, "pitr": {"enabled": false, "oplogSpanMin": 3}, "restore": {"batchSize": 300}});
        let expected = "backup.compression is nothing instead of s2; pitr.oplogSpanMin is 3 instead of 1; \
                        restore.batchSize is 300 instead of nothing";
        assert_eq!(in_words(&changes(&before, &after)), expected);
        assert_eq!(changes(&before, &before), []);
    }
}
