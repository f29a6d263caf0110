//! The throw-away servers: they start, they change roles, and nothing of them stays.

use std::path::Path;
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongokeep::sandbox::{Member, ReplicaSet, ReplicaSetOptions};

use crate::support;

fn runs(pid: u32) -> bool {
    // A zombie no longer runs; only its parent has not asked yet.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
}

fn wait_until_gone(pids: &[u32], dir: &Path) {
    let start = Instant::now();
    while pids.iter().any(|p| runs(*p)) || dir.exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "{dir:?} or its processes {pids:?} stay");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn one_member_takes_writes_and_leaves_nothing() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let orders = client.database("shop").collection::<Document>("orders");
    orders.insert_one(doc! {"_id": 1}).await.unwrap();
    assert_eq!(orders.count_documents(doc! {}).await.unwrap(), 1);
    let pid = set.server(0).unwrap().pid().unwrap();
    let dir = set.scratch().path().to_owned();
    set.stop().await.unwrap();
    assert!(!runs(pid));
    assert!(!dir.exists());

    let set = support::replica_set().await;
    let pid = set.server(0).unwrap().pid().unwrap();
    let dir = set.scratch().path().to_owned();
    drop(set);
    tokio::task::spawn_blocking(move || wait_until_gone(&[pid], &dir)).await.unwrap();
}

#[tokio::test]
async fn three_members_with_a_hidden_one_change_roles_and_restart() {
    let mut options = ReplicaSetOptions::default().members(3).auth();
    options.members[2] = Member { priority: 0.0, hidden: true };
    let mut set = ReplicaSet::start(&support::mongod().await, options).await.unwrap();
    let client = set.client().await.unwrap();
    let orders = client.database("shop").collection::<Document>("orders");
    orders.insert_one(doc! {"_id": 1}).await.unwrap();

    let old = set.wait_for_primary().await.unwrap();
    let new = set.step_down().await.unwrap();
    assert_ne!(old, new);
    set.kill_member(old).await.unwrap();
    set.start_member(old).await.unwrap();
    set.wait_until_ready().await.unwrap();
    assert_eq!(orders.count_documents(doc! {}).await.unwrap(), 1);

    // Rights are asked for.
    let direct = set.direct_client(2).await.unwrap();
    let hello = direct.database("admin").run_command(doc! {"hello": 1}).await.unwrap();
    assert!(hello.get_bool("hidden").unwrap());
    let stranger = set.server(new).unwrap().client().unwrap();
    assert!(stranger.database("shop").collection::<Document>("orders").find_one(doc! {}).await.is_err());
    set.stop().await.unwrap();
}

/// Runs again as a process of its own, starts a server, and is killed.
#[test]
fn a_killed_owner_leaves_no_server_behind() {
    const ROLE: &str = "MONGOKEEP_TEST_OWNER";
    if std::env::var_os(ROLE).is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let set = runtime.block_on(support::replica_set());
        println!("\nSTARTED {} {}", set.server(0).unwrap().pid().unwrap(), set.scratch().path().display());
        loop {
            std::thread::park();
        }
    }
    use std::io::BufRead;
    let mut owner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::a_killed_owner_leaves_no_server_behind", "--nocapture"])
        .env(ROLE, "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(owner.stdout.take().unwrap()).lines();
    let started = lines.map(Result::unwrap).find(|l| l.starts_with("STARTED ")).unwrap();
    let mut words = started.split(' ').skip(1);
    let pid: u32 = words.next().unwrap().parse().unwrap();
    let dir = std::path::PathBuf::from(words.next().unwrap());
    assert!(runs(pid) && dir.exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until_gone(&[pid], &dir);
}
