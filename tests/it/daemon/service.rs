//! The daemon under a service manager: what it is told, where it logs, and how it ends.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::program::{self, Home, fill, replica_set, until};

fn terminate(child: &Child) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
}

/// The next message that holds `wanted`; others come between.
fn told(socket: &UnixDatagram, wanted: &str) {
    let mut buffer = [0; 4096];
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_secs(120), "{wanted} was never told");
        let Ok(n) = socket.recv(&mut buffer) else { continue };
        if String::from_utf8_lossy(&buffer[..n]).lines().any(|line| line == wanted) {
            return;
        }
    }
}

#[test]
fn a_service_manager_is_told_and_the_journal_gets_bare_lines() {
    let home = Home::new();
    std::fs::create_dir_all(home.path()).unwrap();
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    // Any file may stand for the journal: it is known by its device and inode.
    let journal = home.path().join("journal");
    let file = File::create(&journal).unwrap();
    let metadata = file.metadata().unwrap();
    let mut child = home
        .command(&["daemon", "run"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "600000")
        .env("JOURNAL_STREAM", format!("{}:{}", metadata.dev(), metadata.ino()))
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .unwrap();
    told(&socket, "READY=1");
    assert_eq!(home.daemon_pid().map(|pid| pid as u32), Some(child.id()), "ready when it answers");
    for _ in 0..3 {
        told(&socket, "WATCHDOG=1");
    }
    terminate(&child);
    told(&socket, "STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(home.daemon_pid(), None);
    let log = std::fs::read_to_string(&journal).unwrap();
    let first = log.lines().next().unwrap();
    assert!(first.trim_start().starts_with("INFO daemon started"), "{first}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn a_daemon_in_the_background_logs_into_its_file_with_times() {
    let home = Home::new();
    home.start_daemon();
    home.ok(&["daemon", "stop"]);
    let log = std::fs::read_to_string(home.home().log_file()).unwrap();
    let first = log.lines().next().unwrap();
    assert!(first.starts_with("20") && first.contains("INFO daemon started"), "{log}");
    assert_eq!(log.matches("daemon started").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_writes_is_finished_before_the_daemon_ends() {
    let set = replica_set().await;
    fill(&set, "shop", 20_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "one", "--wait"]);
    let id = home.ok(&["restore", "one", "--to", "src", "--rename", "shop=copy", "--yes"])["id"].as_i64().unwrap();
    until("it writes", || home.job(id)["progress"]["documents_done"].as_u64().unwrap() > 0);
    home.ok(&["daemon", "stop"]);
    let job = home.job(id);
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(program::count(&set, "copy").await, 20_000);
}

#[test]
fn the_unit_is_sound() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/systemd/mongokeep.service");
    let unit = std::fs::read_to_string(file).unwrap();
    for line in ["Type=notify", "WatchdogSec=60", "ExecStart=/usr/local/bin/mongokeep daemon run", "KillMode=mixed"] {
        assert!(unit.lines().any(|l| l == line), "{line}");
    }
    // What the daemon may take to end, and what it tells afterwards, fits into what systemd grants.
    let limit = unit.lines().find_map(|l| l.strip_prefix("TimeoutStopSec=")).unwrap().parse::<u64>().unwrap();
    assert!(limit > mongokeep::control::STOP_LIMIT.as_secs() + 10);
    // systemd looks for the program too, so it gets one that is there.
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("mongokeep.service");
    std::fs::write(&copy, unit.replace("/usr/local/bin/mongokeep", env!("CARGO_BIN_EXE_mongokeep"))).unwrap();
    match Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&copy).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && !said.contains("mongokeep.service"), "{said}");
        }
        Err(e) => eprintln!("SKIPPED: systemd-analyze verify, because it cannot be run: {e}"),
    }
}
