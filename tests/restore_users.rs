//! Users and roles, restored by a user whose own session may end by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongokeep::domain::secret::Secret;
use mongokeep::engine::logical::{Stored, plan, restore};
use mongokeep::mongo::Server;
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use support::pair::{context, request};
use support::recording::{Recording, folder};
use tokio_util::sync::CancellationToken;

mod support;

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
    let stored = Stored::new(storage, manifest).unwrap();

    let uri = Secret::new(target.uri_as("keeper", "hunter2"));
    let server = Server::connect("target", &uri, Duration::from_secs(10)).await.unwrap();
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
    let server = Server::connect("target", &uri, Duration::from_secs(10)).await.unwrap();
    let planned = plan(&cancel, &stored, &server, &request).await.unwrap();
    restore(&context(), &stored, &server, &request, &planned).await.unwrap();
    let to = target.client().await.unwrap();
    assert_eq!(all(&to, "system.users").await, expected);
}
