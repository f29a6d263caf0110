//! What the store promises about recorded oplogs: slices are known once, what they cover follows from them, and a
//! moment is reached or refused with words that help.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use mongokeep::client::Client;
use mongokeep::domain::backup::{BackupType, Compression, Model};
use mongokeep::domain::job::{Job, JobKind, JobState};
use mongokeep::domain::notification::{Channel, Event, Notice};
use mongokeep::domain::pitr::{self, Archive, Coverage, Gap, Mark, MarkKind, OpTime, PointInTime, Slice, SlicerState};
use mongokeep::domain::restore::RestoreRequest;
use mongokeep::domain::retention::{Retention, RetentionPlan};
use mongokeep::domain::schedule::Schedule;
use mongokeep::domain::service::EngineKind;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::domain::warning::WarningKind;
use mongokeep::error::{Error, ErrorKind};
use mongokeep::store::{Access, CatalogueEntry, NeededBase, Outcome, Store};
use proptest::prelude::*;

use crate::support::schedule::daily;
use crate::support::stores::{self, OpenStore, SET};

struct Stand {
    _open: OpenStore,
    client: Client,
    store: Store,
}

/// A store with services `a` and `b` and storages `t` and `u`.
fn stand() -> Stand {
    let open = stores::open(&["a", "b"], &["t", "u"]);
    Stand { client: Client::open(&open.home, false).unwrap(), store: open.store.clone(), _open: open }
}

fn archive(storage: &str) -> Archive {
    Archive { storage: storage.into(), folder: "prod".into(), replica_set: "rs0".into(), replica_set_id: SET.into() }
}

fn at(t: u32) -> OpTime {
    OpTime { ts: Timestamp::new(t, 1), term: 1 }
}

/// One with an operation in each of its seconds.
fn slice(after: u32, last: u32) -> Slice {
    Slice {
        key: format!("prod/oplog/rs0-{SET}/{:010}-0000000001_{last:010}-0000000001.bson.zst", after + 1),
        after: at(after),
        last: at(last),
        entries: 2 * u64::from(last - after),
        operations: u64::from(last - after),
        size: 100,
        uncompressed: 300,
        data_offset: 40,
        blake3: "ab".into(),
        recipients: Vec::new(),
        written_at: DateTime::from_timestamp_millis(1_790_000_000_123).unwrap(),
        gap: None,
        marks: Vec::new(),
        counts: (after + 1..=last).map(|t| (t, 1)).collect(),
    }
}

fn gap(from: u32, to: u32) -> Gap {
    Gap { from_ts: at(from).ts, to_ts: at(to).ts, reason: "the oplog rolled over".into() }
}

fn facts(name: &str, t: u32) -> CatalogueEntry {
    stores::entry(name, at(t).ts)
}

fn base(store: &Store, name: &str, t: u32) {
    store.import_backup("t", &facts(name, t)).unwrap();
}

fn schedule(name: &str, service: &str) -> Schedule {
    Schedule { backup_type: BackupType::Pitr, ..daily(name, service) }
}

fn moment(when: &str) -> PointInTime {
    PointInTime { service: "a".into(), when: when.parse().unwrap(), base: None }
}

#[test]
fn a_slice_comes_back_as_it_went_in_and_is_known_once() {
    let Stand { store, _open, .. } = stand();
    let mark = Mark { ts: at(25).ts, kind: MarkKind::RestoreBegan, text: "b1".into() };
    let wanted = Slice { gap: Some(gap(10, 20)), marks: vec![mark.clone()], ..slice(20, 30) };
    assert!(store.add_slice("a", &archive("t"), &wanted).unwrap());
    assert!(!store.add_slice("a", &archive("t"), &Slice { size: 7, ..wanted.clone() }).unwrap());
    // The same key of another storage is another object, and one archive may be known for several services.
    assert!(store.add_slice("a", &archive("u"), &slice(20, 30)).unwrap());
    assert!(store.add_slice("b", &archive("t"), &wanted).unwrap());

    assert_eq!(store.newest_slice("a", &archive("t")).unwrap(), Some(wanted.clone()));
    let without_counts = Slice { counts: Vec::new(), ..wanted.clone() };
    assert_eq!(store.slices("a", &archive("t"), Timestamp::MIN, Timestamp::MAX).unwrap(), [without_counts]);
    assert_eq!(store.archives("a").unwrap(), [archive("t"), archive("u")]);
    let row = &store.archive_rows("a").unwrap()[0];
    assert_eq!((row.slices, row.size_bytes), (1, 100));
    assert_eq!((&row.gaps, &row.marks), (&vec![gap(10, 20)], &vec![mark]));
    assert_eq!(store.services_with_slices().unwrap(), ["a", "b"]);
    assert_eq!(store.newest_slice("c", &archive("t")).unwrap(), None);
    let elsewhere = Archive { storage: "gone".into(), ..archive("t") };
    assert_eq!(store.add_slice("a", &elsewhere, &wanted).unwrap_err().kind(), ErrorKind::NotFound);

    // Gone from one storage, for every service; an archive without slices is none.
    let keys = store.slice_keys("t", &format!("prod/oplog/rs0-{SET}"), None, 9).unwrap();
    assert_eq!(keys, [wanted.key.as_str()]);
    store.forget_slices("t", &keys).unwrap();
    assert_eq!(store.archives("a").unwrap(), [archive("u")]);
    assert_eq!(store.archives("b").unwrap(), []);
    store.remove_storage("u").unwrap();
    assert_eq!(store.archives("a").unwrap(), []);
}

