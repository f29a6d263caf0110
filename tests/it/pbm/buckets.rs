//! The same with an S3 server as the storage, which agents and mongokeep open each by itself.

use mongodb::bson::{Document, doc};

use crate::support::agents::Agents;
use crate::support::program::{fill, until};
use crate::support::s3_servers::{BUCKET, Keeps, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_holds_what_agents_wrote_and_gives_it_back() {
    let Some(agents) = Agents::start(1).await else { return };
    let Some(server) = Server::versitygw(Keeps::Nothing).await else { return };
    fill(&agents.set, "shop", 500).await;
    let home = agents.home();
    let secret = server.config.secret_access_key.as_ref().unwrap().expose().to_owned();
    let file = home.path().join("secret");
    std::fs::write(&file, &secret).unwrap();
    let endpoint = format!("http://{}", server.address);
    let of = ["--type", "s3", "--bucket", BUCKET, "--region", "us-east-1", "--endpoint", &endpoint, "--path-style"];
    let keys = ["--prefix", "keep", "--access-key-id", server.config.access_key_id.as_deref().unwrap()];
    let add = [&["storage", "add", "bucket"], &of[..], &keys[..]].concat();
    home.ok(&[&add[..], &["--secret-access-key-file", file.to_str().unwrap()]].concat());

    home.ok(&["service", "configure", "src", "--storage", "bucket", "--yes"]);
    agents.are_seen();
    home.ok(&["backup", "create", "--service", "src", "--storage", "bucket", "--name", "b", "--wait"]);
    let name = home.ok(&["backup", "show", "b"])["pbm_name"].as_str().unwrap().to_owned();
    let listed = server.client().list_objects_v2().bucket(BUCKET).prefix("keep/src/pbm/").send().await.unwrap();
    let keys: Vec<&str> = listed.contents().iter().filter_map(|object| object.key()).collect();
    assert!(keys.contains(&format!("keep/src/pbm/{name}.pbm.json").as_str()), "{keys:?}");
    home.ok(&["backup", "verify", "b"]);

    let items = agents.set.client().await.unwrap().database("shop").collection::<Document>("items");
    items.drop().await.unwrap();
    home.ok(&["restore", "b", "--to", "src", "--yes", "--wait"]);
    assert_eq!(items.count_documents(doc! {}).await.unwrap(), 500);

    home.ok(&["backup", "delete", "b", "--yes"]);
    until("it is gone", || home.ok(&["backup", "list"]).as_array().unwrap().is_empty());
    let left = server.client().list_objects_v2().bucket(BUCKET).prefix("keep/").send().await.unwrap();
    let left: Vec<&str> = left.contents().iter().filter_map(|object| object.key()).collect();
    assert!(left.iter().all(|key| key.ends_with(".pbm.init")), "{left:?}");

    // Neither the jobs' logs nor the daemon's say the secret.
    for id in 1..=4 {
        let log = home.run(&["job", "log", &id.to_string()]);
        assert!(!log.stdout.contains(&secret) && !log.stderr.contains(&secret), "job {id}");
    }
}
