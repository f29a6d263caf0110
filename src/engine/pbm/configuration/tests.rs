use super::*;
use crate::engine::pbm::tests::raw;

const KEY: [u8; 32] = [7; 32];

fn bucket(secret: &str) -> StorageConfig {
    let given = [
        ("bucket", "nowhere"),
        ("endpoint", "http://127.0.0.1:1"),
        ("region", "eu-west-1"),
        ("access_key_id", "key"),
        ("path_style", "true"),
    ];
    let mut storage = StorageConfig::of("s3", given);
    storage.secrets.insert("secret_access_key".into(), Secret::new(secret));
    storage
}

fn of(storage: &StorageConfig, wishes: &Wishes) -> Configuration {
    Configuration::new(storage, "prod", wishes).unwrap()
}

fn keys(differences: &[Difference]) -> Vec<&str> {
    differences.iter().map(|difference| difference.key.as_str()).collect()
}

#[test]
fn what_pbm_fills_in_is_no_difference_and_a_changed_setting_is() {
    let ours = of(&bucket("hunter2"), &Wishes::default());
    // Recorded with the prefix `p`.
    let read_back = raw("s3-config").value;
    let differences = ours.differences(&read_back);
    assert_eq!(keys(&differences), ["storage.s3.prefix"]);
    assert_eq!((differences[0].ours.as_deref(), differences[0].theirs.as_deref()), (Some("prod/pbm"), Some("p")));
    let kept: Vec<String> = ours.kept(&read_back).into_iter().map(|(key, _)| key).collect();
    assert!(kept.contains(&"storage.s3.storageClass".to_owned()) && kept.contains(&"backup.compression".to_owned()));
    assert!(!kept.iter().any(|key| key.contains("credentials")), "{kept:?}");
}

#[test]
fn a_secret_is_set_or_not_and_its_mask_is_never_written() {
    let read_back = raw("s3-config").value;
    let with_keys = of(&bucket("hunter2"), &Wishes::default());
    let text = with_keys.merged(&read_back).unwrap().exposed().unwrap();
    assert!(text.expose().contains("hunter2") && !text.expose().contains(HIDDEN), "{}", text.expose());
    assert!(!format!("{with_keys:?}").contains("hunter2"));
    let mut without = bucket("hunter2");
    without.secrets.clear();
    without.values.remove("access_key_id");
    let differences = of(&without, &Wishes::default()).differences(&read_back);
    assert!(keys(&differences).contains(&"storage.s3.credentials.access-key-id"), "{differences:?}");
    let merged = of(&without, &Wishes::default()).merged(&read_back).unwrap();
    assert!(!merged.exposed().unwrap().expose().contains(HIDDEN), "keys that are not ours any more go");
}

#[test]
fn a_secret_of_somebody_else_is_not_lost_silently() {
    let mut read_back = raw("s3-config").value;
    read_back["storage"]["s3"]["serverSideEncryption"] =
        json!({"sseCustomerAlgorithm": "AES256", "sseCustomerKey": "***"});
    let error = of(&bucket("hunter2"), &Wishes::default()).merged(&read_back).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.full().contains("storage.s3.serverSideEncryption.sseCustomerKey"), "{error}");
    // One of a storage that is left altogether goes with it.
    let folder = of(&StorageConfig::of("filesystem", [("path", "/srv/backup")]), &Wishes::default());
    let merged = folder.merged(&read_back).unwrap();
    assert!(merged.shown()["storage"].get("s3").is_none());
    assert!(keys(&folder.differences(&read_back)).contains(&"storage.s3.bucket"), "what it leaves is shown");
}

