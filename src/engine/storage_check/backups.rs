//! One backup, or attempt, of a storage: opened before its objects go by in the listing, and closed after them.

use super::known::{Known, Place};
use super::named::{self, Named, Read};
use crate::artifact::layout::BackupRoot;
use crate::domain::backup::{Owner, place_of};
use crate::domain::clock;
use crate::domain::storage_check::{
    Amount, Finding, FindingKind, Findings, PlannedAttempt, PlannedObject, PlannedOrphans, RepairPlan,
};
use crate::domain::text::escape;
use crate::engine::attempt::is_attempt_object;
use crate::engine::backup_reader;
use crate::engine::blocks::BlockEntry;
use crate::engine::blocks::collector::ATTEMPT_LEASE;
use crate::engine::find::Found;
use crate::error::Result;
use crate::storage::{Key, ObjectInfo, Storage};

/// Whose something in a storage is, as far as removing is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// A backup of this home that nobody works on.
    Ours,
    /// An attempt of this home that nobody works on: the index of its removal in the plan.
    Abandoned(usize),
    /// It is left alone, and why.
    LeftAlone(String),
}

/// A backup whose objects are going by.
pub struct Open {
    pub found: Found,
    root: BackupRoot,
    prefix: String,
    what: What,
    /// What was listed of it.
    seen: Amount,
    /// Of an attempt: what the layout names.
    parts: Amount,
}

/// What it is.
enum What {
    /// It went while it was looked at.
    Gone,
    Backup(Box<Whole>),
    /// Its manifest is of no use, and why.
    Unreadable(String),
    Attempt(Box<Unfinished>),
    /// There is an `attempt.json` that says nothing.
    Silent,
}

struct Whole {
    attempt_id: String,
    /// Why its left-overs are not removed, where they are not.
    left_alone: Option<String>,
    named: Named,
}

struct Unfinished {
    owner: Owner,
    kind: FindingKind,
    why: String,
    remedy: Option<String>,
    /// It may be writing blocks.
    uses_blocks: bool,
}

/// What is left of it when all its objects went by.
pub struct Closed {
    pub prefix: String,
    pub standing: Standing,
    pub damage: Option<String>,
    pub blocks: Vec<BlockEntry>,
    /// Why no block of its folder can be removed now.
    pub holds_blocks_up: Option<String>,
}

/// Reads what says whose it is and what it should hold.
///
/// Errors: what the storage reports.
pub async fn open(storage: &dyn Storage, known: &Known, found: Found) -> Result<Open> {
    let root = BackupRoot::new(&found.folder, &found.name)?;
    let what = if found.has_manifest {
        whole(storage, known, &root, &found).await?
    } else {
        unfinished(storage, known, &root, &found).await?
    };
    let prefix = format!("{}/", root.key());
    Ok(Open { found, root, prefix, what, seen: Amount::default(), parts: Amount::default() })
}

async fn whole(storage: &dyn Storage, known: &Known, root: &BackupRoot, found: &Found) -> Result<What> {
    let (envelope, named) = match named::read(storage, root, found).await? {
        Read::Gone => return Ok(What::Gone),
        Read::Unreadable(why) => return Ok(What::Unreadable(why)),
        Read::Backup(envelope, named) => (envelope, named),
    };
    let attempt = backup_reader::read_attempt(storage, root).await?.filter(|a| a.attempt_id == envelope.attempt_id);
    let begun = known.attempts.contains(&envelope.attempt_id);
    let home = attempt.as_ref().map(|a| a.home_id.as_str());
    let ours = begun && home.is_none_or(|home| home == known.home_id);
    let left_alone = match (ours, known.at_work.contains(&place(found))) {
        (false, _) => {
            let host = attempt.as_ref().map(|a| escape(&a.host)).filter(|host| !host.is_empty());
            let host = host.map_or_else(String::new, |host| format!(" on {host}"));
            Some(format!("another installation{host} made this backup"))
        }
        (true, true) => Some("a job works on this backup".to_owned()),
        (true, false) => None,
    };
    Ok(What::Backup(Box::new(Whole { attempt_id: envelope.attempt_id, left_alone, named })))
}

