use super::rules::{bucket_rule, endpoint_rule, hours_rule, prefix_rule, timezone_rule, webhook_rule};
use super::*;
use crate::domain::backup::BackupDraft;
use crate::domain::restore::RestoreDraft;
use crate::domain::schedule::Schedule;
use crate::domain::service::ServiceSpec;
use crate::domain::typed::{Typed, apply, from_json, texts, to_json};
use crate::error::ErrorKind;

fn values(pairs: &[(&str, &str)]) -> Values {
    let mut out = Values::new();
    for (key, text) in pairs {
        out.entry((*key).into()).or_default().push((*text).into());
    }
    out
}

#[test]
fn defaults_pass_their_own_checks_and_keys_are_unique() {
    for set in [SERVICE_FIELDS, BACKUP_FIELDS, RESTORE_FIELDS, MOMENT_FIELDS, SETTING_FIELDS] {
        for (i, field) in set.iter().enumerate() {
            if !field.default.is_empty() {
                assert_eq!(field.validate(field.default), Ok(()), "{}", field.key);
            }
            assert!(set[..i].iter().all(|other| other.key != field.key), "{}", field.key);
        }
    }
}

#[test]
fn what_is_refused_names_the_flag() {
    let good = [("service", "a"), ("storage", "b")];
    assert!(check(&[BACKUP_FIELDS], &values(&good), false).is_ok());
    let cases = [
        ("retries", "11"),
        ("retry_interval", "9h"),
        ("retry_interval", "5"),
        ("folder", "../x"),
        ("folder", "/x"),
        ("name", "a b"),
        ("compression", "lz4"),
        ("include", ".x"),
        ("bogus", "1"),
        ("storage", "second"),
    ];
    for (key, text) in cases {
        let mut all = values(&good);
        all.entry(key.into()).or_default().push(text.into());
        let error = check(&[BACKUP_FIELDS], &all, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{key}");
        assert!(error.full().starts_with(&key.replace('_', "-")), "{error}");
    }
    assert!(check(&[BACKUP_FIELDS], &values(&[("service", "a")]), false).unwrap_err().full().contains("storage"));
    assert!(check(&[BACKUP_FIELDS], &values(&[("service", "a")]), true).is_ok());
}

#[test]
fn storage_rules() {
    assert!(prefix_rule("backups/mongodb").is_ok() && prefix_rule(&"p".repeat(255)).is_ok());
    for bad in ["/x", "../x", &"p".repeat(256), &["p".repeat(200), "q".repeat(100)].join("/")] {
        assert!(prefix_rule(bad).is_err(), "{bad}");
    }
    for bad in ["ftp://x", "https://", "https://u:p@h", "h:9000"] {
        assert!(endpoint_rule(bad).is_err(), "{bad}");
    }
    assert!(endpoint_rule("http://127.0.0.1:9000").is_ok());
    for bad in ["ab", "a/b", "a..b", "a b c"] {
        assert!(bucket_rule(bad).is_err(), "{bad}");
    }
    for bad in ["h/x", "https:///x", "https://u:p@h/x", "https://h/a b", "ftp://h"] {
        assert!(webhook_rule(bad).is_err(), "{bad}");
    }
    assert!(webhook_rule("https://hooks.example.com/T0/B0?x=1").is_ok());
    assert!(hours_rule("08:00-18:30").is_ok() && hours_rule("8-18").is_err());
    assert!(timezone_rule("Europe/Paris").is_ok() && timezone_rule("Mars").is_err());
}

/// Every field of an entity: a text goes in, comes out, through JSON and back, and is removed again.
fn round_trips<T: Clone>(fields: &[Typed<T>], fresh: &T, samples: &[(&str, &str, &str)]) {
    for Typed { field, .. } in fields {
        let (_, one, other) =
            samples.iter().find(|(key, ..)| *key == field.key).unwrap_or_else(|| panic!("no sample of {}", field.key));
        let mut entity = fresh.clone();
        for text in [one, other] {
            assert_eq!(field.validate(text), Ok(()), "{}", field.key);
            apply(fields, &mut entity, &values(&[(field.key, text)])).unwrap();
            let present =
                |entity: &T| fields.iter().find(|t| t.field.key == field.key).map(|t| (t.get)(entity)).unwrap();
            assert_eq!(present(&entity), [*text], "{}", field.key);
            if field.kind == FieldKind::Secret {
                assert!(!texts(fields, &entity).contains_key(field.key), "{} is shown", field.key);
                assert!(!to_json(fields, &entity).contains_key(field.key), "{} is shown", field.key);
                continue;
            }
            let json = serde_json::to_string(&to_json(fields, &entity)).unwrap();
            let mut again = fresh.clone();
            apply(fields, &mut again, &from_json(&serde_json::from_str(&json).unwrap()).unwrap()).unwrap();
            assert_eq!(texts(fields, &again), texts(fields, &entity), "{} through {json}", field.key);
        }
        let emptied = apply(fields, &mut entity, &values(&[(field.key, "")]));
        if field.required && field.default.is_empty() {
            assert_eq!(emptied.unwrap_err().field(), Some(field.key), "it cannot be removed");
        } else if field.key != "start" {
            emptied.unwrap();
            let now = fields.iter().find(|t| t.field.key == field.key).map(|t| (t.get)(&entity).concat());
            assert_eq!(now.as_deref(), Some(field.default), "{} has its default again", field.key);
        }
    }
    // What is made anew begins with the defaults that the fields name.
    for Typed { field, get, .. } in fields.iter().filter(|t| t.field.key != "start") {
        assert_eq!(get(fresh).concat(), field.default, "{}", field.key);
    }
}

const SAMPLES: &[(&str, &str, &str)] = &[
    ("name", "a", "b-2"),
    ("uri", "mongodb://h", "mongodb://u:p@h:1/?replicaSet=r"),
    ("cluster", "prod", "x/y"),
    ("engine", "native", "native"),
    ("production_hours", "08:00-18:00", "Mon-Fri 09:00-17:30"),
    ("data_dir", "/data/db", "/srv/a b"),
    ("stop_command", "systemctl stop mongod", "/bin/stop 'a b'"),
    ("start_command", "systemctl start mongod", "/bin/start"),
    ("service", "a", "b"),
    ("storage", "s", "t"),
    ("model", "logical", "physical"),
    ("folder", "f", "f/g"),
    ("include", "shop", "shop.orders"),
    ("exclude", "*.events", "tmp"),
    ("compression", "zstd:3", "none"),
    ("retry", "auto", "manual"),
    ("retries", "5", "0"),
    ("retry_interval", "2h", "30s"),
    ("type", "pitr", "full"),
    ("cron", "0 2 * * *", "@daily"),
    ("timezone", "UTC", "Europe/Paris"),
    ("start", "2026-11-21T02:00:00Z", "2027-01-01T00:00:00Z"),
    ("retention", "7", "100"),
    ("keep_daily", "1", "2"),
    ("keep_weekly", "3", "4"),
    ("keep_monthly", "5", "6"),
    ("keep_yearly", "7", "8"),
    ("keep_within", "30d", "12h"),
    ("backup", "b", "c"),
    ("to", "a", "b"),
    ("rename", "a=b", "a.x=b.y"),
    ("replset_map", "rs0=rs1", "sh1=sh2"),
    ("exact", "true", "false"),
    ("no_ttl", "true", "false"),
    ("users_and_roles", "true", "false"),
    ("safety_backup", "true", "false"),
    ("time", "2026-11-21T14:02:03Z", "1790000000,2"),
    ("base", "b", "c"),
    ("to_data_dir", "/srv/new", "/srv/a b"),
    ("replica_set", "rs", "other"),
    ("member", "a:27017", "b:1"),
    ("mongod", "/usr/bin/mongod", "/opt/mongod"),
    ("no_check", "true", "false"),
];

#[test]
fn every_field_goes_in_and_comes_out_again() {
    round_trips(SERVICE, &ServiceSpec::default(), SAMPLES);
    // A sample that a field does not share with those of its name stands first.
    let of_backups = [&[("type", "incremental", "incremental-base")], SAMPLES].concat();
    round_trips(BACKUP, &BackupDraft::default(), &of_backups);
    round_trips(SCHEDULE, &Schedule::default(), SAMPLES);
    round_trips(RESTORE, &RestoreDraft::default(), SAMPLES);
    round_trips(MOMENT, &RestoreDraft::default(), SAMPLES);
    round_trips(DATA_FOLDER, &RestoreDraft::default(), SAMPLES);
    round_trips(FILES, &RestoreDraft::default(), SAMPLES);
}

#[test]
fn a_list_in_json_is_an_array_and_null_removes() {
    let mut draft = BackupDraft::default();
    let object = serde_json::json!({"include": ["a", "b.c"], "retries": 2, "compression": null});
    apply(BACKUP, &mut draft, &from_json(object.as_object().unwrap()).unwrap()).unwrap();
    let json = to_json(BACKUP, &draft);
    assert_eq!((&json["include"], &json["retries"]), (&serde_json::json!(["a", "b.c"]), &serde_json::json!(2)));
    let gone = serde_json::json!({"include": []});
    apply(BACKUP, &mut draft, &from_json(gone.as_object().unwrap()).unwrap()).unwrap();
    assert!(draft.selection.include.is_empty());
    let odd = serde_json::json!({"include": {"a": 1}});
    assert_eq!(from_json(odd.as_object().unwrap()).unwrap_err().field(), Some("include"));
}

/// What is offered can be taken, is said in words, and has the default in it.
#[test]
fn every_offered_value_of_a_setting_can_be() {
    for field in SETTING_FIELDS.iter().filter(|field| !field.picks.is_empty()) {
        for (value, words) in field.picks {
            assert_eq!(field.validate(value), Ok(()), "{}: {value}", field.key);
            assert_eq!(field.words(value), *words);
        }
        assert!(field.picks.iter().any(|(value, _)| *value == field.default), "{}", field.key);
    }
    let of = |key: &str| SETTING_FIELDS.iter().find(|f| f.key == key).unwrap();
    assert_eq!(of("pitr.slice_seconds").words("45"), "45 seconds");
    assert_eq!(of("notify.storage_full_percent").words("85"), "85 %");
    assert_eq!(of("backup.bandwidth_limit").words("Mon-Fri 08:00-18:00 1MB"), "Mon-Fri 08:00-18:00 1MB");
}
