//! Users and roles: staged beside the real ones, and merged in one step at the very end.
//!
//! The merge may end the session of the very user who restores (same name, other id), so that nothing may be left to do
//! after it that needs those rights.

use mongodb::bson::doc;

use super::plan::{ROLES, USERS};
use super::replay::{Destination, Destinations};
use super::stored::Stored;
use super::write::Writes;
use crate::artifact::bson::{Writer, tag};
use crate::artifact::read::ReadOptions;
use crate::domain::namespace::Namespace;
use crate::engine::Context;
use crate::error::{Error, ErrorKind, Result};

/// The names under which the role `restore` may stage them; the same as `mongorestore`'s.
const STAGED: [(&str, &str); 2] = [(USERS, "tempusers"), (ROLES, "temproles")];

/// Users and roles as they were read, in their temporary collections. The oplog's changes follow.
pub(super) struct Staged(());

impl Staged {
    pub async fn load(ctx: &Context, stored: &Stored, writes: &Writes) -> Result<Self> {
        for (name, staged) in STAGED {
            let to = Namespace::new("admin", staged);
            writes.drop(&to).await?;
            writes.command("admin", "staging users and roles", doc! {"create": staged}).await?;
            let entries = stored.manifest.collections.iter();
            let Some(entry) = entries.clone().find(|c| c.namespace.db == "admin" && c.namespace.collection == name)
            else {
                continue;
            };
            for part in &entry.parts {
                let mut documents =
                    stored.documents(part, ReadOptions { batch_documents: 1000, ..ReadOptions::default() })?;
                loop {
                    let next = tokio::select! {
                        biased;
                        () = ctx.cancel.cancelled() => return Err(Error::cancelled()),
                        next = documents.next() => next,
                    };
                    let Some(batch) = next.transpose()? else { break };
                    let mut w = Writer::with_capacity(batch.bytes().len() + 1024);
                    w.str("insert", staged).open(tag::ARRAY, "documents");
                    for (n, document) in batch.documents().enumerate() {
                        w.document(&n.to_string(), document);
                    }
                    w.close();
                    let reply = writes.raw("admin", "staging users and roles", w.finish()).await?;
                    if reply.get_array("writeErrors").is_ok() {
                        return Err(Error::new(ErrorKind::Failed, "users and roles could not be staged in admin"));
                    }
                }
            }
        }
        Ok(Self(()))
    }

    /// The oplog's changes of users and roles go to where they are staged.
    pub fn add_destinations(&self, destinations: &mut Destinations) {
        for (name, staged) in STAGED {
            let destination =
                Destination::new(&Namespace::new("admin", staged), crate::domain::timestamp::Timestamp::MIN);
            destinations.by_name.insert(format!("admin.{name}"), destination);
        }
    }

    /// Adds the staged users and roles of the databases `of` (all, when empty) to those of the target, replacing those
    /// of the same name. With `exact` the others of these databases go.
    pub async fn merge(self, ctx: &Context, writes: &Writes, of: &[String], exact: bool) -> Result<()> {
        ctx.meter.set_phase("restore users and roles");
        let all = [String::new()];
        for db in if of.is_empty() { &all[..] } else { of } {
            let command = doc! {
                "_mergeAuthzCollections": 1,
                "tempUsersCollection": "admin.tempusers",
                "tempRolesCollection": "admin.temproles",
                "drop": exact,
                "db": db.as_str(),
                "writeConcern": {"w": "majority"},
            };
            writes.command("admin", "restoring users and roles", command).await?;
        }
        for (_, staged) in STAGED {
            // The rights to do so may have gone with the merge.
            if let Err(e) = writes.drop(&Namespace::new("admin", staged)).await {
                ctx.meter.warn(format!("the temporary collection admin.{staged} was left behind: {}", e.full()));
            }
        }
        Ok(())
    }
}