#[test]
fn slices_are_found_by_what_they_hold() {
    let Stand { store, _open, .. } = stand();
    store.add_slices("a", &archive("t"), &[slice(10, 20), slice(20, 30), slice(30, 40), slice(12, 38)]).unwrap();
    let found = |from: (u32, u32), to: (u32, u32)| {
        let slices =
            store.slices("a", &archive("t"), Timestamp::new(from.0, from.1), Timestamp::new(to.0, to.1)).unwrap();
        slices.iter().map(|s| (s.after.ts.t, s.last.ts.t)).collect::<Vec<_>>()
    };
    assert_eq!(found((25, 0), (26, 0)), [(12, 38), (20, 30)]);
    assert_eq!(
        found((30, 1), (30, 1)),
        [(12, 38), (20, 30)],
        "the last position belongs to a slice, the one after it not"
    );
    assert_eq!(found((30, 1), (30, 2)), [(12, 38), (20, 30), (30, 40)]);
    assert_eq!(found((39, 0), (u32::MAX, u32::MAX)), [(30, 40)]);
    assert_eq!(found((41, 0), (u32::MAX, u32::MAX)), []);
}

#[test]
fn bases_are_whole_backups_of_the_replica_set_each_of_its_model() {
    let Stand { store, _open, .. } = stand();
    base(&store, "late", 30);
    base(&store, "early", 10);
    for other in [
        CatalogueEntry { whole: Some(false), ..facts("part", 20) },
        CatalogueEntry { model: Model::Physical, ..facts("files", 21) },
        CatalogueEntry { engine: EngineKind::Pbm, ..facts("pbm", 22) },
        CatalogueEntry { service: "b".into(), ..facts("other", 23) },
        CatalogueEntry { replica_set_id: "f".repeat(24), ..facts("rebuilt", 24) },
    ] {
        store.import_backup("t", &other).unwrap();
    }
    let names = |set| store.bases("a", set).unwrap().into_iter().map(|b| b.backup).collect::<Vec<_>>();
    assert_eq!(names(Some(SET)), ["early", "files", "late"]);
    let models: Vec<Model> = store.bases("a", Some(SET)).unwrap().into_iter().map(|b| b.model).collect();
    assert_eq!(models, [Model::Logical, Model::Physical, Model::Logical]);
    assert_eq!(names(None), ["early", "files", "rebuilt", "late"]);
    store.backup_missing("early", "gone").unwrap();
    assert_eq!(names(Some(SET)), ["files", "late"]);
}

/// What the slicer of `service` does now and then.
fn ask(store: &Store, service: &str, now: DateTime<Utc>) -> NeededBase {
    store.queue_needed_base(service, SET, Compression::Gzip(3), now).unwrap()
}

/// A slice after a gap, as the slicer of a service notes it.
fn gap_before(store: &Store, service: &str, t: u32) {
    let reason = "the oplog rolled over".to_owned();
    let gap = Gap { from_ts: at(t - 10).ts, to_ts: at(t).ts, reason };
    let slice = Slice { gap: Some(gap), ..slice(t, t + 10) };
    assert!(store.slice_recorded(service, &archive("t"), &slice).unwrap());
    assert!(!store.slice_recorded(service, &archive("t"), &slice).unwrap());
}

#[test]
fn a_base_is_queued_once_and_only_while_a_schedule_is_on() {
    let Stand { store, _open, .. } = stand();
    let now = Utc::now();
    assert_eq!(ask(&store, "a", now), NeededBase::Met);
    gap_before(&store, "a", 100);
    gap_before(&store, "b", 100);
    assert_eq!(store.base_needed("a").unwrap(), Some(at(100).ts));
    assert_eq!(ask(&store, "a", now), NeededBase::Waits);
    assert_eq!(store.slicing_wanted().unwrap(), []);
    store.add_schedule(&Schedule { backup_type: BackupType::Full, ..schedule("whole", "a") }).unwrap();
    store.add_schedule(&Schedule { enabled: false, ..schedule("off", "a") }).unwrap();
    assert_eq!(ask(&store, "a", now), NeededBase::Waits);
    store.add_schedule(&schedule("first", "a")).unwrap();
    let second = store.add_schedule(&schedule("second", "a")).unwrap_err();
    assert!(second.kind() == ErrorKind::Conflict && second.full().contains("schedule first already"), "{second}");
    store.add_schedule(&schedule("other", "b")).unwrap();
    let wanted = store.slicing_wanted().unwrap();
    let wanted: Vec<_> = wanted.iter().map(|w| (&*w.service, &*w.storage, &*w.folder, &*w.schedule)).collect();
    assert_eq!(wanted, [("a", "t", "prod", "first"), ("b", "t", "prod", "other")]);
    let NeededBase::Queued(job) = ask(&store, "a", now) else { panic!("nothing is queued") };
    assert_eq!((job.state, job.schedule.as_deref()), (JobState::Queued, Some("first")));
    assert_eq!(store.backup(job.backup.as_deref().unwrap()).unwrap().backup_type, BackupType::Pitr);
    assert_eq!(ask(&store, "a", now), NeededBase::Waits);
    assert!(matches!(ask(&store, "b", now), NeededBase::Queued(_)));
}

