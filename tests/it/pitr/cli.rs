//! Point-in-time recovery as scripts see it: schedules that record, what can be recovered, restores to a moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use mongodb::bson::{Document, doc};
use mongokeep::artifact::layout::FORMAT_VERSION;
use mongokeep::artifact::slice::Header;
use mongokeep::config;
use mongokeep::domain::backup::{BackupType, Compression, Model};
use mongokeep::domain::pitr::{Archive, Gap, Mark, MarkKind, OpTime, Slice};
use mongokeep::domain::service::EngineKind;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::store::{Access, CatalogueEntry, Store};
use serde_json::{Value, json};

use crate::support;
use crate::support::command::{Home, good, json_of, run};
use crate::support::compare;
use crate::support::recording::newest;

const SET: &str = "0123456789abcdef01234567";
const BEGAN: u32 = 1_790_000_000;

fn store(home: &Home) -> Store {
    let home = config::Home::below(home.path());
    Store::open(&home.store_file(), &home.key_file(), Access::Write).unwrap()
}

fn ts(offset: u32) -> Timestamp {
    Timestamp::new(BEGAN + offset, 1)
}

fn time(offset: u32) -> String {
    let at: DateTime<Utc> = ts(offset).to_datetime();
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn slice(after: u32, last: u32) -> Slice {
    let at = |offset| OpTime { ts: ts(offset), term: 1 };
    Slice {
        key: format!("a/oplog/rs-{SET}/{:010}-0000000001_{:010}-0000000001.bson.zst", ts(after).t + 1, ts(last).t),
        after: at(after),
        last: at(last),
        entries: 1_200,
        operations: 100,
        size: 1_000,
        uncompressed: 3_000,
        data_offset: 40,
        blake3: "ab".into(),
        recipients: Vec::new(),
        written_at: Utc::now(),
        gap: None,
        marks: Vec::new(),
        counts: Vec::new(),
    }
}

/// Of service `a`: everything from 0 to 200 and from 300 to 400 with a reason for what is missing, bases at 50 and 350.
fn recorded(home: &Home) {
    let archive =
        Archive { storage: "t".into(), folder: "a".into(), replica_set: "rs".into(), replica_set_id: SET.into() };
    let gap = Gap { from_ts: ts(200), to_ts: ts(300), reason: "the oplog rolled over".into() };
    let mark = Mark { ts: ts(120), kind: MarkKind::RestoreBegan, text: "old into a".into() };
    let slices =
        [slice(0, 100), Slice { marks: vec![mark], ..slice(100, 200) }, Slice { gap: Some(gap), ..slice(300, 400) }];
    let store = store(home);
    store.add_slices("a", &archive, &slices).unwrap();
    for (name, at) in [("one", 50), ("two", 350)] {
        let facts = CatalogueEntry {
            name: name.into(),
            service: "a".into(),
            cluster: None,
            folder: "a".into(),
            schedule: None,
            engine: EngineKind::Native,
            model: Model::Logical,
            backup_type: BackupType::Full,
            compression: Compression::None,
            consistent_at_ts: ts(at),
            size_bytes: 1,
            uncompressed_bytes: 1,
            documents: Some(1),
            new_bytes: None,
            locked_millis: None,
            pbm_name: None,
            chain: None,
            recipients: None,
            started_at: ts(at).to_datetime(),
            finished_at: ts(at).to_datetime(),
            server_version: "6.0.5".into(),
            fcv: "6.0".into(),
            replica_set_id: SET.into(),
            whole: Some(true),
        };
        store.import_backup("t", &facts).unwrap();
    }
}

#[test]
fn one_schedule_at_a_time_records_a_service() {
    let home = Home::ready();
    good(&home, &format!("storage add u --type filesystem --path {}", home.dir().display()));
    let add = "schedule add NAME --service a --cron @daily --type pitr --disabled";
    let add = |name: &str, rest: &str| format!("{} {rest}", add.replace("NAME", name));
    let schedule = json_of(&home, &add("first", "--storage t"));
    assert_eq!(json!([schedule["type"], schedule["model"], schedule["folder"]]), json!(["pitr", "logical", "a"]));
    assert_eq!(json_of(&home, "schedule next first --count 2").as_array().unwrap().len(), 2);
    good(&home, &add("elsewhere", "--storage u"));
    good(&home, &add("beside", "--storage t --folder x"));
    good(&home, &add("same", "--storage t --folder a"));
    good(&home, &add("whole", "--storage u --type full").replace("--type pitr ", ""));

    good(&home, "settings set backup.enabled false");
    good(&home, "schedule enable first");
    good(&home, "schedule enable whole");
    good(&home, "schedule copy elsewhere copy");
    for refused in [
        "schedule enable elsewhere",
        "schedule enable beside",
        "schedule enable copy",
        "schedule enable same",
        "schedule edit whole --type pitr",
        "schedule add late --service a --cron @daily --type pitr --storage u",
        "schedule add late --service a --cron @daily --type pitr --storage t --folder a",
    ] {
        let run = run(&home, refused);
        assert_eq!((run.code, run.stdout.as_str()), (4, ""), "{refused}: {}", run.stderr);
        assert!(
            run.stderr.contains("schedule first already records the oplog of a in storage t"),
            "{refused}: {}",
            run.stderr
        );
        assert!(run.stderr.contains("mongokeep schedule disable"), "{refused}: {}", run.stderr);
    }
    // Whatever is off may wait for its turn; whatever is of another type may go anywhere.
    good(&home, "schedule edit elsewhere --folder z");
    good(&home, "schedule edit same --type full --storage u");
    good(&home, "schedule disable first");
    good(&home, "schedule enable elsewhere");
}

#[test]
fn the_status_is_that_of_the_contract() {
    let home = Home::ready();
    assert_eq!(json_of(&home, "pitr status"), json!([]));
    let none = good(&home, "pitr status");
    assert!(none.stdout.is_empty() && none.stderr.contains("--type pitr"), "{none:?}");
    assert_eq!(run(&home, "pitr status --service x").code, 3);
    assert_eq!(run(&home, "pitr").code, 2);
    assert_eq!(json_of(&home, "pitr status --service a")[0]["ranges"], json!([]));

    recorded(&home);
    let status = json_of(&home, "pitr status --service a");
    let without_lag = |mut status: Value| {
        status[0]["lag_seconds"].take();
        status
    };
    assert_eq!(without_lag(json_of(&home, "pitr status")), without_lag(status.clone()));
    let status = &status[0];
    let position = |offset: u32| json!({"t": ts(offset).t, "i": 1});
    let range = |from: u32, to: u32| json!({"from": time(from), "to": time(to - 1), "from_ts": position(from), "to_ts": position(to)});
    assert_eq!(status["ranges"], json!([range(50, 200), range(350, 400)]));
    let gap = &status["gaps"][0];
    assert_eq!(json!([gap["from"], gap["to"], gap["reason"]]), json!([time(200), time(300), "the oplog rolled over"]));
    assert_eq!(json!([status["service"], status["running"], status["error"]]), json!(["a", false, null]));
    let lag = status["lag_seconds"].as_i64().unwrap() - (Utc::now().timestamp() - i64::from(ts(400).t));
    assert!(lag.abs() < 60, "{status}");

    good(&home, "settings set ui.timezone UTC");
    let shown = good(&home, "pitr status").stdout;
    let line = |words: &str| {
        let found = shown.lines().find(|line| words.split(' ').all(|word| line.contains(word)));
        found.unwrap_or_else(|| panic!("{words} is not in\n{shown}"))
    };
    line("a: not recording lag 3 slices (3.0 kB) in t");
    // Times can be given to --time as they are.
    let exact = |offset| time(offset).replace('Z', "+00:00");
    line(&format!("any second {} {} 1 base", exact(50), exact(199)));
    line(&format!("GAP {} {}", exact(200), exact(300)));
    line("the oplog rolled over");
    line(&format!("restore began {} old into a", exact(120)));
    assert!(good(&home, "service show a").stdout.contains("recoverable"), "{shown}");
    assert!(json_of(&home, "service show a")["pitr"]["ranges"].is_array());

    // A schedule that is on, and nothing that carries it out.
    good(&home, "settings set backup.enabled false");
    good(&home, "schedule add p --service a --storage t --cron @daily --type pitr");
    let status = &json_of(&home, "pitr status")[0];
    assert!(status["error"].as_str().unwrap().contains("backup management is off"), "{status}");
    assert_eq!(status["schedules"], json!(["p"]));
}

#[test]
fn moments_that_cannot_be_restored_name_those_that_can() {
    let home = Home::ready();
    let restore = |rest: &str| run(&home, &format!("restore --service a --to a {rest}"));
    let none = restore("--time latest");
    assert_eq!(none.code, 3, "{}", none.stderr);
    assert!(none.stderr.contains("nothing of the oplog of a is recorded") && none.stderr.contains("--type pitr"));
    recorded(&home);
    for (rest, words) in [
        (format!("--time {}", time(250)), vec!["rolled over".to_owned(), time(199), time(350)]),
        (format!("--time {}", time(10)), vec![time(50), "no base is so old".to_owned()]),
        (format!("--time {}", time(400)), vec![time(399), "nothing so late".to_owned()]),
        (format!("--time {},2", ts(400).t), vec![format!("(position {})", ts(400))]),
        (format!("--time {} --base two", time(100)), vec!["from base two".to_owned(), time(350)]),
        ("--time latest --base x".into(), vec!["backup x".to_owned()]),
    ] {
        let run = restore(&rest);
        assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{rest}: {}", run.stderr);
        assert!(words.iter().all(|word| run.stderr.contains(word)), "{rest}: {words:?}: {}", run.stderr);
    }
    for (line, field) in [
        ("restore --service a --to a --time yesterday", "time"),
        ("restore --service a --to a --time 1,2,3", "time"),
        ("restore one --service a --to a --time latest", "backup"),
        ("restore --to a --time latest", "service"),
        ("restore --to a --service a", "service"),
        ("restore one --to a --base two", "base"),
        ("restore --service a --time latest", "to"),
    ] {
        let run = run(&home, line);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{line}: {}", run.stderr);
        assert!(run.stderr.lines().any(|l| l.starts_with(&format!("error: {field}: "))), "{line}: {}", run.stderr);
    }
    assert_eq!(run(&home, "restore --service x --to a --time latest").code, 3);
    assert_eq!(json_of(&home, "job list"), json!([]));
}

/// Writes the object of a slice, as the home `home_id` would have.
fn write_object(home: &Home, slice: &Slice, home_id: &str) {
    let data = zstd::encode_all(&b"entries"[..], 1).unwrap();
    let header = Header {
        format_version: FORMAT_VERSION,
        tool_version: "1".into(),
        service: "a".into(),
        replica_set: "rs".into(),
        replica_set_id: SET.into(),
        member: "h:1".into(),
        server_version: "6.0.5".into(),
        home_id: home_id.into(),
        written_at: slice.written_at,
        after: slice.after,
        first_ts: Timestamp::new(slice.after.ts.t + 1, 1),
        last: slice.last,
        entries: slice.entries,
        operations: slice.operations,
        uncompressed: 7,
        data_size: data.len() as u64,
        blake3: blake3::hash(&data).to_hex().to_string(),
        encryption: None,
        gap: None,
        marks: Vec::new(),
        counts: Vec::new(),
    };
    let path = home.dir().join("storage").join(&slice.key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, [&header.to_frame().unwrap()[..], &data].concat()).unwrap();
}

#[test]
fn slices_go_with_the_last_base_that_leads_to_them() {
    let home = Home::ready();
    recorded(&home);
    let id = store(&home).home_id().unwrap();
    let (ours, theirs, damaged) = (slice(0, 100), slice(100, 200), slice(300, 400));
    write_object(&home, &ours, &id);
    write_object(&home, &theirs, "another home");
    write_object(&home, &damaged, &id);
    let path = |slice: &Slice| home.dir().join("storage").join(&slice.key);
    fs::write(path(&damaged), "damaged").unwrap();
    let plan = run(&home, "backup delete one");
    assert_eq!(plan.code, 4);
    let warned = format!("from {} to {} can no longer be restored", time(50), time(200));
    assert!(plan.stdout.contains(&warned), "{}", plan.stdout);

    assert_eq!(json_of(&home, "backup delete one --yes")["state"], "succeeded");
    assert!(!path(&ours).exists() && path(&theirs).exists(), "only what this home wrote goes");
    assert_eq!(json_of(&home, "pitr status")[0]["slices"], 2);
    let job = json_of(&home, "backup delete two --yes");
    assert!(path(&damaged).exists(), "nobody can say whose it is");
    let log = good(&home, &format!("job log {}", job["id"])).stdout;
    assert!(log.contains("stays: nobody can say whose it is"), "{log}");
}

/// The value that `look` finds, as soon as it does.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(180), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn position(value: &Value) -> Timestamp {
    serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{e}: {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accident_is_undone_to_the_position_before_it() {
    let (live, other) = tokio::join!(support::replica_set(), support::replica_set());
    let home = Home::ready();
    for (name, set) in [("live", &live), ("other", &other)] {
        assert_eq!(home.run_with(&["service", "add", name, "--uri-file", "-"], &set.uri()).code, 0);
    }
    good(&home, "settings set pitr.slice_seconds 5");
    let client = live.client().await.unwrap();
    let orders = client.database("shop").collection::<Document>("orders");
    orders.insert_many((0..50).map(|i| doc! {"_id": i, "n": 0})).await.unwrap();
    client.database("shop").collection::<Document>("kept").insert_one(doc! {"_id": 1}).await.unwrap();
    good(&home, "schedule add line --service live --storage t --cron @yearly --type pitr");
    // Recording has begun before the base is made, so that the base is of use.
    eventually("the slicer does not run", || json_of(&home, "daemon status")["services_sliced"].eq(&1).then_some(()));
    let base = json_of(&home, "schedule run line --wait");
    let base = base["backup"].as_str().unwrap();
    assert_eq!(json_of(&home, &format!("backup show {base}"))["type"], "pitr");

    let shop = client.database("shop");
    let no_roles = || Vec::<String>::new();
    let privileges = vec![doc! {"resource": {"db": "shop", "collection": ""}, "actions": ["find"]}];
    shop.run_command(doc! {"createRole": "looker", "privileges": privileges, "roles": no_roles()}).await.unwrap();
    let early = newest(&client).await;
    shop.run_command(doc! {"createUser": "late", "pwd": "hunter2", "roles": no_roles()}).await.unwrap();
    // Changed after it came: what is restored is the user of the moment, not of its creation.
    shop.run_command(doc! {"grantRolesToUser": "late", "roles": ["looker"]}).await.unwrap();
    orders.update_many(doc! {}, doc! {"$inc": {"n": 7}}).await.unwrap();
    orders.insert_many((50..90).map(|i| doc! {"_id": i, "n": 7})).await.unwrap();
    let before = newest(&client).await;
    let wanted = compare::database(&client, "shop").await;
    let people = users_and_roles(&client).await;
    shop.run_command(doc! {"dropUser": "late"}).await.unwrap();
    orders.drop().await.unwrap();
    let after = newest(&client).await;
    let status = recorded_up_to(&home, after);
    assert_eq!(json!([status["running"], status["error"], status["gaps"]]), json!([true, null, []]));
    assert!(status["lag_seconds"].as_u64().unwrap() < 60, "{status}");
    assert_eq!(status["bases"][0]["backup"], base);

    let restore = format!("restore --service live --time {before} --to other");
    let plan = json_of(&home, &format!("{restore} --dry-run"));
    let replay = &plan["point_in_time"];
    assert_eq!(json!([plan["backup"], replay["base"]["backup"]]), json!([base, base]));
    assert_eq!(position(&plan["consistent_at_ts"]), before);
    assert!(replay["slices"].as_u64() >= Some(1) && replay["entries"].as_u64() > Some(40), "{plan}");
    let shown = run(&home, &restore);
    assert_eq!(shown.code, 4, "{}", shown.stderr);
    let utc = before.to_datetime().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    for words in [format!("restore live as of {utc}"), format!("position {before}"), format!("from base {base}")] {
        assert!(shown.stdout.contains(&words), "{words}: {}", shown.stdout);
    }
    let job = json_of(&home, &format!("{restore} --yes --wait"));
    assert_eq!(json!([job["state"], job["backup"], job["service"]]), json!(["succeeded", base, "other"]));
    let target = other.client().await.unwrap();
    compare::assert_same(&wanted, &compare::database(&target, "shop").await, "the position before the accident");

    // Users and roles come along to the moment, when they are asked for.
    assert!(users_and_roles(&target).await.is_empty(), "nobody asked for them");
    let to = |ts: Timestamp| {
        let restore = format!("restore --service live --time {ts} --to other --users-and-roles --exact --yes --wait");
        assert_eq!(json_of(&home, &restore)["state"], "succeeded");
    };
    to(before);
    assert_eq!(users_and_roles(&target).await, people);
    assert_eq!(people.len(), 2, "the user with its role");
    to(early);
    assert_eq!(users_and_roles(&target).await, people[1..], "the role was there, and nobody yet who had it");

    // The accident itself is a part of the past, too.
    let latest = json_of(
        &home,
        &format!("restore --service live --time {after} --to other --exact --users-and-roles --yes --wait"),
    );
    assert_eq!(latest["state"], "succeeded", "{latest}");
    let left = users_and_roles(&target).await;
    assert_eq!(left.iter().map(|d| d.get_str("_id").unwrap()).collect::<Vec<_>>(), ["shop.looker"], "dropped by then");
    assert_eq!(target.database("shop").list_collection_names().await.unwrap(), ["kept"]);
    let first = position(&status["ranges"][0]["from_ts"]);
    let early = run(&home, &format!("restore --service live --time {},0 --to other", first.t));
    assert_eq!(early.code, 3, "{}", early.stderr);
    assert!(early.stderr.contains(&format!("(position {first})")), "{}", early.stderr);

    // A newer base makes the older one go, and with it the slices that only it could use.
    good(&home, "schedule edit line --retention 1");
    let oldest = slices_in(&home.dir().join("storage/live/oplog")).remove(0);
    // The newest slice stays in any case, so that there must be another one.
    let kept = client.database("shop").collection::<Document>("kept");
    kept.insert_one(doc! {"_id": 2}).await.unwrap();
    recorded_up_to(&home, newest(&client).await);
    let second = json_of(&home, "schedule run line --wait");
    let begins =
        json_of(&home, &format!("backup show {}", second["backup"].as_str().unwrap()))["consistent_at_ts"].clone();
    let status = eventually("retention has not run", || {
        let status = json_of(&home, "pitr status")[0].clone();
        let ranges = status["ranges"].as_array().unwrap();
        (ranges.len() == 1 && ranges[0]["from_ts"] == begins).then_some(status)
    });
    assert_eq!(status["bases"].as_array().unwrap().len(), 1, "{status}");
    let shown = good(&home, "schedule retention line --dry-run").stdout;
    assert!(shown.contains("oplog slice") && shown.contains("the recoverable window begins at"), "{shown}");
    eventually("slices that lead nowhere are still there", || (!oldest.exists()).then_some(()));

    // Switched off, it stops; what was recorded stays.
    good(&home, "schedule disable line");
    eventually("the slicer still runs", || json_of(&home, "daemon status")["services_sliced"].eq(&0).then_some(()));
    let status = &json_of(&home, "pitr status")[0];
    assert!(!status["running"].as_bool().unwrap() && !status["ranges"].as_array().unwrap().is_empty(), "{status}");
    on_another_machine(&home, status);
}

/// All users and roles of a replica set, as they are stored.
async fn users_and_roles(client: &mongodb::Client) -> Vec<Document> {
    let mut out = Vec::new();
    for name in ["system.users", "system.roles"] {
        let all = client.database("admin").collection::<Document>(name);
        let mut cursor = all.find(doc! {}).sort(doc! {"_id": 1}).await.unwrap();
        while cursor.advance().await.unwrap() {
            out.push(cursor.deserialize_current().unwrap());
        }
    }
    out
}

/// The status, as soon as everything up to `ts` can be restored.
fn recorded_up_to(home: &Home, ts: Timestamp) -> Value {
    eventually("it is not recorded", || {
        let status = json_of(home, "pitr status")[0].clone();
        let covers = |range: &Value| position(&range["to_ts"]) >= ts;
        status["ranges"].as_array().unwrap().iter().any(covers).then_some(status)
    })
}

/// The objects of the one archive in a folder, in order.
fn slices_in(oplog: &Path) -> Vec<PathBuf> {
    let archive = fs::read_dir(oplog).unwrap().next().unwrap().unwrap().path();
    let mut slices: Vec<_> = fs::read_dir(archive).unwrap().map(|e| e.unwrap().path()).collect();
    slices.retain(|path| path.to_string_lossy().ends_with(".bson.zst"));
    slices.sort();
    slices
}

/// A machine that never saw the schedule finds all of it in the storage.
fn on_another_machine(home: &Home, status: &Value) {
    let other = Home::new();
    let folder = home.dir().join("storage");
    let oplog = folder.join("live/oplog");
    // Beside them a slice that is none.
    let damaged = slices_in(&oplog)[0].with_file_name("0000000007-0000000001_0000000008-0000000001.bson.zst");
    fs::write(&damaged, "damaged").unwrap();
    good(&other, &format!("storage add t --type filesystem --path {}", folder.display()));
    good(&other, "service add live --uri mongodb://127.0.0.1:1");
    let synced = run(&other, "storage sync t -o json");
    assert_eq!(synced.code, 1, "{}", synced.stderr);
    let report = synced.json();
    assert!(report["unreadable"].to_string().contains("0000000007"), "{report}");
    assert!(report["slices"]["added"].as_u64().unwrap() >= status["slices"].as_u64().unwrap(), "{report}");
    let found = &json_of(&other, "pitr status --service live")[0];
    assert_eq!(found["ranges"][0]["from_ts"], status["ranges"][0]["from_ts"]);
    assert!(position(&found["ranges"][0]["to_ts"]) >= position(&status["ranges"][0]["to_ts"]), "{found}");
    assert_eq!((&found["bases"], &found["archive"]), (&status["bases"], &status["archive"]));

    fs::remove_file(damaged).unwrap();
    let again = json_of(&other, "storage sync t");
    assert_eq!(json!([again["unreadable"], again["slices"]["missing"]]), json!([[], 0]), "{again}");
    assert!(again["slices"]["unchanged"].as_u64() >= report["slices"]["added"].as_u64(), "{again}");
    // What is gone from the storage is forgotten: first one, then the whole archive.
    let slices = slices_in(&oplog);
    let aside = home.dir().join("aside");
    fs::rename(&slices[0], &aside).unwrap();
    let lost = run(&other, "storage sync t -o json");
    assert_eq!((lost.code, &lost.json()["slices"]["missing"]), (1, &json!(1)), "{}", lost.stdout);
    fs::rename(&aside, &slices[0]).unwrap();
    assert_eq!(json_of(&other, "storage sync t")["slices"]["added"], 1);
    fs::rename(&oplog, home.dir().join("all")).unwrap();
    assert!(run(&other, "storage sync t -o json").json()["slices"]["missing"].as_u64() > Some(0));
    assert_eq!(json_of(&other, "pitr status"), json!([]));
    fs::rename(home.dir().join("all"), &oplog).unwrap();
}
