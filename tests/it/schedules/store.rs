//! What the store promises about schedules: each run is decided once, and what a schedule uses stays.

use chrono::{DateTime, TimeDelta, Utc};
use mongokeep::domain::backup::{BackupState, Compression};
use mongokeep::domain::job::JobState;
use mongokeep::domain::namespace::Selection;
use mongokeep::domain::restore::{RestorePlan, RestoreRequest};
use mongokeep::domain::retention::Retention;
use mongokeep::domain::retry::RetryPolicy;
use mongokeep::domain::schedule::Schedule;
use mongokeep::domain::service::ServiceSpec;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::error::{Error, ErrorKind};
use mongokeep::store::{Access, CatalogueEntry, Decision, Outcome, Store, Verdict};

use crate::support::schedule::daily;
use crate::support::stores::{self, OpenStore};

const SETTING: Compression = Compression::Gzip(3);

/// A store with a service `a` and a storage `t`.
fn stand() -> OpenStore {
    stores::open(&["a"], &["t"])
}

fn schedule(name: &str) -> Schedule {
    Schedule {
        selection: Selection { include: vec!["shop.*".parse().unwrap()], exclude: vec![] },
        timezone: "Europe/Paris".into(),
        retention: Retention { count: 7, keep_within: 86_400, ..Retention::default() },
        retry: RetryPolicy { retries: 5, ..RetryPolicy::default() },
        ..daily(name, "a")
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn run(due: &str) -> Decision {
    Decision { due_at: at(due), verdict: Verdict::Run }
}

fn decided_until(store: &Store, name: &str) -> DateTime<Utc> {
    store.schedules_on().unwrap().into_iter().find(|s| s.schedule.name == name).unwrap().decided_until
}

fn fail_next(store: &Store) -> i64 {
    let claimed = store.claim(9).unwrap().expect("something to claim");
    store.finish(claimed.job.id, &Outcome::Failed(Error::new(ErrorKind::Denied, "no"))).unwrap();
    claimed.job.id
}

#[test]
fn a_schedule_comes_back_as_it_went_in() {
    let stand = stand();
    let store = stand.store.clone();
    let mut wanted = schedule("nightly");
    let got = store.add_schedule(&wanted).unwrap();
    wanted.created_at = got.created_at;
    wanted.start = DateTime::from_timestamp_millis(wanted.start.timestamp_millis()).unwrap();
    assert_eq!(got, wanted);
    assert_eq!(store.schedules().unwrap(), [wanted.clone()]);
    let error = store.add_schedule(&wanted).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    for (service, storage, what) in [("x", "t", "service x"), ("a", "x", "storage x")] {
        let missing = Schedule { service: service.into(), storage: storage.into(), ..schedule("other") };
        let error = store.add_schedule(&missing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.full().contains(what), "{error}");
    }
    store.remove_schedule("nightly").unwrap();
    for error in [store.schedule("nightly").unwrap_err(), store.remove_schedule("nightly").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

#[test]
fn what_a_schedule_uses_cannot_be_removed() {
    let stand = stand();
    let store = stand.store.clone();
    store.add_schedule(&schedule("nightly")).unwrap();
    for error in [store.remove_service("a").unwrap_err(), store.remove_storage("t").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.full().contains("schedule nightly"), "{error}");
    }
    store.remove_schedule("nightly").unwrap();
    store.remove_service("a").unwrap();
    store.remove_storage("t").unwrap();
}

#[test]
fn only_one_of_two_deciders_decides() {
    let stand = stand();
    let (store, home) = (stand.store.clone(), &stand.home);
    store.add_schedule(&schedule("nightly")).unwrap();
    let other = Store::open(&home.store_file(), &home.key_file(), Access::Write).unwrap();
    let seen = decided_until(&store, "nightly");
    let until = seen + TimeDelta::days(1);
    let deciders: Vec<_> = [store.clone(), other]
        .into_iter()
        .map(|store| {
            std::thread::spawn(move || {
                store.decide_schedule("nightly", seen, until, &[run("2030-01-01T01:00:00Z")], SETTING).unwrap()
            })
        })
        .collect();
    let decided: Vec<_> = deciders.into_iter().filter_map(|d| d.join().unwrap()).collect();
    assert_eq!(decided.len(), 1);
    assert_eq!((store.jobs().unwrap().len(), store.backups().unwrap().len()), (1, 1));
    assert_eq!(decided_until(&store, "nightly"), until);
    let job = &decided[0][0];
    assert_eq!((job.state, job.due_at), (JobState::Queued, Some(at("2030-01-01T01:00:00Z"))));
    assert_eq!((job.schedule.as_deref(), job.backup.as_deref()), (Some("nightly"), Some("nightly-20300101-0200")));
    let backup = store.backup("nightly-20300101-0200").unwrap();
    assert_eq!((backup.state, backup.compression), (BackupState::Running, SETTING));
    assert_eq!((backup.schedule.as_deref(), backup.cluster.as_deref()), (Some("nightly"), Some("prod")));
    let last = store.schedule("nightly").unwrap().last.unwrap();
    assert_eq!((last.at, last.job, last.state), (at("2030-01-01T01:00:00Z"), job.id, JobState::Queued));
}

#[test]
fn a_decision_is_made_whole_or_not_at_all() {
    let stand = stand();
    let store = stand.store.clone();
    store.add_schedule(&schedule("nightly")).unwrap();
    let seen = decided_until(&store, "nightly");
    let until = seen + TimeDelta::days(1);
    store.enable_schedule("nightly", false).unwrap();
    let off = store.decide_schedule("nightly", seen, until, &[run("2030-01-01T01:00:00Z")], SETTING).unwrap();
    assert_eq!((off, store.jobs().unwrap().len()), (None, 0));
    // Switched on, the past is not made up for.
    store.enable_schedule("nightly", true).unwrap();
    let now = decided_until(&store, "nightly");
    assert!(now > seen && now <= Utc::now(), "{now}");
    store.enable_schedule("nightly", true).unwrap();
    assert_eq!(decided_until(&store, "nightly"), now, "it was on already");
    // A clock that was set back leaves what is decided.
    let back = now - TimeDelta::hours(1);
    assert_eq!(store.decide_schedule("nightly", now, back, &[], SETTING).unwrap(), Some(vec![]));
    assert_eq!(decided_until(&store, "nightly"), now);
    assert_eq!(store.decide_schedule("gone", now, until, &[], SETTING).unwrap(), None);
}

#[test]
fn a_run_beside_the_previous_one_is_skipped_and_names_are_free() {
    let stand = stand();
    let store = stand.store.clone();
    store.add_schedule(&schedule("nightly")).unwrap();
    let first = store.run_schedule("nightly", SETTING).unwrap();
    let error = store.run_schedule("nightly", SETTING).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.full().contains(&format!("job {}", first.id)), "{error}");
    assert_eq!(store.schedules_on().unwrap()[0].unfinished, Some(first.id));
    let decide = |decisions: &[Decision]| {
        let seen = decided_until(&store, "nightly");
        store.decide_schedule("nightly", seen, seen + TimeDelta::days(1), decisions, SETTING).unwrap().unwrap()
    };
    let jobs = decide(&[
        Decision { due_at: at("2030-01-01T01:00:00Z"), verdict: Verdict::Missed("no daemon ran".into()) },
        Decision { due_at: at("2030-01-02T01:00:00Z"), verdict: Verdict::Skipped("a restore".into()) },
        run("2030-01-03T01:00:00Z"),
    ]);
    let states: Vec<_> = jobs.iter().map(|j| (j.state, j.error.clone().unwrap())).collect();
    assert_eq!(
        states,
        [
            (JobState::Missed, "no daemon ran".into()),
            (JobState::Skipped, "a restore".into()),
            (JobState::Skipped, format!("the previous run, job {}, was not finished", first.id)),
        ]
    );
    assert!(jobs.iter().all(|j| j.backup.is_none() && j.finished_at.is_some() && j.started_at.is_none()));
    assert_eq!(store.backups().unwrap().len(), 1);
    let error = store.retry_job(jobs[0].id).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.hint_text().unwrap().contains("schedule run nightly"));
    assert_eq!(fail_next(&store), first.id);
    assert_eq!(store.claim(9).unwrap().map(|c| c.job.id), None, "a run that was not made is claimed");
    let again = decide(&[run("2030-01-04T01:00:00Z")]);
    fail_next(&store);
    let taken = decide(&[run("2030-01-04T01:00:30Z"), run("2030-01-04T01:00:00Z")]);
    assert_eq!(again[0].backup.as_deref(), Some("nightly-20300104-0200"));
    assert_eq!(taken[0].backup.as_deref(), Some("nightly-20300104-020030"));
    fail_next(&store);
    // A run that has its record, by a clock that was set back since, gets no second one.
    assert_eq!(decide(&[run("2030-01-04T01:00:00Z"), run("2030-01-04T01:00:30Z")]), []);
    assert_eq!(store.claim(9).unwrap().map(|c| c.job.id), None);
    // An hour that comes twice in the zone of the schedule.
    let first = decide(&[run("2030-10-27T00:30:00Z")]);
    fail_next(&store);
    let second = decide(&[run("2030-10-27T01:30:00Z")]);
    assert_eq!(first[0].backup.as_deref(), Some("nightly-20301027-0230"));
    assert_eq!(second[0].backup.as_deref(), Some("nightly-20301027-0230-2"), "the failed backup has the name");
}

#[test]
fn editing_the_calendar_makes_no_run_of_the_past() {
    let stand = stand();
    let store = stand.store.clone();
    let later = Utc::now() + TimeDelta::days(3);
    store.add_schedule(&Schedule { start: later, ..schedule("nightly") }).unwrap();
    // What lies before the start is no run, so there is nothing to decide about it.
    let added = decided_until(&store, "nightly");
    assert!(added <= Utc::now() && added > Utc::now() - TimeDelta::minutes(5), "{added}");
    let edit = |change: &dyn Fn(&mut Schedule)| {
        store
            .edit_schedule("nightly", |s| {
                change(s);
                Ok(())
            })
            .unwrap()
    };
    edit(&|s| s.retention.count = 3);
    assert_eq!(decided_until(&store, "nightly"), added);
    while Utc::now().timestamp_millis() <= added.timestamp_millis() {
        std::thread::yield_now();
    }
    let got = edit(&|s| s.start = Utc::now() - TimeDelta::days(30));
    assert_eq!(got.retention.count, 3);
    let now = decided_until(&store, "nightly");
    assert!(now > added && now <= Utc::now(), "{now}");
    let error = store.edit_schedule("nightly", |s| {
        s.storage = "x".into();
        Ok(())
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.schedule("nightly").unwrap().storage, "t");
}

#[test]
fn a_new_schedule_of_an_old_name_has_no_last_run() {
    let stand = stand();
    let store = stand.store.clone();
    store.add_schedule(&schedule("nightly")).unwrap();
    let job = store.run_schedule("nightly", SETTING).unwrap();
    store.remove_schedule("nightly").unwrap();
    assert_eq!(store.job(job.id).unwrap().schedule.as_deref(), Some("nightly"));
    while Utc::now().timestamp_millis() <= job.created_at.timestamp_millis() {
        std::thread::yield_now();
    }
    assert_eq!(store.add_schedule(&schedule("nightly")).unwrap().last, None);
}

#[test]
fn a_restore_pauses_the_schedules_of_its_target_as_long_as_it_lasts() {
    let stand = stand();
    let store = stand.store.clone();
    store.add_service(&ServiceSpec::at("b", "mongodb://127.0.0.1:1")).unwrap();
    store.add_schedule(&schedule("nightly")).unwrap();
    store.add_schedule(&Schedule { service: "b".into(), ..schedule("other") }).unwrap();
    let facts = CatalogueEntry { service: "b".into(), ..stores::entry("old", Timestamp::new(1, 1)) };
    store.import_backup("t", &facts).unwrap();
    let request: RestoreRequest = serde_json::from_value(serde_json::json!({"backup": "old", "to": "a"})).unwrap();
    let plan: RestorePlan = serde_json::from_value(serde_json::json!({
        "backup": "old", "from_service": "b", "to_service": "a", "consistent_at_ts": null, "target_version": "6.0.5",
        "target_fcv": "6.0", "namespaces": [], "dropped": [], "untouched": [], "left_out": [],
        "users_and_roles": false, "users_of": [], "warnings": [],
    }))
    .unwrap();
    let job = store.enqueue_restore(&request, &plan).unwrap();
    let paused = || -> Vec<_> { store.schedules().unwrap().into_iter().map(|s| (s.name, s.paused_by)).collect() };
    assert_eq!(paused(), [("nightly".into(), Some(job.id)), ("other".into(), None)]);
    // The daemon that runs it dies, and the next one finds and ends it.
    store.claim(9).unwrap().unwrap();
    assert_eq!(paused()[0].1, Some(job.id));
    store.finish(job.id, &Outcome::Failed(Error::new(ErrorKind::Denied, "its daemon died"))).unwrap();
    assert_eq!(paused()[0].1, None);
}
