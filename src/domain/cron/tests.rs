use std::collections::HashMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;

fn cron(line: &str) -> Cron {
    Cron::parse(line).unwrap_or_else(|e| panic!("{line}: {e}"))
}

fn zone(name: &str) -> Tz {
    name.parse().unwrap()
}

/// The runs of `line` in `(after, until]`, as a clock there shows them, with the offset.
fn runs(line: &str, zone_name: &str, after: &str, until: &str) -> Vec<String> {
    let (cron, zone) = (cron(line), zone(zone_name));
    let (mut at, until): (DateTime<Utc>, DateTime<Utc>) = (after.parse().unwrap(), until.parse().unwrap());
    let mut out = Vec::new();
    while let Some(next) = cron.next_after(zone, at).filter(|next| *next <= until) {
        assert!(next > at, "{line} went backwards at {at}");
        out.push(next.with_timezone(&zone).format("%d %H:%M:%S%:z").to_string());
        at = next;
    }
    out
}

#[test]
fn spring_moves_a_run_to_the_end_of_the_gap() {
    let paris = |line| runs(line, "Europe/Paris", "2026-03-28T12:00:00Z", "2026-03-30T03:00:00Z");
    assert_eq!(paris("30 2 * * *"), ["29 03:00:00+02:00", "30 02:30:00+02:00"]);
    // Both fall into the gap, and are one run.
    assert_eq!(paris("15,45 2 * * *"), ["29 03:00:00+02:00", "30 02:15:00+02:00", "30 02:45:00+02:00"]);
    // The end of the gap has a run of its own.
    assert_eq!(paris("0 2,3 * * *"), ["29 03:00:00+02:00", "30 02:00:00+02:00", "30 03:00:00+02:00"]);
    assert_eq!(paris("59 1 * * *"), ["29 01:59:00+01:00", "30 01:59:00+02:00"]);
    assert_eq!(
        runs("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z"),
        ["08 03:00:00-04:00", "09 02:30:00-04:00"]
    );
    // Half an hour only: 02:00 becomes 02:30.
    let lord_howe = |line| runs(line, "Australia/Lord_Howe", "2026-10-03T03:00:00Z", "2026-10-05T00:00:00Z");
    assert_eq!(lord_howe("10 2 * * *"), ["04 02:30:00+11:00", "05 02:10:00+11:00"]);
    assert_eq!(lord_howe("40 2 * * *"), ["04 02:40:00+11:00", "05 02:40:00+11:00"]);
    // Midnight does not exist.
    assert_eq!(
        runs("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-05T12:00:00Z"),
        ["04 01:00:00-02:00", "05 00:00:00-02:00"]
    );
    assert_eq!(
        runs("0 0 4 11 *", "America/Sao_Paulo", "2018-01-01T00:00:00Z", "2019-01-01T00:00:00Z"),
        ["04 01:00:00-02:00"]
    );
    // The day does not exist.
    assert_eq!(
        runs("0 2 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", "2011-12-31T13:00:00Z"),
        ["29 02:00:00-10:00", "31 00:00:00+14:00", "31 02:00:00+14:00", "01 02:00:00+14:00"]
    );
}

#[test]
fn autumn_runs_once() {
    let paris = |line| runs(line, "Europe/Paris", "2026-10-24T12:00:00Z", "2026-10-26T03:00:00Z");
    assert_eq!(paris("30 2 * * *"), ["25 02:30:00+02:00", "26 02:30:00+01:00"]);
    assert_eq!(
        paris("15,45 2,3 25 * *"),
        ["25 02:15:00+02:00", "25 02:45:00+02:00", "25 03:15:00+01:00", "25 03:45:00+01:00"]
    );
    assert_eq!(
        runs("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z"),
        ["01 01:30:00-04:00", "02 01:30:00-05:00"]
    );
    assert_eq!(
        runs("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T03:00:00Z", "2026-04-06T00:00:00Z"),
        ["05 01:45:00+11:00", "06 01:45:00+10:30"]
    );
    // Midnight comes twice in Havana: 01:00 becomes 00:00.
    assert_eq!(
        runs("0 0 * * *", "America/Havana", "2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z"),
        ["01 00:00:00-04:00", "02 00:00:00-05:00"]
    );
    // Asked for in the middle of the second time round, the next one is tomorrow's.
    let again = "2026-10-25T01:10:00Z".parse().unwrap();
    assert_eq!(
        cron("30 2 * * *").next_after(zone("Europe/Paris"), again).unwrap().to_rfc3339(),
        "2026-10-26T01:30:00+00:00"
    );
}