async fn unfinished(storage: &dyn Storage, known: &Known, root: &BackupRoot, found: &Found) -> Result<What> {
    let Some(attempt) = backup_reader::read_attempt(storage, root).await? else {
        let is_there = storage.stat(&root.attempt()?).await?.is_some();
        return Ok(if is_there { What::Silent } else { What::Gone });
    };
    let uses_blocks = attempt.renewed_at.is_some_and(|at| at + ATTEMPT_LEASE > clock::now());
    let owner = Owner {
        attempt_id: attempt.attempt_id,
        home_id: Some(attempt.home_id),
        host: Some(attempt.host),
        service: attempt.service,
        tool: None,
        started_at: Some(attempt.started_at),
        complete: false,
        size_bytes: None,
    };
    let words = owner.words();
    let begun = known.attempts.contains(&owner.attempt_id);
    let home = owner.home_id.as_deref() == Some(known.home_id.as_str());
    let name = &found.name;
    let place = place(found);
    let (kind, why, remedy) = match (begun && home, known.at_work.contains(&place)) {
        (_, true) => {
            let remedy = format!("mongokeep job list shows the job; mongokeep backup delete {name} when none runs");
            (FindingKind::AttemptAtWork, format!("a job of this installation works on it: {words}"), Some(remedy))
        }
        // It is no left-over of an attempt, and somebody may have its manifest.
        (true, false) if known.once_good.contains(&place) => {
            let why = format!("its manifest is gone, and the rest of it is still there: {words}");
            let remedy = format!("put its manifest.json back, or mongokeep backup delete {name} removes the rest");
            (FindingKind::MissingBackup, why, Some(remedy))
        }
        (true, false) => (FindingKind::AbandonedAttempt, format!("nobody works on it any more: {words}"), None),
        (false, false) if home => {
            let why = format!("the catalogue of this home does not know it; was the home copied? {words}");
            let remedy = format!("the home that began it removes it; or remove the folder {} by hand", root.key());
            (FindingKind::OtherAttempt, why, Some(remedy))
        }
        (false, false) => {
            let why = format!("another installation makes it, or left it: {words}");
            let remedy = if owner.may_be_running(clock::now()) {
                "the installation that began it finishes or removes it".to_owned()
            } else {
                format!("after mongokeep storage sync {}: mongokeep backup delete {name} --foreign", known.storage)
            };
            (FindingKind::OtherAttempt, why, Some(remedy))
        }
    };
    Ok(What::Attempt(Box::new(Unfinished { owner, kind, why, remedy, uses_blocks })))
}

fn place(found: &Found) -> Place {
    (found.folder.clone(), found.name.clone())
}

impl Open {
    /// Whether all its keys come before `key`.
    pub fn is_before(&self, key: &Key) -> bool {
        key.as_str() >= self.prefix.as_str() && !self.holds(key)
    }

    pub fn holds(&self, key: &Key) -> bool {
        key.as_str().starts_with(&self.prefix)
    }

    pub fn is_backup(&self) -> bool {
        matches!(self.what, What::Backup(_) | What::Unreadable(_))
    }

    /// An object of it in the listing.
    pub fn object(&mut self, object: ObjectInfo, findings: &mut Findings, plan: &mut RepairPlan) {
        let ObjectInfo { key, size } = object;
        self.seen.add(1, size);
        let Some(path) = key.below(self.root.key()) else { return };
        if path == "manifest.json" || path == "attempt.json" {
            return;
        }
        let found = &self.found;
        let finding = |kind, why: String| Finding::new(kind, &found.folder, Some(&found.name), why).object(&key, size);
        match &mut self.what {
            What::Backup(whole) => {
                if whole.named.object(path, size) {
                    return;
                }
                if !is_attempt_object(path) {
                    let why = "it lies in the folder of a backup and is no object of one; it is never touched";
                    findings.push(finding(FindingKind::ForeignObject, why.to_owned()));
                    return;
                }
                let why = "the manifest of this backup does not name it".to_owned();
                if let Some(reason) = &whole.left_alone {
                    findings.push(finding(FindingKind::Orphan, format!("{why}; {reason}")));
                } else if findings.push(finding(FindingKind::Orphan, why).removable()) {
                    let orphans = planned_orphans(plan, found, &whole.attempt_id);
                    orphans.push(PlannedObject { path: path.to_owned(), size });
                }
            }
            What::Attempt(_) if is_attempt_object(path) => self.parts.add(1, size),
            What::Attempt(_) => {
                let why = "it lies among what an attempt left and is no object of one; it is never touched";
                findings.push(finding(FindingKind::ForeignObject, why.to_owned()));
            }
            // Nothing says what belongs to it.
            What::Unreadable(_) | What::Silent | What::Gone => {}
        }
    }

