//! Servers that keep the files of a checkpoint for a backup: nothing is locked, and the cursor is closed whatever happens.

use mongodb::bson::doc;
use mongokeep::sandbox::{ReplicaSet, Scratch, Server, ServerOptions};

use super::{create, free_ports, make, restore};
use crate::support::cursor_server::{CursorServer, Script};
use crate::support::program::{Home, fill, replica_set, until};

async fn stand(script: Script) -> (ReplicaSet, CursorServer, Home) {
    let set = replica_set().await;
    fill(&set, "shop", 2_000).await;
    let server = CursorServer::start(&set, script).await;
    let home = Home::new();
    home.add_service("src", &server.uri);
    home.add_storage("local");
    (set, server, home)
}

fn counts(server: &CursorServer) -> (usize, usize) {
    let script = server.script.lock().unwrap();
    (script.opened, script.closed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_from_a_cursor_is_restored_and_nothing_was_locked() {
    let (set, server, home) = stand(Script { checkpoints: 2, ..Script::default() }).await;
    let backup = make(&home, "b");
    assert_eq!(counts(&server), (1, 1), "opened and closed");
    assert_eq!(server.script.lock().unwrap().checkpoints, 0);
    assert!(backup["files"]["copied"].as_str().unwrap().contains("backup cursor"), "{backup}");
    assert!(backup["files"]["locked_millis"].is_null(), "{backup}");
    // What was extended to is the moment of the backup.
    let extended = server.script.lock().unwrap().extended[0];
    let at = &backup["consistent_at_ts"];
    let at = (at["t"].as_u64().unwrap(), at["i"].as_u64().unwrap());
    assert_eq!((u64::from(extended.time), u64::from(extended.increment)), at);

    let (scratch, port) = (Scratch::new().unwrap(), free_ports(1)[0]);
    let member = format!("127.0.0.1:{port}");
    let more = ["--replica-set", "new", "--member", &member, "--yes", "--wait"];
    let ran = restore(&home, &set, "b", &scratch.path().join("m0"), &more);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let args = ["--replSet", "new"].map(str::to_owned).to_vec();
    let options = ServerOptions { name: "m0".into(), port: Some(port), args, ..ServerOptions::default() };
    let restored = Server::start(set.mongod(), &scratch, &options).await.unwrap();
    let items = restored.client().unwrap().database("shop").collection::<mongodb::bson::Document>("items");
    assert_eq!(items.count_documents(doc! {}).await.unwrap(), 2_000);
    restored.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_opens_a_cursor_too_and_says_what_is_refused() {
    let (_set, server, home) = stand(Script::default()).await;
    let locking = || {
        let ran = home.run(&["service", "check", "src", "--model", "physical"]);
        let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let items = report["items"].as_array().unwrap().clone();
        let item = items.into_iter().find(|item| item["id"] == "locking").unwrap();
        (ran.code, item["state"].as_str().unwrap().to_owned(), item["detail"].as_str().unwrap().to_owned())
    };
    let (code, state, detail) = locking();
    assert!(code == 0 && state == "pass" && detail.contains("not locked"), "{code} {state} {detail}");
    assert_eq!(counts(&server), (1, 1));
    server.script.lock().unwrap().denied = true;
    let (code, state, detail) = locking();
    assert!(code == 1 && state == "fail" && detail.contains("not authorized"), "{code} {state} {detail}");
    // What the check refused fails, and the server is not locked instead.
    let mut args = create("b");
    args.push("--wait");
    let ran = home.run(&args);
    assert!(ran.code == 1 && ran.stderr.contains("hostManager"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_lost_or_lies_makes_no_backup() {
    let (_set, server, home) = stand(Script { lost: true, ..Script::default() }).await;
    let mut args = create("b");
    args.push("--wait");
    let ran = home.run(&args);
    assert!(ran.code == 1 && ran.stderr.contains("closed the backup cursor"), "{}", ran.stderr);
    until("the cursor is closed", || counts(&server) == (1, 1));
    *server.script.lock().unwrap() = Script { outside: true, ..Script::default() };
    let mut args = create("c");
    args.push("--wait");
    let ran = home.run(&args);
    assert!(ran.code == 1 && ran.stderr.contains("/etc/hostname"), "{}", ran.stderr);
    until("the cursor is closed", || counts(&server) == (1, 1));
    assert_eq!(home.files().iter().filter(|file| file.ends_with("manifest.json")).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_closes_the_cursor() {
    let (set, server, home) = stand(Script::default()).await;
    fill(&set, "more", 60_000).await;
    home.ok(&["settings", "set", "backup.bandwidth_limit", "20000"]);
    let id = home.ok(&create("b"))["id"].as_i64().unwrap();
    until("the cursor is open", || counts(&server) == (1, 0));
    home.ok(&["job", "cancel", &id.to_string()]);
    until("the cursor is closed", || counts(&server) == (1, 1));
    until("it is over", || home.job(id)["state"] == "cancelled");
}
