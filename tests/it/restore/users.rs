//! Users and roles, restored by a user whose own session may end by it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongokeep::domain::secret::Secret;
use mongokeep::engine::logical::{OpenBackup, plan, restore};
use mongokeep::mongo::Server;
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use tokio_util::sync::CancellationToken;

use crate::support;
use crate::support::pair::{context, request};
use crate::support::recording::{Recording, folder};

async fn all(client: &Client, name: &str) -> BTreeMap<String, Document> {
    let cursor = client.database("admin").collection::<Document>(name).find(doc! {}).await.unwrap();
    let all: Vec<Document> = cursor.try_collect().await.unwrap();
    all.into_iter().map(|d| (d.get_str("_id").unwrap().to_owned(), d)).collect()
}

async fn user(client: &Client, db: &str, name: &str, roles: &[&str]) {
    let roles: Vec<&str> = roles.to_vec();
    client.database(db).run_command(doc! {"createUser": name, "pwd": "hunter2", "roles": roles}).await.unwrap();
}

async fn start() -> (ReplicaSet, Client) {
    let mongod = support::mongod().await;
    let set = ReplicaSet::start(&mongod, ReplicaSetOptions::default().auth()).await.unwrap();
    let client = set.client().await.unwrap();
    user(&client, "admin", "keeper", &["backup", "restore", "clusterMonitor"]).await;
    (set, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_are_merged_last() {
    let ((_source, from), (target, before)) = tokio::join!(start(), start());
    from.database("d").collection::<Document>("c").insert_one(doc! {"_id": 1}).await.unwrap();
    user(&from, "d", "reader", &["read"]).await;
    user(&from, "d", "gone", &["read"]).await;
    user(&before, "d", "local", &["read"]).await;
    let mut recording = Recording::begin(&from).await;
    recording.read_database("d").await;
    recording.read("admin", "system.users").await;
    // Changed while it was recorded.
    user(&from, "d", "late", &["readWrite"]).await;
    from.database("d").run_command(doc! {"dropUser": "gone"}).await.unwrap();
    let privileges = vec![doc! {"resource": {"db": "d", "collection": "c"}, "actions": ["find"]}];
    let roles: Vec<String> = vec![];
    from.database("d")
        .run_command(doc! {"createRole": "finder", "privileges": privileges, "roles": roles})
        .await
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let storage = folder(dir.path()).await;
    let manifest = recording.end(&storage, "users").await;
    let stored = OpenBackup::new(storage, manifest).unwrap();

    let uri = Secret::new(target.uri_as("keeper", "hunter2"));
    let server = Server::connect("target", &uri, Duration::from_secs(20)).await.unwrap();
    let cancel = CancellationToken::new();
    let mut request = request();
    let planned = plan(&cancel, &stored, &server, &request).await.unwrap();
    assert!(planned.left_out.iter().any(|l| l.what == "users and roles"), "{planned:?}");

    request.users_and_roles = true;
    let planned = plan(&cancel, &stored, &server, &request).await.unwrap();
    assert!(planned.users_and_roles && planned.overwrites());
    restore(&context(), &stored, &server, &request, &planned).await.unwrap();
    // Of this session's user there is another now.
    let to = target.client().await.unwrap();
    let (users, expected) = (all(&to, "system.users").await, all(&from, "system.users").await);
    for (id, user) in &expected {
        assert_eq!(&users[id], user, "{id}");
    }
    assert!(users.contains_key("d.local"), "a user the backup lacks stays");
    assert!(!users.contains_key("d.gone"));
    assert_eq!(all(&to, "system.roles").await, all(&from, "system.roles").await);
    let staged = to.database("admin").list_collection_names().await.unwrap();
    assert!(!staged.iter().any(|n| n.starts_with("temp")), "{staged:?}");

    // With `exact` they go; the restoring user is in the backup too.
    request.exact = true;
    let server = Server::connect("target", &uri, Duration::from_secs(20)).await.unwrap();
    let planned = plan(&cancel, &stored, &server, &request).await.unwrap();
    restore(&context(), &stored, &server, &request, &planned).await.unwrap();
    let to = target.client().await.unwrap();
    assert_eq!(all(&to, "system.users").await, expected);
}

/// A backup with a user of its own, and the target's connection as `user`.
async fn prepared(target: &ReplicaSet, user: &str) -> (OpenBackup, Server, tempfile::TempDir, ReplicaSet) {
    let (source, from) = start().await;
    from.database("d").collection::<Document>("c").insert_one(doc! {"_id": 1}).await.unwrap();
    self::user(&from, "d", "reader", &["read"]).await;
    let mut recording = Recording::begin(&from).await;
    recording.read_database("d").await;
    recording.read("admin", "system.users").await;
    let dir = tempfile::tempdir().unwrap();
    let storage = folder(dir.path()).await;
    let manifest = recording.end(&storage, "users").await;
    let stored = OpenBackup::new(storage, manifest).unwrap();
    let uri = Secret::new(target.uri_as(user, "hunter2"));
    (stored, Server::connect("target", &uri, Duration::from_secs(20)).await.unwrap(), dir, source)
}

async fn in_admin(client: &Client) -> Vec<String> {
    let mut names = client.database("admin").list_collection_names().await.unwrap();
    names.retain(|name| !name.starts_with("system."));
    names
}

/// Collections of these names belong to somebody else: they stay as they are.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_calls_tempusers_stays() {
    let (target, client) = start().await;
    let theirs = client.database("admin").collection::<Document>("tempusers");
    theirs.insert_many((0..3).map(|i| doc! {"_id": i})).await.unwrap();
    let (stored, server, _dir, _source) = prepared(&target, "keeper").await;
    let request = mongokeep::domain::restore::RestoreRequest { users_and_roles: true, ..request() };
    let planned = plan(&CancellationToken::new(), &stored, &server, &request).await.unwrap();
    restore(&context(), &stored, &server, &request, &planned).await.unwrap();
    let client = target.client().await.unwrap();
    assert!(all(&client, "system.users").await.contains_key("d.reader"));
    assert_eq!(in_admin(&client).await, ["tempusers"]);
    assert_eq!(client.database("admin").collection::<Document>("tempusers").count_documents(doc! {}).await.unwrap(), 3);
}

/// Without the right to read `admin` nothing could be merged: known before anything is written.
#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_read_what_it_stages_is_refused_by_the_plan() {
    let (target, client) = start().await;
    user(&client, "admin", "restorer", &["restore", "clusterManager"]).await;
    let (stored, server, _dir, _source) = prepared(&target, "restorer").await;
    let cancel = CancellationToken::new();
    plan(&cancel, &stored, &server, &request()).await.unwrap();
    let request = mongokeep::domain::restore::RestoreRequest { users_and_roles: true, ..request() };
    let error = plan(&cancel, &stored, &server, &request).await.unwrap_err();
    assert_eq!(error.kind(), mongokeep::error::ErrorKind::Denied);
    assert!(error.hint_text().unwrap().contains("grant the role backup"), "{error:?}");
    assert_eq!(in_admin(&client).await, Vec::<String>::new());
}

