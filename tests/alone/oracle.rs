//! The state of a replica set after any position of its oplog, found by the server itself.
//!
//! A member's files are copied while nothing is written; later the entries of the live oplog up to the position are put
//! into the copy's own oplog, and the copy is started in the mode in which mongod recovers from it. No line of this
//! program takes part in that.

use std::path::{Path, PathBuf};

use mongodb::bson::{Document, RawArrayBuf, RawDocument, RawDocumentBuf, Timestamp, cstr, doc, rawdoc};
use mongodb::{Client, Database};
use mongokeep::sandbox::{ReplicaSet, Scratch, Server, ServerOptions};

/// A copy of one member's files, older than every position that will be asked for.
pub struct Base {
    scratch: Scratch,
    /// The newest entry of the copied oplog.
    top: Timestamp,
    mongod: mongokeep::sandbox::Mongod,
}

impl Base {
    /// Copies a secondary of `set`. Nothing may be written meanwhile.
    pub async fn copy(set: &ReplicaSet) -> Self {
        let primary = set.wait_for_primary().await.unwrap();
        let member = (primary + 1) % set.addresses().len();
        let client = set.direct_client(member).await.unwrap();
        let admin = client.database("admin");
        admin.run_command(doc! {"fsync": 1, "lock": true}).await.unwrap();
        let top = top_of_oplog(&client).await;
        let scratch = Scratch::new().unwrap();
        let (from, to) = (set.server(member).unwrap().dbpath().to_owned(), scratch.path().join("copy"));
        let copied = tokio::task::spawn_blocking(move || copy_folder(&from, &to)).await;
        admin.run_command(doc! {"fsyncUnlock": 1}).await.unwrap();
        copied.unwrap();
        Self { scratch, top, mongod: set.mongod().clone() }
    }

    /// Recovers the copy to `at`, with what `live` has in its oplog. The server is gone when the result is dropped.
    pub async fn recover(self, live: &Client, at: Timestamp) -> Recovered {
        let options =
            |args: &[&str]| ServerOptions { name: "copy".into(), args: parameters(args), ..ServerOptions::default() };
        let quiet = "disableLogicalSessionCacheRefresh=true";
        let server = Server::start(&self.mongod, &self.scratch, &options(&[quiet])).await.unwrap();
        let client = server.client().unwrap();
        let local = client.database("local");
        for name in ["replset.minvalid", "replset.oplogTruncateAfterPoint", "replset.election", "system.replset"] {
            local.collection::<Document>(name).delete_many(doc! {}).await.unwrap();
        }
        let minvalid = doc! {"t": -1_i64, "ts": Timestamp { time: 0, increment: 1 }};
        local.collection::<Document>("replset.minvalid").insert_one(minvalid).await.unwrap();
        self.append(&local, live, at).await;
        local
            .collection::<Document>("replset.oplogTruncateAfterPoint")
            .insert_one(doc! {"_id": "oplogTruncateAfterPoint", "oplogTruncateAfterPoint": at})
            .await
            .unwrap();
        server.stop().await.unwrap();

        let server = Server::start(
            &self.mongod,
            &self.scratch,
            &options(&[quiet, "recoverFromOplogAsStandalone=true", "ttlMonitorEnabled=false"]),
        )
        .await
        .unwrap();
        let client = server.client().unwrap();
        assert_eq!(top_of_oplog(&client).await, at, "the copy was not recovered to the position asked for");
        Recovered { client, _server: server, _scratch: self.scratch }
    }

    /// Whether the server recovers indexes too. Before 6.0 it ends by an invariant ("!isMaster" in 4.4.2, "!isPrimary" in
    /// 5.0.4) when it meets the build of one.
    pub fn knows_indexes(&self) -> bool {
        !["4.", "5."].iter().any(|old| self.mongod.version.starts_with(old))
    }

    /// Puts the live oplog's entries after the copy's newest one, up to `at`, into the copy's oplog.
    async fn append(&self, local: &Database, live: &Client, at: Timestamp) {
        let oplog = live.database("local").collection::<RawDocumentBuf>("oplog.rs");
        let mut cursor = oplog.find(doc! {"ts": {"$gte": self.top, "$lte": at}}).await.unwrap();
        assert!(cursor.advance().await.unwrap(), "the oplog is empty");
        let first = cursor.current().get_timestamp("ts").unwrap();
        assert_eq!(first, self.top, "the oplog rolled over: it no longer reaches back to the copy");
        let (mut batch, mut bytes, mut last) = (RawArrayBuf::new(), 0, first);
        while cursor.advance().await.unwrap() {
            let entry = cursor.current();
            last = entry.get_timestamp("ts").unwrap();
            if bytes > 0 && bytes + entry.as_bytes().len() > 12 << 20 {
                insert(local, std::mem::take(&mut batch)).await;
                bytes = 0;
            }
            bytes += entry.as_bytes().len();
            let skipped = !self.knows_indexes() && builds_an_index(entry);
            batch.push(if skipped { nothing_instead_of(entry) } else { entry.to_owned() });
        }
        if bytes > 0 {
            insert(local, batch).await;
        }
        assert_eq!(last, at, "{at} is not a position of the oplog");
    }
}

fn builds_an_index(entry: &RawDocument) -> bool {
    let command = entry.get_document("o").ok().and_then(|o| o.iter().next()?.ok());
    let names = ["createIndexes", "startIndexBuild", "commitIndexBuild", "abortIndexBuild"];
    entry.get_str("op").is_ok_and(|op| op == "c") && command.is_some_and(|(name, _)| names.contains(&name.as_str()))
}

/// An entry that does nothing, at the same position.
fn nothing_instead_of(entry: &RawDocument) -> RawDocumentBuf {
    let mut nothing = RawDocumentBuf::new();
    for element in entry.iter() {
        let (name, value) = element.unwrap();
        if ["ts", "t", "v", "wall"].contains(&name.as_str()) {
            nothing.append(name, value);
        }
    }
    nothing.append(cstr!("op"), "n");
    nothing.append(cstr!("ns"), "");
    nothing.append(cstr!("o"), rawdoc! {"msg": "an index"});
    nothing
}

/// As a command: the driver's own insert would add an `_id`.
async fn insert(local: &Database, entries: RawArrayBuf) {
    let reply = local.run_raw_command(rawdoc! {"insert": "oplog.rs", "documents": entries}).await.unwrap();
    assert!(!reply.contains_key("writeErrors"), "{reply}");
}

/// A server that holds the state asked for.
pub struct Recovered {
    pub client: Client,
    _server: Server,
    _scratch: Scratch,
}

/// The newest position of a server's oplog.
pub async fn top_of_oplog(client: &Client) -> Timestamp {
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let entry = oplog.find_one(doc! {}).sort(doc! {"$natural": -1}).await.unwrap().unwrap();
    entry.get_timestamp("ts").unwrap()
}

fn parameters(list: &[&str]) -> Vec<String> {
    list.iter().flat_map(|p| ["--setParameter".to_owned(), (*p).to_owned()]).collect()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else if entry.file_name() != "mongod.lock" {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
