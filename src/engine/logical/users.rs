//! Users and roles: worked out before anything is written, and merged in one step at the very end.
//!
//! The role `restore` may not replay operations on them, so their few documents are followed in memory. The merge may
//! end the session of the very user who restores (same name, other id), so that nothing may be left to do after it
//! that needs those rights.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use mongodb::bson::{Bson, Document, doc};

use super::open_backup::OpenBackup;
use super::staging::Staging;
use super::user_collections::{FOLLOWED, collection_of};
use super::write::Writes;
use crate::artifact::bson;
use crate::artifact::read::ReadOptions;
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::diff;
use crate::mongo::oplog::entry::{Entry, Op, OpKind};

/// Users, and roles, by their `_id` (`<database>.<name>`).
#[derive(Debug, Default)]
pub(super) struct Users([BTreeMap<String, Document>; 2]);

fn unreadable(e: mongodb::bson::error::Error) -> Error {
    Error::new(ErrorKind::Corrupt, "a user or role of the backup cannot be read").source(e)
}

fn decode(bytes: &[u8]) -> Result<Document> {
    bson::decode(bytes)
        .map_err(|e| Error::new(ErrorKind::Corrupt, "a user or role of the backup cannot be read").source(e))
}

/// This session may have ended with the merge; a new one has the rights of the user as restored.
async fn after_merge(writes: &Writes) -> Writes {
    let server = &writes.server;
    // Under the name that the connection string gives: that of the replica set's configuration may be unknown here.
    let address = match server.is_direct() {
        true => Some(server.hosts().to_owned()),
        false => server.hello().primary.clone(),
    };
    let mut after = writes.clone();
    if let Some(address) = address
        && let Ok(server) = server.direct(&address).await
    {
        after.server = server;
    }
    after
}

impl Users {
    /// Those of the backup after position `until`.
    pub async fn read(ctx: &Context, stored: &OpenBackup, until: Timestamp) -> Result<Self> {
        let mut users = Self::default();
        for (n, name) in FOLLOWED.iter().enumerate() {
            let entries = stored.manifest.collections.iter();
            for entry in entries.filter(|c| c.namespace.db == "admin" && c.namespace.collection == *name) {
                for part in &entry.parts {
                    let mut documents = stored.documents(part, ReadOptions::default())?;
                    while let Some(batch) = documents.next().await {
                        for document in batch?.documents() {
                            users.put(n, decode(document)?)?;
                        }
                    }
                }
            }
        }
        let state = (stored.transactions(), users);
        let (_, users) = stored
            .for_each_entry(&ctx.cancel, state, move |(transactions, users), document| {
                let entry = Entry::parse(document)?;
                if entry.ts > until {
                    return Ok(ControlFlow::Break(()));
                }
                transactions.feed(&entry, &mut |_, op| users.follow(op))?;
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        Ok(users)
    }

    /// Those of the collection `name` of the database `admin`, in order of their `_id`.
    pub fn of_collection(&self, name: &str) -> impl Iterator<Item = &Document> {
        let n = FOLLOWED.iter().position(|collection| *collection == name);
        n.and_then(|n| self.0.get(n)).into_iter().flat_map(BTreeMap::values)
    }

    fn put(&mut self, n: usize, document: Document) -> Result<()> {
        let id = document.get_str("_id").map_err(unreadable)?.to_owned();
        self.0[n].insert(id, document);
        Ok(())
    }

    fn follow(&mut self, op: &Op<'_>) -> Result<()> {
        let Some(n) = collection_of(op) else { return Ok(()) };
        let id = op.id().and_then(|e| e.str());
        match (op.kind, id) {
            (OpKind::Insert, _) => self.put(n, decode(op.o)?),
            (OpKind::Delete, Some(id)) => {
                self.0[n].remove(id);
                Ok(())
            }
            // Of one that was dropped before it was read, nothing is there to change.
            (OpKind::Update, Some(id)) => match self.0[n].get_mut(id) {
                Some(document) => diff::apply(document, &decode(op.o)?),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Adds the users and roles of the databases `of` (all, when empty) to those of the target, replacing those of the
    /// same name. With `exact` the others of these databases go.
    pub async fn merge(mut self, ctx: &Context, writes: &Writes, of: &[String], exact: bool) -> Result<()> {
        ctx.meter.set_phase("restore users and roles");
        if !exact {
            self.keep_others(writes).await?;
        }
        let staging = Staging::begin(ctx, writes).await?;
        let merged = self.merge_through(&staging, writes, of).await;
        staging.end(ctx, &after_merge(writes).await).await;
        merged
    }

    async fn merge_through(self, staging: &Staging, writes: &Writes, of: &[String]) -> Result<()> {
        for (staged, documents) in staging.names.iter().zip(self.0) {
            let documents: Vec<Bson> = documents.into_values().map(Bson::Document).collect();
            for chunk in documents.chunks(500) {
                let command = doc! {"insert": staged, "documents": chunk.to_vec(), "writeConcern": {"w": "majority"}};
                let reply = writes.command("admin", "staging users and roles", command).await?;
                if reply.contains_key("writeErrors") {
                    return Err(Error::new(ErrorKind::Failed, "users and roles could not be staged in admin"));
                }
            }
        }
        let [users, roles] = &staging.names;
        let all = [String::new()];
        for db in if of.is_empty() { &all[..] } else { of } {
            let command = doc! {
                "_mergeAuthzCollections": 1,
                "tempUsersCollection": format!("admin.{users}"),
                "tempRolesCollection": format!("admin.{roles}"),
                // Only so does the server replace one of the same name.
                "drop": true,
                "db": db.as_str(),
                "writeConcern": {"w": "majority"},
            };
            writes.command("admin", "restoring users and roles", command).await?;
        }
        Ok(())
    }

    /// Stages the target's own users and roles of other names too, so that the merge leaves them as they are.
    async fn keep_others(&mut self, writes: &Writes) -> Result<()> {
        for (n, name) in FOLLOWED.iter().enumerate() {
            for document in writes.server.collect(&writes.cancel, "admin", doc! {"find": *name}).await? {
                let document = Document::try_from(document).map_err(unreadable)?;
                let id = document.get_str("_id").map_err(unreadable)?.to_owned();
                self.0[n].entry(id).or_insert(document);
            }
        }
        Ok(())
    }
}
