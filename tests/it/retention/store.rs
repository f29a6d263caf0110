//! What the store promises about retention: what it takes, what it never takes, and that a deletion is finished.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use mongokeep::domain::backup::{BackupRequest, BackupState, BackupType, Compression, Model};
use mongokeep::domain::job::{Job, JobKind, JobState};
use mongokeep::domain::retention::Retention;
use mongokeep::domain::retry::RetryPolicy;
use mongokeep::domain::schedule::Schedule;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::domain::warning::WarningKind;
use mongokeep::error::{Error, ErrorKind};
use mongokeep::store::{CatalogueEntry, Outcome, Store};

use crate::support::schedule::daily;
use crate::support::stores::{self, OpenStore};

struct Stand {
    _open: OpenStore,
    store: Store,
    /// Each run is a day after the one before.
    day: std::cell::Cell<i64>,
}

fn schedule(name: &str, count: u32) -> Schedule {
    Schedule { retention: Retention { count, ..Retention::default() }, ..daily(name, "a") }
}

fn stand(count: u32) -> Stand {
    let open = stores::open(&["a"], &["t"]);
    let store = open.store.clone();
    store.add_schedule(&schedule("nightly", count)).unwrap();
    Stand { _open: open, store, day: std::cell::Cell::new(0) }
}

fn facts(name: &str, schedule: Option<&str>, at: DateTime<Utc>) -> CatalogueEntry {
    CatalogueEntry {
        schedule: schedule.map(str::to_owned),
        size_bytes: 10,
        uncompressed_bytes: 10,
        ..stores::entry(name, Timestamp::new(u32::try_from(at.timestamp()).unwrap(), 1))
    }
}

impl Stand {
    fn next_day(&self) -> DateTime<Utc> {
        self.day.set(self.day.get() + 1);
        Utc::now() - TimeDelta::days(1_000) + TimeDelta::days(self.day.get())
    }

    /// A run that succeeds; returns the name of its backup.
    fn good_run(&self) -> String {
        let job = self.store.run_schedule("nightly", Compression::None).unwrap();
        let name = job.backup.unwrap();
        let claimed = self.store.claim(9).unwrap().unwrap();
        assert_eq!(claimed.job.id, job.id);
        let facts = facts(&name, Some("nightly"), self.next_day());
        self.store.finish(job.id, &Outcome::Succeeded(Some(Box::new(facts)))).unwrap();
        name
    }

    /// A good backup that a person asked for.
    fn by_hand(&self, name: &str) {
        self.by_hand_of(name, true);
    }

    fn by_hand_of(&self, name: &str, whole: bool) {
        let job = self.begin_by_hand(name);
        let facts = CatalogueEntry { whole: Some(whole), ..facts(name, None, self.next_day()) };
        self.store.finish(job, &Outcome::Succeeded(Some(Box::new(facts)))).unwrap();
    }

    fn begin_by_hand(&self, name: &str) -> i64 {
        let request = BackupRequest {
            name: name.into(),
            service: "a".into(),
            storage: "t".into(),
            folder: "prod".into(),
            model: Model::Logical,
            backup_type: BackupType::Full,
            selection: Default::default(),
            compression: Compression::None,
            retry: RetryPolicy::default(),
            schedule: None,
        };
        let job = self.store.enqueue_backup(&request).unwrap();
        self.store.claim(9).unwrap().unwrap();
        job.id
    }

    fn last_good(&self) -> Option<DateTime<Utc>> {
        self.store.service_row("a").unwrap().last_good_backup_at
    }

    fn at(&self, name: &str) -> Option<DateTime<Utc>> {
        self.store.backup(name).unwrap().consistent_at
    }

    fn retention_jobs(&self) -> Vec<Job> {
        self.store.jobs().unwrap().into_iter().filter(|j| j.kind == JobKind::Retention).collect()
    }

    fn claim_retention(&self) -> Job {
        let claimed = self.store.claim(9).unwrap().expect("a retention job");
        assert_eq!(claimed.job.kind, JobKind::Retention);
        claimed.job
    }

    fn next(&self, job: i64, skip: &[&str]) -> Option<String> {
        let skip: BTreeSet<String> = skip.iter().map(|s| (*s).to_owned()).collect();
        self.store.retire_next("nightly", job, &skip, &BTreeSet::new()).unwrap().map(|r| r.deletion.backup.name)
    }

    fn state(&self, name: &str) -> BackupState {
        self.store.backup(name).unwrap().state
    }
}

