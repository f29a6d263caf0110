//! The member whose data folder can be read here. That it is the folder of this member is proved, never guessed: a folder
//! of the same name may belong to another server, and a copy of it would be a backup of the wrong data.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::data_folder::{self, Listing};
use crate::domain::service::Service;
use crate::domain::text::{escape, quoted};
use crate::domain::timestamp::Timestamp;
use crate::engine::blocking::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::reader::{self, Reader};
use crate::mongo::topology::{self, number};

/// Where a server keeps its data when nobody says otherwise.
const DEFAULT_DB_PATH: &str = "/data/db";
/// How long a note may take to arrive at a member.
const NOTE_LIMIT: Duration = Duration::from_secs(10);
/// How far the age of a process may differ from what its server says.
const AGE_SECONDS: f64 = 30.0;
/// A note lies at the end of the newest log file.
const LOG_FILES: usize = 3;

/// A member on this host.
pub struct LocalMember {
    pub reader: Reader,
    pub folder: PathBuf,
    pub options: FolderOptions,
    pub listing: Listing,
}

/// What of a server's options decides how its files lie. The same must be given to whatever opens them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderOptions {
    pub db_path: String,
    pub directory_per_db: bool,
    pub directory_for_indexes: bool,
    /// Encrypted at rest by the server: nothing reads them without its key.
    pub encrypted: bool,
}

/// Finds the member to copy: a hidden or another secondary first, the primary only when no other is on this host.
///
/// Errors: `Unsupported` when there is none, with the reason for each member.
pub async fn find(
    service: &Service,
    server: &Server,
    cancel: &CancellationToken,
    warn: &(dyn Fn(String) + Sync),
) -> Result<LocalMember> {
    let mut reasons = Vec::new();
    let set;
    if server.is_direct() {
        let reader = reader::reader(server, cancel, warn).await?;
        set = reader.set.clone();
        match examine(service, server, reader, cancel).await {
            Ok(found) => return Ok(found),
            Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
            Err(e) => reasons.push(e.full()),
        }
    } else {
        set = topology::replica_set(server, cancel).await?;
        for member in set.candidates(Timestamp::MIN) {
            let examined = async {
                let reader = reader::read_from(server, &set, member).await?;
                examine(service, server, reader, cancel).await
            };
            match examined.await {
                Ok(found) => return Ok(found),
                Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
                Err(e) => reasons.push(e.full()),
            }
        }
    }
    let reasons = if reasons.is_empty() { "no member can be read".to_owned() } else { reasons.join("; ") };
    let what = format!("service {}: no member of {} can be copied here: {reasons}", service.name, escape(&set.name));
    Err(Error::new(ErrorKind::Unsupported, what).hint(format!(
        "run the daemon on the host of a member, as a user who can read its data folder; for a server in a container say \
         where that folder is here: mongokeep service edit {} --data-dir DIR",
        service.name
    )))
}

/// Errors: why this member cannot be copied here, naming it.
async fn examine(
    service: &Service,
    primary: &Server,
    reader: Reader,
    cancel: &CancellationToken,
) -> Result<LocalMember> {
    let host = escape(&reader.member.host);
    let named = |e: Error| e.context(format_args!("{host}"));
    let options = folder_options(&reader.server, cancel).await.map_err(named)?;
    let folder = PathBuf::from(service.data_dir.as_deref().unwrap_or(&options.db_path));
    if !folder.is_absolute() {
        let what = format!("{host}: its data folder {} is relative", quoted(&options.db_path));
        return Err(Error::new(ErrorKind::Unsupported, what)
            .hint(format!("mongokeep service edit {} --data-dir DIR", service.name)));
    }
    let (at, shown) = (folder.clone(), escape(&folder.to_string_lossy()));
    let looked = move || {
        if !at.is_dir() {
            return Err(Error::new(ErrorKind::NotFound, format!("its data folder {shown} is not on this machine")));
        }
        let listing = data_folder::list(&at)?;
        data_folder::must_be_readable(&at, &listing)?;
        Ok(listing)
    };
    let listing = blocking("looking at a data folder", looked).await.map_err(named)?;
    prove(primary, &reader.server, &folder, &listing, cancel).await.map_err(named)?;
    Ok(LocalMember { reader, folder, options, listing })
}

/// What the server says of its options.
///
/// Errors: `Unsupported` for another storage engine than WiredTiger.
async fn folder_options(server: &Server, cancel: &CancellationToken) -> Result<FolderOptions> {
    let reply = server.command(cancel, "admin", doc! {"getCmdLineOpts": 1}).await?;
    let empty = Document::new();
    let parsed = reply.get_document("parsed").unwrap_or(&empty);
    let storage = parsed.get_document("storage").unwrap_or(&empty);
    let engine = storage.get_str("engine").unwrap_or("wiredTiger");
    if engine != "wiredTiger" {
        let what = format!("its storage engine is {}, not WiredTiger", escape(engine));
        return Err(Error::new(ErrorKind::Unsupported, what).hint("make logical backups of it"));
    }
    let tiger = storage.get_document("wiredTiger").and_then(|w| w.get_document("engineConfig")).unwrap_or(&empty);
    let security = parsed.get_document("security").unwrap_or(&empty);
    Ok(FolderOptions {
        db_path: storage.get_str("dbPath").unwrap_or(DEFAULT_DB_PATH).to_owned(),
        directory_per_db: storage.get_bool("directoryPerDB").unwrap_or(false),
        directory_for_indexes: tiger.get_bool("directoryForIndexes").unwrap_or(false),
        encrypted: security.get_bool("enableEncryption").unwrap_or(false),
    })
}

