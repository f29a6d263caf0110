//! The plan of a restore: what it says, what it refuses, and that nothing else happens.

use mongodb::bson::{Document, doc};
use mongokeep::artifact::keys::Keys;
use mongokeep::artifact::slice::{self, Header};
use mongokeep::domain::namespace::Namespace;
use mongokeep::domain::pitr::{Archive, OpTime};
use mongokeep::domain::restore::{CollectionKind, PlannedAction, RestorePlan};
use mongokeep::domain::secret::Secret;
use mongokeep::engine::contract::OplogTail;
use mongokeep::engine::logical::{OpenBackup, plan, restore};
use mongokeep::error::ErrorKind;
use mongokeep::mongo::Server;
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use tokio_util::sync::CancellationToken;

use crate::support;
use crate::support::compare;
use crate::support::pair::{Pair, context, request};
use crate::support::recording::{Recording, folder};

async fn put(client: &mongodb::Client, ns: &str, count: i32) {
    let (db, name) = ns.split_once('.').unwrap();
    let documents = (0..count).map(|n| doc! {"_id": n, "of": ns});
    client.database(db).collection::<Document>(name).insert_many(documents).await.unwrap();
}

fn summary(plan: &RestorePlan) -> Vec<(String, String, PlannedAction, Option<u64>)> {
    plan.namespaces.iter().map(|n| (n.from.to_string(), n.to.to_string(), n.action, n.replaces_documents)).collect()
}