#[test]
fn a_base_after_a_gap_is_asked_for_until_there_is_one() {
    let Stand { store, client, _open } = stand();
    store.add_schedule(&schedule("line", "a")).unwrap();
    base(&store, "before", 50);
    let fails = |job: i64| {
        while store.claim(9).unwrap().expect("the run").job.id != job {}
        store.finish(job, &Outcome::Failed(Error::new(ErrorKind::Failed, "no route"))).unwrap();
    };
    // A run was on its way when the gap was found; it fails.
    let run = store.run_schedule("line", Compression::None).unwrap();
    gap_before(&store, "a", 100);
    let mut now = Utc::now();
    assert_eq!(ask(&store, "a", now), NeededBase::Waits);
    fails(run.id);
    // One is asked for at once. Every one fails: less and less is asked.
    for minutes in [5, 10, 20] {
        let NeededBase::Queued(job) = ask(&store, "a", now) else { panic!("nothing is queued") };
        fails(job.id);
        assert_eq!(ask(&store, "a", now), NeededBase::Waits);
        assert_eq!(ask(&store, "a", now + TimeDelta::minutes(minutes) - TimeDelta::seconds(5)), NeededBase::Waits);
        // The run that failed took its time.
        now += TimeDelta::minutes(minutes) + TimeDelta::seconds(60);
    }
    // Another gap is no reason to ask sooner.
    let NeededBase::Queued(job) = ask(&store, "a", now) else { panic!("nothing is queued") };
    gap_before(&store, "a", 200);
    let facts = |t| CatalogueEntry { name: job.backup.clone().unwrap(), backup_type: BackupType::Pitr, ..facts("", t) };
    while store.claim(9).unwrap().expect("the run").job.id != job.id {}
    store.finish(job.id, &Outcome::Succeeded(Some(Box::new(facts(150))))).unwrap();
    assert_eq!(ask(&store, "a", now), NeededBase::Waits, "it lies before the second gap");
    assert_eq!(store.base_needed("a").unwrap(), Some(at(200).ts));
    let warned = client.warnings().unwrap().into_iter().find(|w| w.kind == WarningKind::PitrGap).unwrap();
    assert!(warned.text.contains("the oplog rolled over") && warned.service.as_deref() == Some("a"), "{warned:?}");
    // A base made by hand is as good as any.
    base(&store, "by-hand", 205);
    assert_eq!(ask(&store, "a", now), NeededBase::Met);
    assert_eq!(store.base_needed("a").unwrap(), None);
    assert!(client.warnings().unwrap().iter().all(|w| w.kind != WarningKind::PitrGap));
    let told = told(&store);
    let gaps: Vec<_> = told.iter().filter(|n| n.event == Event::PitrGap).map(|n| n.over).collect();
    assert_eq!(gaps, [false, false, true], "each gap once, and the end: {told:?}");
    assert!(told.last().unwrap().text.contains("base by-hand was made after the gap"), "{told:?}");
}

/// What was recorded is gone, and no change was missed since.
/// The oplog rolled over before anything was stored after a base: what is missing is a gap like any other, and a base is made.
#[test]
fn what_is_missing_right_after_a_base_is_a_gap_and_needs_a_base() {
    let Stand { store, client, _open } = stand();
    store.add_schedule(&schedule("line", "a")).unwrap();
    base(&store, "old", 100);
    assert_eq!(store.newest_bases("a").unwrap(), [(Some(SET.to_owned()), at(100).ts)]);
    assert_eq!(ask(&store, "a", Utc::now()), NeededBase::Met);
    let first = Slice { gap: Some(gap(100, 300)), ..slice(300, 310) };
    assert!(store.slice_recorded("a", &archive("t"), &first).unwrap());
    let status = client.pitr_status(Some("a")).unwrap().remove(0);
    let gaps: Vec<_> = status.gaps.iter().map(|g| (g.from_ts, g.to_ts, g.reason.clone())).collect();
    assert_eq!(gaps, [(at(100).ts, at(300).ts, "the oplog rolled over".to_owned())]);
    assert!(status.ranges.is_empty(), "{:?}", status.ranges);
    let error = client.resolve_moment(&moment("latest"), Model::Logical).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(matches!(ask(&store, "a", Utc::now()), NeededBase::Queued(_)));
    let text = told(&store).into_iter().map(|notice| notice.text).collect::<Vec<_>>().join("; ");
    assert!(text.contains("can be restored") && text.contains("the oplog rolled over"), "{text}");
    // Nobody misses what led to a base that is gone.
    store.backup_missing("old", "it is no longer in the storage").unwrap();
    assert!(client.pitr_status(Some("a")).unwrap()[0].gaps.is_empty());
}

/// A service that was edited to be another replica set: nothing that was recorded or backed up before leads anywhere there.
#[test]
fn another_replica_set_needs_a_base_of_its_own() {
    let Stand { store, _open, .. } = stand();
    store.add_schedule(&schedule("line", "a")).unwrap();
    // Nothing of any other is known: the first base comes by the calendar.
    assert!(!store.other_set("a", SET, at(50).ts).unwrap());
    assert_eq!(ask(&store, "a", Utc::now()), NeededBase::Met);
    base(&store, "old", 100);
    assert!(!store.other_set("a", SET, at(150).ts).unwrap(), "it is the same");
    let other = "ffffffffffffffffffffffff";
    assert!(store.other_set("a", other, at(150).ts).unwrap());
    assert_eq!(store.base_needed("a").unwrap(), Some(at(150).ts));
    let asked = store.queue_needed_base("a", other, Compression::None, Utc::now()).unwrap();
    assert!(matches!(asked, NeededBase::Queued(_)), "{asked:?}");
    store.import_backup("t", &CatalogueEntry { replica_set_id: other.into(), ..facts("new", 160) }).unwrap();
    assert!(!store.other_set("a", other, at(170).ts).unwrap(), "it has one");
    assert_eq!(store.queue_needed_base("a", other, Compression::None, Utc::now()).unwrap(), NeededBase::Met);
}

