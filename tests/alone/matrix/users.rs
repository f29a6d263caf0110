//! Users and roles, backed up and restored by users that have the built-in roles for it and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongokeep::domain::restore::RestoreRequest;
use mongokeep::domain::secret::Secret;
use mongokeep::domain::service::CheckState;
use mongokeep::engine::Limits;
use mongokeep::engine::logical::{OpenBackup, check, dump, plan, restore};
use mongokeep::mongo::Server;
use mongokeep::sandbox::{Mongod, ReplicaSet, ReplicaSetOptions};
use tokio_util::sync::CancellationToken;

use super::ground::Ground;
use crate::support::dumps::{self, Folder};
use crate::support::pair;

const KEEPER: &str = "keeper";
const PASSWORD: &str = "hunter2";

/// Asks for passwords, and has a user for backups and restores.
async fn start(mongod: &Mongod) -> (ReplicaSet, Client) {
    let set = ReplicaSet::start(mongod, ReplicaSetOptions::default().auth()).await.unwrap();
    let client = set.client().await.unwrap();
    let roles = ["backup", "restore", "readWriteAnyDatabase", "clusterMonitor"];
    run(&client, "admin", doc! {"createUser": KEEPER, "pwd": PASSWORD, "roles": roles.to_vec()}).await;
    (set, client)
}

async fn run(client: &Client, db: &str, command: Document) {
    client.database(db).run_command(command).await.unwrap();
}

async fn all(client: &Client, name: &str) -> BTreeMap<String, Document> {
    let cursor = client.database("admin").collection::<Document>(name).find(doc! {}).await.unwrap();
    let all: Vec<Document> = cursor.try_collect().await.unwrap();
    all.into_iter().map(|d| (d.get_str("_id").unwrap().to_owned(), d)).collect()
}

async fn fill(client: &Client) {
    client.database("d").collection::<Document>("c").insert_one(doc! {"_id": 1}).await.unwrap();
    let find = vec![doc! {"resource": {"db": "d", "collection": "c"}, "actions": ["find", "insert"]}];
    let none: Vec<String> = Vec::new();
    let from = vec![doc! {"clientSource": ["127.0.0.1", "10.0.0.0/8"]}];
    run(client, "d", doc! {"createRole": "finder", "privileges": find, "roles": none}).await;
    let inherits = vec![doc! {"role": "finder", "db": "d"}, doc! {"role": "read", "db": "other"}];
    let nothing: Vec<Document> = Vec::new();
    run(
        client,
        "admin",
        doc! {"createRole": "wide", "privileges": nothing, "roles": inherits, "authenticationRestrictions": &from},
    )
    .await;
    let app = doc! {
        "createUser": "app", "pwd": "secret", "roles": ["readWrite", "finder"], "customData": {"n": 1_i64},
        "authenticationRestrictions": from, "mechanisms": ["SCRAM-SHA-256"],
    };
    run(client, "d", app).await;
    run(client, "admin", doc! {"createUser": "été", "pwd": "secret", "roles": ["wide"]}).await;
}

pub async fn are_kept_with_the_built_in_roles(ground: Ground) {
    let sets = tokio::join!(start(&ground.source.mongod), start(&ground.target.mongod));
    let ((source, from), (target, to)) = sets;
    fill(&from).await;
    run(&to, "d", doc! {"createUser": "local", "pwd": "secret", "roles": ["read"]}).await;
    let (source_uri, target_uri) = (source.uri_as(KEEPER, PASSWORD), target.uri_as(KEEPER, PASSWORD));

    let items = check("prod", &Secret::new(source_uri.as_str()), &CancellationToken::new()).await;
    assert!(items.iter().all(|item| item.state == CheckState::Pass), "{items:#?}");

    let folder = Folder::new();
    let limit = Duration::from_secs(30);
    let server = Server::connect("source", &Secret::new(source_uri), limit).await.unwrap();
    let (ctx, _) = dumps::context(Limits::default());
    let manifest = dump(&ctx, folder.storage.clone(), &server, &dumps::request("users")).await.unwrap();
    dumps::verify_ok(&folder, &manifest).await;

    let stored = OpenBackup::new(folder.storage.clone(), manifest).unwrap();
    let server = Server::connect("target", &Secret::new(target_uri), limit).await.unwrap();
    let request = RestoreRequest { users_and_roles: true, ..pair::request() };
    let planned = plan(&ctx.cancel, &stored, &server, &request).await.unwrap();
    assert!(planned.users_and_roles, "{planned:?}");
    restore(&pair::context(), &stored, &server, &request, &planned).await.unwrap();

    // The user that restored is another one now.
    let to = target.client().await.unwrap();
    let (expected, users) = (all(&from, "system.users").await, all(&to, "system.users").await);
    for (id, user) in &expected {
        assert_eq!(users.get(id), Some(user), "{id}");
    }
    assert_eq!(users.len(), expected.len() + 1, "a user that the backup lacks stays");
    assert_eq!(all(&to, "system.roles").await, all(&from, "system.roles").await);
    let left = to.database("admin").list_collection_names().await.unwrap();
    assert!(!left.iter().any(|name| name.starts_with("temp") || name.contains("staged")), "{left:?}");
    // It is really let in, with what its role allows.
    let options = mongodb::options::ClientOptions::parse(
        target.uri_as("app", "secret").replace("authSource=admin", "authSource=d"),
    )
    .await
    .unwrap();
    let app = Client::with_options(options).unwrap();
    assert!(app.database("d").collection::<Document>("c").find_one(doc! {}).await.unwrap().is_some());
    assert!(app.database("other").collection::<Document>("c").find_one(doc! {}).await.is_err());
}
