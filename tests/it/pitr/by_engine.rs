//! What the store makes of an oplog that the engine of a service records by itself.

use chrono::{DateTime, Utc};
use mongokeep::client::Client;
use mongokeep::domain::backup::{BackupType, Compression, Model};
use mongokeep::domain::pitr::{Archive, EngineRecord, Piece, PointInTime};
use mongokeep::domain::schedule::Schedule;
use mongokeep::domain::service::EngineKind;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::error::ErrorKind;
use mongokeep::store::{CatalogueEntry, NeededBase, SlicingWanted, Store};

use crate::support::schedule::daily;
use crate::support::stores::{self, OpenStore};

struct Stand {
    _open: OpenStore,
    client: Client,
    store: Store,
}

/// A store with the service `a`, which has a point-in-time schedule into the folder `prod` of the storage `t`.
fn stand() -> Stand {
    let open = stores::open(&["a"], &["t", "u"]);
    let client = Client::open(&open.home, false).unwrap();
    open.store
        .add_schedule(&Schedule { backup_type: BackupType::Pitr, folder: "prod".into(), ..daily("line", "a") })
        .unwrap();
    Stand { client, store: open.store.clone(), _open: open }
}

fn wanted(storage: &str) -> SlicingWanted {
    SlicingWanted { service: "a".into(), storage: storage.into(), folder: "prod".into(), schedule: "line".into() }
}

fn record(sets: &[(&str, &[(u32, u32)])]) -> EngineRecord {
    let piece = |(from, to): &(u32, u32)| Piece { from: Timestamp::new(*from, 0), to: Timestamp::new(*to, 0) };
    let sets = sets.iter().map(|(name, pieces)| ((*name).to_owned(), pieces.iter().map(piece).collect()));
    EngineRecord { replica_sets: sets.collect() }
}

fn base(store: &Store, storage: &str, name: &str, t: u32) {
    let entry = CatalogueEntry {
        engine: EngineKind::Pbm,
        pbm_name: Some(format!("pbm-{name}")),
        replica_set_id: String::new(),
        folder: "prod".into(),
        ..stores::entry(name, Timestamp::new(t, 3))
    };
    store.import_backup(storage, &entry).unwrap();
}

fn moment(when: &str, base: Option<&str>) -> PointInTime {
    PointInTime { service: "a".into(), when: when.parse().unwrap(), base: base.map(str::to_owned) }
}

