//! The prerequisites, on real servers with and without what they ask for.

use std::time::{Duration, Instant};

use mongodb::bson::doc;
use mongokeep::domain::secret::Secret;
use mongokeep::domain::service::{CheckItem, CheckState};
use mongokeep::engine::Limits;
use mongokeep::engine::logical::{check, dump};
use mongokeep::error::ErrorKind;
use mongokeep::mongo::{Server, reader, topology};
use mongokeep::sandbox::{Member, ReplicaSet, ReplicaSetOptions, Scratch, ServerOptions};
use tokio_util::sync::CancellationToken;

use crate::support;
use crate::support::dumps::{Folder, context, request};
use crate::support::pair::Pair;

fn state(items: &[CheckItem], id: &str) -> CheckState {
    items.iter().find(|i| i.id == id).unwrap_or_else(|| panic!("no item {id}")).state
}

fn item<'a>(items: &'a [CheckItem], id: &str) -> &'a CheckItem {
    items.iter().find(|i| i.id == id).unwrap_or_else(|| panic!("no item {id}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_is_tried_and_each_lack_has_a_remedy() {
    let mongod = support::mongod().await;
    let set = ReplicaSet::start(&mongod, ReplicaSetOptions { auth: true, ..Default::default() }).await.unwrap();
    let admin = set.client().await.unwrap().database("admin");
    for (user, roles) in [
        ("none", vec![]),
        ("keep", vec!["backup", "restore", "readWriteAnyDatabase", "clusterMonitor"]),
        ("half", vec!["backup", "restore", "clusterMonitor"]),
        ("plain", vec!["backup"]),
    ] {
        admin.run_command(doc! {"createUser": user, "pwd": "hunter2", "roles": roles}).await.unwrap();
    }
    let cancel = CancellationToken::new();
    let check_as = async |user: &str, password: &str| {
        let uri = Secret::new(set.uri_as(user, password));
        let items = check("prod", &uri, &cancel).await;
        for item in &items {
            let text = format!("{} {} {}", item.title, item.detail, item.remedy);
            assert!(!text.contains("hunter"), "a password is shown: {text}");
            assert!(item.state != CheckState::Fail || !item.detail.is_empty(), "{item:?}");
        }
        items
    };

    let good = check_as("keep", "hunter2").await;
    assert!(good.iter().all(|i| i.state == CheckState::Pass), "{good:#?}");

    // The role backup alone suffices to read everything a backup reads.
    let plain = check_as("plain", "hunter2").await;
    assert_eq!(state(&plain, "rights_backup"), CheckState::Pass, "{plain:#?}");
    assert_eq!(state(&plain, "replica_set"), CheckState::Warn);
    assert_eq!(state(&plain, "rights_restore"), CheckState::Warn);
    assert!(item(&plain, "rights_restore").remedy.contains("grantRolesToUser"));

    // Documents could come, but neither change nor go.
    let half = check_as("half", "hunter2").await;
    assert_eq!(state(&half, "rights_restore"), CheckState::Warn, "{half:#?}");
    assert!(item(&half, "rights_restore").detail.contains("remove, update"), "{half:#?}");

    let none = check_as("none", "hunter2").await;
    assert_eq!(state(&none, "rights_backup"), CheckState::Fail);
    assert!(item(&none, "rights_backup").detail.contains("read the oplog"));
    assert!(item(&none, "rights_backup").remedy.contains("\"backup\""));

    let wrong = check_as("keep", "hunter3").await;
    assert_eq!(state(&wrong, "reachable"), CheckState::Pass);
    assert_eq!(state(&wrong, "authenticated"), CheckState::Fail);
    assert_eq!(state(&wrong, "rights_backup"), CheckState::Skip);

    let address = set.addresses().remove(0);
    let anonymous = check("prod", &Secret::new(format!("mongodb://{address}/")), &cancel).await;
    assert_eq!(state(&anonymous, "authenticated"), CheckState::Fail, "{anonymous:#?}");
    assert!(item(&anonymous, "authenticated").detail.contains("USER:PASSWORD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_server_is_refused_with_the_way_to_convert_it() {
    let mongod = support::mongod().await;
    let scratch = Scratch::new().unwrap();
    let server = mongokeep::sandbox::Server::start(&mongod, &scratch, &ServerOptions::default()).await.unwrap();
    let uri = Secret::new(format!("mongodb://{}/", server.address()));
    let items = check("alone", &uri, &CancellationToken::new()).await;
    assert_eq!(state(&items, "replica_set"), CheckState::Fail);
    assert!(item(&items, "replica_set").detail.contains("replSetName"), "{items:#?}");
    assert!(item(&items, "replica_set").remedy.contains("rs.initiate()"));
    assert_eq!(state(&items, "server_version"), CheckState::Pass);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_is_said_with_host_and_seconds() {
    let began = Instant::now();
    let uri = Secret::new("mongodb://u:hunter2@127.0.0.1:1/");
    let error = Server::connect("prod", &uri, Duration::from_secs(2)).await.err().unwrap();
    // The driver itself would wait for half a minute.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    for part in ["prod", "127.0.0.1:1", "2 s", "connection refused"] {
        assert!(error.full().contains(part), "{part} is not in {error}");
    }
    assert!(!format!("{error:?}").contains("hunter2"));
    assert!(error.hint_text().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hidden_member_is_read() {
    let mongod = support::mongod().await;
    let hidden = Member { priority: 0.0, hidden: true };
    let options = ReplicaSetOptions {
        members: vec![Member::default(), Member::default(), hidden],
        ..ReplicaSetOptions::default()
    };
    let set = ReplicaSet::start(&mongod, options).await.unwrap();
    let cancel = CancellationToken::new();
    let server = Server::connect("prod", &Secret::new(set.uri()), Duration::from_secs(20)).await.unwrap();
    let reader = reader::reader(&server, &cancel, &|_| {}).await.unwrap();
    assert_eq!(reader.member.host, set.addresses()[2]);
    assert!(reader.server.is_direct() && reader.server.hello().is_hidden);
    assert_eq!(reader.set.id.len(), 24);
    let times = topology::op_times(&reader.server, &cancel).await.unwrap();
    assert!(times.majority <= times.applied && times.majority.t > 0);
    assert!(topology::rollback_id(&reader.server, &cancel).await.unwrap() >= 1);

    let primary = Server::connect("prod", &Secret::new(set.direct_uri(0)), Duration::from_secs(20)).await.unwrap();
    let reader = reader::reader(&primary, &cancel, &|_| {}).await.unwrap();
    assert_eq!(reader.member.host, set.addresses()[0], "a connection string that names one member alone is obeyed");
}

/// A server answers a user who may not list all databases with those it may read, as if there were no others.
#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_see_every_database_makes_no_backup() {
    let mongod = support::mongod().await;
    let set = ReplicaSet::start(&mongod, ReplicaSetOptions { auth: true, ..Default::default() }).await.unwrap();
    let client = set.client().await.unwrap();
    for db in ["shop", "secret"] {
        client.database(db).collection("c").insert_one(doc! {"_id": 1}).await.unwrap();
    }
    let admin = client.database("admin");
    let mut privileges = vec![
        doc! {"resource": {"cluster": true}, "actions": ["replSetGetConfig", "replSetGetStatus", "serverStatus", "getParameter"]},
        doc! {"resource": {"db": "shop", "collection": ""}, "actions": ["find", "listCollections", "listIndexes", "collStats"]},
    ];
    for db in ["admin", "config", "local"] {
        let actions = ["find", "listCollections", "listIndexes", "collStats"];
        privileges.push(doc! {"resource": {"db": db, "collection": ""}, "actions": &actions[..]});
        for name in ["system.users", "system.roles", "system.version", "oplog.rs", "transactions"] {
            privileges.push(doc! {"resource": {"db": db, "collection": name}, "actions": &actions[..]});
        }
    }
    let roles: Vec<String> = Vec::new();
    admin.run_command(doc! {"createRole": "some", "privileges": privileges, "roles": roles}).await.unwrap();
    admin.run_command(doc! {"createUser": "some", "pwd": "hunter2", "roles": ["some"]}).await.unwrap();
    let uri = Secret::new(set.uri_as("some", "hunter2"));
    let cancel = CancellationToken::new();

    let items = check("prod", &uri, &cancel).await;
    let rights = item(&items, "rights_backup");
    assert!(rights.state == CheckState::Fail && rights.detail.contains("list all databases"), "{rights:?}");
    let folder = Folder::new();
    let (ctx, log) = context(Limits::default());
    let server = Server::connect("prod", &uri, Duration::from_secs(20)).await.unwrap();
    let outcome = dump(&ctx, folder.storage.clone(), &server, &request("partial")).await;
    let error = outcome.expect_err("a backup without the database secret");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error} {:?}", log.lock().unwrap());
    assert!(
        error.full().contains("list all databases") && error.hint_text().unwrap().contains("role backup"),
        "{error:?}"
    );
    assert_eq!(folder.files(), Vec::<String>::new());
}

/// Rights of a user that suffice for everything the check once tried, and not for what a backup reads.
#[tokio::test(flavor = "multi_thread")]
async fn the_check_reads_what_a_backup_reads() {
    let mongod = support::mongod().await;
    let set = ReplicaSet::start(&mongod, ReplicaSetOptions { auth: true, ..Default::default() }).await.unwrap();
    let client = set.client().await.unwrap();
    client.database("shop").collection("c").insert_one(doc! {"_id": 1}).await.unwrap();
    let admin = client.database("admin");
    let resource = |db: &str, name: &str| doc! {"db": db, "collection": name};
    let all = vec!["find", "listCollections", "listIndexes", "collStats"];
    // Without `useUUID` no collection can be named by its UUID, and whichever is read first would be what is refused.
    let cluster =
        vec!["replSetGetConfig", "replSetGetStatus", "serverStatus", "getParameter", "listDatabases", "useUUID"];
    let mut privileges = vec![
        doc! {"resource": {"cluster": true}, "actions": cluster},
        doc! {"resource": resource("", ""), "actions": all.clone()},
        doc! {"resource": resource("admin", "system.version"), "actions": all.clone()},
        doc! {"resource": resource("local", "oplog.rs"), "actions": all.clone()},
        doc! {"resource": resource("config", "transactions"), "actions": all.clone()},
        doc! {"resource": resource("config", ""), "actions": all.clone()},
        doc! {"resource": resource("local", ""), "actions": all},
    ];
    for name in ["system.users", "system.roles"] {
        privileges.push(doc! {"resource": resource("admin", name), "actions": ["find", "collStats"]});
    }
    let roles: Vec<String> = Vec::new();
    admin.run_command(doc! {"createRole": "nearly", "privileges": privileges, "roles": roles}).await.unwrap();
    admin.run_command(doc! {"createUser": "nearly", "pwd": "hunter2", "roles": ["nearly"]}).await.unwrap();
    let uri = Secret::new(set.uri_as("nearly", "hunter2"));
    let items = check("prod", &uri, &CancellationToken::new()).await;
    let rights = item(&items, "rights_backup");
    let folder = Folder::new();
    let (ctx, _) = context(Limits::default());
    let server = Server::connect("prod", &uri, Duration::from_secs(20)).await.unwrap();
    let error = dump(&ctx, folder.storage.clone(), &server, &request("nearly")).await.expect_err("it was denied");
    assert!(error.full().contains("admin.system."), "the collection is named: {error}");
    assert_eq!(rights.state, CheckState::Fail, "{rights:?}");
    assert!(rights.detail.contains("admin.system."), "{rights:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_dns_does_not_know_is_a_dns_failure() {
    for uri in
        ["mongodb+srv://cluster.example.invalid/", "mongodb+srv://user:hunter2@cluster.example.invalid/?w=majority"]
    {
        let outcome = Server::connect("prod", &Secret::new(uri), Duration::from_secs(5)).await;
        let error = outcome.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        assert_eq!((error.kind().exit_code(), error.is_retryable()), (5, true));
        assert!(error.full().contains("cluster.example.invalid") || error.full().contains("looking up"), "{error}");
        let all = format!("{error:?}");
        assert!(!all.contains("hunter2") && !all.contains("percent") && !all.contains("%40"), "{all}");
    }
}

/// A server of a release before 4.4, as far as the handshake goes: none is to be had.
async fn old_server() -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                loop {
                    let mut header = [0; 16];
                    if stream.read_exact(&mut header).await.is_err() {
                        return;
                    }
                    let length = i32::from_le_bytes(header[..4].try_into().unwrap()) as usize;
                    let mut body = vec![0; length - 16];
                    stream.read_exact(&mut body).await.unwrap();
                    let reply = doc! {
                        "ismaster": true, "setName": "rs0", "me": address.to_string(), "hosts": [address.to_string()],
                        "primary": address.to_string(), "maxBsonObjectSize": 16777216, "maxMessageSizeBytes": 48000000,
                        "maxWriteBatchSize": 100000, "minWireVersion": 0, "maxWireVersion": 8, "ok": 1.0,
                    };
                    let document = reply.to_vec().unwrap();
                    // The driver speaks OP_MSG from the beginning.
                    let mut message = Vec::new();
                    message.extend(((16 + 5 + document.len()) as i32).to_le_bytes());
                    message.extend(1_i32.to_le_bytes());
                    message.extend(&header[4..8]);
                    message.extend(2013_i32.to_le_bytes());
                    message.extend([0; 5]);
                    message.extend(&document);
                    stream.write_all(&message).await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_before_4_4_is_too_old_and_not_unreachable() {
    let address = old_server().await;
    let uri = Secret::new(format!("mongodb://{address}/?replicaSet=rs0"));
    let error = Server::connect("prod", &uri, Duration::from_secs(20)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.full().contains("too old: MongoDB 4.2") && error.full().contains(&address.to_string()), "{error}");
}

/// A shard keeps its identity in `admin.system.version`; only a member that was started as one takes notice of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_sharded_cluster_is_named_and_not_restored_into() {
    let pair = Pair::start().await;
    pair.from.database("shop").collection("c").insert_one(doc! {"_id": 1}).await.unwrap();
    let identity =
        doc! {"_id": "shardIdentity", "shardName": "sh\u{1b}1", "clusterId": mongodb::bson::oid::ObjectId::new()};
    for client in [&pair.from, &pair.to] {
        client
            .database("admin")
            .collection::<mongodb::bson::Document>("system.version")
            .insert_one(&identity)
            .await
            .unwrap();
    }
    let items = check("prod", &Secret::new(pair.source.uri()), &CancellationToken::new()).await;
    let sharded = item(&items, "sharded");
    assert_eq!(sharded.state, CheckState::Warn, "{sharded:?}");
    assert!(sharded.detail.contains("\\u{1b}1") && sharded.detail.contains("PBM"), "{sharded:?}");
    // A backup is made, and says what it is.
    let storage = crate::support::recording::folder(pair.dir.path()).await;
    let (ctx, log) = context(Limits::default());
    let server = Server::connect("prod", &Secret::new(pair.source.uri()), Duration::from_secs(20)).await.unwrap();
    let manifest = dump(&ctx, storage, &server, &request("part")).await.unwrap();
    let said =
        log.lock().unwrap().iter().any(|line| line.starts_with("warning: ") && line.contains("of a sharded cluster"));
    assert!(said, "{:?}", log.lock().unwrap());
    // Nothing is restored into a part, whatever the backup is of.
    let error = pair.plan(&manifest, &crate::support::pair::request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(
        error.full().contains("breaks the cluster") && error.hint_text().unwrap().contains("mongorestore"),
        "{error}"
    );
    assert!(!pair.to.list_database_names().await.unwrap().contains(&"shop".to_owned()));
}
