//! Buckets and containers as the storage, which agents and mongokeep open each by itself: S3, Azure Blob Storage and Google
//! Cloud Storage.

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongokeep::domain::secret::Secret;
use mongokeep::domain::storage::StorageConfig;
use mongokeep::sandbox::ReplicaSetOptions;
use mongokeep::storage::Key;
use mongokeep::storage::azure::AzureConfig;
use mongokeep::storage::gcs::GcsConfig;
use mongokeep::storage::s3::S3Config;

use crate::support::agents::Agents;
use crate::support::cloud_servers::{self, ACCOUNT, ACCOUNT_KEY, Azurite, CONTAINER, FakeGcs, service_account};
use crate::support::program::{Home, fill, until};
use crate::support::s3_servers::{BUCKET, Keeps, Server};

const SECRET: &str = "secret";

/// A home that has the file of a secret.
fn home_with(agents: &Agents, secret: &str) -> (Home, String) {
    let home = agents.home();
    let file = home.path().join(SECRET);
    std::fs::write(&file, secret).unwrap();
    (home, file.to_str().unwrap().to_owned())
}

/// Objects below `keep`, the prefix of the storage.
async fn objects(config: &StorageConfig) -> Vec<String> {
    let storage = mongokeep::storage::open(config).await.unwrap();
    let prefix = Key::new("keep").unwrap();
    let listed: Vec<_> = storage.list(Some(&prefix)).await.unwrap().try_collect().await.unwrap();
    listed.into_iter().map(|object| object.key.to_string()).collect()
}

