//! The prerequisites of a backup and of a restore, each tried on the server, each with a remedy to copy.
//!
//! Nothing here changes the server: rights to read are tried by reading, rights to write are read from what the
//! server says about the user.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use futures_util::future::BoxFuture;
use mongodb::bson::{Bson, Document, doc};
use tokio_util::sync::CancellationToken;

use super::connect::{CHECK_TIMEOUT, Server};
use super::namespaces;
use super::oplog::catalogue::BUCKETS_PREFIX;
use super::reader::{self, Reader};
use super::remedy::{create_user, grant, run_at, run_on_member, run_there};
use super::sharding::{self, ClusterPart};
use super::topology::{self, number};
use crate::domain::namespace::Namespace;
use crate::domain::secret::Secret;
use crate::domain::service::{CheckItem, CheckState};
use crate::domain::text::{counted, duration, escape};
use crate::error::{Error, ErrorKind, Result};

/// Below this an incident over a night can outrun the oplog.
const OPLOG_WINDOW_SECONDS: u64 = 24 * 3600;

/// The versions this program was written for; others are tried, with a warning.
const VERSIONS: std::ops::RangeInclusive<[u32; 2]> = [4, 4]..=[8, 0];

const ITEMS: [(&str, &str); 7] = [
    ("reachable", "MongoDB can be reached"),
    ("authenticated", "User name and password are accepted"),
    ("replica_set", "Member of a replica set"),
    ("server_version", "Server version"),
    ("rights_backup", "Rights for backup"),
    ("rights_restore", "Rights for restore"),
    ("oplog_window", "Oplog window"),
];

/// What a command is for, its database, and the command.
pub type Try = (&'static str, &'static str, fn() -> Document);

/// What a backup does on a member, tried.
pub struct Tries {
    /// Each is run once; those that are denied are named.
    pub commands: &'static [Try],
    /// The roles that give all of these rights.
    pub roles: &'static str,
    /// What comes after them.
    pub then: TryReading,
}

/// Reads from a member what a backup reads, and says how much that was.
pub type TryReading = for<'r> fn(&'r Reader, &'r CancellationToken) -> BoxFuture<'r, Result<String>>;

/// Runs the checks that need the server. Always one item for each of `ITEMS`, in that order: what cannot be tried
/// because an earlier one failed is skipped. Each connection takes [`CHECK_TIMEOUT`] at most.
pub async fn check_service(service: &str, uri: &Secret, cancel: &CancellationToken, tries: Tries) -> Vec<CheckItem> {
    let mut report = Report::default();
    let server = match Server::connect(service, uri, CHECK_TIMEOUT).await {
        Ok(server) => server,
        Err(e) => {
            match e.kind() {
                ErrorKind::Unauthenticated => {
                    report.pass("reachable", "");
                    report.error("authenticated", &e, &create_user(uri));
                }
                ErrorKind::Invalid => {
                    report.error("reachable", &e, &format!("mongokeep service edit {service} --uri-file -"))
                }
                _ => report.error("reachable", &e, &run_at(uri, "db.hello()")),
            }
            return report.finish();
        }
    };
    report.pass("reachable", server.hosts());
    match access(&server, cancel).await {
        Ok(access) => {
            let who =
                if access.open { "access control is off on this server".to_owned() } else { access.users.join(", ") };
            report.pass("authenticated", &who);
            if !access.open {
                restore_rights(&mut report, &server, &access);
            } else {
                report.pass("rights_restore", "access control is off on this server");
            }
        }
        Err(e) => report.error("authenticated", &e, &create_user(uri)),
    }
    if let Err(e) = topology::require_replica_set(service, server.hello()) {
        let use_pbm = format!("mongokeep service edit {service} --engine pbm --uri-file -");
        let remedy = if server.hello().is_mongos { use_pbm } else { run_on_member(&server, "rs.initiate()") };
        report.error("replica_set", &e, &remedy);
        version(&mut report, &server, cancel).await;
        return report.finish();
    }
    let warnings = std::sync::Mutex::new(Vec::new());
    let warn = |text: String| warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    match reader::reader(&server, cancel, &warn).await {
        Ok(reader) => {
            let members = counted(reader.set.members.len() as u64, "member");
            let mut shown = format!("{}, {members}, reads {}", reader.set.name, reader.in_words());
            let warnings = warnings.into_inner().unwrap_or_else(PoisonError::into_inner);
            for warning in &warnings {
                shown.push_str(&format!("; {warning}"));
            }
            if let Some(why) = reader.set.lacks_majority() {
                let detail = format!("{shown}; there is no majority, for which backups and restores wait: {why}");
                report.push("replica_set", CheckState::Fail, detail, run_there(&server, "rs.status()"));
            } else if reader.set.limited {
                report.push("replica_set", CheckState::Warn, shown, grant(&server, "clusterMonitor"));
            } else if !warnings.is_empty() {
                report.push("replica_set", CheckState::Warn, shown, run_there(&server, "rs.status()"));
            } else {
                report.pass("replica_set", &shown);
            }
            sharded(&mut report, service, &reader.server, cancel).await;
            version(&mut report, &reader.server, cancel).await;
            backup_rights(&mut report, &reader, cancel, &tries).await;
            names(&mut report, &reader.server, cancel).await;
            oplog_window(&mut report, &reader.server, cancel).await;
        }
        Err(e) => {
            report.error("replica_set", &e, &run_there(&server, "rs.status()"));
            version(&mut report, &server, cancel).await;
        }
    }
    report.finish()
}

