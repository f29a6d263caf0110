//! Where users and roles are staged before the server merges them: two collections of `admin` that nobody else has.
//!
//! The server's merge command reads users and roles from collections. `mongorestore` calls them `admin.tempusers` and
//! `admin.temproles`, which may be somebody's own; names of our own need the right to read them, which the role `backup`
//! gives (tried on 4.4.2, 5.0.4 and 6.0.5). A collection that was there before is never touched.
//!
//! A restore that is killed leaves its staged collections behind, with password hashes in them. The next one finds and
//! removes them: their names tell the host and process that made them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use tokio_util::sync::CancellationToken;

use super::write::Writes;
use crate::artifact::bson;
use crate::artifact::raw::Raw;
use crate::domain::namespace::Namespace;
use crate::engine::Context;
use crate::engine::attempt::host_name;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;

const PREFIX: &str = "mongokeep_staged_";

/// Whether a collection is a restore's own, on its way to be merged: no backup and no replay takes it.
pub(super) fn is_staging(ns: &Namespace) -> bool {
    ns.db == "admin" && ns.collection.starts_with(PREFIX)
}

const KINDS: [&str; 2] = ["users", "roles"];
/// Removing must not hold up the end of a restore that was cancelled.
const REMOVAL_LIMIT: Duration = Duration::from_secs(10);

/// The two collections of one restore: for users and for roles.
pub(super) struct Staging {
    pub names: [String; 2],
}

/// Which process made a collection: as long as it runs, the collection is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Maker {
    host: String,
    pid: u32,
    /// Another one for each start of a process: process ids come again.
    run: String,
}

impl Maker {
    fn this() -> Self {
        static RUN: LazyLock<String> = LazyLock::new(|| {
            let seed = format!("{:?} {:?}", std::time::SystemTime::now(), std::thread::current().id());
            short_hash(&format!("{} {seed}", std::process::id()))
        });
        Self { host: short_hash(&host_name()), pid: std::process::id(), run: RUN.clone() }
    }

    /// The maker in the name of a collection of ours.
    fn of(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.split('_');
        let (_kind, host, pid, run, _number) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Self { host: host.to_owned(), pid: pid.parse().ok()?, run: run.to_owned() })
    }

    /// `kind` says what the collection is for.
    fn name(&self, kind: &str, number: u32) -> String {
        format!("{PREFIX}{kind}_{}_{}_{}_{number}", self.host, self.pid, self.run)
    }

    /// Whether it certainly runs no more. Of another host nobody here knows.
    fn is_gone(&self) -> bool {
        let this = Self::this();
        if self.host != this.host {
            return false;
        }
        match self.pid == this.pid {
            true => self.run != this.run,
            false => !is_running(self.pid),
        }
    }
}

fn is_running(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // One that has ended stays listed until its parent asks how: `PID (name) STATE ...`.
        Ok(stat) => !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => {
            let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
            // `EPERM` is a process of somebody else.
            pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
        }
    }
}

fn short_hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().chars().take(8).collect()
}

/// Whether users and roles can be staged in `target`, asked before anything is written.
///
/// Errors: `Denied` when the user lacks the right to read what it staged.
pub(super) async fn check(cancel: &CancellationToken, target: &Server) -> Result<()> {
    if may_read_admin(cancel, target).await? {
        return Ok(());
    }
    let service = target.service();
    Err(Error::new(
        ErrorKind::Denied,
        format!("service {service}: to restore users and roles the user must be able to read the database admin"),
    )
    .hint("grant the role backup too: db.getSiblingDB('admin').grantRolesToUser('USER', ['backup'])"))
}

/// Whether the user may read any collection of `admin`: then a name of our own can be used.
async fn may_read_admin(cancel: &CancellationToken, server: &Server) -> Result<bool> {
    let status = server.command(cancel, "admin", doc! {"connectionStatus": 1, "showPrivileges": true}).await?;
    Ok(allows_reading_admin(&status))
}

fn allows_reading_admin(status: &Document) -> bool {
    let Ok(info) = status.get_document("authInfo") else { return false };
    let list = |key: &str| info.get_array(key).map(Vec::as_slice).unwrap_or_default();
    if list("authenticatedUsers").is_empty() {
        // The server asks nobody who they are.
        return true;
    }
    list("authenticatedUserPrivileges").iter().filter_map(Bson::as_document).any(|privilege| {
        let can_find = privilege.get_array("actions").is_ok_and(|a| a.iter().any(|a| a.as_str() == Some("find")));
        let resource = privilege.get_document("resource").ok();
        let is = |key: &str, value: &str| resource.is_some_and(|r| r.get_str(key).is_ok_and(|v| v == value));
        let anything = resource.is_some_and(|r| r.get_bool("anyResource").unwrap_or(false));
        can_find && (anything || (is("collection", "") && (is("db", "") || is("db", "admin"))))
    })
}

