use chrono::Utc;

use super::*;
use crate::domain::backup::{BackupType, Compression};
use crate::domain::pitr::{PointInTime, When};
use crate::domain::restore::RestoreDraft;
use crate::domain::secret::Secret;
use crate::domain::service::EngineKind;
use crate::domain::storage::StorageConfig;
use crate::engine::contract::BackupOrder;
use crate::engine::pbm::driven::DrivenSet;

/// Consistent at position 500,7.
fn manifest(sets: &[(&str, bool)]) -> DrivenManifest {
    let service = Service {
        name: "prod".into(),
        uri: Secret::new("mongodb://h:1/"),
        cluster: None,
        engine: EngineKind::Pbm,
        created_at: Utc::now(),
        data_dir: None,
        stop_command: None,
        start_command: None,
    };
    let order = BackupOrder {
        service,
        location: StorageConfig::of("filesystem", [("path", "/srv/backup")]),
        name: "b".into(),
        attempt_id: "1".into(),
        home_id: "2".into(),
        folder: "prod".into(),
        selection: Selection::default(),
        compression: Compression::None,
        encryption: None,
        schedule: None,
        backup_type: BackupType::Full,
    };
    let mut envelope = order.envelope(EngineKind::Pbm, Model::Logical, Utc::now());
    envelope.pbm_name = Some("2026-11-30T01:02:03Z".into());
    envelope.consistent_at_ts = Timestamp::new(500, 7);
    let set = |(name, is_config_server): &(&str, bool)| DrivenSet {
        name: (*name).to_owned(),
        node: "h:1".into(),
        is_config_server: *is_config_server,
        size: 1,
        collections: vec!["shop.items".into()],
    };
    DrivenManifest {
        envelope,
        pbm_version: "2.15.0".into(),
        pbm_type: "logical".into(),
        pbm_folder: "prod/pbm".into(),
        replica_sets: sets.iter().map(set).collect(),
        users_and_roles: false,
    }
}

fn to_a_moment(include: &[&str], rename: &[&str]) -> RestoreRequest {
    RestoreRequest {
        to: "prod".into(),
        point_in_time: Some(PointInTime { service: "prod".into(), when: When::Second(600), base: None }),
        include: include.iter().map(|text| text.parse().unwrap()).collect(),
        rename: rename.iter().map(|text| text.parse().unwrap()).collect(),
        ..RestoreDraft::default().request()
    }
}

#[test]
fn a_moment_is_told_with_its_base_and_that_of_a_backup_by_its_name() {
    let one = manifest(&[("rs0", false)]);
    let words = |until, include: &[&str]| arguments(&one, &to_a_moment(include, &[]), until).unwrap().join(" ");
    let name = "2026-11-30T01:02:03Z";
    assert_eq!(words(Timestamp::new(500, 7), &[]), format!("restore {name} --yes"));
    // The whole of a second, and a position.
    let whole = words(Timestamp::new(600, u32::MAX), &[]);
    assert_eq!(whole, format!("restore --time 600,4294967295 --base-snapshot {name} --yes"));
    let part = words(Timestamp::new(500, 8), &["shop"]);
    assert_eq!(part, format!("restore --time 500,8 --base-snapshot {name} --yes --ns shop.*"));
}

#[test]
fn a_part_goes_back_to_a_moment_where_there_are_no_shards() {
    let sharded = manifest(&[("cfg", true), ("sh1", false)]);
    let one = manifest(&[("rs0", false)]);
    assert!(must_be_possible(&one, &to_a_moment(&["shop"], &[])).is_ok());
    assert!(must_be_possible(&sharded, &to_a_moment(&[], &[])).is_ok());
    let error = must_be_possible(&sharded, &to_a_moment(&["shop"], &[])).unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.full().contains("include: PBM restores a part"), "{error}");
    let error = must_be_possible(&one, &to_a_moment(&[], &["shop.items=shop.old"])).unwrap_err();
    assert!(error.full().contains("rename: "), "{error}");
}

#[test]
fn replica_sets_are_mapped_by_names_that_there_are() {
    let maps = |texts: &[&str]| -> Vec<ReplicaSetMap> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    let (held, there) = (["cfg", "a"], ["cfg", "b", "c"]);
    assert_eq!(mapped(&held, &there, &maps(&["a=b"])).unwrap(), ["cfg", "b"]);
    assert_eq!(mapped(&held, &there, &[]).unwrap(), held);
    for (wrong, why) in [
        (&["x=b"][..], "the backup holds no replica set x, but cfg, a"),
        (&["a=x"], "the target has no replica set x, but cfg, b, c"),
        (&["a=b", "a=c"], "a is mapped twice"),
        (&["a=cfg"], "two replica sets of the backup would go into cfg"),
    ] {
        let error = mapped(&held, &there, &maps(wrong)).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("replset_map")), "{wrong:?}");
        assert!(error.full().contains(why), "{error}");
    }
}