#[test]
fn what_somebody_else_set_is_kept_and_what_is_ours_is_replaced() {
    let read_back = json!({
        "storage": {"type": "filesystem", "filesystem": {"path": "/old", "maxObjSizeGB": 5.0}},
        "pitr": {"enabled": true, "oplogSpanMin": 2.0, "compression": "s2", "priority": {"a:1": 2.0}},
        "backup": {"oplogSpanMin": 0, "compression": "zstd", "compressionLevel": 9, "priority": {"b:1": 1.0}},
        "restore": {"numInsertionWorkers": 20, "mongodLocationMap": {"h.example:27017": "/opt/mongod"}},
        "new": {"thing": [1, 2]},
    });
    let wishes = Wishes {
        pitr: PitrWishes { enabled: true, span_minutes: Some(0.5), ..PitrWishes::default() },
        backup: BackupWishes {
            compression: Some(Compression::None),
            starting_timeout: Some(60),
            priority: Some(BTreeMap::from([("h.example:27017".to_owned(), 2.0)])),
            ..BackupWishes::default()
        },
    };
    let ours = of(&StorageConfig::of("filesystem", [("path", "/srv/backup")]), &wishes);
    let expected = [
        "backup.compression",
        "backup.compressionLevel",
        "backup.priority[\"b:1\"]",
        "backup.priority[\"h.example:27017\"]",
        "backup.timeouts.startingStatus",
        "pitr.compression",
        "pitr.oplogSpanMin",
        "storage.filesystem.path",
    ];
    assert_eq!(keys(&ours.differences(&read_back)), expected);
    let merged = ours.merged(&read_back).unwrap();
    assert_eq!(
        Value::from(merged.shown().clone()),
        json!({
            "storage": {"type": "filesystem", "filesystem": {"path": "/srv/backup/prod/pbm", "maxObjSizeGB": 5.0}},
            "pitr": {"enabled": true, "oplogSpanMin": 0.5, "compression": "none", "priority": {"a:1": 2.0}},
            "backup": {
                "compression": "none",
                "timeouts": {"startingStatus": 60},
                "priority": {"h.example:27017": 2.0},
                "oplogSpanMin": 0,
            },
            "restore": {"numInsertionWorkers": 20, "mongodLocationMap": {"h.example:27017": "/opt/mongod"}},
            "new": {"thing": [1, 2]},
        })
    );
    assert_eq!(merged.differences(&Value::from(merged.shown().clone())), []);
}

#[test]
fn the_fingerprint_changes_with_the_storage_and_its_secrets_and_not_with_what_is_recorded() {
    let wishes = Wishes::default();
    let one = of(&bucket("hunter2"), &wishes).fingerprint(&KEY);
    assert_eq!(one, of(&bucket("hunter2"), &wishes).fingerprint(&KEY));
    let on = Wishes { pitr: PitrWishes { enabled: true, ..PitrWishes::default() }, ..Wishes::default() };
    let others = [
        of(&bucket("hunter3"), &wishes).fingerprint(&KEY),
        of(&bucket("hunter2"), &wishes).fingerprint(&[8; 32]),
        of(&StorageConfig::of("s3", [("bucket", "nowhere")]), &wishes).fingerprint(&KEY),
    ];
    assert!(others.iter().all(|other| *other != one), "{others:?}");
    assert_eq!(of(&bucket("hunter2"), &on).fingerprint(&KEY), one);
}

#[test]
fn values_that_pbm_does_not_take_are_refused() {
    for span in [0.0, -1.0, f64::NAN] {
        let pitr = PitrWishes { span_minutes: Some(span), ..PitrWishes::default() };
        let wishes = Wishes { pitr, ..Wishes::default() };
        let error = Configuration::new(&bucket("x"), "prod", &wishes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    // Two configurations that were read back from a fresh cluster.
    let folder = StorageConfig::of("filesystem", [("path", "/srv/backup")]);
    let differences = of(&folder, &Wishes::default()).differences(&raw("config-show").value);
    assert_eq!(keys(&differences), ["storage.filesystem.path"]);
    assert_eq!(
        keys(&of(&folder, &Wishes::default()).differences(&Value::Null)),
        ["storage.filesystem.path", "storage.type"]
    );
}

/// PBM leaves the credentials of Google out of what it gives back (`json:"-"` in 2.15.0).
#[test]
fn what_pbm_never_gives_back_is_no_difference_and_is_written() {
    let of_key = |key: &str| {
        let mut storage = StorageConfig::of("gcs", [("bucket", "b")]);
        let json = json!({"type": "service_account", "client_email": "a@b.example", "private_key": key});
        storage.secrets.insert("credentials".into(), Secret::new(json.to_string()));
        of(&storage, &Wishes::default())
    };
    let ours = of_key("hunter2");
    let read_back = json!({
        "storage": {"type": "gcs", "gcs": {"bucket": "b", "prefix": "prod/pbm", "chunkSize": 10485760}},
    });
    assert_eq!(ours.differences(&read_back), []);
    let exposed = ours.merged(&read_back).unwrap().exposed().unwrap();
    let written: Value = serde_json::from_str(exposed.expose()).unwrap();
    let credentials = json!({"clientEmail": "a@b.example", "privateKey": "hunter2"});
    let section = json!({"bucket": "b", "prefix": "prod/pbm", "chunkSize": 10485760, "credentials": credentials});
    assert_eq!(written["storage"]["gcs"], section);
    // Another key is noticed by the fingerprint.
    assert_ne!(ours.fingerprint(&KEY), of_key("hunter3").fingerprint(&KEY));
    let moved = json!({"storage": {"type": "gcs", "gcs": {"bucket": "c", "prefix": "prod/pbm"}}});
    assert_eq!(keys(&ours.differences(&moved)), ["storage.gcs.bucket"]);
}