#[test]
fn the_window_begins_at_a_base_of_the_engine_and_ends_where_one_replica_set_ends() {
    let Stand { store, client, _open } = stand();
    store.engine_switched_on(&wanted("t")).unwrap();
    for (storage, name, t) in [("t", "one", 120), ("t", "two", 300), ("u", "elsewhere", 130), ("t", "late", 900)] {
        base(&store, storage, name, t);
    }
    // One that mongokeep made by itself leads nowhere in what PBM recorded.
    store
        .import_backup("t", &CatalogueEntry { folder: "prod".into(), ..stores::entry("own", Timestamp::new(125, 1)) })
        .unwrap();
    let all = record(&[("cfg", &[(100, 500)]), ("sh1", &[(100, 200), (260, 520)]), ("sh2", &[(90, 490)])]);
    store.engine_recorded(&wanted("t"), &all).unwrap();

    let status = &client.pitr_status(None).unwrap()[0];
    let ranges: Vec<_> = status.ranges.iter().map(|r| (r.from_ts.t, r.to_ts.t, r.to.timestamp())).collect();
    assert_eq!(ranges, [(120, 200, 199), (300, 490, 489)]);
    let gaps: Vec<_> = status.gaps.iter().map(|g| (g.from_ts.t, g.to_ts.t, g.reason.as_str())).collect();
    assert_eq!(gaps, [(200, 260, "nothing is recorded in between of sh1")]);
    assert_eq!(status.bases.iter().map(|b| b.backup.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    let archive = status.archive.as_ref().unwrap();
    assert!(archive.is_by_engine() && (archive.storage.as_str(), archive.replica_set.as_str()) == ("t", "cfg,sh1,sh2"));
    assert_eq!(status.waiting_base.as_ref().unwrap().backup, "late");
    assert_eq!(store.newest_recorded("a", "t", "prod").unwrap(), Some(Timestamp::new(490, 0)));
    assert_eq!(store.services_with_slices().unwrap(), ["a"]);

    let found = client.resolve_moment(&moment("400,1", None), Model::Logical).unwrap();
    assert_eq!((found.base.backup.as_str(), found.until, found.slices.len()), ("two", Timestamp::new(400, 1), 0));
    let chosen = client.resolve_moment(&moment("150,0", Some("one")), Model::Logical).unwrap();
    assert_eq!(chosen.base.backup, "one");
    for (when, base) in
        [("230,1", None), ("400,1", Some("one")), ("490,1", None), ("119,0", None), ("150,0", Some("late"))]
    {
        let error = client.resolve_moment(&moment(when, base), Model::Logical).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{when} {base:?} {error}");
    }

    // In another place nothing of it counts.
    store.engine_switched_on(&wanted("u")).unwrap();
    assert!(client.pitr_status(None).unwrap()[0].ranges.is_empty());
    // A look that began before that writes nothing.
    store.engine_recorded(&wanted("t"), &all).unwrap();
    assert_eq!(store.engine_recording("a").unwrap().unwrap().record, EngineRecord::default());
}

#[test]
fn a_new_gap_needs_a_base_and_one_that_a_base_ends_does_not() {
    let Stand { store, client, _open } = stand();
    store.engine_switched_on(&wanted("t")).unwrap();
    base(&store, "t", "one", 110);
    // What was lost before anybody looked is no news.
    store.engine_recorded(&wanted("t"), &record(&[("rs", &[(50, 60), (100, 200)])])).unwrap();
    assert_eq!(store.base_needed("a").unwrap(), None);
    store.engine_recorded(&wanted("t"), &record(&[("rs", &[(50, 60), (100, 200), (250, 300)])])).unwrap();
    assert_eq!(store.base_needed("a").unwrap(), Some(Timestamp::new(250, 0)));
    assert!(matches!(store.needed_base_made("a", Archive::BY_ENGINE).unwrap(), NeededBase::Waits));
    let queued = store.queue_needed_base("a", Archive::BY_ENGINE, Compression::None, Utc::now()).unwrap();
    assert!(matches!(queued, NeededBase::Queued(job) if job.schedule.as_deref() == Some("line")));
    base(&store, "t", "two", 260);
    assert!(matches!(store.needed_base_made("a", Archive::BY_ENGINE).unwrap(), NeededBase::Met));
    assert_eq!(store.base_needed("a").unwrap(), None);
    assert_eq!(client.pitr_status(None).unwrap()[0].gaps.len(), 2);
}

#[test]
fn a_restore_needs_a_base_made_after_it() {
    let Stand { store, _open, .. } = stand();
    store.engine_switched_on(&wanted("t")).unwrap();
    base(&store, "t", "before", 110);
    let began = DateTime::from_timestamp(500, 0).unwrap();
    store.engine_restores("a", began).unwrap();
    store.engine_needs_base("a", DateTime::from_timestamp(900, 0).unwrap()).unwrap();
    assert_eq!(store.base_needed("a").unwrap(), Some(Timestamp::new(500, 0)), "a need that is known stays as it is");
    assert!(matches!(store.needed_base_made("a", Archive::BY_ENGINE).unwrap(), NeededBase::Waits));
    base(&store, "t", "after", 600);
    assert!(matches!(store.needed_base_made("a", Archive::BY_ENGINE).unwrap(), NeededBase::Met));
}

#[test]
fn who_is_switched_on_is_known_until_it_is_off() {
    let Stand { store, _open, .. } = stand();
    assert!(store.engine_recordings_on().unwrap().is_empty());
    store.engine_switched_on(&wanted("t")).unwrap();
    store.enable_schedule("line", false).unwrap();
    let on = store.engine_recordings_on().unwrap();
    assert_eq!((on.len(), on[0].service.as_str(), on[0].storage.as_str()), (1, "a", "t"));
    store.engine_switched_off("a").unwrap();
    assert!(store.engine_recordings_on().unwrap().is_empty());
    store.remove_schedule("line").unwrap();
    store.remove_service("a").unwrap();
    assert_eq!(store.engine_recording("a").unwrap(), None);
}