#[derive(Default)]
struct Report(Vec<CheckItem>);

impl Report {
    fn push(&mut self, id: &str, state: CheckState, detail: String, remedy: String) {
        let title = ITEMS.iter().find(|(i, _)| *i == id).map_or(id, |(_, title)| title);
        self.0.push(CheckItem { id: id.into(), title: title.into(), state, detail: escape(&detail), remedy });
    }

    fn pass(&mut self, id: &str, detail: &str) {
        self.push(id, CheckState::Pass, detail.to_owned(), String::new());
    }

    fn error(&mut self, id: &str, error: &Error, remedy: &str) {
        // This is the check that a hint may lead to, and what it leads to stands here.
        let hint = error.hint_text().filter(|hint| !hint.contains("mongokeep service check "));
        let hint = hint.map(|h| format!(" ({h})")).unwrap_or_default();
        self.push(id, CheckState::Fail, format!("{}{hint}", error.full()), remedy.to_owned());
    }

    fn finish(mut self) -> Vec<CheckItem> {
        for (id, _) in ITEMS {
            if !self.0.iter().any(|i| i.id == id) {
                self.push(id, CheckState::Skip, "not tried, because an earlier check failed".into(), String::new());
            }
        }
        // What is only said when something is wrong comes last.
        self.0.sort_by_key(|item| ITEMS.iter().position(|(id, _)| *id == item.id).unwrap_or(ITEMS.len()));
        self.0
    }
}

async fn version(report: &mut Report, server: &Server, cancel: &CancellationToken) {
    match topology::facts(server, cancel).await {
        Ok(facts) => {
            let [major, minor, _] = facts.numbers;
            let fcv = facts
                .fcv
                .map_or("its feature compatibility version may not be read".to_owned(), |f| format!("FCV {f}"));
            let fcv = if server.hello().is_mongos { "a router (mongos)".to_owned() } else { fcv };
            let detail = format!("MongoDB {}, {fcv}", facts.version);
            if VERSIONS.contains(&[major, minor]) {
                report.pass("server_version", &detail);
            } else {
                let known = format!("{detail}; this version of mongokeep knows 4.4 to 8.0");
                report.push("server_version", CheckState::Warn, known, String::new());
            }
        }
        Err(e) => report.error("server_version", &e, ""),
    }
}

/// Everything a backup reads, read once: first what names the rights that are missing, then what a backup does itself.
async fn backup_rights(report: &mut Report, reader: &Reader, cancel: &CancellationToken, tries: &Tries) {
    let mut missing = Vec::new();
    for (what, db, command) in tries.commands {
        let command = command();
        // A name in the reply need not be UTF-8.
        let asked = match command.contains_key("listDatabases") {
            true => namespaces::databases(&reader.server, cancel).await.map(drop),
            false => reader.server.command(cancel, db, command).await.map(drop),
        };
        match asked {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Denied => missing.push(*what),
            Err(e) => return report.error("rights_backup", &e, ""),
        }
    }
    if !missing.is_empty() {
        let detail = format!("the user may not {}", missing.join(", "));
        return report.push("rights_backup", CheckState::Fail, detail, grant(&reader.server, tries.roles));
    }
    match (tries.then)(reader, cancel).await {
        Ok(detail) => report.pass("rights_backup", &detail),
        Err(e) if e.kind() == ErrorKind::Denied => {
            report.error("rights_backup", &e, &grant(&reader.server, tries.roles))
        }
        Err(e) => report.error("rights_backup", &e, ""),
    }
}