#[test]
fn slices_that_are_gone_are_told_without_a_stretch_of_no_length() {
    let Stand { store, _open, .. } = stand();
    let reason = "slices are no longer in the storage".to_owned();
    let gap = Gap { from_ts: at(100).ts, to_ts: at(100).ts, reason };
    assert!(store.slice_recorded("a", &archive("t"), &Slice { gap: Some(gap), ..slice(100, 110) }).unwrap());
    let texts: Vec<_> = told(&store).into_iter().map(|n| n.text).collect();
    assert_eq!(texts, ["a: moments before 1970-01-01 00:01:40 UTC may be lost: slices are no longer in the storage"]);
    assert_eq!(store.base_needed("a").unwrap(), Some(at(100).ts));
}

/// Slices that a sync does not find are a gap as any other, where they are missed.
#[test]
fn slices_that_a_sync_does_not_find_are_told_and_need_a_base() {
    let Stand { store, _open, .. } = stand();
    let slices: Vec<Slice> = (0..5).map(|n| slice(100 + 10 * n, 110 + 10 * n)).collect();
    let overlapping = slice(105, 125);
    store.add_slices("a", &archive("t"), &slices).unwrap();
    store.add_slices("a", &archive("t"), std::slice::from_ref(&overlapping)).unwrap();
    let forget = |slices: &[Slice]| {
        let keys: Vec<String> = slices.iter().map(|s| s.key.clone()).collect();
        store.forget_slices("t", &keys).unwrap();
    };
    forget(&slices[..1]);
    assert_eq!(told(&store), [], "nobody records it");
    store.add_schedule(&schedule("line", "a")).unwrap();
    forget(&slices[1..2]);
    assert_eq!((told(&store), store.base_needed("a").unwrap()), (vec![], None), "the other one holds it too");
    forget(&slices[3..4]);
    let texts: Vec<_> = told(&store).into_iter().map(|n| n.text).collect();
    assert_eq!(
        texts,
        [
            "a: no moment from 1970-01-01 00:02:10 UTC to 1970-01-01 00:02:20 UTC can be restored: slices that were recorded \
          are no longer in storage t"
        ]
    );
    assert_eq!(store.base_needed("a").unwrap(), Some(at(140).ts));
    assert!(matches!(ask(&store, "a", Utc::now()), NeededBase::Queued(_)));
    // What retention deletes is missed by nobody.
    base(&store, "late", 145);
    assert!(matches!(ask(&store, "a", Utc::now()), NeededBase::Met));
    told(&store);
    store.remove_schedule("line").unwrap();
    let none = BTreeSet::new();
    let going = store.slices_going("a", 100, &[], &none).unwrap().unwrap().keys;
    assert_eq!(going.len(), 2);
    store.add_schedule(&schedule("line", "a")).unwrap();
    store.forget_slices("t", &going).unwrap();
    assert_eq!((told(&store), store.base_needed("a").unwrap()), (vec![], None));
}

/// What somebody is told, in order; nothing waits any more afterwards.
fn told(store: &Store) -> Vec<Notice> {
    let mut out = Vec::new();
    while let Some(pending) = store.outbox_next(Channel::Command).unwrap() {
        out.extend(Notice::of(pending.id, pending.at, "h", pending.facts));
        store.outbox_done(pending.id, Channel::Command).unwrap();
    }
    out
}

#[test]
fn what_follows_a_restore_needs_a_base_too() {
    let Stand { store, _open, .. } = stand();
    store.add_schedule(&schedule("line", "a")).unwrap();
    let mark = |t, kind| Mark { ts: at(t).ts, kind, text: "b".into() };
    let restored = vec![mark(101, MarkKind::RestoreBegan), mark(105, MarkKind::RestoreEnded)];
    store.slice_recorded("a", &archive("t"), &Slice { marks: restored, ..slice(100, 110) }).unwrap();
    assert_eq!(store.base_needed("a").unwrap(), Some(at(105).ts));
    assert!(matches!(ask(&store, "a", Utc::now()), NeededBase::Queued(_)));
    assert_eq!(told(&store), [], "it is nothing that is wrong");
}

#[test]
fn a_slicer_says_how_it_does() {
    let Stand { store, client, _open } = stand();
    assert_eq!(store.slicer_state("a").unwrap(), None);
    let state = SlicerState {
        running: true,
        stored: Some(at(5).ts),
        error: Some("no \u{1b}[2J".into()),
        hint: None,
        held: true,
        at: DateTime::from_timestamp_millis(5000).unwrap(),
    };
    store.set_slicer_state("a", &state).unwrap();
    let kept = store.slicer_state("a").unwrap().unwrap();
    assert_eq!(kept, SlicerState { error: Some("no \\u{1b}[2J".into()), ..state });
    assert_eq!(store.slicers_running().unwrap(), 1);
    // Written only when something changed.
    let version = store.data_version().unwrap();
    store.set_slicer_state("a", &SlicerState { at: Utc::now(), ..kept.clone() }).unwrap();
    assert_eq!(store.data_version().unwrap(), version);
    store.set_slicer_state("a", &SlicerState { error: None, ..kept }).unwrap();
    assert_ne!(store.data_version().unwrap(), version);
    // No daemon runs, so no slicer does, whatever the last one left behind.
    assert!(!client.pitr_status(Some("a")).unwrap()[0].running);
    store.slicers_stopped().unwrap();
    assert_eq!(store.slicers_running().unwrap(), 0);
}