/// From the configuration to the deletion, in the storage `bucket` of `home`, where `config` without its prefix leads.
async fn lives(agents: &Agents, home: &Home, config: &StorageConfig, secrets: &[&str]) {
    fill(&agents.set, "shop", 500).await;
    let check = home.run(&["service", "check", "src"]);
    assert!(check.stdout.contains("writable: bucket"), "{}", check.stdout);
    home.ok(&["service", "configure", "src", "--storage", "bucket", "--yes"]);
    agents.are_seen();
    // It is there now, secrets included: nothing is written a second time.
    let again = home.run(&["service", "configure", "src", "--storage", "bucket"]);
    let planned: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
    assert!(planned["is_there"] == true && planned["changes"] == serde_json::json!([]), "{planned}");
    let check = home.run(&["service", "check", "src"]);
    assert!(check.stdout.contains("written by this installation, and unchanged"), "{}", check.stdout);

    home.ok(&["backup", "create", "--service", "src", "--storage", "bucket", "--name", "b", "--wait"]);
    let name = home.ok(&["backup", "show", "b"])["pbm_name"].as_str().unwrap().to_owned();
    let keys = objects(config).await;
    assert!(keys.contains(&format!("keep/src/pbm/{name}.pbm.json")), "{keys:?}");
    home.ok(&["backup", "verify", "b"]);

    let items = agents.set.client().await.unwrap().database("shop").collection::<Document>("items");
    items.drop().await.unwrap();
    home.ok(&["restore", "b", "--to", "src", "--yes", "--wait"]);
    assert_eq!(items.count_documents(doc! {}).await.unwrap(), 500);
    assert_eq!(items.find_one(doc! {"_id": 499}).await.unwrap().unwrap().get_i64("_id").unwrap(), 499);

    home.ok(&["backup", "delete", "b", "--yes"]);
    until("it is gone", || home.ok(&["backup", "list"]).as_array().unwrap().is_empty());
    let left = objects(config).await;
    assert!(left.iter().all(|key| key.ends_with(".pbm.init")), "{left:?}");

    // Neither the jobs' logs nor the daemon's say the secret.
    for secret in secrets {
        for id in 1..=4 {
            let log = home.run(&["job", "log", &id.to_string()]);
            assert!(!log.stdout.contains(secret) && !log.stderr.contains(secret), "job {id}");
        }
        let log = std::fs::read_to_string(home.home().log_file()).unwrap();
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_s3_holds_what_agents_wrote_and_gives_it_back() {
    let Some(agents) = Agents::start(1).await else { return };
    let Some(server) = Server::versitygw(Keeps::Nothing).await else { return };
    let secret = server.config.secret_access_key.as_ref().unwrap().expose().to_owned();
    let (home, file) = home_with(&agents, &secret);
    let endpoint = format!("http://{}", server.address);
    let of = ["--type", "s3", "--bucket", BUCKET, "--region", "us-east-1", "--endpoint", &endpoint, "--path-style"];
    let keys = ["--prefix", "keep", "--access-key-id", server.config.access_key_id.as_deref().unwrap()];
    let add = [&["storage", "add", "bucket"], &of[..], &keys[..]].concat();
    home.ok(&[&add[..], &["--secret-access-key-file", &file]].concat());
    let config = StorageConfig::from(&S3Config { ..server.config.clone() });
    lives(&agents, &home, &config, &[&secret]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_azure_holds_what_agents_wrote_and_gives_it_back() {
    let Some(agents) = Agents::start(1).await else { return };
    let Some(azurite) = Azurite::start().await else { return };
    let (home, file) = home_with(&agents, ACCOUNT_KEY);
    let endpoint = format!("http://{}/{ACCOUNT}", azurite.address());
    let of = ["--type", "azure", "--account", ACCOUNT, "--container", CONTAINER, "--endpoint", &endpoint];
    let keys = ["--prefix", "keep", "--account-key-file", &file];
    home.ok(&[&["storage", "add", "bucket"], &of[..], &keys[..]].concat());
    let config = StorageConfig::from(&AzureConfig { ..azurite.config() });
    lives(&agents, &home, &config, &[ACCOUNT_KEY]).await;
    // What was told is just this, and PBM shows the key to nobody.
    let told = agents.pbm(&["config"])["storage"]["azure"].clone();
    let said =
        [&told["account"], &told["container"], &told["prefix"], &told["endpointUrl"], &told["credentials"]["key"]];
    assert_eq!(said.map(|text| text.as_str().unwrap()), [ACCOUNT, CONTAINER, "keep/src/pbm", endpoint.as_str(), "***"]);
}

/// PBM's client is led to the emulator by a variable of Google's library, in the environment of agents and daemon. It sends no
/// credentials there, so that those which were written are looked up in PBM's own collection.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_google_holds_what_agents_wrote_and_gives_it_back() {
    let Some(fake) = FakeGcs::start().await else { return };
    let emulator = ("STORAGE_EMULATOR_HOST", fake.address().to_string());
    let Some(agents) = Agents::with(ReplicaSetOptions::default(), vec![emulator]).await else { return };
    let key = service_account();
    let (home, file) = home_with(&agents, &key);
    let endpoint = format!("http://{}", fake.address());
    let of = ["--type", "gcs", "--bucket", cloud_servers::BUCKET, "--endpoint", &endpoint];
    home.ok(&[&["storage", "add", "bucket"], &of[..], &["--prefix", "keep", "--credentials-file", &file]].concat());
    let plan = home.run(&["service", "configure", "src", "--storage", "bucket"]);
    assert!(plan.stdout.contains("STORAGE_EMULATOR_HOST"), "{}", plan.stdout);
    let parsed: serde_json::Value = serde_json::from_str(&key).unwrap();
    let private = parsed["private_key"].as_str().unwrap();
    let config = StorageConfig::from(&GcsConfig {
        credentials: Some(Secret::new(key.clone())),
        anonymous: false,
        ..fake.config()
    });
    lives(&agents, &home, &config, &[private, private.lines().nth(1).unwrap()]).await;
    assert!(agents.pbm(&["config"])["storage"]["gcs"]["credentials"].is_null(), "PBM gives nothing of them back");
    let written = agents.set.client().await.unwrap().database("admin").collection::<Document>("pbmConfig");
    let written = written.find_one(doc! {}).await.unwrap().unwrap();
    let gcs = written.get_document("storage").unwrap().get_document("gcs").unwrap();
    let credentials = gcs.get_document("credentials").unwrap();
    assert_eq!(credentials.get_str("privateKey").unwrap(), private);
    assert_eq!(credentials.get_str("clientEmail").unwrap(), "backup@test.example");
}