/// Says that the replica set is a part of a sharded cluster, where it is one.
async fn sharded(report: &mut Report, service: &str, server: &Server, cancel: &CancellationToken) {
    let (state, detail) = match sharding::cluster_part(server, cancel).await {
        Ok(None) | Err(_) => return,
        Ok(Some(part @ ClusterPart::ConfigServers)) => {
            (CheckState::Fail, format!("{}; {}", sharding::no_backup_of(service, &part).full(), sharding::USE_PBM))
        }
        Ok(Some(part)) => {
            let words = part.words();
            let holds =
                "a backup holds what this shard has, at a moment of its own, and cannot be restored into the cluster";
            (CheckState::Warn, format!("service {service} {words}: {holds}; {}", sharding::USE_PBM))
        }
    };
    report.0.push(CheckItem {
        id: "sharded".into(),
        title: "Not a part of a sharded cluster".into(),
        state,
        detail,
        remedy: String::new(),
    });
}

/// Whether everything has a name that a backup can keep. Where names cannot be listed, the rights say so.
async fn names(report: &mut Report, server: &Server, cancel: &CancellationToken) {
    let Ok(listing) = namespaces::list(server, cancel).await else { return };
    let mut unnamed: Vec<String> = listing.unnamed.into_iter().map(|unnamed| unnamed.shown).collect();
    if unnamed.is_empty() {
        return;
    }
    const SHOWN: usize = 5;
    let more = unnamed.len().saturating_sub(SHOWN);
    unnamed.truncate(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    report.0.push(CheckItem {
        id: "names".into(),
        title: "Names that a backup can keep".into(),
        state: CheckState::Warn,
        detail: format!("NOT in any backup: {}{more}, whose names are not UTF-8", unnamed.join(", ")),
        remedy: String::new(),
    });
}

struct Access {
    /// Nobody has to log in.
    open: bool,
    users: Vec<String>,
    privileges: Vec<Document>,
}

async fn access(server: &Server, cancel: &CancellationToken) -> Result<Access> {
    let reply = server.command(cancel, "admin", doc! {"connectionStatus": 1, "showPrivileges": true}).await?;
    let info = reply.get_document("authInfo").cloned().unwrap_or_default();
    let list = |key: &str| -> Vec<Document> {
        let items = info.get_array(key).ok();
        items.map(|a| a.iter().filter_map(|b| b.as_document().cloned()).collect()).unwrap_or_default()
    };
    let users: Vec<String> = list("authenticatedUsers")
        .iter()
        .map(|u| format!("{}@{}", u.get_str("user").unwrap_or("?"), u.get_str("db").unwrap_or("?")))
        .collect();
    if !users.is_empty() {
        return Ok(Access { open: false, users, privileges: list("authenticatedUserPrivileges") });
    }
    // Without access control everybody may do this; with it, nobody who is not logged in.
    match namespaces::databases(server, cancel).await {
        Ok(_) => Ok(Access { open: true, users, privileges: Vec::new() }),
        Err(e) if e.kind() == ErrorKind::Denied || e.full().contains("requires authentication") => {
            let message = format!("service {}: the server asks for a user name and password", server.service());
            Err(Error::new(ErrorKind::Unauthenticated, message)
                .hint("put them into the connection string: mongodb://USER:PASSWORD@HOST:PORT/"))
        }
        Err(e) => Err(e),
    }
}

/// What a restore does, by the server's own names: (where, actions).
const RESTORE_ACTIONS: [(Where, &[&str]); 3] = [
    (
        Where::AnyDatabase,
        &[
            "find",
            "insert",
            "update",
            "remove",
            "createCollection",
            "createIndex",
            "dropCollection",
            "collMod",
            "bypassDocumentValidation",
        ],
    ),
    (Where::Cluster, &["useUUID", "forceUUID"]),
    (Where::Users, &["find", "insert", "remove", "update"]),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    AnyDatabase,
    Cluster,
    Users,
}

fn restore_rights(report: &mut Report, server: &Server, access: &Access) {
    let missing = missing_actions(&access.privileges);
    if missing.is_empty() {
        report.pass("rights_restore", "the user's roles allow everything a restore does");
    } else {
        let list: Vec<&str> = missing.into_iter().collect();
        let detail = format!(
            "the user's roles do not allow {}; needed only when this service is restored into",
            list.join(", ")
        );
        report.push("rights_restore", CheckState::Warn, detail, grant(server, "restore readWriteAnyDatabase"));
    }
}

fn missing_actions(privileges: &[Document]) -> BTreeSet<&'static str> {
    let mut missing = BTreeSet::new();
    for (place, actions) in RESTORE_ACTIONS {
        for action in actions {
            let granted = privileges.iter().any(|privilege| {
                let Ok(resource) = privilege.get_document("resource") else { return false };
                let named = privilege.get_array("actions").is_ok_and(|list| {
                    list.iter().any(|a| a.as_str().is_some_and(|a| a == *action || a == "anyAction"))
                });
                named && covers(resource, place)
            });
            if !granted {
                missing.insert(*action);
            }
        }
    }
    missing
}

