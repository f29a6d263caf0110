//! What a storage holds, compared with what its manifests and the catalogue say; and what of it may be removed.
//!
//! Values only. Who finds them is `engine::storage_check`; who removes what a person confirmed is a job of the daemon.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::backup::place_of;
use super::text::{count, counted, escape};
use super::words::words;

words! {
    /// What was found. Its word is the `kind` of a finding in JSON.
    #[derive(Hash)]
    pub enum FindingKind {
        /// A manifest names an object that is not there.
        MissingObject => "missing_object",
        /// A manifest names an object that has another size.
        WrongSize => "wrong_size",
        /// A manifest names a block that is not there, or has another size.
        MissingBlock => "missing_block",
        /// There is a manifest that is of no use.
        UnreadableManifest => "unreadable_manifest",
        /// The catalogue has a good backup, and the storage has no manifest of it.
        MissingBackup => "missing_backup",
        /// The catalogue has a slice of the oplog that the storage lacks.
        MissingSlice => "missing_slice",
        /// Recorded oplog that does not follow on what was recorded before.
        Gap => "gap",
        /// An attempt of this home without a manifest that nobody works on any more.
        AbandonedAttempt => "abandoned_attempt",
        /// An attempt without a manifest, or what is left of a backup, that a job of this home works on or owns.
        AttemptAtWork => "attempt_at_work",
        /// An attempt without a manifest of another installation, which may be at work.
        OtherAttempt => "other_attempt",
        /// An `attempt.json` without a manifest that says nothing.
        UnreadableAttempt => "unreadable_attempt",
        /// An object among those of a good backup, called as they are, that its manifest does not name.
        Orphan => "orphan",
        /// Objects that are nobody's that mongokeep knows.
        ForeignObject => "foreign_object",
        /// A write that was begun and neither finished nor given up.
        UnfinishedUpload => "unfinished_upload",
        /// Blocks that no manifest names.
        UnneededBlocks => "unneeded_blocks",
        /// A backup that the catalogue does not have.
        UnknownBackup => "unknown_backup",
        /// Slices of the oplog that the catalogue does not have.
        UnknownSlices => "unknown_slices",
        /// What a versioned bucket keeps of what was deleted or replaced.
        OldVersions => "old_versions",
        /// A part of the storage that could not be looked at.
        NotChecked => "not_checked",
    }
}

impl FindingKind {
    /// Whether something that should be there is not, or is not what it should be. Anything else is for people to know, or
    /// to clean up.
    pub fn is_problem(self) -> bool {
        match self {
            Self::MissingObject
            | Self::WrongSize
            | Self::MissingBlock
            | Self::UnreadableManifest
            | Self::MissingBackup
            | Self::MissingSlice => true,
            Self::Gap
            | Self::AbandonedAttempt
            | Self::AttemptAtWork
            | Self::OtherAttempt
            | Self::UnreadableAttempt
            | Self::Orphan
            | Self::ForeignObject
            | Self::UnfinishedUpload
            | Self::UnneededBlocks
            | Self::UnknownBackup
            | Self::UnknownSlices
            | Self::OldVersions
            | Self::NotChecked => false,
        }
    }