    /// Compares what went by with what should have.
    ///
    /// Errors: what the storage reports.
    pub async fn close(
        self,
        storage: &dyn Storage,
        known: &Known,
        findings: &mut Findings,
        plan: &mut RepairPlan,
    ) -> Result<Closed> {
        let Self { found, root, prefix, what, seen, parts } = self;
        let (folder, name) = (found.folder.as_str(), found.name.as_str());
        let mut closed =
            Closed { prefix, standing: Standing::Ours, damage: None, blocks: Vec::new(), holds_blocks_up: None };
        match what {
            What::Gone => closed.standing = Standing::LeftAlone("it was deleted during the check".into()),
            What::Unreadable(why) => {
                let finding = Finding::new(FindingKind::UnreadableManifest, folder, Some(name), escape(&why));
                findings.push(
                    finding.object(root.manifest()?, seen.bytes).of(seen.objects, seen.bytes).remedy(
                        "use another backup; nothing of it is removed, because nothing says what belongs to it",
                    ),
                );
                closed.standing = Standing::LeftAlone("the manifest of the backup cannot be read".into());
                closed.holds_blocks_up = Some(format!("what backup {} needs is not known", escape(name)));
                closed.damage = Some(why);
            }
            What::Backup(whole) => {
                closed.damage = whole.named.missing(storage, &root, &found, findings).await?;
                if let Some(why) = whole.left_alone {
                    closed.standing = Standing::LeftAlone(why);
                }
                closed.blocks = whole.named.blocks;
                if !known.backups.contains(&place(&found)) {
                    findings.push(unknown(known, folder, name).of(seen.objects, seen.bytes));
                }
            }
            What::Silent => {
                let why = "its attempt.json cannot be read: nothing says which objects belong to it";
                let finding = Finding::new(FindingKind::UnreadableAttempt, folder, Some(name), why);
                let remedy = format!("if nobody makes this backup now, remove the folder {} by hand", root.key());
                findings.push(finding.object(root.attempt()?, 0).of(seen.objects, seen.bytes).remedy(remedy));
                closed.standing = Standing::LeftAlone("nothing says whose it is".into());
            }
            What::Attempt(attempt) => {
                let Unfinished { owner, kind, why, remedy, uses_blocks } = *attempt;
                let mut finding = Finding::new(kind, folder, Some(name), why.clone()).object(root.key(), 0);
                (finding.host, finding.started_at, finding.remedy) = (owner.host.clone(), owner.started_at, remedy);
                closed.standing = if kind == FindingKind::AbandonedAttempt {
                    // With its attempt.json.
                    let objects = parts.objects + 1;
                    let attempt_json = seen.bytes.saturating_sub(parts.bytes).min(64 << 10);
                    let bytes = if seen.objects == objects { seen.bytes } else { parts.bytes + attempt_json };
                    if findings.push(finding.of(objects, bytes).removable()) {
                        plan.attempts.push(PlannedAttempt {
                            folder: folder.to_owned(),
                            backup: name.to_owned(),
                            attempt_id: owner.attempt_id,
                            objects,
                            bytes,
                        });
                        Standing::Abandoned(plan.attempts.len() - 1)
                    } else {
                        Standing::LeftAlone("there is too much to remove in one go".into())
                    }
                } else {
                    findings.push(finding.of(seen.objects, seen.bytes));
                    if kind == FindingKind::MissingBackup {
                        closed.damage = Some(why.clone());
                    }
                    if uses_blocks {
                        let host = escape(&owner.host.unwrap_or_default());
                        closed.holds_blocks_up = Some(format!("backup {} is being made on {host}", escape(name)));
                    }
                    Standing::LeftAlone(why)
                };
            }
        }
        Ok(closed)
    }
}

/// A backup that the catalogue does not have in that place.
fn unknown(known: &Known, folder: &str, name: &str) -> Finding {
    let finding = |why: String| Finding::new(FindingKind::UnknownBackup, folder, Some(name), why);
    let storage = &known.storage;
    match known.names.get(name) {
        None => {
            finding("it is not in the catalogue".into()).remedy(format!("mongokeep storage sync {storage} adds it"))
        }
        Some((other, other_folder)) => {
            let other = escape(&format!("{other}, as {}", place_of(other_folder, name)));
            finding(format!("the catalogue has a backup of this name in storage {other}"))
                .remedy(format!("mongokeep storage sync {storage} says whether it is a copy of that one"))
        }
    }
}

/// Of a backup, the last in the plan.
fn planned_orphans<'a>(plan: &'a mut RepairPlan, found: &Found, attempt_id: &str) -> &'a mut Vec<PlannedObject> {
    let is_same = |o: &PlannedOrphans| o.folder == found.folder && o.backup == found.name;
    if !plan.orphans.last().is_some_and(is_same) {
        plan.orphans.push(PlannedOrphans {
            folder: found.folder.clone(),
            backup: found.name.clone(),
            attempt_id: attempt_id.to_owned(),
            objects: Vec::new(),
        });
    }
    let last = plan.orphans.len() - 1;
    &mut plan.orphans[last].objects
}