/// Whether the user may lock the server and unlock it again. Read from the roles: a server is not locked for a check.
///
/// Errors: `Denied`, with the role that gives the rights.
pub async fn may_lock(server: &Server, cancel: &CancellationToken) -> Result<()> {
    let access = access(server, cancel).await?;
    let may = |action: &str| {
        access.privileges.iter().any(|privilege| {
            let listed = privilege
                .get_array("actions")
                .is_ok_and(|list| list.iter().any(|a| a.as_str().is_some_and(|a| a == action || a == "anyAction")));
            listed && privilege.get_document("resource").is_ok_and(|resource| covers(resource, Where::Cluster))
        })
    };
    let lacking: Vec<&str> = ["fsync", "unlock"].into_iter().filter(|action| !may(action)).collect();
    if access.open || lacking.is_empty() {
        return Ok(());
    }
    let who = escape(&access.users.join(", "));
    let what = format!("the user {who} may not lock the server and unlock it ({})", lacking.join(", "));
    Err(Error::new(ErrorKind::Denied, what).hint(grant(server, "hostManager")))
}

/// What replaying changes of documents takes, in each of its collections. The role `restore` lets documents only come.
const REPLAY_ACTIONS: [&str; 4] = ["find", "insert", "update", "remove"];

/// Refuses a replay that would stop at its first change of a document, with everything dropped before.
///
/// Errors: `Denied`, naming the first of `namespaces` in which the user lacks a right.
pub async fn may_replay(server: &Server, cancel: &CancellationToken, namespaces: &[Namespace]) -> Result<()> {
    let access = access(server, cancel).await?;
    if access.open {
        return Ok(());
    }
    for ns in namespaces {
        let lacking: Vec<&str> =
            REPLAY_ACTIONS.into_iter().filter(|action| !may(&access.privileges, action, ns)).collect();
        if !lacking.is_empty() {
            let (who, service) = (escape(&access.users.join(", ")), escape(server.service()));
            let (ns, lacking) = (escape(&ns.to_string()), lacking.join(", "));
            let message = format!(
                "service {service}: the user {who} lacks rights on {ns} ({lacking}), whose documents the oplog changes"
            );
            let hint = format!("nothing was written; {}", grant(server, "restore readWriteAnyDatabase"));
            return Err(Error::new(ErrorKind::Denied, message).hint(hint));
        }
    }
    Ok(())
}