#[test]
fn the_status_tells_what_can_be_recovered() {
    let Stand { store, client, _open } = stand();
    assert_eq!(client.pitr_status(None).unwrap(), []);
    assert_eq!(client.pitr_status(Some("x")).unwrap_err().kind(), ErrorKind::NotFound);
    let unknown = &client.pitr_status(Some("b")).unwrap()[0];
    assert_eq!((unknown.ranges.len(), &unknown.archive, unknown.lag_seconds), (0, &None, None));

    store.add_schedule(&schedule("pitr", "a")).unwrap();
    let fresh = &client.pitr_status(None).unwrap()[0];
    assert!(fresh.error.as_ref().unwrap().contains("no daemon runs"), "{fresh:?}");
    let now = u32::try_from(Utc::now().timestamp()).unwrap();
    let (a, b) = (now - 1000, now - 600);
    let slices = [
        slice(a, a + 100),
        slice(a + 100, a + 200),
        Slice { gap: Some(gap(a + 200, b)), ..slice(b, b + 50) },
        // What another daemon covered is no gap.
        Slice { gap: Some(gap(a + 10, a + 20)), ..slice(a + 20, a + 30) },
    ];
    store.add_slices("a", &archive("t"), &slices).unwrap();
    for (name, t) in [("early", a - 5), ("one", a + 10), ("two", a + 150), ("missed", a + 300)] {
        base(&store, name, t);
    }
    let status = &client.pitr_status(None).unwrap()[0];
    let ranges: Vec<_> = status.ranges.iter().map(|r| (r.from_ts.t, r.to_ts.t, r.to.timestamp())).collect();
    assert_eq!(ranges, [(a + 10, a + 200, i64::from(a) + 199)]);
    assert_eq!(status.gaps.iter().map(|g| (g.from_ts.t, g.to_ts.t)).collect::<Vec<_>>(), [(a + 200, b)]);
    assert_eq!(status.gaps[0].reason, "the oplog rolled over");
    assert_eq!(status.bases.iter().map(|b| &*b.backup).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!((status.slices, status.size_bytes), (4, 400));
    assert_eq!((&status.archive, &status.schedules), (&Some(archive("t")), &vec!["pitr".to_owned()]));
    let lag = status.lag_seconds.unwrap();
    let most = u64::try_from(Utc::now().timestamp()).unwrap() - u64::from(b + 50);
    assert!((550..=most).contains(&lag), "{lag}");

    // A base whose changes are still on their way.
    assert_eq!(status.waiting_base, None);
    base(&store, "fresh", b + 57);
    let waiting = client.pitr_status(None).unwrap().remove(0).waiting_base.unwrap();
    assert_eq!((&*waiting.backup, waiting.consistent_at_ts), ("fresh", at(b + 57).ts));
    let newer = slice(b + 50, b + 60);
    store.add_slice("a", &archive("t"), &newer).unwrap();
    base(&store, "three", b + 55);
    let status = client.pitr_status(None).unwrap().remove(0);
    assert_eq!((status.ranges.len(), status.waiting_base), (2, None));
    // A slice that is lost from the middle is a gap that nobody told of.
    store.forget_slices("t", &[slices[1].key.clone()]).unwrap();
    let gaps = &client.pitr_status(None).unwrap()[0].gaps;
    assert_eq!((gaps[0].from_ts.t, gaps[0].to_ts.t), (a + 100, b));
}

#[test]
fn a_moment_is_reached_from_the_newest_base_before_it() {
    let Stand { store, client, _open } = stand();
    let none = client.resolve_moment(&moment("latest"), Model::Logical).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
    assert!(none.hint_text().unwrap().contains("--type pitr"), "{none}");
    store
        .add_slices(
            "a",
            &archive("t"),
            &[slice(100, 200), slice(200, 300), slice(300, 400), Slice { gap: Some(gap(400, 500)), ..slice(500, 600) }],
        )
        .unwrap();
    let error = client.resolve_moment(&moment("latest"), Model::Logical).unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.full().contains("no base yet"), "{error}");
    for (name, t) in [("one", 110), ("two", 250), ("three", 510)] {
        base(&store, name, t);
    }
    let reached = |when: &str, base: Option<&str>| {
        let moment = PointInTime { base: base.map(str::to_owned), ..moment(when) };
        client.resolve_moment(&moment, Model::Logical).map(|m| {
            let slices: Vec<_> = m.slices.iter().map(|s| (s.after.ts.t, s.last.ts.t)).collect();
            (m.base.backup, m.until.t, slices)
        })
    };
    let way = |base: &str, until, slices: &[(u32, u32)]| (base.to_owned(), until, slices.to_vec());
    assert_eq!(reached("latest", None).unwrap(), way("three", 600, &[(500, 600)]));
    assert_eq!(reached("350,1", None).unwrap(), way("two", 350, &[(200, 300), (300, 400)]));
    assert_eq!(reached("249,1", None).unwrap(), way("one", 249, &[(100, 200), (200, 300)]));
    assert_eq!(reached("250,1", None).unwrap(), way("two", 250, &[]));
    assert_eq!(reached("1970-01-01T00:04:10Z", None).unwrap(), way("two", 250, &[(200, 300)]));
    assert_eq!(reached("300,1", Some("one")).unwrap(), way("one", 300, &[(100, 200), (200, 300)]));
    assert_eq!(reached("latest", Some("one")).unwrap().1, 400);

    for (when, base, words) in [
        ("450,1", None, ["rolled over", "(position 400,1)", "(position 510,1)", "00:06:39Z"]),
        ("505,1", None, ["cannot be restored to 505,1", "before it is 1970-01-01T00:06:39Z", "00:08:30Z", ""]),
        ("700,1", None, ["nothing so late", "(position 600,1)", "00:09:59Z", ""]),
        ("1970-01-01T00:10:00Z", None, ["nothing so late", "(position 600,1)", "", ""]),
        ("50,1", None, ["no base is so old", "(position 110,1)", "", ""]),
        ("550,1", Some("one"), ["from base one", "(position 400,1)", "", ""]),
        ("120,1", Some("two"), ["from base two", "(position 250,1)", "", ""]),
    ] {
        let error = reached(when, base).unwrap_err();
        assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::NotFound, 3), "{error}");
        assert!(words.iter().all(|word| error.full().contains(word)), "{error}");
    }
    store.import_backup("t", &CatalogueEntry { whole: Some(false), ..facts("part", 120) }).unwrap();
    store.import_backup("t", &CatalogueEntry { service: "b".into(), ..facts("foreign", 120) }).unwrap();
    for (base, kind) in [("part", ErrorKind::Invalid), ("foreign", ErrorKind::Invalid), ("x", ErrorKind::NotFound)] {
        assert_eq!(reached("150,1", Some(base)).unwrap_err().kind(), kind, "{base}");
    }
    assert_eq!(
        client
            .resolve_moment(&PointInTime { service: "x".into(), ..moment("latest") }, Model::Logical)
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever comes in and goes out, in whatever order: what is kept beside the slices is what follows from them.
    #[test]
    fn what_is_kept_follows_from_the_slices(
        cuts in proptest::collection::vec((100u32..200, 1u32..30), 1..14),
        gone in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        (from, length, buckets) in (90u32..220, 1u32..120, 1usize..9),
    ) {
        let Stand { store, client, _open } = stand();
        let mut slices: Vec<Slice> = Vec::new();
        for (after, length) in cuts {
            let slice = slice(after, after + length);
            prop_assert_eq!(store.add_slice("a", &archive("t"), &slice).unwrap(), !slices.contains(&slice));
            if !slices.contains(&slice) {
                slices.push(slice);
            }
        }
        for index in gone {
            if slices.len() > 1 {
                let slice = slices.remove(index.index(slices.len()));
                store.forget_slices("t", &[slice.key]).unwrap();
            }
        }
        let wanted: Vec<Coverage> = pitr::coverage(&slices);
        let row = store.archive_rows("a").unwrap().remove(0);
        prop_assert_eq!(&row.covered, &wanted);
        prop_assert_eq!((row.slices, row.size_bytes), (slices.len() as u64, 100 * slices.len() as u64));
        let newest = slices.iter().map(|s| s.last).max();
        prop_assert_eq!(store.newest_slice("a", &archive("t")).unwrap().map(|s| s.last), newest);
        // An operation in every second that is covered, once.
        let to = from + length;
        let mut sums = vec![0; buckets];
        for second in (from..to).filter(|t| wanted.iter().any(|c| c.after.ts.t < *t && *t <= c.last.ts.t)) {
            sums[(u64::from(second - from) * buckets as u64 / u64::from(length)) as usize] += 1;
        }
        prop_assert_eq!(client.pitr_operations("a", from, to, buckets).unwrap(), sums);
    }
}

