use proptest::prelude::*;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn backup(name: &str, when: &str) -> GoodBackup {
    GoodBackup {
        name: name.into(),
        service: "orders-rs".into(),
        storage: "s3-eu".into(),
        folder: "prod".into(),
        at: at(when),
        started: at(when),
        size_bytes: Some(7),
        pinned: false,
        of_home: true,
        of_schedule: true,
        asked_for: false,
        damaged: false,
        whole: Some(true),
        used_by: None,
        error: None,
        chain: None,
    }
}

fn kept(plan: &RetentionPlan) -> BTreeSet<String> {
    plan.backups.iter().filter(|b| b.keep).map(|b| b.name.clone()).collect()
}

fn reasons(plan: &RetentionPlan, name: &str) -> Vec<String> {
    plan.backups.iter().find(|b| b.name == name).unwrap().reasons.clone()
}

const NOW: &str = "2026-11-21T12:00:00Z";

#[test]
fn each_rule_says_why() {
    let good = [
        backup("today-2", "2026-11-21T11:00:00Z"),
        backup("today-1", "2026-11-21T01:00:00Z"),
        backup("friday", "2026-11-20T22:30:00Z"),
        backup("sunday", "2026-11-15T12:00:00Z"),
        backup("october", "2026-10-31T12:00:00Z"),
        GoodBackup { pinned: true, ..backup("pinned", "2025-03-01T00:00:00Z") },
        GoodBackup { used_by: Some(41), ..backup("read", "2025-02-01T00:00:00Z") },
        backup("old", "2025-01-01T00:00:00Z"),
    ];
    let rules = Retention {
        count: 1,
        keep_daily: 2,
        keep_weekly: 2,
        keep_monthly: 2,
        keep_within: 36_000,
        ..Retention::default()
    };
    let plan = plan("nightly", rules, &good, at(NOW), Tz::UTC);
    let newest =
        ["newest 1 of 1", "last of 2026-11-21", "last of week 2026-W47", "last of 2026-11", "younger than 10h"];
    assert_eq!(reasons(&plan, "today-2")[..5], newest);
    assert_eq!(reasons(&plan, "today-2")[5], "the last good backup of orders-rs");
    assert_eq!(reasons(&plan, "today-1"), ["no rule keeps it"]);
    assert_eq!(reasons(&plan, "friday"), ["last of 2026-11-20"]);
    assert_eq!(reasons(&plan, "sunday"), ["last of week 2026-W46"]);
    assert_eq!(reasons(&plan, "october"), ["last of 2026-10"]);
    assert_eq!(reasons(&plan, "pinned"), ["pinned"]);
    assert_eq!(reasons(&plan, "read"), ["in use by job 41, goes later"]);
    let going: Vec<_> = plan.going().map(|b| b.name.as_str()).collect();
    assert_eq!(going, ["old", "today-1"]);
}

#[test]
fn days_are_those_of_the_schedules_zone() {
    // 23:30 and 00:30 in Paris: two days there, one in UTC.
    let good = [backup("b", "2026-11-20T23:30:00Z"), backup("a", "2026-11-20T22:30:00Z")];
    let rules = Retention { keep_daily: 5, ..Retention::default() };
    assert_eq!(kept(&plan("s", rules, &good, at(NOW), Tz::UTC)).len(), 1);
    assert_eq!(kept(&plan("s", rules, &good, at(NOW), Tz::Europe__Paris)).len(), 2);
    // The last days of December may belong to week 1 of the next year.
    let good = [backup("b", "2026-01-02T12:00:00Z"), backup("a", "2025-12-29T12:00:00Z")];
    let plan = plan("s", Retention { keep_weekly: 5, ..Retention::default() }, &good, at(NOW), Tz::UTC);
    assert_eq!(reasons(&plan, "b")[0], "last of week 2026-W01");
    assert_eq!(reasons(&plan, "a"), ["no rule keeps it"]);
}

