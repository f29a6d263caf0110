//! The prerequisites, on real servers with and without what they ask for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use mongodb::bson::doc;
use mongokeep::domain::secret::Secret;
use mongokeep::domain::service::{CheckItem, CheckState};
use mongokeep::error::ErrorKind;
use mongokeep::mongo::{Server, check, topology};
use mongokeep::sandbox::{Member, ReplicaSet, ReplicaSetOptions, Scratch, ServerOptions};
use tokio_util::sync::CancellationToken;

mod support;

fn state(items: &[CheckItem], id: &str) -> CheckState {
    items.iter().find(|i| i.id == id).unwrap_or_else(|| panic!("no item {id}")).state
}

fn item<'a>(items: &'a [CheckItem], id: &str) -> &'a CheckItem {
    items.iter().find(|i| i.id == id).unwrap_or_else(|| panic!("no item {id}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_is_tried_and_each_lack_has_a_remedy() {
    let mongod = support::mongod().await;
    let set = ReplicaSet::start(&mongod, ReplicaSetOptions { auth: true, ..Default::default() }).await.unwrap();
    let admin = set.client().await.unwrap().database("admin");
    for (user, roles) in [
        ("none", vec![]),
        ("keep", vec!["backup", "restore", "readWriteAnyDatabase", "clusterMonitor"]),
        ("half", vec!["backup", "restore", "clusterMonitor"]),
        ("plain", vec!["backup"]),
    ] {
        admin.run_command(doc! {"createUser": user, "pwd": "hunter2", "roles": roles}).await.unwrap();
    }
    let cancel = CancellationToken::new();
    let check = async |user: &str, password: &str| {
        let uri = Secret::new(set.uri_as(user, password));
        let items = check::run("prod", &uri, &cancel).await;
        for item in &items {
            let text = format!("{} {} {}", item.title, item.detail, item.remedy);
            assert!(!text.contains("hunter"), "a password is shown: {text}");
            assert!(item.state != CheckState::Fail || !item.detail.is_empty(), "{item:?}");
        }
        items
    };

    let good = check("keep", "hunter2").await;
    assert!(good.iter().all(|i| i.state == CheckState::Pass), "{good:#?}");

    // The role backup alone suffices to read everything a backup reads.
    let plain = check("plain", "hunter2").await;
    assert_eq!(state(&plain, "rights_backup"), CheckState::Pass, "{plain:#?}");
    assert_eq!(state(&plain, "replica_set"), CheckState::Warn);
    assert_eq!(state(&plain, "rights_restore"), CheckState::Warn);
    assert!(item(&plain, "rights_restore").remedy.contains("grantRolesToUser"));

    // Documents could come, but neither change nor go.
    let half = check("half", "hunter2").await;
    assert_eq!(state(&half, "rights_restore"), CheckState::Warn, "{half:#?}");
    assert!(item(&half, "rights_restore").detail.contains("remove, update"), "{half:#?}");

    let none = check("none", "hunter2").await;
    assert_eq!(state(&none, "rights_backup"), CheckState::Fail);
    assert!(item(&none, "rights_backup").detail.contains("read the oplog"));
    assert!(item(&none, "rights_backup").remedy.contains("\"backup\""));

    let wrong = check("keep", "hunter3").await;
    assert_eq!(state(&wrong, "reachable"), CheckState::Pass);
    assert_eq!(state(&wrong, "authenticated"), CheckState::Fail);
    assert_eq!(state(&wrong, "rights_backup"), CheckState::Skip);

    let address = set.addresses().remove(0);
    let anonymous = check::run("prod", &Secret::new(format!("mongodb://{address}/")), &cancel).await;
    assert_eq!(state(&anonymous, "authenticated"), CheckState::Fail, "{anonymous:#?}");
    assert!(item(&anonymous, "authenticated").detail.contains("USER:PASSWORD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_server_is_refused_with_the_way_to_convert_it() {
    let mongod = support::mongod().await;
    let scratch = Scratch::new().unwrap();
    let server = mongokeep::sandbox::Server::start(&mongod, &scratch, &ServerOptions::default()).await.unwrap();
    let uri = Secret::new(format!("mongodb://{}/", server.address()));
    let items = check::run("alone", &uri, &CancellationToken::new()).await;
    assert_eq!(state(&items, "replica_set"), CheckState::Fail);
    assert!(item(&items, "replica_set").detail.contains("replSetName"), "{items:#?}");
    assert!(item(&items, "replica_set").remedy.contains("rs.initiate()"));
    assert_eq!(state(&items, "server_version"), CheckState::Pass);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_is_said_with_host_and_seconds() {
    let began = Instant::now();
    let uri = Secret::new("mongodb://u:hunter2@127.0.0.1:1/");
    let error = Server::connect("prod", &uri, Duration::from_secs(2)).await.err().unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    for part in ["prod", "127.0.0.1:1", "2 s", "connection refused"] {
        assert!(error.full().contains(part), "{part} is not in {error}");
    }
    assert!(!format!("{error:?}").contains("hunter2"));
    assert!(error.hint_text().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hidden_member_is_read() {
    let mongod = support::mongod().await;
    let hidden = Member { priority: 0.0, hidden: true };
    let options = ReplicaSetOptions {
        members: vec![Member::default(), Member::default(), hidden],
        ..ReplicaSetOptions::default()
    };
    let set = ReplicaSet::start(&mongod, options).await.unwrap();
    let cancel = CancellationToken::new();
    let server = Server::connect("prod", &Secret::new(set.uri()), Duration::from_secs(10)).await.unwrap();
    let reader = topology::reader(&server, &cancel, &|_| {}).await.unwrap();
    assert_eq!(reader.member.host, set.addresses()[2]);
    assert!(reader.server.is_direct() && reader.server.hello().is_hidden);
    assert_eq!(reader.set.id.len(), 24);
    let times = topology::op_times(&reader.server, &cancel).await.unwrap();
    assert!(times.majority <= times.applied && times.majority.t > 0);
    assert!(topology::rollback_id(&reader.server, &cancel).await.unwrap() >= 1);

    let primary = Server::connect("prod", &Secret::new(set.direct_uri(0)), Duration::from_secs(10)).await.unwrap();
    let reader = topology::reader(&primary, &cancel, &|_| {}).await.unwrap();
    assert_eq!(reader.member.host, set.addresses()[0], "a connection string that names one member alone is obeyed");
}