    /// `n` of it, for people, with the number.
    pub fn title(self, n: u64) -> String {
        let many = |one: &str, more: &str| format!("{} {}", count(n), if n == 1 { one } else { more });
        match self {
            Self::MissingObject => many("missing object of a backup", "missing objects of backups"),
            Self::WrongSize => {
                many("object of a backup that has another size", "objects of backups that have another size")
            }
            Self::MissingBlock => many("missing or damaged block", "missing or damaged blocks"),
            Self::UnreadableManifest => many("manifest that is of no use", "manifests that are of no use"),
            Self::MissingBackup => many("backup that is no longer there", "backups that are no longer there"),
            Self::MissingSlice => {
                many("recorded oplog slice that is no longer there", "recorded oplog slices that are no longer there")
            }
            Self::Gap => format!("{} in the recorded oplog", counted(n, "gap")),
            Self::AbandonedAttempt => {
                many("attempt that this installation left", "attempts that this installation left")
            }
            Self::AttemptAtWork => {
                many("attempt of this installation that a job owns", "attempts of this installation that a job owns")
            }
            Self::OtherAttempt => many(
                "attempt of another installation without a manifest",
                "attempts of other installations without a manifest",
            ),
            Self::UnreadableAttempt => many("attempt that cannot be read", "attempts that cannot be read"),
            Self::Orphan => many("object that no manifest names", "objects that no manifest names"),
            Self::ForeignObject => many("object that is not mongokeep's", "objects that are not mongokeep's"),
            Self::UnfinishedUpload => counted(n, "unfinished upload"),
            Self::UnneededBlocks => many("block that no backup needs", "blocks that no backup needs"),
            Self::UnknownBackup => {
                many("backup that the catalogue does not have", "backups that the catalogue does not have")
            }
            Self::UnknownSlices => many(
                "recorded oplog slice that the catalogue does not have",
                "recorded oplog slices that the catalogue does not have",
            ),
            Self::OldVersions => {
                many("old version of what was deleted or replaced", "old versions of what was deleted or replaced")
            }
            Self::NotChecked => many("part that was not looked at", "parts that were not looked at"),
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub kind: FindingKind,
    /// See [`FindingKind::is_problem`].
    pub problem: bool,
    pub folder: String,
    pub backup: Option<String>,
    /// The key of the object, or of the folder, relative to the storage.
    pub object: Option<String>,
    /// How many objects it stands for.
    pub objects: u64,
    /// Their bytes: as stored, or of what is missing as it should be.
    pub bytes: u64,
    /// Safe to show.
    pub detail: String,
    /// Of an attempt: who began it, and when.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_at: Option<DateTime<Utc>>,
    /// Whether `--repair` removes it.
    pub removable: bool,
    /// What to do about it, where there is something.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
}

impl Finding {
    pub fn new(kind: FindingKind, folder: &str, backup: Option<&str>, detail: impl Into<String>) -> Self {
        Self {
            kind,
            problem: kind.is_problem(),
            folder: folder.to_owned(),
            backup: backup.map(str::to_owned),
            object: None,
            objects: 1,
            bytes: 0,
            detail: detail.into(),
            host: None,
            started_at: None,
            removable: false,
            remedy: None,
        }
    }

    /// What it is about, safe to show: an object, a backup by its folder and name, or a folder.
    pub fn about(&self) -> String {
        match (&self.object, &self.backup) {
            (Some(object), _) => escape(object),
            (None, Some(backup)) => escape(&place_of(&self.folder, backup)),
            (None, None) if self.folder.is_empty() => "the storage".to_owned(),
            (None, None) => escape(&self.folder),
        }
    }

    #[must_use]
    pub fn object(mut self, key: impl std::fmt::Display, bytes: u64) -> Self {
        self.object = Some(key.to_string());
        self.bytes = bytes;
        self
    }

    #[must_use]
    pub fn of(mut self, objects: u64, bytes: u64) -> Self {
        (self.objects, self.bytes) = (objects, bytes);
        self
    }

    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    #[must_use]
    pub fn removable(mut self) -> Self {
        self.removable = true;
        self
    }
}

/// Findings of one kind, in the order of a report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FindingGroup<'a> {
    pub kind: FindingKind,
    pub findings: &'a [Finding],
}

impl<'a> FindingGroup<'a> {
    /// How many there are, and of what: objects, where a finding stands for many that are not named.
    pub fn title(&self) -> String {
        let stands_for_many = matches!(
            self.kind,
            FindingKind::Orphan
                | FindingKind::ForeignObject
                | FindingKind::UnfinishedUpload
                | FindingKind::UnneededBlocks
                | FindingKind::UnknownSlices
                | FindingKind::OldVersions
        );
        let one = |finding: &Finding| if stands_for_many { finding.objects } else { 1 };
        self.kind.title(self.findings.iter().map(one).fold(0, u64::saturating_add))
    }

    /// The first findings, `limit` at most, each with its remedy unless the next one has the same: a command names one
    /// backup.
    pub fn with_remedies(&self, limit: usize) -> impl Iterator<Item = (&'a Finding, Option<&'a str>)> + use<'a> {
        let findings = self.findings.get(..limit).unwrap_or(self.findings);
        findings.iter().enumerate().map(|(i, finding)| {
            let next = findings.get(i + 1).and_then(|next| next.remedy.as_deref());
            (finding, finding.remedy.as_deref().filter(|remedy| next != Some(remedy)))
        })
    }
}

