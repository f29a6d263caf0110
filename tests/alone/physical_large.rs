//! Changes whose entries in the oplog are larger than a document may be, recovered from a copy by every version.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions, Scratch, Server, ServerOptions};

use crate::support::program::{Home, until};
use crate::support::versions::mongod_of;

/// Bytes of the largest document that a server takes, and of what is in it beside its field of bytes.
const LARGEST: usize = 16 << 20;
const BESIDE: usize = 22;

/// The largest document inserted, replaced by another one, and a third that becomes small.
pub async fn the_largest_changes_are_recovered_by_every_version() {
    for version in ["4.4.2", "5.0.4", "6.0.27", "7.0.11"] {
        let Some(mongod) = mongod_of(version).await else { continue };
        // One change that is smaller than the cache of a test may be too large for it.
        let options = ReplicaSetOptions { cache_gb: 1.0, ..ReplicaSetOptions::default() };
        let set = ReplicaSet::start(&mongod, options).await.unwrap();
        let home = Home::new();
        home.add_service("src", &set.uri());
        home.add_storage("disk");
        home.ok(&["settings", "set", "pitr.slice_seconds", "10"]);
        let line = ["schedule", "add", "line", "--service", "src", "--storage", "disk", "--type", "pitr", "--cron"];
        home.ok(&[&line[..], &["@yearly"]].concat());
        until("the oplog is recorded", || home.ok(&["pitr", "status"])[0]["running"] == true);
        let create =
            ["backup", "create", "--service", "src", "--storage", "disk", "--model", "physical", "--name", "b"];
        home.ok(&[&create[..], &["--wait"]].concat());

        let client = set.client().await.unwrap();
        let large = client.database("shop").collection::<Document>("large");
        let document = |id: i32, byte: u8| {
            let bytes = vec![byte; LARGEST - BESIDE];
            doc! {"_id": id, "x": Binary { subtype: BinarySubtype::Generic, bytes }}
        };
        for (id, byte) in [(1, 1), (2, 2), (3, 3)] {
            large.insert_one(document(id, byte)).await.unwrap();
        }
        large.replace_one(doc! {"_id": 2}, document(2, 9)).await.unwrap();
        large.update_one(doc! {"_id": 3}, doc! {"$set": {"x": 1}}).await.unwrap();
        let mark = doc! {"insert": "marks", "documents": [{"_id": 1}]};
        let wanted = client.database("shop").run_command(mark).await.unwrap();
        let wanted = wanted.get_timestamp("operationTime").unwrap();
        large.drop().await.unwrap();

        let scratch = Scratch::new().unwrap();
        let port = mongokeep::sandbox::free_port().unwrap();
        let (dir, member) = (scratch.path().join("restored"), format!("127.0.0.1:{port}"));
        let moment = format!("{},{}", wanted.time, wanted.increment);
        let words = ["restore", "b", "--to-data-dir", dir.to_str().unwrap(), "--mongod", mongod.path.to_str().unwrap()];
        let words = [&words[..], &["--time", &moment, "--member", &member]].concat();
        until("the moment is recorded", || home.run(&[&words[..], &["--dry-run"]].concat()).code == 0);
        let ran = home.run(&[&words[..], &["--yes", "--wait"]].concat());
        assert_eq!(ran.code, 0, "MongoDB {version}: {}", ran.stderr);
        let args = ["--replSet", set.name()].map(str::to_owned).to_vec();
        let options = ServerOptions { name: "restored".into(), port: Some(port), args, ..ServerOptions::default() };
        let server = Server::start(&mongod, &scratch, &options).await.unwrap();
        let restored = server.client().unwrap().database("shop").collection::<Document>("large");
        for (id, expected) in [(1, document(1, 1)), (2, document(2, 9)), (3, doc! {"_id": 3, "x": 1})] {
            let found = restored.find_one(doc! {"_id": id}).await.unwrap();
            assert!(found == Some(expected), "MongoDB {version}: document {id} differs");
        }
        server.stop().await.unwrap();
        set.stop().await.unwrap();
    }
}