#[test]
fn ramadan_changes_the_clock_twice_within_weeks() {
    // Morocco leaves its summer time for Ramadan: back on 15 February 2026, forward on 22 March.
    let casablanca = |line, after, until| runs(line, "Africa/Casablanca", after, until);
    assert_eq!(
        casablanca("30 2 * * *", "2026-02-14T12:00:00Z", "2026-02-16T12:00:00Z"),
        ["15 02:30:00+01:00", "16 02:30:00+00:00"]
    );
    assert_eq!(
        casablanca("30 2 * * *", "2026-03-21T12:00:00Z", "2026-03-23T12:00:00Z"),
        ["22 03:00:00+01:00", "23 02:30:00+01:00"]
    );
}

#[test]
fn lines_for_every_hour_go_by_elapsed_time() {
    let every = |line, zone_name, after: &str, minutes: i64, count: usize| {
        let (cron, zone) = (cron(line), zone(zone_name));
        let mut at: DateTime<Utc> = after.parse().unwrap();
        for _ in 0..count {
            let next = cron.next_after(zone, at).unwrap();
            assert_eq!((next - at).num_minutes(), minutes, "{line} in {zone_name} after {at}");
            at = next;
        }
    };
    for zone_name in
        ["Europe/Paris", "America/New_York", "UTC", "Asia/Kathmandu", "America/Sao_Paulo", "America/Havana"]
    {
        // Both changes of the clock lie within a year.
        every("*/15 * * * *", zone_name, "2026-01-01T00:00:00Z", 15, 366 * 96);
    }
    every("0 * * * *", "Europe/Paris", "2026-01-01T00:00:00Z", 60, 366 * 24);
    every("*/15 0-23 * * *", "Australia/Lord_Howe", "2026-01-01T00:00:00Z", 15, 366 * 96);
    assert_eq!(
        runs("@hourly", "Europe/Paris", "2026-10-24T23:30:00Z", "2026-10-25T02:30:00Z"),
        ["25 02:00:00+02:00", "25 02:00:00+01:00", "25 03:00:00+01:00"]
    );
    // Nothing is added after the gap.
    assert_eq!(
        runs("30 * * * *", "Europe/Paris", "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"),
        ["29 01:30:00+01:00", "29 03:30:00+02:00"]
    );
}

#[test]
fn zones_without_changes() {
    for zone_name in ["UTC", "Asia/Kathmandu"] {
        let (cron, zone) = (cron("45 5 * * *"), zone(zone_name));
        let mut at: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().unwrap();
        at = cron.next_after(zone, at).unwrap();
        for _ in 0..400 {
            let next = cron.next_after(zone, at).unwrap();
            assert_eq!((next - at).num_hours(), 24);
            at = next;
        }
    }
    // 5 h 45 min before local time.
    assert_eq!(
        cron("45 5 * * *")
            .next_after(zone("Asia/Kathmandu"), "2026-01-01T12:00:00Z".parse().unwrap())
            .unwrap()
            .to_string(),
        "2026-01-02 00:00:00 UTC"
    );
}

#[test]
fn weekdays_and_day_fields() {
    let november = |line| {
        runs(line, "UTC", "2026-10-31T23:59:59Z", "2026-11-16T00:00:00Z")
            .into_iter()
            .map(|r| r[..2].to_owned())
            .collect::<Vec<_>>()
    };
    // The 1st of November 2026 is a Sunday.
    for sunday in ["0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "0 0 * * SUN", "@weekly", "0 0 * * */7"] {
        assert_eq!(november(sunday), ["01", "08", "15"], "{sunday}");
    }
    assert_eq!(november("0 0 * * 1-3"), ["02", "03", "04", "09", "10", "11", "16"]);
    assert_eq!(november("0 0 * * fri-sun"), ["01", "06", "07", "08", "13", "14", "15"]);
    assert_eq!(november("0 0 * * 5-7"), november("0 0 * * fri-sun"));
    // Either of two restricted fields.
    assert_eq!(november("0 0 1,3 * 1"), ["01", "02", "03", "09", "16"]);
    // A field that begins with * does not restrict in this sense, so both must fit.
    assert_eq!(november("0 0 */2 * 1"), ["09"]);
    assert_eq!(november("0 0 1-7 * */2"), ["01", "03", "05", "07"]);
    // 1-31 is a restriction that every day fits.
    assert_eq!(november("0 0 1-31 * 1").len(), 16);
}