impl StorageReport {
    /// The findings by kind, what is wrong first.
    pub fn groups(&self) -> impl Iterator<Item = FindingGroup<'_>> {
        let groups = self.findings.chunk_by(|a, b| a.kind == b.kind);
        groups.filter_map(|findings| Some(FindingGroup { kind: findings.first()?.kind, findings }))
    }

    /// `2 backups, 12 objects, 4.1 MB looked at`.
    pub fn size_words(&self) -> String {
        let (backups, objects) = (counted(self.backups, "backup"), counted(self.objects, "object"));
        format!("{backups}, {objects}, {} looked at", super::text::bytes(self.bytes))
    }
}

/// Objects and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    pub objects: u64,
    pub bytes: u64,
}

impl Amount {
    pub fn add(&mut self, objects: u64, bytes: u64) {
        self.objects = self.objects.saturating_add(objects);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What `storage check` found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorageReport {
    pub storage: String,
    /// Nothing is wrong with a backup or with recorded oplog. There may be things to clean up.
    pub ok: bool,
    /// Backups with a manifest, those of other tools included.
    pub backups: u64,
    /// Of them: those that lack something.
    pub incomplete: u64,
    /// Everything that was listed.
    pub objects: u64,
    pub bytes: u64,
    pub findings: Vec<Finding>,
    /// Findings of which there were too many to list.
    pub omitted: u64,
    /// Objects that belong to nothing, as far as they are listed.
    pub orphans: Vec<Unnamed>,
    /// `None`: this kind of storage does not say.
    pub unfinished_uploads: Option<u64>,
    /// What `--repair` removes.
    pub removable: Amount,
    pub bytes_to_free: u64,
    #[serde(skip)]
    pub plan: RepairPlan,
}

/// An object that belongs to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unnamed {
    pub key: String,
    pub size_bytes: u64,
    pub reason: String,
    pub removable: bool,
}

/// What a person lets go. Kept with the job: it removes this and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RepairPlan {
    pub made_at: DateTime<Utc>,
    pub attempts: Vec<PlannedAttempt>,
    pub orphans: Vec<PlannedOrphans>,
    pub uploads: Vec<PlannedUploads>,
    pub blocks: Vec<PlannedBlocks>,
}

/// Everything of an attempt of this home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedAttempt {
    pub folder: String,
    pub backup: String,
    pub attempt_id: String,
    pub objects: u64,
    pub bytes: u64,
}

/// Objects beside those of a good backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedOrphans {
    pub folder: String,
    pub backup: String,
    /// Of the backup: another one of that name is another matter.
    pub attempt_id: String,
    pub objects: Vec<PlannedObject>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedObject {
    /// Relative to the backup's root.
    pub path: String,
    pub size: u64,
}

/// Unfinished uploads below one folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedUploads {
    /// Below which they are.
    pub prefix: String,
    /// Of the good backup that they are beside; `None`: of recorded oplog, where the old ones go.
    pub backup: Option<(String, String)>,
    pub uploads: u64,
    pub bytes: u64,
}

/// The blocks of a folder that no backup needs, as many as they are when they are removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedBlocks {
    pub folder: String,
    pub blocks: u64,
    pub bytes: u64,
}

impl RepairPlan {
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty() && self.orphans.is_empty() && self.uploads.is_empty() && self.blocks.is_empty()
    }

    pub fn amount(&self) -> Amount {
        let mut amount = Amount::default();
        self.attempts.iter().for_each(|a| amount.add(a.objects, a.bytes));
        self.orphans.iter().flat_map(|o| &o.objects).for_each(|o| amount.add(1, o.size));
        self.uploads.iter().for_each(|u| amount.add(u.uploads, u.bytes));
        self.blocks.iter().for_each(|b| amount.add(b.blocks, b.bytes));
        amount
    }
}

/// The findings of a check while it goes on: so many of each kind are kept, the others are counted.
#[derive(Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    counts: std::collections::HashMap<FindingKind, u64>,
    omitted: u64,
    problem: bool,
    incomplete: BTreeSet<(String, String)>,
}

/// Findings of one kind that are listed.
pub const LISTED: u64 = 10_000;

impl Findings {
    /// Returns whether it is listed: what is not listed is not repaired either.
    pub fn push(&mut self, finding: Finding) -> bool {
        self.problem |= finding.problem;
        if let (true, Some(backup)) = (finding.problem, &finding.backup) {
            self.incomplete.insert((finding.folder.clone(), backup.clone()));
        }
        let count = self.counts.entry(finding.kind).or_default();
        *count += 1;
        if *count > LISTED {
            self.omitted += 1;
            return false;
        }
        self.kept.push(finding);
        true
    }

    pub fn all(&self) -> &[Finding] {
        &self.kept
    }