#[test]
fn of_backups_of_one_moment_the_last_one_stays() {
    let late = GoodBackup { started: at("2026-11-20T00:00:05Z"), ..backup("nightly", "2026-11-20T00:00:00Z") };
    let good = [backup("nightly-2", "2026-11-20T00:00:00Z"), late];
    let plan = plan("s", Retention { count: 1, ..Retention::default() }, &good, at(NOW), Tz::UTC);
    assert_eq!(plan.going().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["nightly-2"]);
}

#[test]
fn a_base_that_was_asked_for_takes_nobodys_place() {
    let asked = |name, when| GoodBackup { asked_for: true, ..backup(name, when) };
    let before = backup("run-1", "2026-11-19T00:00:00Z");
    let older = asked("older", "2026-11-18T00:00:00Z");
    let after = asked("after-restore", "2026-11-19T10:00:00Z");
    let rules = Retention { count: 1, ..Retention::default() };
    let plan = |good: &[GoodBackup]| super::plan("s", rules, good, at(NOW), Tz::UTC);
    let first = plan(&[before.clone(), older, after.clone()]);
    assert_eq!(first.going().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["older"]);
    assert_eq!(reasons(&first, "after-restore")[0], "made after a gap or a restore, as new as the newest runs");
    assert_eq!(reasons(&first, "run-1"), ["newest 1 of 1"]);
    // The next run is newer than both.
    let next = plan(&[before, after, backup("run-2", "2026-11-20T00:00:00Z")]);
    assert_eq!(next.going().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["run-1", "after-restore"]);
}

#[test]
fn one_that_is_damaged_counts_for_nothing() {
    let damaged = GoodBackup { damaged: true, ..backup("b2", "2026-11-20T00:00:00Z") };
    let good = [backup("b1", "2026-11-19T00:00:00Z"), damaged, backup("b3", "2026-11-21T00:00:00Z")];
    for rules in [Retention { count: 2, ..Retention::default() }, Retention { keep_daily: 2, ..Retention::default() }] {
        let plan = plan("s", rules, &good, at(NOW), Tz::UTC);
        assert!(kept(&plan).is_superset(&["b1".to_owned(), "b3".to_owned()].into()), "{plan:?}");
    }
    let within = Retention { keep_within: 60, ..Retention::default() };
    let plan = plan("s", within, &good[..2], at(NOW), Tz::UTC);
    assert_eq!(reasons(&plan, "b1"), ["the last good backup of orders-rs"]);
    assert_eq!(plan.going().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["b2"]);
}

#[test]
fn others_are_left_alone_and_the_last_of_a_service_stays() {
    let manual = GoodBackup { of_schedule: false, ..backup("by-hand", "2026-11-21T00:00:00Z") };
    let moved = GoodBackup { service: "users-rs".into(), ..backup("moved", "2026-11-01T00:00:00Z") };
    let foreign = GoodBackup { of_home: false, of_schedule: false, ..backup("foreign", "2026-11-21T01:00:00Z") };
    let good = [foreign, manual, moved, backup("b", "2026-11-20T00:00:00Z"), backup("a", "2026-11-19T00:00:00Z")];
    let plan = plan("s", Retention { count: 1, ..Retention::default() }, &good, at(NOW), Tz::UTC);
    // One by hand neither counts nor goes; one of a service that the schedule had before is the last of that.
    assert_eq!(plan.backups.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["b", "a", "moved"]);
    assert_eq!(reasons(&plan, "b"), ["newest 1 of 1"]);
    assert_eq!(reasons(&plan, "a"), ["older than the newest 1"]);
    assert_eq!(reasons(&plan, "moved"), ["the last good backup of users-rs"]);
    // Another home's is no safety: it may be gone tomorrow.
    let foreign = GoodBackup { of_home: false, of_schedule: false, ..backup("foreign", "2026-11-21T01:00:00Z") };
    let good = [foreign, backup("a", "2026-11-19T00:00:00Z")];
    let within = Retention { keep_within: 60, ..Retention::default() };
    assert_eq!(super::plan("s", within, &good, at(NOW), Tz::UTC).going().count(), 0);
}

