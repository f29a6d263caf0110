//! Whether a physical backup of a service can be made here, and restored: each thing tried, each with its remedy.

use mongodb::bson::doc;
use tokio_util::sync::CancellationToken;

use super::local_member::{self, LocalMember};
use super::{clone, lock_keeper, mongod};
use crate::domain::service::{CheckItem, CheckState, Service};
use crate::domain::text::{bytes, count, escape};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::backup_cursor::BackupCursor;
use crate::mongo::check::{self, Tries, Try};
use crate::mongo::connect::CHECK_TIMEOUT;
use crate::mongo::reader::Reader;
use crate::mongo::topology::{self, MemberState};

/// What a physical backup asks a member.
const COMMANDS: &[Try] = &[
    ("read the server's options", "admin", || doc! {"getCmdLineOpts": 1}),
    ("read the replica set's configuration", "admin", || doc! {"replSetGetConfig": 1}),
    ("read the oplog", "local", || doc! {"find": "oplog.rs", "limit": 1, "projection": {"ts": 1}}),
    ("read the statistics of the oplog", "local", || doc! {"collStats": "oplog.rs"}),
    ("read the rollback id", "admin", || doc! {"serverStatus": 1, "metrics": 0, "wiredTiger": 0, "locks": 0}),
    ("look for locks", "admin", || doc! {"currentOp": 1, "$ownOps": true}),
    ("flush the files", "admin", || doc! {"fsync": 1}),
];

/// Runs the checks.
pub async fn check(service: &Service, cancel: &CancellationToken) -> Vec<CheckItem> {
    let tries = Tries {
        commands: COMMANDS,
        roles: "backup clusterMonitor hostManager",
        then: |reader, cancel| Box::pin(may_lock(reader, cancel)),
    };
    let mut items = check::check_service(&service.name, &service.uri, cancel, tries).await;
    // Documents are not written.
    items.retain(|item| item.id != "rights_restore" && item.id != "names");
    for item in items.iter_mut().filter(|item| item.id == "sharded") {
        item.state = CheckState::Fail;
    }
    if items.iter().any(|item| item.state == CheckState::Fail || item.state == CheckState::Skip) {
        let skipped = "not tried, because an earlier check failed";
        items.push(item("data_folder", CheckState::Skip, skipped, ""));
        return items;
    }
    match look(service, cancel).await {
        Ok(local) => items.extend(about(service, &local, cancel).await),
        Err(e) => {
            let remedy = format!("mongokeep service edit {} --data-dir DIR", service.name);
            let hint = e.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
            items.push(item("data_folder", CheckState::Fail, &format!("{}{hint}", e.full()), &remedy));
        }
    }
    items
}

async fn may_lock(reader: &Reader, cancel: &CancellationToken) -> Result<String> {
    check::may_lock(&reader.server, cancel).await?;
    Ok("everything a physical backup asks the server was asked, and the user may lock it".to_owned())
}

async fn look(service: &Service, cancel: &CancellationToken) -> Result<LocalMember> {
    let server = Server::connect(&service.name, &service.uri, CHECK_TIMEOUT).await?;
    local_member::find(service, &server, cancel, &|_| {}).await
}

async fn about(service: &Service, local: &LocalMember, cancel: &CancellationToken) -> Vec<CheckItem> {
    let folder = escape(&local.folder.to_string_lossy());
    let mut items = Vec::new();
    let detail = format!(
        "{folder} of {}: {} files, {}; it is proved to be its folder",
        local.reader.in_words(),
        count(local.listing.files.len() as u64),
        bytes(local.listing.bytes())
    );
    items.push(item("data_folder", CheckState::Pass, &detail, ""));
    items.push(free_of_locks(service, local, cancel).await);
    items.push(how_long(local, cancel).await);
    if local.options.encrypted {
        let detail = "on: whoever restores a backup needs the server's key, which is not in it";
        items.push(item("encryption_at_rest", CheckState::Warn, detail, ""));
    }
    items.push(program(local, cancel).await);
    items.push(room(local));
    items
}