#[test]
fn the_time_of_a_backup_that_is_made_here_is_known_too() {
    // The row of a backup is filled by the manifest, in the transaction that ends its job.
    let Stand { store, _open, .. } = stand();
    store.add_schedule(&schedule("pitr", "a")).unwrap();
    let job = store.run_schedule("pitr", Compression::None).unwrap();
    assert_eq!(store.bases("a", None).unwrap(), []);
    let claimed = store.claim(1).unwrap().unwrap();
    assert_eq!(claimed.job.id, job.id);
    let facts = CatalogueEntry { name: job.backup.unwrap(), backup_type: BackupType::Pitr, ..facts("", 77) };
    store.finish(job.id, &Outcome::Succeeded(Some(Box::new(facts)))).unwrap();
    assert_eq!(store.bases("a", Some(SET)).unwrap()[0].consistent_at_ts, at(77).ts);
    assert_eq!(store.bases("a", Some("x")).unwrap(), []);
}

/// Makes a base of `schedule` that is consistent at `t`.
fn made(store: &Store, schedule: &str, t: u32) -> String {
    let job = store.run_schedule(schedule, Compression::None).unwrap();
    finish(store, Box::new(job), schedule, t)
}

fn finish(store: &Store, job: Box<Job>, schedule: &str, t: u32) -> String {
    // Retention jobs of the bases before it may stand in front of it.
    while store.claim(9).unwrap().expect("the run").job.id != job.id {}
    let name = job.backup.unwrap();
    let facts = CatalogueEntry {
        name: name.clone(),
        schedule: Some(schedule.to_owned()),
        backup_type: BackupType::Pitr,
        ..facts("", t)
    };
    store.finish(job.id, &Outcome::Succeeded(Some(Box::new(facts)))).unwrap();
    name
}