fn may(privileges: &[Document], action: &str, ns: &Namespace) -> bool {
    privileges.iter().any(|privilege| {
        let Ok(resource) = privilege.get_document("resource") else { return false };
        let here = |key: &str, name: &str| resource.get_str(key).is_ok_and(|v| v == name);
        // Of the buckets of every database the server names no database.
        let in_database = ["", ns.db.as_str()].contains(&resource.get_str("db").unwrap_or(""));
        let covers = match ns.collection.strip_prefix(BUCKETS_PREFIX) {
            Some(series) => here("system_buckets", "") || here("system_buckets", series),
            None => here("collection", "") && !ns.collection.starts_with("system."),
        };
        let listed = privilege
            .get_array("actions")
            .is_ok_and(|list| list.iter().any(|a| a.as_str().is_some_and(|a| a == action || a == "anyAction")));
        let everywhere = resource.get_bool("anyResource").unwrap_or(false);
        listed && (everywhere || (in_database && (covers || here("collection", &ns.collection))))
    })
}

fn covers(resource: &Document, place: Where) -> bool {
    if resource.get_bool("anyResource").unwrap_or(false) {
        return true;
    }
    let named = |key: &str, value: &str| resource.get_str(key).is_ok_and(|v| v == value);
    match place {
        Where::AnyDatabase => named("db", "") && named("collection", ""),
        Where::Cluster => resource.get("cluster") == Some(&Bson::Boolean(true)),
        // An empty name stands for every database; for every collection it leaves system collections out.
        Where::Users => (named("db", "admin") || named("db", "")) && named("collection", "system.users"),
    }
}

/// How far back the member's oplog reaches. A dump that takes longer fails; a point-in-time window that lags more has
/// a gap.
async fn oplog_window(report: &mut Report, server: &Server, cancel: &CancellationToken) {
    let edge = |order: i32| {
        doc! {"find": "oplog.rs", "filter": {}, "sort": {"$natural": order}, "limit": 1, "projection": {"ts": 1}, "singleBatch": true}
    };
    let mut ends = [0_u64; 2];
    for (end, order) in ends.iter_mut().zip([1, -1]) {
        let found = match server.collect(cancel, "local", edge(order)).await {
            Ok(found) => found,
            Err(e) => return report.error("oplog_window", &e, &grant(server, "backup clusterMonitor")),
        };
        let ts = found.first().and_then(|d| d.get_timestamp("ts").ok());
        *end = ts.map_or(0, |ts| u64::from(ts.time));
    }
    let seconds = ends[1].saturating_sub(ends[0]);
    let size = server.command(cancel, "local", doc! {"collStats": "oplog.rs"}).await.ok();
    let max = size.as_ref().and_then(|s| s.get("maxSize")).and_then(number).unwrap_or(0.0);
    let used = size.as_ref().and_then(|s| s.get("size")).and_then(number).unwrap_or(0.0);
    let hours = duration(seconds);
    // A young server has a short window because little has happened, not because the oplog is small.
    let room = max > 0.0 && used < max * 0.8;
    if seconds >= OPLOG_WINDOW_SECONDS || room {
        let room = if room && seconds < OPLOG_WINDOW_SECONDS { ", and the oplog is not full yet" } else { "" };
        report.pass("oplog_window", &format!("{hours}{room}"));
    } else {
        let detail = format!("the oplog reaches back only {hours}; a backup that takes longer fails");
        let remedy = run_there(server, "db.adminCommand({replSetResizeOplog: 1, minRetentionHours: 24})");
        report.push("oplog_window", CheckState::Warn, detail, remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_rights_are_named() {
        let all = [doc! {"resource": {"anyResource": true}, "actions": ["anyAction"]}];
        assert!(missing_actions(&all).is_empty());
        let some = [
            doc! {"resource": {"db": "", "collection": ""}, "actions": ["insert", "createCollection", "createIndex", "dropCollection", "collMod", "bypassDocumentValidation"]},
            // Documents come, but do not change or go.
            doc! {"resource": {"cluster": true}, "actions": ["useUUID"]},
            doc! {"resource": {"db": "", "collection": "system.users"}, "actions": ["find", "insert", "remove", "update"]},
        ];
        assert_eq!(missing_actions(&some).into_iter().collect::<Vec<_>>(), ["find", "forceUUID", "remove", "update"]);
    }

    #[test]
    fn what_was_not_tried_is_skipped_and_said() {
        let mut report = Report::default();
        report.pass("reachable", "h:1");
        let items = report.finish();
        assert_eq!(items.len(), ITEMS.len());
        assert!(items[1..].iter().all(|i| i.state == CheckState::Skip && !i.detail.is_empty()));
    }
}