#[test]
fn what_is_not_whole_is_no_last_one_in_place_of_what_is() {
    let some = |name, when| GoodBackup { whole: Some(false), ..backup(name, when) };
    let unknown = |name, when| GoodBackup { whole: None, ..backup(name, when) };
    let by_hand = |backup| GoodBackup { of_schedule: false, ..backup };
    let within = Retention { keep_within: 60, ..Retention::default() };
    let going = |good: &[GoodBackup]| -> Vec<String> {
        super::plan("s", within, good, at(NOW), Tz::UTC).going().map(|b| b.name.clone()).collect()
    };
    let (old, whole) = (backup("old", "2026-11-17T00:00:00Z"), backup("whole", "2026-11-18T00:00:00Z"));
    let typo = by_hand(some("typo", "2026-11-21T00:00:00Z"));
    assert_eq!(going(&[old.clone(), whole.clone(), typo.clone()]), ["old"]);
    // A schedule that is limited on purpose keeps its last one until a whole one is newer.
    let (a, b) = (some("a", "2026-11-19T00:00:00Z"), some("b", "2026-11-20T00:00:00Z"));
    assert_eq!(going(&[a.clone(), b.clone(), typo.clone()]), ["a"]);
    let limited = [old.clone(), whole.clone(), a.clone(), b.clone(), typo.clone()];
    let plan = super::plan("s", within, &limited, at(NOW), Tz::UTC);
    assert_eq!(reasons(&plan, "whole"), ["the last good backup of orders-rs"]);
    assert_eq!(reasons(&plan, "b"), ["the last good backup that s made of orders-rs"]);
    assert_eq!(plan.going().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["old", "a"]);
    assert_eq!(going(&[a.clone(), b.clone(), by_hand(backup("later", "2026-11-21T00:00:00Z"))]), ["a", "b"]);
    // One of which nobody knows may be the only one that holds everything, and may not be: both stay.
    let early = unknown("early", "2026-11-18T12:00:00Z");
    assert_eq!(going(&[old.clone(), whole.clone(), early.clone(), b]), ["old"]);
    assert_eq!(going(&[unknown("earlier", "2026-11-16T00:00:00Z"), whole]), ["earlier"]);
}

fn history() -> impl Strategy<Value = Vec<GoodBackup>> {
    let one = (0_i64..4_000_000, any::<bool>(), 0..10_u8, 0..10_u8, any::<Option<bool>>());
    proptest::collection::vec(one, 0..60).prop_map(|all| {
        type Drawn = (usize, (i64, bool, u8, u8, Option<bool>));
        let backup = |(i, (minutes, service, pinned, other, whole)): Drawn| GoodBackup {
            name: format!("b{i}"),
            service: if service { "a" } else { "b" }.into(),
            storage: "s3-eu".into(),
            folder: "prod".into(),
            // Some are consistent at the same moment.
            at: at("2020-01-01T00:00:00Z") + TimeDelta::minutes(minutes / 100_000 * 100_000),
            started: at("2020-01-01T00:00:00Z") + TimeDelta::minutes(minutes),
            size_bytes: None,
            pinned: pinned == 0,
            of_home: other > 0,
            of_schedule: other > 1,
            asked_for: other == 3,
            damaged: other == 4,
            whole,
            used_by: (other == 2).then_some(5),
            error: None,
            chain: None,
        };
        all.into_iter().enumerate().map(backup).collect()
    })
}

fn rules() -> impl Strategy<Value = Retention> {
    let number = || prop_oneof![Just(0_u32), 0..12_u32];
    let within = prop_oneof![Just(0_u64), 0..300_000_000_u64, Just(u64::MAX)];
    (number(), number(), number(), number(), number(), within).prop_map(
        |(count, keep_daily, keep_weekly, keep_monthly, keep_yearly, keep_within)| Retention {
            count,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
            keep_within,
        },
    )
}

fn zone() -> impl Strategy<Value = Tz> {
    prop_oneof![Just(Tz::UTC), Just(Tz::Europe__Paris), Just(Tz::America__St_Johns), Just(Tz::Pacific__Apia)]
}