/// Where the slices end that would be chosen: asked of a copy, because to be asked for is to be on the way out.
fn going(open: &OpenStore) -> Vec<u32> {
    let (home, copy) = (&open.home, tempfile::tempdir().unwrap());
    let file = copy.path().join("store");
    let original = rusqlite::Connection::open(home.store_file()).unwrap();
    original.execute("VACUUM INTO ?1", [file.to_str().unwrap()]).unwrap();
    ends(&Store::open(&file, &home.key_file(), Access::Write).unwrap())
}

fn ends(store: &Store) -> Vec<u32> {
    let none = BTreeSet::new();
    let keys = store.slices_going("a", 100, &[], &none).unwrap().map(|g| g.keys).unwrap_or_default();
    keys.iter().map(|key| key.rsplit('_').next().unwrap()[..10].parse().unwrap()).collect()
}

/// What is being deleted is counted on by nobody, whatever becomes of it.
#[test]
fn what_goes_is_not_planned_with() {
    let Stand { store, client, _open } = stand();
    let one = Retention { count: 1, ..Retention::default() };
    store.add_schedule(&Schedule { retention: one, ..schedule("line", "a") }).unwrap();
    let slices: Vec<Slice> = (0..4).map(|n| slice(100 + 10 * n, 110 + 10 * n)).collect();
    store.add_slices("a", &archive("t"), &slices).unwrap();
    base(&store, "by-hand", 105);
    let early = || client.resolve_moment(&moment("108,1"), Model::Logical).map(|replay| replay.base.backup);
    made(&store, "line", 125);
    assert_eq!(early().unwrap(), "by-hand");
    assert_eq!(ends(&store), [110, 120]);
    let refused = early().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    assert_eq!(store.archive_rows("a").unwrap()[0].covered, [Coverage { after: at(120), last: at(140) }]);
    assert_eq!(store.slices("a", &archive("t"), at(100).ts, at(140).ts).unwrap().len(), 2);
    assert_eq!(store.operations("a", &archive("t"), 100, 120, 1).unwrap(), [0]);
    // They stay chosen, and counted as what goes, until they are gone.
    assert_eq!(ends(&store), [110, 120]);
    assert_eq!(store.retention_plan("line").unwrap().oplog.unwrap().slices, 2);
    store.forget_slices("t", &[slices[1].key.clone()]).unwrap();
    assert_eq!(ends(&store), [110]);
    store.slices_left_alone("t", &[slices[0].key.clone()]).unwrap();
    assert_eq!(ends(&store), [0_u32; 0]);
    assert_eq!(early().unwrap(), "by-hand", "another home's stays, and is of use to this one, too");
}

#[test]
fn the_window_of_a_schedule_begins_at_the_oldest_base_it_keeps() {
    let Stand { store, client: _, _open: dir } = stand();
    let two = Retention { count: 2, ..Retention::default() };
    store.add_schedule(&Schedule { retention: two, ..schedule("line", "a") }).unwrap();
    let slices: Vec<Slice> = (0..8).map(|n| slice(100 + 10 * n, 110 + 10 * n)).collect();
    store.add_slices("a", &archive("t"), &slices).unwrap();
    assert_eq!(going(&dir), [0_u32; 0], "there is no base, which may be on its way");
    base(&store, "by-hand", 115);
    let first = made(&store, "line", 125);
    // Fewer bases than it is to keep: the oldest of any kind counts.
    assert_eq!(going(&dir), [110]);
    let oplog = store.retention_plan("line").unwrap().oplog.unwrap();
    assert_eq!((oplog.slices, oplog.size_bytes, oplog.from_ts), (1, 100, Some(at(115).ts)));
    made(&store, "line", 140);
    assert_eq!(going(&dir), [110, 120]);
    store.pin_backup("by-hand", true).unwrap();
    assert_eq!(going(&dir), [110, 120], "what is pinned does not prolong the window");
    made(&store, "line", 155);
    assert_eq!(going(&dir), [110, 120, 130, 140]);
    // A schedule that is off keeps its window; a longer memory of another one wins.
    store.enable_schedule("line", false).unwrap();
    assert_eq!(going(&dir).len(), 4);
    store.add_schedule(&Schedule { enabled: false, ..schedule("all", "a") }).unwrap();
    assert_eq!(going(&dir), [0_u32; 0]);
    assert_eq!(store.retention_plan("all").unwrap().oplog.unwrap().from_ts, None);
    store.remove_schedule("all").unwrap();
    // A restore that waits for its turn keeps what it is going to read.
    let request: RestoreRequest = serde_json::from_value(serde_json::json!({"backup": first, "to": "b"})).unwrap();
    let plan = serde_json::from_value(serde_json::json!({
        "backup": first, "from_service": "a", "to_service": "b", "consistent_at_ts": at(125).ts, "target_version": "6",
        "target_fcv": "6", "namespaces": [], "dropped": [], "untouched": [], "left_out": [], "users_and_roles": false,
        "users_of": [], "warnings": [],
    }));
    let job = store.enqueue_restore(&request, &plan.unwrap()).unwrap();
    assert_eq!(going(&dir), [110, 120]);
    store.cancel_job(job.id).unwrap();
    // What turned out to be another home's is not asked for again.
    store.slices_left_alone("t", &[slices[0].key.clone()]).unwrap();
    assert_eq!(going(&dir), [120, 130, 140]);
    // Without a schedule: what no base leads to.
    store.remove_schedule("line").unwrap();
    assert_eq!(going(&dir), [0_u32; 0]);
    for backup in store.backups().unwrap() {
        store.backup_missing(&backup.name, "gone").unwrap();
    }
    assert_eq!(going(&dir).len(), 7);
}