fn names(list: &[Namespace]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_and_what_they_refuse() {
    let pair = Pair::start().await;
    for (ns, count) in [("shop.orders", 5), ("shop.users", 3), ("shop.old", 1), ("logs.x", 2)] {
        put(&pair.from, ns, count).await;
    }
    let shop = pair.from.database("shop");
    shop.run_command(doc! {"create": "v", "viewOn": "orders", "pipeline": []}).await.unwrap();
    shop.run_command(doc! {"create": "ts", "timeseries": {"timeField": "t"}}).await.unwrap();
    shop.run_command(doc! {"insert": "ts", "documents": [{"t": mongodb::bson::DateTime::now(), "v": 1}]})
        .await
        .unwrap();
    let mut recording = Recording::begin(&pair.from).await;
    recording.read_database("shop").await;
    recording.read_database("logs").await;
    pair.from.database("admin").run_command(doc! {"renameCollection": "shop.old", "to": "shop.new"}).await.unwrap();
    let expected = compare::state(&pair.from).await;
    let manifest = recording.end(&folder(pair.dir.path()).await, "plan").await;

    for (ns, count) in [("shop.orders", 9), ("shop.mine", 4), ("copy.stranger", 1)] {
        put(&pair.to, ns, count).await;
    }
    let before = compare::state(&pair.to).await;

    // One that contradicts itself would leave something out without a word.
    let mut twice = manifest.clone();
    twice.collections[1].uuid = twice.collections[0].uuid.clone();
    let error = pair.plan(&twice, &request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("UUID of another collection"), "{error}");

    // Names are those at the end.
    let mut request = request();
    request.include = vec!["shop.o*".parse().unwrap(), "shop.new".parse().unwrap(), "shop.ts".parse().unwrap()];
    let plan = pair.plan(&manifest, &request).await.unwrap();
    let create = PlannedAction::Create;
    assert_eq!(
        summary(&plan),
        [
            ("shop.new".into(), "shop.new".into(), create, None),
            ("shop.orders".into(), "shop.orders".into(), PlannedAction::Replace, Some(9)),
            ("shop.ts".into(), "shop.ts".into(), create, None),
        ]
    );
    assert_eq!(plan.namespaces[2].kind, CollectionKind::Timeseries);
    assert_eq!((names(&plan.untouched), names(&plan.dropped)), (vec!["shop.mine".to_owned()], vec![]));
    let left: Vec<&str> = plan.left_out.iter().map(|l| l.what.as_str()).collect();
    assert_eq!(left, ["logs.x", "shop.users", "shop.v"]);
    request.exact = true;
    let plan = pair.plan(&manifest, &request).await.unwrap();
    assert_eq!((names(&plan.untouched), names(&plan.dropped)), (vec![], vec!["shop.mine".to_owned()]));
    assert!(plan.overwrites());

    for (include, rename, kind) in [
        (vec!["nothing"], vec![], ErrorKind::NotFound),
        (vec!["shop.old"], vec![], ErrorKind::NotFound),
        (vec![], vec!["nothing=x"], ErrorKind::Invalid),
        (vec!["logs"], vec!["shop.orders=shop.x"], ErrorKind::Invalid),
        (vec![], vec!["shop.orders=shop.users"], ErrorKind::Invalid),
        (vec![], vec!["logs=shop", "shop.new=shop.x"], ErrorKind::Invalid),
        (vec![], vec!["logs=a", "logs=b"], ErrorKind::Invalid),
        // The target has `shop` and `copy`.
        (vec!["logs"], vec!["logs=Shop"], ErrorKind::Invalid),
        (vec!["logs"], vec!["logs=COPY"], ErrorKind::Invalid),
        (vec![], vec!["shop=other", "logs=Other"], ErrorKind::Invalid),
    ] {
        let mut request = support::pair::request();
        request.include = include.iter().map(|p| p.parse().unwrap()).collect();
        request.rename = rename.iter().map(|r| r.parse().unwrap()).collect();
        let planned = pair.plan(&manifest, &request).await;
        assert_eq!(planned.unwrap_err().kind(), kind, "{include:?} {rename:?}");
    }

    for (version, fcv) in [("7.0.1", "6.0"), ("6.0.9", "7.0"), ("10.0.0", "10.0")] {
        let mut newer = manifest.clone();
        (newer.server_version, newer.fcv) = (version.into(), fcv.into());
        let error = pair.plan(&newer, &support::pair::request()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    compare::assert_same(&before, &compare::state(&pair.to).await, "a plan writes nothing");

    // Under another database, with the time series' buckets.
    request = support::pair::request();
    request.rename = vec!["shop=copy".parse().unwrap()];
    request.include = vec!["shop".parse().unwrap()];
    pair.restore(&manifest, &request).await.unwrap();
    let after = compare::state(&pair.to).await;
    for (ns, contents) in expected.iter().filter(|(ns, _)| ns.starts_with("shop.")) {
        assert_eq!(&after[&ns.replacen("shop.", "copy.", 1)], contents, "{ns}");
    }
    assert_eq!(after["shop.orders"], before["shop.orders"]);
    assert_eq!(after["copy.stranger"], before["copy.stranger"]);

    // In place, exactly.
    request = support::pair::request();
    request.exact = true;
    pair.restore(&manifest, &request).await.unwrap();
    let after = compare::state(&pair.to).await;
    let kept = after.iter().filter(|(ns, _)| !ns.starts_with("copy.")).map(|(ns, c)| (ns.clone(), c.clone())).collect();
    compare::assert_same(&expected, &kept, "exact");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_changed_since_the_plan_is_left_alone() {
    let pair = Pair::start().await;
    put(&pair.from, "shop.orders", 5).await;
    let mut recording = Recording::begin(&pair.from).await;
    recording.read_database("shop").await;
    let manifest = recording.end(&folder(pair.dir.path()).await, "changed").await;
    let confirmed = pair.plan(&manifest, &request()).await.unwrap();
    assert!(!confirmed.overwrites());
    put(&pair.to, "shop.orders", 2).await;
    let before = compare::state(&pair.to).await;
    let error = pair.execute(&manifest, &request(), &confirmed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    compare::assert_same(&before, &compare::state(&pair.to).await, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_and_cancel_say_what_state_the_target_is_in() {
    let pair = Pair::start().await;
    for ns in ["shop.a", "shop.b"] {
        put(&pair.from, ns, 500).await;
    }
    let mut recording = Recording::begin(&pair.from).await;
    recording.read_database("shop").await;
    let storage = folder(pair.dir.path()).await;
    let manifest = recording.end(&storage, "damaged").await;
    let confirmed = pair.plan(&manifest, &request()).await.unwrap();

    let cancelled = context();
    cancelled.cancel.cancel();
    let server = pair.server().await.unwrap();
    let error =
        restore(&cancelled, &OpenBackup::new(storage, manifest.clone()).unwrap(), &server, &request(), &confirmed)
            .await
            .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(compare::state(&pair.to).await.is_empty());

    let entry = manifest.collections.iter().find(|c| c.namespace.collection == "b").unwrap();
    let path = pair.dir.path().join("test/backups/damaged").join(&entry.parts[0].path);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    let error = pair.execute(&manifest, &request(), &confirmed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.full().contains("data/shop/b/00000.bson.zst"), "{error}");
    assert!(error.hint_text().unwrap().contains("shop.b"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_stops_within_two_seconds_and_says_where() {
    let pair = Pair::start().await;
    let pad = "x".repeat(4000);
    let c = pair.from.database("shop").collection::<Document>("big");
    for chunk in 0..20 {
        c.insert_many((0..1000).map(|n| doc! {"_id": chunk * 1000 + n, "pad": &pad})).await.unwrap();
    }
    let mut recording = Recording::begin(&pair.from).await;
    recording.part_documents = 5000;
    recording.read_database("shop").await;
    let storage = folder(pair.dir.path()).await;
    let manifest = recording.end(&storage, "cancelled").await;
    let confirmed = pair.plan(&manifest, &request()).await.unwrap();
    let ctx = context();
    let server = pair.server().await.unwrap();
    let running = tokio::spawn({
        let (ctx, confirmed) = (ctx.clone(), confirmed.clone());
        let stored = OpenBackup::new(storage, manifest.clone()).unwrap();
        async move { restore(&ctx, &stored, &server, &request(), &confirmed).await }
    });
    while ctx.meter.snapshot().documents_done == 0 && !running.is_finished() {
        tokio::task::yield_now().await;
    }
    let asked = std::time::Instant::now();
    ctx.cancel.cancel();
    let error = running.await.unwrap().unwrap_err();
    assert!(asked.elapsed() < crate::support::stopwatch::at_once(), "{:?}", asked.elapsed());
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(error.hint_text().unwrap().contains("Incomplete: shop.big"), "{error:?}");
    // Restoring again replaces what is incomplete.
    let expected = compare::state(&pair.from).await;
    pair.restore(&manifest, &request()).await.unwrap();
    compare::assert_same(&expected, &compare::state(&pair.to).await, "after a cancel");
}

/// The source was upgraded after its base was made: its oplog is then of a release that the target does not know.
#[tokio::test(flavor = "multi_thread")]
async fn slices_of_a_newer_release_are_refused() {
    let pair = Pair::start().await;
    put(&pair.from, "shop.orders", 3).await;
    let mut recording = Recording::begin(&pair.from).await;
    recording.read("shop", "orders").await;
    let storage = folder(pair.dir.path()).await;
    let manifest = recording.end(&storage, "base").await;
    let archive = Archive {
        storage: "t".into(),
        folder: "test".into(),
        replica_set: "rs".into(),
        replica_set_id: manifest.replica_set_id.clone(),
    };
    let base = manifest.consistent_at_ts;
    let at = |i| OpTime { ts: mongokeep::domain::timestamp::Timestamp::new(base.t + i, 1), term: 1 };
    let header = |server_version: &str| Header {
        format_version: 1,
        tool_version: "1".into(),
        service: "source".into(),
        replica_set: archive.replica_set.clone(),
        replica_set_id: archive.replica_set_id.clone(),
        member: "h:1".into(),
        server_version: server_version.into(),
        home_id: "home".into(),
        written_at: chrono::Utc::now(),
        after: OpTime { ts: base, term: 1 },
        first_ts: at(1).ts,
        last: at(2),
        entries: 1,
        operations: 1,
        uncompressed: 10,
        data_size: 10,
        blake3: "00".into(),
        encryption: None,
        gap: None,
        marks: Vec::new(),
        counts: Vec::new(),
    };
    for (version, kind) in [("9.1.0", ErrorKind::Unsupported), ("6.0.5", ErrorKind::Corrupt)] {
        let header = header(version);
        let key = slice::key(&archive, header.first_ts, header.last.ts, false).unwrap();
        let mut object = header.to_frame().unwrap().to_vec();
        let slices = vec![header.slice(&key, object.len() as u64)];
        object.extend([0; 10]);
        storage.put(&key, object.into(), mongokeep::storage::PutMode::Overwrite).await.unwrap();
        let later = OplogTail {
            storage: storage.clone(),
            archive: archive.clone(),
            slices,
            until: at(2).ts,
            keys: Keys::default(),
        };
        let stored = pair.stored(&manifest).await.unwrap().followed_by(later).unwrap();
        let planned = plan(&context().cancel, &stored, &pair.server().await.unwrap(), &request()).await;
        let error = planned.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert_eq!(error.to_string().contains("recorded on 9.1.0"), kind == ErrorKind::Unsupported, "{error}");
    }
}

/// What the role `restore` allows suffices to load documents, and not to replay what became of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_without_the_rights_for_it_is_refused_before_anything_is_written() {
    let mongod = support::mongod().await;
    let start = |auth| ReplicaSet::start(&mongod, ReplicaSetOptions { auth, ..ReplicaSetOptions::default() });
    let (source, target) = tokio::join!(start(false), start(true));
    let (source, target) = (source.unwrap(), target.unwrap());
    let (from, to) = (source.client().await.unwrap(), target.client().await.unwrap());
    put(&from, "d.c", 3).await;
    from.database("d").run_command(doc! {"create": "ts", "timeseries": {"timeField": "t"}}).await.unwrap();
    let mut recording = Recording::begin(&from).await;
    recording.read_database("d").await;
    let c = from.database("d").collection::<Document>("c");
    c.update_one(doc! {"_id": 1}, doc! {"$set": {"a": 1}}).await.unwrap();
    c.delete_one(doc! {"_id": 2}).await.unwrap();
    for n in 0..2 {
        let t = mongodb::bson::DateTime::from_millis(1_790_000_000_000 + n);
        from.database("d").run_command(doc! {"insert": "ts", "documents": [{"t": t, "n": n}]}).await.unwrap();
    }
    let expected = compare::state(&from).await;
    let dir = tempfile::tempdir().unwrap();
    let storage = folder(dir.path()).await;
    let manifest = recording.end(&storage, "rights").await;
    put(&to, "d.c", 1).await;
    let before = compare::state(&to).await;
    let roles = vec!["restore", "backup", "clusterMonitor"];
    let create = doc! {"createUser": "keeper", "pwd": "secret", "roles": roles};
    to.database("admin").run_command(create).await.unwrap();
    let server = async || {
        let uri = Secret::new(target.uri_as("keeper", "secret"));
        Server::connect("target", &uri, std::time::Duration::from_secs(20)).await.unwrap()
    };
    let cancel = CancellationToken::new();
    let stored = OpenBackup::new(storage, manifest).unwrap();
    let error = plan(&cancel, &stored, &server().await, &request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.to_string().contains("d.c (update, remove)"), "{error}");
    assert!(error.hint_text().unwrap().contains("readWriteAnyDatabase"), "{error:?}");
    assert_eq!(compare::state(&to).await, before);
    let grant = doc! {"grantRolesToUser": "keeper", "roles": ["readWriteAnyDatabase"]};
    to.database("admin").run_command(grant).await.unwrap();
    let server = server().await;
    let confirmed = plan(&cancel, &stored, &server, &request()).await.unwrap();
    restore(&context(), &stored, &server, &request(), &confirmed).await.unwrap();
    compare::assert_same(&expected, &compare::state(&to).await, "with the rights");
}
