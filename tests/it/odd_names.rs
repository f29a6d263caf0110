//! Names that are not UTF-8: no backup keeps them, and nothing that holds one is silent about it or ends because of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use mongodb::bson::{Document, doc};
use mongokeep::artifact::bson::{self, Writer, tag};
use mongokeep::artifact::layout::BackupRoot;
use mongokeep::domain::secret::Secret;
use mongokeep::domain::service::CheckState;
use mongokeep::engine::Limits;
use mongokeep::engine::logical::{check, dump, export};
use mongokeep::sandbox::ReplicaSet;
use tokio_util::sync::CancellationToken;

use crate::support;
use crate::support::dumps::{self, Folder};
use crate::support::pair::{Pair, context, request};
use crate::support::recording::{Recording, folder};

const ODD: &[u8] = b"a\xff\xfeb";

/// A BSON string of any bytes.
fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32 + 1).to_le_bytes(), bytes, &[0]].concat()
}

/// Runs `name: argument` with `more` on a member, as no driver can: neither name need be UTF-8.
fn run(set: &ReplicaSet, db: &[u8], name: &str, argument: &[u8], more: Document) {
    let mut w = Writer::default();
    w.raw(tag::STRING, name.as_bytes(), &text(argument));
    let more = more.to_vec().unwrap();
    for field in bson::elements(&more).unwrap() {
        w.element(&field.unwrap());
    }
    send(set, db, w);
}

fn send(set: &ReplicaSet, db: &[u8], w: Writer) {
    let reply = ask(set, db, w);
    assert!(bson::get(&reply, "ok").unwrap().truthy(), "{}", String::from_utf8_lossy(&reply));
}

fn ask(set: &ReplicaSet, db: &[u8], mut w: Writer) -> Vec<u8> {
    w.raw(tag::STRING, b"$db", &text(db));
    let command = w.finish();
    let mut message = Vec::new();
    for field in [16 + 5 + command.len() as u32, 1, 0, 2013, 0] {
        message.extend(field.to_le_bytes());
    }
    message.push(0);
    message.extend(&command);
    let mut stream = TcpStream::connect(&set.addresses()[0]).unwrap();
    stream.write_all(&message).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut reply = vec![0; u32::from_le_bytes(length) as usize - 4];
    stream.read_exact(&mut reply).unwrap();
    reply.split_off(12 + 5)
}

fn make(set: &ReplicaSet, name: &[u8]) {
    run(set, b"d", "create", name, doc! {});
    put(set, name, 1);
}

fn put(set: &ReplicaSet, name: &[u8], id: i32) {
    run(set, b"d", "insert", name, doc! {"documents": [{"_id": id}]});
}