#[test]
fn a_run_queues_retention_once_and_only_for_a_reason() {
    let stand = stand(2);
    let first = stand.good_run();
    stand.good_run();
    assert_eq!(stand.retention_jobs(), [], "two of two: nothing goes");
    stand.good_run();
    let job = stand.retention_jobs().pop().unwrap();
    assert_eq!(
        (job.state, job.schedule.as_deref(), job.service.as_deref()),
        (JobState::Queued, Some("nightly"), Some("a"))
    );
    // The daemon that starts finds it queued, and queues no second one.
    assert_eq!(stand.store.queue_retentions().unwrap(), 1);
    assert_eq!(stand.retention_jobs().len(), 1);

    let job = stand.claim_retention();
    assert_eq!(stand.next(job.id, &[]).as_deref(), Some(first.as_str()));
    assert_eq!(stand.state(&first), BackupState::Deleting);
    stand.store.retired(&first).unwrap();
    assert_eq!(stand.store.backup(&first).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(stand.next(job.id, &[]), None);
    assert_eq!(stand.store.finish(job.id, &Outcome::Succeeded(None)).unwrap().state, JobState::Succeeded);
    assert_eq!(stand.store.queue_retentions().unwrap(), 0);
    assert_eq!(stand.store.retention_plan("none").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_was_half_deleted_is_tried_again_and_is_never_good() {
    let stand = stand(1);
    let names: Vec<String> = (0..2).map(|_| stand.good_run()).collect();
    let job = stand.claim_retention();
    assert_eq!(stand.next(job.id, &[]).as_deref(), Some(names[0].as_str()));
    // Somebody who looks meanwhile neither deletes it a second time, nor pins it, nor finds it good again.
    assert_eq!(stand.store.enqueue_delete(&names[0], false, None, &[]).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(stand.store.pin_backup(&names[0], true).unwrap_err().kind(), ErrorKind::Conflict);
    let found = facts(&names[0], Some("nightly"), Utc::now());
    assert!(!stand.store.import_backup("t", &found).unwrap());
    assert_eq!(stand.state(&names[0]), BackupState::Deleting);

    stand.store.deletion_begins(&names[0]).unwrap();
    stand.store.retire_failed(&names[0], "the storage is down").unwrap();
    assert_eq!(stand.next(job.id, &[&names[0]]), None);
    let failed = Outcome::Failed(Error::new(ErrorKind::Unreachable, "the storage is down"));
    let waiting = stand.store.finish(job.id, &failed).unwrap();
    assert_eq!(waiting.state, JobState::WaitingRetry);
    assert_eq!(
        stand.store.backup(&names[0]).unwrap().error.as_deref(),
        Some("could not be deleted: the storage is down")
    );

    // The next run ends the wait; what could not be deleted before holds up no other.
    stand.good_run();
    assert_eq!(stand.retention_jobs().len(), 1);
    let job = stand.claim_retention();
    assert_eq!(stand.next(job.id, &[]).as_deref(), Some(names[1].as_str()));
    stand.store.retired(&names[1]).unwrap();
    assert_eq!(stand.next(job.id, &[]).as_deref(), Some(names[0].as_str()));
    stand.store.retired(&names[0]).unwrap();
    stand.store.finish(job.id, &Outcome::Succeeded(None)).unwrap();
    stand.good_run();
    let job = stand.claim_retention();
    let last = stand.next(job.id, &[]).unwrap();
    // The daemon dies here: the job is found as abandoned and goes on with the same backup, also without its schedule.
    assert_eq!(stand.store.abandoned().unwrap()[0].job.id, job.id);
    stand.store.remove_schedule("nightly").unwrap();
    assert_eq!(stand.next(job.id, &[]).as_deref(), Some(last.as_str()));
    stand.store.retired(&last).unwrap();
    assert_eq!(stand.next(job.id, &[]), None);
}

/// One that is locked is as good as before, says so, and is tried again behind all others.
#[test]
fn what_is_whole_when_it_could_not_be_deleted_is_good_again_and_holds_up_no_other() {
    let stand = stand(2);
    let names: Vec<String> = (0..3).map(|_| stand.good_run()).collect();
    let job = stand.claim_retention();
    assert_eq!(stand.next(job.id, &[]).as_deref(), Some(names[0].as_str()));
    stand.store.deletion_begins(&names[0]).unwrap();
    stand.store.deletion_undone(&names[0]).unwrap();
    stand.store.retire_failed(&names[0], "locked").unwrap();
    let locked = stand.store.backup(&names[0]).unwrap();
    assert_eq!((locked.state, locked.error.as_deref()), (BackupState::Succeeded, Some("could not be deleted: locked")));
    stand.store.enqueue_verify(&names[0], None).unwrap();
    let verify = stand.store.claim(9).unwrap().unwrap();
    stand.store.finish(verify.job.id, &Outcome::Succeeded(None)).unwrap();
    assert_eq!(stand.next(job.id, &[&names[0]]), None);
    let denied = Outcome::Failed(Error::new(ErrorKind::Denied, "locked"));
    stand.store.finish(job.id, &denied).unwrap();
    let plan = stand.store.retention_plan("nightly").unwrap();
    let shown: Vec<_> = plan.going().map(|b| (b.name.clone(), b.storage.clone(), b.error.is_some())).collect();
    assert_eq!(shown, [(names[0].clone(), "t".to_owned(), true)]);

    // It comes behind those that were never tried, and not at all while its storage is away.
    stand.good_run();
    let job = stand.claim_retention();
    assert_eq!(stand.next(job.id, &[]).as_deref(), Some(names[1].as_str()));
    stand.store.retired(&names[1]).unwrap();
    let away = BTreeSet::from(["t".to_owned()]);
    assert!(stand.store.retire_next("nightly", job.id, &BTreeSet::new(), &away).unwrap().is_none());
    // Kept after all: nobody has to hear of it any more.
    stand.store.pin_backup(&names[0], true).unwrap();
    assert_eq!(stand.store.backup(&names[0]).unwrap().error, None);
    assert_eq!(stand.next(job.id, &[]), None);
}

/// A record of a backup that failed stands for no files, whatever has its name in the storage.
#[test]
fn a_failed_record_owns_nothing() {
    let stand = stand(0);
    let job = stand.begin_by_hand("one");
    stand.store.finish(job, &Outcome::Failed(Error::new(ErrorKind::Conflict, "taken"))).unwrap();
    let deletion = stand.store.deletion("one").unwrap();
    assert!(deletion.owns_nothing() && deletion.attempts.len() == 1, "{deletion:?}");
    let delete = stand.store.enqueue_delete("one", false, None, &[]).unwrap();
    assert!(stand.store.deletion("one").unwrap().owns_nothing());
    // What failed is no better for a delete that failed too.
    stand.store.claim(9).unwrap().unwrap();
    stand.store.deletion_begins("one").unwrap();
    stand.store.finish(delete.id, &Outcome::Failed(Error::new(ErrorKind::Unreachable, "away"))).unwrap();
    assert_eq!(stand.state("one"), BackupState::Failed);
    assert_eq!(stand.store.backup("one").unwrap().error.as_deref(), Some("taken"));

    stand.store.import_backup("t", &facts("found", None, Utc::now())).unwrap();
    assert!(!stand.store.deletion("found").unwrap().owns_nothing(), "it lists what another installation made");
    stand.store.import_incomplete("t", "prod", "begun", "a", "no manifest").unwrap();
    assert!(!stand.store.deletion("begun").unwrap().owns_nothing());
}

#[test]
fn a_person_takes_over_what_retention_could_not_delete() {
    let stand = stand(1);
    let old = stand.good_run();
    stand.good_run();
    let job = stand.claim_retention();
    stand.next(job.id, &[]).unwrap();
    stand.store.deletion_begins(&old).unwrap();
    stand.store.retire_failed(&old, "half of it is left").unwrap();
    let denied = Outcome::Failed(Error::new(ErrorKind::Denied, "half of it is left"));
    assert_eq!(stand.store.finish(job.id, &denied).unwrap().state, JobState::Failed);
    // A delete that is cancelled before it runs must not make it good: nobody knows how much is left.
    let delete = stand.store.enqueue_delete(&old, false, None, &[]).unwrap();
    stand.store.cancel_job(delete.id).unwrap();
    assert_eq!(stand.state(&old), BackupState::Deleting);
    assert_eq!(stand.next(0, &[]), None, "it is the person's now");
}

#[test]
fn a_delete_that_began_does_not_make_a_backup_good_again() {
    let stand = stand(0);
    stand.by_hand("one");
    // One that never ran leaves everything as it was.
    let never = stand.store.enqueue_delete("one", false, None, &[]).unwrap();
    assert_eq!(stand.state("one"), BackupState::Deleting);
    stand.store.cancel_job(never.id).unwrap();
    assert_eq!(stand.state("one"), BackupState::Succeeded);
    let first = stand.store.enqueue_delete("one", false, None, &[]).unwrap();
    stand.store.claim(9).unwrap().unwrap();
    stand.store.finish(first.id, &Outcome::Failed(Error::new(ErrorKind::Failed, "not begun"))).unwrap();
    assert_eq!(stand.state("one"), BackupState::Succeeded);
    let first = stand.store.enqueue_delete("one", false, None, &[]).unwrap();
    stand.store.claim(9).unwrap().unwrap();
    stand.store.deletion_begins("one").unwrap();
    stand.store.finish(first.id, &Outcome::Failed(Error::new(ErrorKind::Failed, "half way"))).unwrap();
    let second = stand.store.enqueue_delete("one", false, None, &[]).unwrap();
    stand.store.cancel_job(second.id).unwrap();
    assert_eq!(stand.state("one"), BackupState::Deleting);
}

#[test]
fn only_what_this_schedule_of_this_home_made_goes() {
    let stand = stand(1);
    let pinned = stand.good_run();
    stand.store.pin_backup(&pinned, true).unwrap();
    stand.by_hand("by-hand");
    // Another home has a schedule of the same name; a sync found its backup.
    stand.store.import_backup("t", &facts("foreign", Some("nightly"), stand.next_day())).unwrap();
    let read = stand.good_run();
    stand.store.enqueue_verify(&read, None).unwrap();
    let verify = stand.store.claim(9).unwrap().unwrap();
    stand.good_run();
    let plan = stand.store.retention_plan("nightly").unwrap();
    let lines: Vec<_> = plan.backups.iter().map(|b| (b.keep, b.reasons.join(", "))).collect();
    assert_eq!(
        lines,
        [
            (true, "newest 1 of 1, the last good backup of a".to_owned()),
            (true, format!("in use by job {}, goes later", verify.job.id)),
            (true, "pinned".to_owned()),
        ]
    );
    assert_eq!(stand.next(99, &[]), None);
    stand.store.finish(verify.job.id, &Outcome::Succeeded(None)).unwrap();
    assert_eq!(stand.next(99, &[]).as_deref(), Some(read.as_str()));
    stand.store.retired(&read).unwrap();

    // A schedule that was removed and made again did not make what its predecessor made.
    stand.store.remove_schedule("nightly").unwrap();
    let again = Schedule { created_at: Utc::now() + TimeDelta::seconds(1), ..schedule("nightly", 1) };
    stand.store.add_schedule(&again).unwrap();
    assert_eq!(stand.store.retention_plan("nightly").unwrap().backups, []);
}

#[test]
fn neither_a_limited_nor_a_damaged_backup_passes_for_the_last_good_one() {
    let stand = stand(1);
    stand.by_hand_of("some", false);
    assert_eq!(stand.last_good(), stand.at("some"), "where there is no whole one, it is better than none");
    let within = Schedule {
        retention: Retention { keep_within: 1, ..Retention::default() },
        ..stand.store.schedule("nightly").unwrap()
    };
    stand
        .store
        .edit_schedule("nightly", |s| {
            *s = within;
            Ok(())
        })
        .unwrap();
    let whole = stand.good_run();
    stand.by_hand_of("typo", false);
    assert_eq!(stand.last_good(), stand.at(&whole));
    let plan = stand.store.retention_plan("nightly").unwrap();
    assert_eq!(plan.backups[0].reasons, ["the last good backup of a"]);
    let newest = |schedule: Option<&str>| {
        let all = stand.store.newest_backups().unwrap();
        all.into_iter().find(|b| b.schedule.as_deref() == schedule).map(|b| b.finished_at)
    };
    assert_eq!(newest(None), stand.store.backup("typo").unwrap().finished_at);
    stand.by_hand("all");
    let all = stand.store.backup("all").unwrap().finished_at;
    stand.by_hand_of("some-more", false);
    assert_eq!((newest(None), stand.last_good()), (all, stand.at("all")));

    stand.store.backup_verified("all", Some("a byte is wrong")).unwrap();
    assert_eq!(stand.last_good(), stand.at(&whole));
    assert_eq!(newest(None), stand.store.backup("some-more").unwrap().finished_at);
    stand.store.backup_verified(&whole, Some("a byte is wrong")).unwrap();
    assert_eq!(newest(Some("nightly")), None);
    assert_eq!(stand.last_good(), stand.at("some-more"));
}

#[test]
fn what_is_damaged_and_what_failed_last_is_among_what_is_wrong() {
    let stand = stand(1);
    let client = mongokeep::client::Client::open(&stand._open.home, true).unwrap();
    let wrong = || -> Vec<(WarningKind, String)> {
        let warnings = client.warnings().unwrap().into_iter().map(|w| (w.kind, w.text));
        warnings.filter(|(kind, _)| matches!(kind, WarningKind::Damaged | WarningKind::BackupFailed)).collect()
    };
    stand.by_hand("good");
    assert_eq!(wrong(), []);
    stand.store.backup_verified("good", Some("a byte is wrong")).unwrap();
    assert_eq!(wrong(), [(WarningKind::Damaged, "backup good of a is damaged: a byte is wrong".to_owned())]);
    stand.store.backup_verified("good", None).unwrap();
    let failed = stand.begin_by_hand("bad");
    stand.store.finish(failed, &Outcome::Failed(Error::new(ErrorKind::Failed, "no route"))).unwrap();
    let text = format!("a: the last backup failed (job {failed}): no route");
    assert_eq!(wrong(), [(WarningKind::BackupFailed, text)]);
    stand.by_hand("better");
    assert_eq!(wrong(), []);
}
