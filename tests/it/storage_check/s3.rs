//! In a bucket: the same, and uploads of which only the server knows.

use std::net::SocketAddr;

use bytes::Bytes;
use mongokeep::domain::key::Key;
use mongokeep::storage::s3::{S3, S3Config};
use mongokeep::storage::{PutMode, Storage};
use serde_json::json;

use super::{check, found, json, make, of_kind};
use crate::support::program::{Home, fill, replica_set};
use crate::support::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use crate::support::s3_servers::{Keeps, Server};

async fn checked_and_repaired(address: SocketAddr, config: &S3Config, secret: &str, sizes: bool) {
    let set = replica_set().await;
    fill(&set, "shop", 200).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    let file = home.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    let (endpoint, region) = (format!("http://{address}"), config.region.as_deref().unwrap());
    let of = ["--type", "s3", "--bucket", BUCKET, "--region", region, "--endpoint", &endpoint, "--path-style"];
    let keys = ["--access-key-id", ACCESS_KEY, "--secret-access-key-file", file.to_str().unwrap()];
    home.ok(&[&["storage", "add", "bucket"], &of[..], &keys[..]].concat());
    for name in ["good", "holey"] {
        make(&home, "bucket", name, "prod");
    }
    assert_eq!(check(&home, "bucket", 0)["findings"], json!([]));
    let storage = S3::new(config).await.unwrap();
    let key = |path: &str| Key::new(path).unwrap();
    let begin = async |path: &str| {
        let upload = storage.upload(&key(path)).await.unwrap();
        upload.part(0, Bytes::from(vec![5; storage.part_size()])).await.unwrap();
    };
    // Beside a good backup nobody writes any more; anywhere else somebody may.
    begin("prod/backups/good/data/shop/items/00009.bson.zst").await;
    begin("somebody/else/large.bin").await;
    let put = async |path: &str, body: &'static str| {
        storage.put(&key(path), Bytes::from_static(body.as_bytes()), PutMode::Overwrite).await.unwrap();
    };
    put("prod/backups/good/oplog/00077.bson.zst", "orphan").await;
    put("prod/backups/good/notes.txt", "foreign").await;
    let objects: Vec<_> = {
        use futures_util::TryStreamExt;
        storage.list(Some(&key("prod/backups/holey/data"))).await.unwrap().try_collect().await.unwrap()
    };
    let part = objects.iter().find(|o| o.key.as_str().contains("shop/items/")).unwrap();
    storage.delete(&part.key).await.unwrap();

    let report = check(&home, "bucket", 1);
    let kinds = found(&report);
    assert_eq!(of_kind(&report, "missing_object")[0]["object"], json!(part.key.as_str()), "{kinds:?}");
    assert_eq!(of_kind(&report, "missing_object")[0]["bytes"], json!(part.size), "{kinds:?}");
    assert_eq!((&report["unfinished_uploads"], &report["removable"]["objects"]), (&json!(2), &json!(2)), "{report}");
    let uploads = of_kind(&report, "unfinished_upload");
    let of_good = uploads.iter().find(|f| f["backup"] == "good").unwrap();
    assert_eq!((uploads.len(), &of_good["removable"]), (2, &json!(true)), "{report}");
    if sizes {
        assert_eq!(of_good["bytes"], json!(storage.part_size()), "{report}");
    }
    let ran = home.run(&["storage", "check", "bucket", "--repair", "--yes"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let left = json(&ran);
    assert_eq!((&left["unfinished_uploads"], &left["removable"]["objects"]), (&json!(1), &json!(0)), "{left}");
    assert_eq!(of_kind(&left, "foreign_object")[0]["object"], json!("prod/backups/good/notes.txt"));
    assert!(storage.stat(&key("prod/backups/good/oplog/00077.bson.zst")).await.unwrap().is_none());
    assert_eq!(home.ok(&["backup", "verify", "good"])["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_the_server_in_this_process() {
    let server = S3Server::start().await;
    checked_and_repaired(server.address, &server.config(), SECRET_KEY, false).await;
    assert_eq!(server.unfinished(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_versitygw() {
    let Some(server) = Server::versitygw(Keeps::Nothing).await else { return };
    let secret = server.config.secret_access_key.as_ref().unwrap().expose().to_owned();
    checked_and_repaired(server.address, &server.config, &secret, true).await;
}

/// A listing that is behind is no proof that something is gone.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missing_because_a_listing_is_late() {
    let set = replica_set().await;
    fill(&set, "shop", 200).await;
    let server = S3Server::start().await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_s3("bucket", server.address, BUCKET, SECRET_KEY);
    make(&home, "bucket", "one", "prod");
    server.hide_listings();
    let report = check(&home, "bucket", 0);
    assert_eq!((&report["backups"], &report["findings"]), (&json!(1), &json!([])), "{report}");
    assert_eq!(home.ok(&["backup", "show", "one"])["state"], "succeeded");
}