/// The base that a restore asks for takes no run's place, so that what was before can still be restored.
#[test]
fn a_base_that_a_restore_asked_for_does_not_shorten_the_window() {
    let Stand { store, client: _, _open: dir } = stand();
    let one = Retention { count: 1, ..Retention::default() };
    store.add_schedule(&Schedule { retention: one, ..schedule("line", "a") }).unwrap();
    store.add_slices("a", &archive("t"), &[slice(100, 110), slice(110, 120), slice(120, 130)]).unwrap();
    let first = made(&store, "line", 105);
    let mark = Mark { ts: at(131).ts, kind: MarkKind::RestoreEnded, text: "first".into() };
    let restored = Slice { marks: vec![mark], ..slice(130, 140) };
    assert!(store.slice_recorded("a", &archive("t"), &restored).unwrap());
    let NeededBase::Queued(job) = ask(&store, "a", Utc::now()) else { panic!("nothing is queued") };
    let second = finish(&store, job, "line", 135);
    let kept = |plan: RetentionPlan| plan.backups.into_iter().filter(|b| b.keep).map(|b| b.name).collect::<Vec<_>>();
    assert_eq!(kept(store.retention_plan("line").unwrap()), [second.clone(), first]);
    assert_eq!(going(&dir), [0_u32; 0]);
    store.add_slices("a", &archive("t"), &[slice(140, 150)]).unwrap();
    let third = made(&store, "line", 145);
    assert_eq!(kept(store.retention_plan("line").unwrap()), [third]);
    assert_eq!(going(&dir), [110, 120, 130, 140]);
}

#[test]
fn a_base_that_is_damaged_is_not_replayed_from() {
    let Stand { store, client, _open } = stand();
    store.add_slices("a", &archive("t"), &[slice(100, 200)]).unwrap();
    base(&store, "sound", 110);
    base(&store, "damaged", 150);
    let request = |base: Option<&str>| PointInTime { base: base.map(str::to_owned), ..moment("180,1") };
    let reached = |base| client.resolve_moment(&request(base), Model::Logical).map(|replay| replay.base.backup);
    assert_eq!(reached(None).unwrap(), "damaged", "nobody knows yet");
    store.backup_verified("damaged", Some("a part is not what was written")).unwrap();
    assert_eq!(reached(None).unwrap(), "sound");
    assert!(reached(Some("damaged")).unwrap_err().to_string().contains("was found damaged"));
    store.backup_verified("damaged", None).unwrap();
    assert_eq!(reached(None).unwrap(), "damaged");
}

/// An archive whose storage is away keeps no other from it.
#[test]
fn an_archive_that_does_not_let_go_is_passed_over() {
    let Stand { store, client: _client, _open } = stand();
    for storage in ["t", "u"] {
        store.add_slices("a", &archive(storage), &[slice(100, 110), slice(110, 120)]).unwrap();
    }
    base(&store, "late", 130);
    let none = BTreeSet::new();
    let first = store.slices_going("a", 9, &[], &none).unwrap().unwrap();
    let second = store.slices_going("a", 9, std::slice::from_ref(&first.archive), &none).unwrap().unwrap();
    assert_ne!(first.archive, second.archive);
    assert_eq!(store.slices_going("a", 9, &[first.archive, second.archive], &none).unwrap(), None);
}

#[tokio::test]
async fn a_base_that_is_deleted_takes_moments_with_it() {
    let Stand { store, client, _open } = stand();
    store.add_slices("a", &archive("t"), &[slice(100, 200), slice(200, 300)]).unwrap();
    base(&store, "one", 110);
    base(&store, "two", 250);
    let one = client.plan_delete("one", true, false).await.unwrap().warnings.join("; ");
    let two = client.plan_delete("two", true, false).await.unwrap().warnings.join("; ");
    assert!(one.contains("from 1970-01-01T00:01:50Z to 1970-01-01T00:04:10Z can no longer be restored"), "{one}");
    assert!(!two.contains("can no longer be restored"), "{two}");
}

#[test]
fn a_new_base_queues_what_retention_has_to_do() {
    let Stand { store, _open: dir, .. } = stand();
    let one = Retention { count: 1, ..Retention::default() };
    store.add_schedule(&Schedule { retention: one, ..schedule("line", "a") }).unwrap();
    store.add_slices("a", &archive("t"), &[slice(100, 110), slice(110, 120)]).unwrap();
    made(&store, "line", 115);
    let jobs = store.jobs().unwrap();
    assert_eq!((jobs[0].kind, jobs[0].service.as_deref()), (JobKind::Retention, Some("a")));
    // The newest slice stays, even when a base is newer: recording goes on from it.
    base(&store, "newer", 130);
    store.remove_schedule("line").unwrap();
    store.add_schedule(&Schedule { retention: one, ..schedule("again", "a") }).unwrap();
    store.cancel_job(jobs[0].id).unwrap();
    made(&store, "again", 140);
    assert_eq!(going(&dir), [110]);
}