/// Collections of `admin` that killed restores of this host left.
async fn abandoned(writes: &Writes) -> Result<Vec<String>> {
    let found = writes.server.collect(&writes.cancel, "admin", doc! {"listCollections": 1, "nameOnly": true}).await?;
    let names = found.iter().filter_map(|entry| bson::get(entry.as_bytes(), "name")?.str().map(str::to_owned));
    Ok(names.filter(|name| Maker::of(name).is_some_and(|maker| maker.is_gone())).collect())
}

impl Staging {
    /// Removes what killed restores left, and creates the two collections.
    pub async fn begin(ctx: &Context, writes: &Writes) -> Result<Self> {
        for name in abandoned(writes).await? {
            writes.drop(&Namespace::new("admin", &name)).await?;
            ctx.meter.info(format!("removed admin.{name}, which a restore that was killed had left"));
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (maker, number) = (Maker::this(), NEXT.fetch_add(1, Ordering::Relaxed));
        let staging = Self { names: KINDS.map(|kind| maker.name(kind, number)) };
        for name in &staging.names {
            let created = writes.create(&Namespace::new("admin", name), &Raw::default(), false).await;
            if let Err(e) = created {
                staging.end(ctx, writes).await;
                return Err(e);
            }
        }
        Ok(staging)
    }

    /// Removes the two collections again; what cannot be removed is named in the log. Also after a cancel.
    pub async fn end(self, ctx: &Context, writes: &Writes) {
        let writes = Writes { cancel: CancellationToken::new(), ..writes.clone() };
        for name in self.names {
            let namespace = Namespace::new("admin", &name);
            let removed = tokio::time::timeout(REMOVAL_LIMIT, writes.drop(&namespace));
            let why = match removed.await {
                Ok(Ok(())) => continue,
                Ok(Err(e)) => e.full(),
                Err(_) => format!("no answer within {} s", REMOVAL_LIMIT.as_secs()),
            };
            ctx.meter.warn(format!("the temporary collection admin.{name} was left behind: {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(privileges: Vec<Document>) -> Document {
        doc! {"authInfo": {"authenticatedUsers": [{"user": "k", "db": "admin"}], "authenticatedUserPrivileges": privileges}}
    }

    #[test]
    fn who_may_read_admin_needs_no_shared_name() {
        let privilege = |resource: Document, action: &str| doc! {"resource": resource, "actions": ["insert", action]};
        assert!(allows_reading_admin(&doc! {"authInfo": {"authenticatedUsers": []}}));
        for resource in
            [doc! {"db": "", "collection": ""}, doc! {"db": "admin", "collection": ""}, doc! {"anyResource": true}]
        {
            assert!(allows_reading_admin(&status(vec![privilege(resource.clone(), "find")])), "{resource}");
            assert!(!allows_reading_admin(&status(vec![privilege(resource.clone(), "remove")])), "{resource}");
        }
        for resource in [
            doc! {"db": "admin", "collection": "tempusers"},
            doc! {"db": "shop", "collection": ""},
            doc! {"cluster": true},
        ] {
            assert!(!allows_reading_admin(&status(vec![privilege(resource.clone(), "find")])), "{resource}");
        }
        assert!(!allows_reading_admin(&doc! {}));
    }

    #[test]
    fn only_what_a_process_that_is_gone_left_is_abandoned() {
        let this = Maker::this();
        let is_gone = |name: &str| Maker::of(name).is_some_and(|maker| maker.is_gone());
        assert!(!is_gone(&this.name("users", 0)), "this restore uses it");
        let before = Maker { run: "00000000".into(), ..this.clone() };
        assert!(is_gone(&before.name("roles", 3)), "another process had this id");
        let killed = Maker { pid: i32::MAX as u32, ..before.clone() };
        assert!(is_gone(&killed.name("users", 0)));
        let elsewhere = Maker { host: "ffffffff".into(), ..killed };
        assert!(!is_gone(&elsewhere.name("users", 0)), "nobody here knows what runs there");
        for name in
            ["tempusers", "temproles", "mongokeep_staged_", "mongokeep_staged_users", "mongokeep_staged_a_b_c_d_e"]
        {
            assert!(!is_gone(name), "{name}");
        }
    }
}