#[test]
fn seconds_come_first() {
    assert_eq!(
        runs("*/20 59 23 * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-02T12:00:00Z"),
        ["01 23:59:00+00:00", "01 23:59:20+00:00", "01 23:59:40+00:00"]
    );
    let after = DateTime::from_timestamp(1_767_225_599, 999_000_000).unwrap();
    assert_eq!(cron("* * * * * *").next_after(Tz::UTC, after).unwrap().timestamp(), 1_767_225_600);
    assert_eq!(cron("0 0 29 2 *").next_after(Tz::UTC, after).unwrap().to_string(), "2028-02-29 00:00:00 UTC");
}

#[test]
fn what_is_refused_says_why() {
    for (line, why) in [
        ("0 0 30 2 *", "never runs"),
        ("0 0 31 4,6,9,11 *", "never runs"),
        ("0 0 30 2 */2", "never runs"),
        ("", "0 fields"),
        ("0 2 * *", "4 fields"),
        ("0 0 2 * * * 2027", "7 fields"),
        ("0 2 ? * *", "day: ? is not crontab's"),
        ("0 2 L * *", "day: L is not crontab's"),
        ("0 2 15W * *", "day: 15W is not crontab's"),
        ("0 2 * * 1#2", "weekday: 1#2 is not crontab's"),
        ("60 2 * * *", "minute: 60 is not from 0 to 59"),
        ("0 24 * * *", "hour: 24 is not from 0 to 23"),
        ("0 0 0 * *", "day: 0 is not from 1 to 31"),
        ("0 0 * 13 *", "month: 13 is not from 1 to 12"),
        ("0 0 * * 8", "weekday: 8 is not from 0 to 7"),
        ("*/0 * * * *", "minute: 0 is no step from 1 to 59"),
        ("*/90 * * * *", "minute: 90 is no step from 1 to 59"),
        ("0/15 * * * *", "minute: 0/15 has a step without a range; write 0-59/..."),
        ("0 22-2 * * *", "hour: 22-2 goes backwards"),
        ("0 2 * * sat-mon", "weekday: sat-mon goes backwards"),
        ("1,,2 * * * *", "minute: a value is missing"),
        ("-5 * * * *", "minute: a value is missing"),
        ("0 2 * * monday", "weekday: monday is not a value"),
        ("99999999999999999999 * * * *", "is not a value"),
        ("1-2-3 * * * *", "minute: 2-3 is not a value"),
        ("é * * * *", "minute: é is not a value"),
        ("@reboot", "@reboot is not one of"),
        ("@every 5m", "is not one of"),
        ("0 2\n* * *", "control characters"),
        (&"*,".repeat(200), "longer than"),
    ] {
        let error = Cron::parse(line).unwrap_err();
        assert!(error.contains(why), "{line}: {error}");
        assert!(error.len() < 100, "{error}");
    }
    for (name, line) in [("@daily", "0 0 * * *"), ("@MIDNIGHT", "0 0 * * *"), (" @annually ", "0 0 1 1 *")] {
        assert_eq!(cron(name).spec, cron(line).spec);
    }
}