fn newest<'a>(good: impl Iterator<Item = &'a GoodBackup>) -> Option<&'a GoodBackup> {
    good.max_by_key(|b| (b.at, b.started, b.name.clone()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// What must never go does not, and every line says why.
    #[test]
    fn what_must_stay_stays(good in history(), rules in rules(), zone in zone()) {
        let plan = plan("s", rules, &good, at("2027-08-01T00:00:00Z"), zone);
        let going: BTreeSet<_> = plan.going().map(|b| b.name.clone()).collect();
        for service in ["a", "b"] {
            let of_service = || good.iter().filter(|b| b.of_home && !b.damaged && b.service == service);
            for last in [newest(of_service()), newest(of_service().filter(|b| b.whole == Some(true)))] {
                prop_assert!(last.is_none_or(|last| !going.contains(&last.name)));
            }
        }
        for backup in &good {
            let untouchable = backup.pinned || !backup.of_schedule || backup.used_by.is_some();
            prop_assert!(!(untouchable && going.contains(&backup.name)));
        }
        if let Some(last) = newest(good.iter().filter(|b| b.of_schedule)) && rules.count > 0 {
            prop_assert!(!going.contains(&last.name));
        }
        prop_assert!(plan.backups.iter().all(|b| !b.reasons.is_empty()));
        prop_assert_eq!(plan.backups.len(), good.iter().filter(|b| b.of_schedule).count());
        prop_assert!(!rules.keeps_all() || going.is_empty());
    }

    /// Carrying a plan out and making it again finds nothing more to delete, also when it was carried out in part.
    #[test]
    fn a_plan_is_made_once(good in history(), rules in rules(), zone in zone(), part in 0..60_usize) {
        let now = at("2027-08-01T00:00:00Z");
        let first = plan("s", rules, &good, now, zone);
        let all: Vec<_> = first.going().map(|b| b.name.clone()).collect();
        let gone: BTreeSet<_> = all.iter().take(part).collect();
        let left: Vec<_> = good.iter().filter(|b| !gone.contains(&b.name)).cloned().collect();
        let second = plan("s", rules, &left, now, zone);
        prop_assert_eq!(kept(&first), kept(&second));
    }

    /// A rule that keeps more never lets anything go that a stricter one keeps.
    #[test]
    fn more_permissive_keeps_a_superset(
        good in history(), rules in rules(), more in rules(), zone in zone(),
    ) {
        // "0" alone is the most permissive of all, and no smaller number.
        prop_assume!(!rules.keeps_all());
        let sum = Retention {
            count: rules.count + more.count,
            keep_daily: rules.keep_daily + more.keep_daily,
            keep_weekly: rules.keep_weekly + more.keep_weekly,
            keep_monthly: rules.keep_monthly + more.keep_monthly,
            keep_yearly: rules.keep_yearly + more.keep_yearly,
            keep_within: rules.keep_within.saturating_add(more.keep_within),
        };
        let now = at("2027-08-01T00:00:00Z");
        let (strict, loose) = (plan("s", rules, &good, now, zone), plan("s", sum, &good, now, zone));
        prop_assert!(kept(&strict).is_subset(&kept(&loose)));
        prop_assert!(kept(&strict).is_subset(&kept(&plan("s", Retention::default(), &good, now, zone))));
    }

    /// The order in which the catalogue lists them makes no difference.
    #[test]
    fn order_does_not_matter(good in history().prop_shuffle(), rules in rules(), zone in zone()) {
        let now = at("2027-08-01T00:00:00Z");
        let mut sorted = good.clone();
        sorted.sort_by_key(|b| b.name.clone());
        prop_assert_eq!(plan("s", rules, &good, now, zone), plan("s", rules, &sorted, now, zone));
    }

    /// Backups come one after the other and retention runs after each, or only now and then: exactly the newest N
    /// stay in the end.
    #[test]
    fn a_count_keeps_exactly_so_many(
        count in 1..10_u32, runs in proptest::collection::vec((1..5_000_i64, any::<bool>()), 1..80),
    ) {
        let rules = Retention { count, ..Retention::default() };
        let mut present: Vec<GoodBackup> = Vec::new();
        let mut clock = at(NOW);
        for (i, (minutes, runs_now)) in runs.iter().enumerate() {
            clock += TimeDelta::minutes(*minutes);
            present.push(GoodBackup { at: clock, ..backup(&format!("b{i}"), NOW) });
            if *runs_now || i + 1 == runs.len() {
                let kept = kept(&plan("s", rules, &present, clock, Tz::UTC));
                present.retain(|b| kept.contains(&b.name));
            }
        }
        let expected: Vec<_> = (0..runs.len()).rev().take(count as usize).map(|i| format!("b{i}")).collect();
        let mut left: Vec<_> = present.iter().rev().map(|b| b.name.clone()).collect();
        prop_assert_eq!(std::mem::take(&mut left), expected);
    }

    /// Each of the newest so many days (weeks, months, years) that have a backup keeps its last one.
    #[test]
    fn periods_keep_their_last(good in history(), limit in 1..12_u32, zone in zone()) {
        let now = at("2027-08-01T00:00:00Z");
        let mine: Vec<_> = good.iter().filter(|b| b.of_schedule && !b.damaged).collect();
        type Period = fn(&GoodBackup, Tz) -> (i32, u32);
        let cases: [(Retention, Period); 3] = [
            (Retention { keep_daily: limit, ..Retention::default() }, |b, z| {
                let at = b.at.with_timezone(&z);
                (at.year(), at.ordinal())
            }),
            (Retention { keep_monthly: limit, ..Retention::default() }, |b, z| {
                let at = b.at.with_timezone(&z);
                (at.year(), at.month())
            }),
            (Retention { keep_yearly: limit, ..Retention::default() }, |b, z| {
                (b.at.with_timezone(&z).year(), 0)
            }),
        ];
        for (rules, period) in cases {
            let kept = kept(&plan("s", rules, &good, now, zone));
            let mut periods: Vec<_> = mine.iter().map(|b| period(b, zone)).collect();
            periods.sort_unstable();
            periods.dedup();
            for wanted in periods.iter().rev().take(limit as usize) {
                let last = newest(mine.iter().copied().filter(|b| period(b, zone) == *wanted)).unwrap();
                prop_assert!(kept.contains(&last.name));
            }
        }
    }
}

#[test]
fn a_chain_of_increments_goes_as_a_whole_or_not_at_all() {
    let link = |base: &str, is_base| Some(Chained { base: base.to_owned(), is_base });
    let of = |name: &str, when: &str, base: &str| GoodBackup { chain: link(base, name == base), ..backup(name, when) };
    let good = [
        of("d2", "2026-11-20T00:00:00Z", "d"),
        of("d", "2026-11-19T00:00:00Z", "d"),
        of("c2", "2026-11-18T00:00:00Z", "c"),
        of("c", "2026-11-17T00:00:00Z", "c"),
        of("a2", "2026-11-16T00:00:00Z", "a"),
        of("a", "2026-11-15T00:00:00Z", "a"),
    ];
    let planned = |good: &[GoodBackup], count| {
        let retention = Retention { count, ..Retention::default() };
        plan("nightly", retention, good, at("2026-11-21T00:00:00Z"), chrono_tz::UTC)
    };
    let going = |good: &[GoodBackup], count| planned(good, count).going().map(|b| b.name.clone()).collect::<Vec<_>>();
    // The base first: what hangs on it goes with it.
    assert_eq!(going(&good, 2), ["a", "a2", "c", "c2"]);
    // The third newest is an increment, whose base stays for it.
    assert_eq!(going(&good, 3), ["a", "a2"]);
    let kept = planned(&good, 3);
    let base = kept.backups.iter().find(|b| b.name == "c").unwrap();
    assert_eq!(base.reasons, ["a chain of increments stays as a whole, for c2"]);
    // A newer increment of one that is pinned stays, too.
    let mut pinned = good.clone();
    pinned[5].pinned = true;
    assert_eq!(going(&pinned, 2), ["c", "c2"]);
    // What another schedule, or a person, based on it keeps all of it.
    let mut foreign = good.clone();
    foreign[4].of_schedule = false;
    assert_eq!(going(&foreign, 2), ["c", "c2"]);
    // Without its base nothing of it can go.
    assert_eq!(going(&good[..5], 2), ["c", "c2"]);
    assert!(planned(&good[..5], 2).backups[4].reasons[0].contains("base of its chain"));
}
