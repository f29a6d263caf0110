//! What the form and the screen are told about coming runs: drafts, expected lengths, free slots.

use chrono::{DateTime, TimeDelta, Utc};
use mongokeep::client::{Client, Values};
use mongokeep::config::Home;
use mongokeep::domain::backup::{BackupType, Compression, Model};
use mongokeep::domain::service::EngineKind;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::error::ErrorKind;
use mongokeep::store::{Access, CatalogueEntry, Store};

fn values(pairs: &[(&str, &str)]) -> Values {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), vec![(*v).to_owned()])).collect()
}

struct Stand {
    _dir: tempfile::TempDir,
    home: Home,
    client: Client,
}

/// Services `a` and `b`, a storage, and `nightly` of `a` at 02:00 UTC. It is off: nothing here needs a daemon.
fn stand() -> Stand {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::below(dir.path());
    let client = Client::open(&home, false).unwrap();
    for name in ["a", "b"] {
        client.add_service(&values(&[("name", name), ("uri", "mongodb://127.0.0.1:1")])).unwrap();
    }
    client.add_storage(&values(&[("name", "t"), ("type", "filesystem"), ("path", "/nonexistent")])).unwrap();
    client
        .add_schedule(&values(&[
            ("name", "nightly"),
            ("service", "a"),
            ("storage", "t"),
            ("cron", "0 2 * * *"),
            ("timezone", "UTC"),
            ("disabled", "true"),
        ]))
        .unwrap();
    let stand = Stand { _dir: dir, home, client };
    // As the daemon sees it that is not there.
    stand.store().enable_schedule("nightly", true).unwrap();
    stand
}

impl Stand {
    fn store(&self) -> Store {
        Store::open(&self.home.store_file(), &self.home.key_file(), Access::Write).unwrap()
    }

    /// A good backup that took so many seconds, as long ago as there are others.
    fn made(&self, name: &str, service: &str, schedule: Option<&str>, seconds: i64) {
        let started_at = Utc::now() - TimeDelta::days(1);
        let facts = CatalogueEntry {
            name: name.into(),
            service: service.into(),
            cluster: None,
            folder: service.into(),
            schedule: schedule.map(str::to_owned),
            engine: EngineKind::Native,
            model: Model::Logical,
            backup_type: BackupType::Full,
            compression: Compression::None,
            consistent_at_ts: Timestamp::new(1, 1),
            size_bytes: 1,
            uncompressed_bytes: 1,
            documents: Some(1),
            new_bytes: None,
            locked_millis: None,
            pbm_name: None,
            chain: None,
            recipients: None,
            started_at,
            finished_at: started_at + TimeDelta::seconds(seconds),
            server_version: "6.0.5".into(),
            fcv: "6.0".into(),
            replica_set_id: "0123456789abcdef01234567".into(),
            whole: Some(true),
        };
        self.store().import_backup("t", &facts).unwrap();
    }

    /// The runs of one day: schedule, time of day, expected seconds, what they overlap.
    fn day(&self, draft: Option<&Values>) -> Vec<(String, String, Option<u64>, Vec<String>)> {
        let from: DateTime<Utc> = "2035-05-07T00:00:00Z".parse().unwrap();
        let timeline = self.client.timeline(from, from + TimeDelta::days(1), draft).unwrap();
        let told = timeline.runs.into_iter();
        told.map(|r| (r.schedule, r.at.format("%H:%M").to_string(), r.seconds, r.overlaps)).collect()
    }
}

#[test]
fn a_draft_counts_among_the_schedules_that_are_on() {
    let stand = stand();
    let nightly = |overlaps: &[&str]| {
        ("nightly".to_owned(), "02:00".to_owned(), None, overlaps.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(stand.day(None), [nightly(&[])]);
    // A form in which neither name nor storage is filled in yet.
    let draft = values(&[("name", ""), ("service", "a"), ("cron", "5 2 * * *"), ("timezone", "UTC")]);
    let day = stand.day(Some(&draft));
    assert_eq!(day[0], nightly(&["(new)"]));
    assert_eq!((day[1].1.as_str(), &day[1].3), ("02:05", &vec!["nightly".to_owned()]));
    let slot = stand.client.nearest_free_slot(&draft).unwrap().unwrap();
    assert_eq!((slot.cron.as_str(), slot.moved_minutes), ("10 2 * * *", 5));
    // Another service is not in the way.
    let other = values(&[("service", "b"), ("cron", "5 2 * * *"), ("timezone", "UTC")]);
    assert_eq!(stand.day(Some(&other))[0], nightly(&[]));
    assert_eq!(stand.client.nearest_free_slot(&other).unwrap().unwrap().moved_minutes, 0);
    // The draft of a schedule that is there stands in its place.
    let edited = values(&[("name", "nightly"), ("cron", "30 4 * * *")]);
    let day = stand.day(Some(&edited));
    assert_eq!((day.len(), day[0].1.as_str()), (1, "04:30"));
    // Nothing of a draft is kept.
    assert_eq!(stand.day(None), [nightly(&[])]);
    assert_eq!(stand.client.schedule("nightly").unwrap().cron, "0 2 * * *");
}

#[test]
fn a_draft_that_has_no_calendar_is_refused_by_its_field() {
    let stand = stand();
    let now = Utc::now();
    for (draft, field) in [
        (values(&[("service", "a")]), "cron"),
        (values(&[("cron", "@daily")]), "service"),
        (values(&[("service", "a"), ("cron", "0 0 30 2 *")]), "cron"),
        (values(&[("service", "a"), ("cron", "@daily"), ("timezone", "Mars")]), "timezone"),
        (values(&[("service", "a"), ("cron", "@daily"), ("start", "soon")]), "start"),
    ] {
        let error = stand.client.timeline(now, now + TimeDelta::days(1), Some(&draft)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.full().starts_with(field), "{error}");
    }
}

#[test]
fn the_length_of_a_run_is_expected_from_those_before() {
    let stand = stand();
    for (i, seconds) in [900, 30, 1200].into_iter().enumerate() {
        stand.made(&format!("other-{i}"), "a", None, seconds);
    }
    // It never ran: as long as the service's other backups.
    assert_eq!(stand.day(None)[0].2, Some(900));
    stand.made("nightly-1", "a", Some("nightly"), 7200);
    assert_eq!(stand.day(None)[0].2, Some(7200));
    // A backup of another service says nothing about this one, whatever schedule made it.
    stand.made("nightly-2", "b", Some("nightly"), 5);
    assert_eq!(stand.day(None)[0].2, Some(7200));
    // Two hours reach into a run at 03:55, and not into one at 04:00.
    for (cron, meets) in [("55 3 * * *", 1), ("0 4 * * *", 0)] {
        let draft = values(&[("service", "a"), ("cron", cron), ("timezone", "UTC")]);
        assert_eq!(stand.day(Some(&draft))[0].3.len(), meets, "{cron}");
    }
}