/// Errors: nothing proves that `folder` is the data folder of `member`.
async fn prove(
    primary: &Server,
    member: &Server,
    folder: &Path,
    listing: &Listing,
    cancel: &CancellationToken,
) -> Result<()> {
    let status = member
        .command(cancel, "admin", doc! {"serverStatus": 1, "metrics": 0, "wiredTiger": 0, "locks": 0, "repl": 0})
        .await?;
    let pid = status.get("pid").and_then(number).unwrap_or(0.0) as i64;
    let age = status.get("uptimeMillis").and_then(number).unwrap_or(0.0) / 1000.0;
    if holds_lock(folder, pid, age) && has_oplog_file(member, listing, cancel).await? {
        return Ok(());
    }
    // Another view of process numbers (a container): something is written through the server, and looked for here.
    if note_arrives(primary, member, folder, cancel).await? {
        return Ok(());
    }
    let what = format!(
        "{} is not its data folder, but that of another server, or an old copy",
        escape(&folder.to_string_lossy())
    );
    Err(Error::new(ErrorKind::Unsupported, what))
}

/// Whether the process `pid` of this machine, as old as the server says, has the folder open.
fn holds_lock(folder: &Path, pid: i64, age: f64) -> bool {
    let holder = data_folder::lock_holder(folder).and_then(|lock| lock.pid);
    let Some(holder) = holder else { return false };
    let holder = i64::from(holder.as_raw_nonzero().get());
    holder == pid && process_age(pid).is_some_and(|of_process| (of_process - age).abs() < AGE_SECONDS)
}

/// Seconds since a process of this machine was started. Linux counts them in hundredths.
fn process_age(pid: i64) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may hold anything, and stands in parentheses.
    let started: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let up: f64 = std::fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
    Some(up - started / 100.0)
}

/// Whether the file of the oplog, whose name holds a number of its own for each data folder, is there.
async fn has_oplog_file(member: &Server, listing: &Listing, cancel: &CancellationToken) -> Result<bool> {
    let stats = member.command(cancel, "local", doc! {"collStats": "oplog.rs"}).await?;
    let uri = stats.get_document("wiredTiger").and_then(|w| w.get_str("uri")).unwrap_or_default();
    let Some((_, ident)) = uri.rsplit_once("table:") else { return Ok(false) };
    let name = format!("{ident}.wt");
    Ok(listing.files.iter().any(|file| file.path == name))
}

/// Writes a note into the oplog of the replica set, and looks for it in the log files of the folder.
async fn note_arrives(primary: &Server, member: &Server, folder: &Path, cancel: &CancellationToken) -> Result<bool> {
    let mut random = [0_u8; 24];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::new(ErrorKind::Failed, "no random bytes"))?;
    // Text without repetitions is not changed by the compression of the log.
    let token = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, random);
    let note = doc! {"appendOplogNote": 1, "data": {"msg": "mongokeep looks for its data folder", "token": &token}};
    let reply = primary.command(cancel, "admin", note).await?;
    let written = reply.get_timestamp("operationTime").ok();
    let began = tokio::time::Instant::now();
    while let Some(written) = written {
        let applied = topology::op_times(member, cancel).await?.applied;
        if (applied.t, applied.i) >= (written.time, written.increment) {
            break;
        }
        if began.elapsed() > NOTE_LIMIT {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    member.command(cancel, "admin", doc! {"fsync": 1}).await?;
    let journal = folder.join("journal");
    blocking("looking at a journal", move || in_newest_files(&journal, token.as_bytes())).await
}

fn in_newest_files(folder: &Path, token: &[u8]) -> Result<bool> {
    use std::io::Read;
    let shown = || escape(&folder.to_string_lossy());
    let mut files = Vec::new();
    // A folder without a journal is no server's.
    let Some(entries) = data_folder::unless_removed(std::fs::read_dir(folder), folder)? else { return Ok(false) };
    for entry in entries {
        let entry = entry.map_err(|e| crate::error::io(shown(), e))?;
        if entry.file_name().to_string_lossy().starts_with("WiredTigerLog.") {
            files.push(entry.path());
        }
    }
    files.sort();
    for path in files.into_iter().rev().take(LOG_FILES) {
        // A log that a checkpoint made needless is removed at any time; the note is in a newer one.
        let Some(mut file) = data_folder::unless_removed(File::open(&path), &path)? else { continue };
        // The end of what was read before is kept, since the token may lie across.
        let mut buffer = vec![0_u8; 1 << 20];
        let mut kept = 0;
        loop {
            let n = file.read(&mut buffer[kept..]).map_err(|e| crate::error::io(escape(&path.to_string_lossy()), e))?;
            if n == 0 {
                break;
            }
            let end = kept + n;
            if memchr::memmem::find(&buffer[..end], token).is_some() {
                return Ok(true);
            }
            kept = end.min(token.len());
            buffer.copy_within(end - kept..end, 0);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_removed_since_it_was_listed_holds_no_note() {
        let dir = tempfile::tempdir().unwrap();
        let log = |n: u32| dir.path().join(format!("WiredTigerLog.{n:010}"));
        std::fs::write(log(2), "before the token after").unwrap();
        // Listed, and not there when it is opened.
        std::os::unix::fs::symlink("nowhere", log(3)).unwrap();
        assert!(in_newest_files(dir.path(), b"token").unwrap());
        assert!(!in_newest_files(dir.path(), b"another").unwrap());
        assert!(!in_newest_files(&dir.path().join("journal"), b"token").unwrap(), "nothing is there");
    }
}