    /// The report, in the order of what was found: problems first, then by kind, folder, backup and object.
    pub fn report(
        mut self,
        storage: &str,
        backups: u64,
        seen: Amount,
        uploads: Option<u64>,
        plan: RepairPlan,
    ) -> StorageReport {
        self.kept.sort_by(|a, b| {
            (!a.problem, a.kind, &a.folder, &a.backup, &a.object)
                .cmp(&(!b.problem, b.kind, &b.folder, &b.backup, &b.object))
        });
        let unnamed = |f: &Finding| {
            let is_one = matches!(f.kind, FindingKind::Orphan | FindingKind::ForeignObject);
            is_one.then(|| Unnamed {
                key: f.object.clone().unwrap_or_default(),
                size_bytes: f.bytes,
                reason: f.detail.clone(),
                removable: f.removable,
            })
        };
        let removable = plan.amount();
        StorageReport {
            storage: storage.to_owned(),
            ok: !self.problem,
            backups,
            incomplete: self.incomplete.len() as u64,
            objects: seen.objects,
            bytes: seen.bytes,
            orphans: self.kept.iter().filter_map(unnamed).collect(),
            findings: self.kept,
            omitted: self.omitted,
            unfinished_uploads: uploads,
            removable,
            bytes_to_free: removable.bytes,
            plan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_cleaned_up_is_no_problem_and_what_is_missing_is() {
        let mut findings = Findings::default();
        findings
            .push(Finding::new(FindingKind::Orphan, "f", Some("a"), "x").object("f/backups/a/data/x", 7).removable());
        let report = findings.report("s", 1, Amount::default(), Some(0), RepairPlan::default());
        assert!(report.ok && report.incomplete == 0 && report.orphans[0].size_bytes == 7);

        let mut findings = Findings::default();
        findings.push(Finding::new(FindingKind::Gap, "f", None, "x"));
        findings.push(Finding::new(FindingKind::MissingObject, "f", Some("a"), "x").object("k", 3));
        findings.push(Finding::new(FindingKind::MissingObject, "f", Some("a"), "x").object("j", 3));
        let report = findings.report("s", 1, Amount::default(), None, RepairPlan::default());
        assert!(!report.ok && report.incomplete == 1);
        let keys: Vec<_> = report.findings.iter().map(|f| f.object.as_deref().unwrap_or("-")).collect();
        assert_eq!(keys, ["j", "k", "-"], "problems first, in order");
    }

    #[test]
    fn one_is_no_plural_and_each_command_is_shown() {
        let attempt =
            |name: &str, remedy: &str| Finding::new(FindingKind::MissingBackup, "f", Some(name), "x").remedy(remedy);
        let of = |findings: Vec<Finding>| {
            let mut all = Findings::default();
            for finding in findings {
                all.push(finding);
            }
            all.report("s", 1, Amount { objects: 1, bytes: 7 }, None, RepairPlan::default())
        };
        let report = of(vec![attempt("a", "delete a"), attempt("b", "delete b"), attempt("c", "delete b")]);
        assert_eq!(report.size_words(), "1 backup, 1 object, 7 B looked at");
        let group = report.groups().next().unwrap();
        assert_eq!(group.title(), "3 backups that are no longer there");
        let remedies: Vec<_> = group.with_remedies(9).map(|(_, remedy)| remedy.unwrap_or("-")).collect();
        assert_eq!(remedies, ["delete a", "-", "delete b"]);
        assert_eq!(
            group.with_remedies(2).last().unwrap().1,
            Some("delete b"),
            "what is cut off does not take it along"
        );
        let report = of(vec![Finding::new(FindingKind::Gap, "f", None, "x").of(0, 0)]);
        assert_eq!(report.groups().next().unwrap().title(), "1 gap in the recorded oplog");
        let report = of(vec![Finding::new(FindingKind::UnneededBlocks, "f", None, "x").of(9, 70)]);
        assert_eq!(report.groups().next().unwrap().title(), "9 blocks that no backup needs");
    }

    #[test]
    fn too_many_are_counted() {
        let mut findings = Findings::default();
        let listed = (0..LISTED + 5).filter(|_| findings.push(Finding::new(FindingKind::Orphan, "", None, ""))).count();
        assert_eq!((listed as u64, findings.all().len() as u64), (LISTED, LISTED));
        assert_eq!(findings.report("s", 0, Amount::default(), None, RepairPlan::default()).omitted, 5);
    }
}
