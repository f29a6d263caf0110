use super::rules::{bucket_rule, endpoint_rule, prefix_rule};
use super::*;

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
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
fn what_is_not_built_says_so() {
    let error = check(&[BACKUP_FIELDS], &values(&[("service", "a"), ("storage", "b"), ("model", "physical")]), false);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.kind().exit_code(), 2);
    assert!(error.full().contains("not built yet"), "{error}");
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