/// A member that is known here under another name than in the configuration of its set is spoken to under that one.
#[tokio::test(flavor = "multi_thread")]
async fn a_direct_connection_goes_on_under_its_own_address() {
    let (target, client) = start().await;
    let admin = client.database("admin");
    let mut config =
        admin.run_command(doc! {"replSetGetConfig": 1}).await.unwrap().get_document("config").unwrap().clone();
    let port = target.addresses()[0].rsplit_once(':').unwrap().1.to_owned();
    let member = config.get_array_mut("members").unwrap()[0].as_document_mut().unwrap();
    // Every address of the loopback range leads to this machine, but the server listens on one only.
    member.insert("host", format!("localhost:{port}"));
    let version = config.get_i32("version").unwrap();
    config.insert("version", version + 1);
    let direct = target.direct_client(0).await.unwrap();
    direct.database("admin").run_command(doc! {"replSetReconfig": config, "force": true}).await.unwrap();
    let (stored, _server, _dir, _source) = prepared(&target, "keeper").await;
    let uri = format!("mongodb://keeper:hunter2@127.0.0.1:{port}/?directConnection=true&authSource=admin");
    let server = Server::connect("target", &Secret::new(uri), Duration::from_secs(10)).await.unwrap();
    let request = mongokeep::domain::restore::RestoreRequest { users_and_roles: true, ..request() };
    let planned = plan(&CancellationToken::new(), &stored, &server, &request).await.unwrap();
    let began = std::time::Instant::now();
    restore(&context(), &stored, &server, &request, &planned).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(25), "it took {:?}", began.elapsed());
    assert_eq!(in_admin(&direct).await, Vec::<String>::new());
}