async fn free_of_locks(service: &Service, local: &LocalMember, cancel: &CancellationToken) -> CheckItem {
    match lock_keeper::must_be_free(&local.reader.server, cancel).await {
        Ok(()) => item("server_lock", CheckState::Pass, "nobody has locked it against writes", ""),
        Err(e) => {
            let host = escape(&local.reader.member.host);
            let remedy = match e.kind() == ErrorKind::Conflict {
                true => format!("mongosh 'mongodb://{host}/?directConnection=true' --eval 'db.fsyncUnlock()'"),
                false => format!("mongokeep service check {}", service.name),
            };
            item("server_lock", CheckState::Fail, &e.full(), &remedy)
        }
    }
}

/// Says how the server will be locked, which people must know before it is a primary.
async fn how_long(local: &LocalMember, cancel: &CancellationToken) -> CheckItem {
    match BackupCursor::open(&local.reader.server, cancel).await {
        Ok(Some(cursor)) => {
            cursor.close().await;
            let detail = "the server keeps the files of a checkpoint for a backup ($backupCursor): it is not locked";
            return item("locking", CheckState::Pass, detail, "");
        }
        Ok(None) => {}
        Err(e) => return item("locking", CheckState::Fail, &e.full(), e.hint_text().unwrap_or_default()),
    }
    let (folder, listing) = (local.folder.clone(), local.listing.clone());
    let clones = tokio::task::spawn_blocking(move || clone::prepare(&folder, &listing, "check").is_some()).await;
    let how = match clones {
        Ok(true) => "the file system clones files: it is locked for as long as that takes",
        _ => "it is locked while the files that changed during the copy are read again",
    };
    if local.reader.member.state == MemberState::Primary {
        let detail = format!(
            "the primary is the only member on this host: while it is locked writes wait, and transactions fail at once \
             (code 24); {how}"
        );
        return item("locking", CheckState::Warn, &detail, "");
    }
    let detail = format!("a secondary is locked, so that the primary goes on; {how}");
    item("locking", CheckState::Pass, &detail, "")
}

/// Whether what restores it is on this host.
async fn program(local: &LocalMember, cancel: &CancellationToken) -> CheckItem {
    let found = async {
        let facts = topology::facts(&local.reader.server, cancel).await?;
        mongod::find(None, &facts.version).await
    };
    match found.await {
        Ok(found) => {
            let detail = format!("{}, MongoDB {}", escape(&found.path.to_string_lossy()), found.version);
            item("restore_program", CheckState::Pass, &detail, "")
        }
        Err(e) => {
            let detail = format!("{}; a restore on this host will need one", e.full());
            item("restore_program", CheckState::Warn, &detail, "")
        }
    }
}

fn room(local: &LocalMember) -> CheckItem {
    let needed = local.listing.bytes();
    // Beside the present data, which is where a restore over the service makes the new.
    match rustix::fs::statvfs(&local.folder) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let place = escape(&local.folder.to_string_lossy());
            let detail =
                format!("{} free in {place}, a restore beside the present data needs {}", bytes(free), bytes(needed));
            let state = if free > needed { CheckState::Pass } else { CheckState::Warn };
            item("restore_space", state, &detail, "")
        }
        Err(e) => item("restore_space", CheckState::Warn, &Error::new(ErrorKind::Failed, e.to_string()).full(), ""),
    }
}

fn item(id: &str, state: CheckState, detail: &str, remedy: &str) -> CheckItem {
    let title = match id {
        "data_folder" => "Data folder of a member on this host",
        "server_lock" => "Not locked by anybody",
        "locking" => "Lock during the backup",
        "encryption_at_rest" => "Encryption at rest",
        "restore_program" => "mongod of the same version for a restore",
        "restore_space" => "Room for a restore",
        other => other,
    };
    CheckItem { id: id.into(), title: title.into(), state, detail: detail.into(), remedy: remedy.into() }
}