#[test]
fn the_meaning_in_words() {
    for (line, words) in [
        ("0 2 * * *", "every day at 02:00"),
        ("@daily", "every day at 00:00"),
        ("30 2,14 * * *", "every day at 02:30 and 14:30"),
        ("* * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("0,30 * * * *", "every 30 minutes"),
        ("*/7 * * * *", "at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"),
        ("@hourly", "every hour"),
        ("20 * * * *", "every hour at minute 20"),
        ("0 */2 * * *", "every 2 hours from 00:00"),
        ("30 */3 * * *", "every 3 hours from 00:30"),
        ("0 */6 * * *", "every day at 00:00, 06:00, 12:00 and 18:00"),
        ("0 1-23/2 * * *", "at minute 0 of hours 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21 and 23"),
        ("30 3 * * 1,4", "on Mondays and Thursdays at 03:30"),
        ("30 3 * * 0,1", "on Mondays and Sundays at 03:30"),
        ("0 8 * * 1-5", "on weekdays (Monday to Friday) at 08:00"),
        ("*/15 8-17 * * 1-5", "every 15 minutes from 08:00 to 17:45 on weekdays (Monday to Friday)"),
        ("30 8-17 * * *", "every hour from 08:30 to 17:30"),
        ("0 4 1 * *", "on the 1st of each month at 04:00"),
        ("0 4 31 * *", "on the 31st of each month that has one at 04:00"),
        ("0 4 1,15 * *", "on the 1st and the 15th of each month at 04:00"),
        ("0 4 1-7 * *", "on the 1st to the 7th of each month at 04:00"),
        ("@yearly", "on the 1st of January at 00:00"),
        ("0 4 * 6,7 *", "every day in June and July at 04:00"),
        ("0 4 * 6 1", "on Mondays in June at 04:00"),
        ("0 4 1 * 1", "on the 1st of each month and also on Mondays at 04:00"),
        ("0 4 */15 * 1", "on Mondays that are the 1st, the 16th and the 31st of each month at 04:00"),
        ("0 4 1-31 * 1", "every day at 04:00"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("* * * * * *", "every second"),
        ("15 0 2 * * *", "every day at 02:00:15"),
        ("5,6 * 2 * * *", "at seconds 5 and 6 of every minute of hour 2"),
        ("5-20 2 * * *", "at minutes 5 to 20 of hour 2"),
    ] {
        assert_eq!(cron(line).words(), words, "{line}");
    }
}

#[test]
fn times_of_day_move() {
    for (line, minutes, moved) in [
        ("0 2 * * *", 5, Some("5 2 * * *")),
        ("0 2 * * 1-5", -15, Some("45 1 * * 1-5")),
        ("50 2,14 1 * *", 70, Some("0 4,16 1 * *")),
        ("30 0 2 * * *", 60, Some("30 0 3 * * *")),
        ("0 */2 * * *", 10, Some("10 */2 * * *")),
        ("@hourly", 59, Some("59 * * * *")),
        ("@hourly", 60, None),
        ("@daily", -1, None),
        ("50 23 * * *", 10, None),
        ("*/15 * * * *", 5, None),
    ] {
        assert_eq!(cron(line).shifted(minutes).as_deref(), moved, "{line} {minutes}");
    }
}

/// One field: `*`, lists, ranges, steps.
fn any_field(low: u32, high: u32) -> impl Strategy<Value = String> {
    let value = low..=high;
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => (1..=high).prop_map(|step| format!("*/{step}")),
        3 => value.clone().prop_map(|v| v.to_string()),
        1 => (value.clone(), value.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (value.clone(), value.clone(), 1..=high).prop_map(|(a, b, s)| format!("{}-{}/{s}", a.min(b), a.max(b))),
        1 => prop::collection::vec(value, 2..5).prop_map(|v| v.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
    ]
}

fn any_line() -> impl Strategy<Value = String> {
    let second = prop_oneof![3 => Just(None), 1 => any_field(0, 59).prop_map(Some)];
    let fields = (second, any_field(0, 59), any_field(0, 23), any_field(1, 31), any_field(1, 12), any_field(0, 7));
    fields.prop_map(|(s, mi, h, d, mo, w)| {
        let second = s.map_or_else(String::new, |s| format!("{s} "));
        format!("{second}{mi} {h} {d} {mo} {w}")
    })
}

#[test]
fn lines_that_differ_read_differently() {
    let mut seen: HashMap<String, (Spec, String)> = HashMap::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..20_000 {
        let line = any_line().new_tree(&mut runner).unwrap().current();
        let Ok(cron) = Cron::parse(&line) else { continue };
        let words = cron.words();
        assert!(!words.is_empty() && !words.contains("  "), "{line}: {words}");
        if let Some((spec, other)) = seen.insert(words.clone(), (cron.spec, line.clone())) {
            assert_eq!(spec, cron.spec, "{line} and {other} both read: {words}");
        }
    }
    assert!(seen.len() > 10_000, "{}", seen.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_newest_run_is_the_one_before_the_next(line in any_line(), at in 0_i64..4_000_000_000, back in 1_i64..40_000_000) {
        let Ok(cron) = Cron::parse(&line) else { return Ok(()) };
        let paris = zone("Europe/Paris");
        let until = DateTime::from_timestamp(at, 500_000_000).unwrap();
        let after = until - TimeDelta::seconds(back);
        match cron.last_until(paris, after, until) {
            None => prop_assert!(cron.next_after(paris, after).is_none_or(|next| next > until)),
            Some(last) => {
                prop_assert!(last > after && last <= until);
                prop_assert_eq!(cron.next_after(paris, last - TimeDelta::seconds(1)), Some(last));
                prop_assert!(cron.next_after(paris, last).is_none_or(|next| next > until));
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ -~é\t*/,0-9-]{0,40}") {
        if let Err(why) = Cron::parse(&text) {
            prop_assert!(!why.is_empty());
        }
    }
}