fn rename(set: &ReplicaSet, from: &[u8], to: &[u8]) {
    let mut w = Writer::default();
    w.raw(tag::STRING, b"renameCollection", &text(&[b"d.", from].concat()));
    w.raw(tag::STRING, b"to", &text(&[b"d.", to].concat()));
    send(set, b"admin", w);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_such_a_name_is_left_out_and_named_everywhere() {
    let pair = Pair::start().await;
    make(&pair.source, b"plain");
    make(&pair.source, ODD);
    run(&pair.source, b"d", "create", b"v\xfe", doc! {"viewOn": "plain", "pipeline": []});
    run(&pair.source, b"w\xff", "create", b"c", doc! {});
    make(&pair.target, b"stays\xff");
    run(&pair.target, b"t\xff", "create", b"c", doc! {});

    let checked = check("prod", &Secret::new(pair.source.uri()), &CancellationToken::new()).await;
    let item = checked.iter().find(|item| item.id == "names").unwrap();
    assert_eq!(item.state, CheckState::Warn);
    assert!(item.detail.contains(r"d.a\xff\xfeb"), "{}", item.detail);
    assert!(checked.iter().all(|item| item.state != CheckState::Fail), "{checked:?}");

    let folder = Folder::new();
    let (ctx, log) = dumps::context(Limits::default());
    let server = dumps::server(&pair.source).await;
    let manifest = dump(&ctx, Arc::clone(&folder.storage), &server, &dumps::request("odd")).await.unwrap();
    dumps::verify_ok(&folder, &manifest).await;
    let log = log.lock().unwrap().clone();
    for what in [r"d.a\xff\xfeb", r"d.v\xfe", "a database"] {
        assert!(manifest.left_out.iter().any(|l| l.what == what), "{what}: {:?}", manifest.left_out);
        let said = format!("warning: {what} is NOT in this backup");
        assert!(log.iter().any(|line| line.starts_with(&said)), "{said}: {log:#?}");
    }
    // What is not selected is not missed.
    let mut other = dumps::request("other");
    other.selection.include = vec!["d.plain".parse().unwrap()];
    let other = dumps::dump_ok(&pair.source, &folder, &other, Limits::default()).await;
    assert!(!other.left_out.iter().any(|l| l.what.contains(r"\xff")), "{:?}", other.left_out);

    let stored = mongokeep::engine::logical::OpenBackup::new(Arc::clone(&folder.storage), manifest.clone()).unwrap();
    let mut request = request();
    request.exact = true;
    let target = pair.server().await.unwrap();
    let plan = mongokeep::engine::logical::plan(&CancellationToken::new(), &stored, &target, &request).await.unwrap();
    for said in [r"d.a\xff\xfeb is not restored", r"d.stays\xff of the target stays as it is"] {
        assert!(plan.warnings.iter().any(|w| w.contains(said)), "{said}: {:?}", plan.warnings);
    }
    mongokeep::engine::logical::restore(&context(), &stored, &target, &request, &plan).await.unwrap();
    let plain = pair.to.database("d").collection::<Document>("plain");
    assert_eq!(plain.count_documents(doc! {}).await.unwrap(), 1);
    // It is still there: it cannot be made again.
    let mut again = Writer::default();
    again.raw(tag::STRING, b"create", &text(b"stays\xff"));
    let reply = ask(&pair.target, b"d", again);
    assert_eq!(bson::get(&reply, "code").and_then(|e| e.i64()), Some(48), "a restore dropped what it cannot name");
    let root = BackupRoot::new(&manifest.folder, &manifest.name).unwrap();
    let report = export(&context(), folder.storage, &root, &folder.dir.path().join("export")).await.unwrap();
    assert!(report.left_out.iter().any(|l| l.what == r"d.a\xff\xfeb"), "{:?}", report.left_out);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_under_such_a_name_are_followed_by_identity() {
    let pair = Pair::start().await;
    let set = &pair.source;
    for name in [b"known".as_slice(), b"to and fro", b"old\xff", b"late\xff", b"lost\xff"] {
        make(set, name);
    }
    let mut recording = Recording::begin(&pair.from).await;
    recording.read("d", "known").await;
    recording.read("d", "to and fro").await;
    // Made under such a name: the oplog holds it whole.
    make(set, ODD);
    let index = doc! {"indexes": [{"key": {"x": 1}, "name": "x"}, {"key": {"y": 1}, "name": "y"}]};
    run(set, b"d", "createIndexes", ODD, index);
    run(set, b"d", "collMod", ODD, doc! {"validator": {"x": {"$exists": false}}});
    run(set, b"d", "dropIndexes", ODD, doc! {"index": "y"});
    put(set, ODD, 2);
    rename(set, ODD, b"named at last");
    put(set, b"named at last", 3);
    // One that was read loses its name, and another one gets it back.
    rename(set, b"known", b"known\xff");
    rename(set, b"to and fro", b"to\xff");
    put(set, b"to\xff", 2);
    rename(set, b"to\xff", b"to and fro");
    // These were there before, and no backup has them.
    put(set, b"old\xff", 2);
    run(set, b"d", "createIndexes", b"old\xff", doc! {"indexes": [{"key": {"x": 1}, "name": "x"}]});
    rename(set, b"late\xff", b"late");
    put(set, b"late", 2);
    run(set, b"d", "drop", b"lost\xff", doc! {});
    run(set, b"d", "create", b"view\xff", doc! {"viewOn": "late", "pipeline": []});
    let manifest = recording.end(&folder(pair.dir.path()).await, "odd").await;

    let plan = pair.plan(&manifest, &request()).await.unwrap();
    let mut left: Vec<&str> = plan.left_out.iter().map(|l| l.what.as_str()).collect();
    left.sort_unstable();
    assert_eq!(left, [r"d.known\xff", "d.late", r"d.old\xff", r"d.view\xff"]);
    assert_eq!(plan.warnings.iter().filter(|w| w.contains("is not restored")).count(), 4, "{:?}", plan.warnings);
    pair.execute(&manifest, &request(), &plan).await.unwrap();
    // What is compared is listed by a driver, which reads no such names.
    for name in [b"known\xff".as_slice(), b"old\xff", b"view\xff"] {
        run(set, b"d", "drop", name, doc! {});
    }
    let (from, to) = (support::compare::state(&pair.from).await, support::compare::state(&pair.to).await);
    let restored: Vec<&str> = to.keys().map(String::as_str).collect();
    assert_eq!(restored, ["d.named at last", "d.to and fro"]);
    for name in restored {
        assert_eq!(from[name], to[name], "{name}");
    }
    assert_eq!((to["d.named at last"].documents, to["d.to and fro"].documents), (3, 2));
}
