//! Collections that another tool read by their names, and not by what they are.
//!
//! PBM lists all collections first, and asks the server for the documents of each name later. One that is renamed in between
//! is found under its name no more: it is stored as empty, or with the documents of whoever has that name by then, and PBM
//! says nothing (tried with 2.15.0). The stored oplog shows which ones that may be. A rename while documents are read ends
//! PBM's backup with an error, so that one with documents of its own was read before.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::domain::namespace::Namespace;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::mongo::oplog::entry::{Op, OpKind, Uuid};

/// The names under which collections were read, and what became of those names meanwhile.
#[derive(Debug, Default)]
pub(super) struct NamesRead {
    listed: HashMap<Uuid, Listed>,
    /// Where a listed name was taken away.
    lost: BTreeMap<String, (Uuid, Timestamp)>,
    /// Listed names that somebody got, and who.
    taken: HashSet<(String, Uuid)>,
}

#[derive(Debug)]
struct Listed {
    name: String,
    is_empty: bool,
}

impl NamesRead {
    /// The collections as they were listed: what each is, its name, and whether it was stored as empty.
    pub fn new(listed: impl Iterator<Item = (Uuid, String, bool)>) -> Self {
        let listed = listed.map(|(uuid, name, is_empty)| (uuid, Listed { name, is_empty }));
        Self { listed: listed.collect(), ..Self::default() }
    }

    pub fn follow(&mut self, ts: Timestamp, op: &Op<'_>) {
        if op.kind != OpKind::Command || self.listed.is_empty() {
            return;
        }
        let (Some((name, argument)), Some(uuid)) = (op.command(), op.ui) else { return };
        match name {
            "create" => {
                self.taken.extend(op.command_target().map(|to| (to.to_string(), uuid)));
            }
            "renameCollection" => {
                if let Some(listed) = self.listed.get(&uuid)
                    && argument.str() == Some(&listed.name)
                {
                    self.lost.entry(listed.name.clone()).or_insert((uuid, ts));
                }
                let to = crate::artifact::bson::get(op.o, "to").and_then(|e| Namespace::parse(e.str()?));
                self.taken.extend(to.map(|to| (to.to_string(), uuid)));
            }
            _ => {}
        }
    }

    /// The collections that may lack documents, by name, with the position at which they lost it.
    pub fn doubtful(&self) -> Vec<(String, Timestamp)> {
        let doubtful = self.lost.iter().filter(|(name, (uuid, _))| {
            let is_empty = self.listed.get(uuid).is_none_or(|listed| listed.is_empty);
            is_empty || self.taken.iter().any(|(taken, by)| taken == *name && by != uuid)
        });
        doubtful.map(|(name, (_, ts))| (name.clone(), *ts)).collect()
    }
}

/// What is wrong with such a collection.
pub fn missed(name: &str, ts: Timestamp) -> String {
    format!(
        "{} was renamed at oplog position {ts}, while it was backed up by its name: the backup may lack the documents it had, \
         or hold those of another collection",
        escape(name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mongo::oplog::entry::Entry;
    use mongodb::bson::{Binary, Bson, Document, Timestamp as T, doc, spec::BinarySubtype};

    fn uuid(n: u8) -> Bson {
        Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![n; 16] })
    }

    fn command(n: u8, o: Document) -> Document {
        doc! {"op": "c", "ns": "a.$cmd", "ui": uuid(n), "ts": T { time: 7, increment: 1 }, "t": 1_i64, "o": o}
    }

    fn doubtful(is_empty: bool, commands: &[Document]) -> usize {
        let mut names = NamesRead::default();
        names.listed.insert([1; 16], Listed { name: "a.x".into(), is_empty });
        for command in commands {
            let bytes = command.to_vec().unwrap();
            let entry = Entry::parse(&bytes).unwrap();
            names.follow(entry.ts, &entry.op);
        }
        names.doubtful().len()
    }

    #[test]
    fn a_name_that_was_lost_before_it_was_read_is_seen() {
        let away = command(1, doc! {"renameCollection": "a.x", "to": "a.y"});
        let back = command(1, doc! {"renameCollection": "a.y", "to": "a.x"});
        let created = command(2, doc! {"create": "x"});
        let over = command(3, doc! {"renameCollection": "a.tmp", "to": "a.x", "dropTarget": false});
        assert_eq!(doubtful(true, &[]), 0);
        assert_eq!(doubtful(true, std::slice::from_ref(&away)), 1);
        assert_eq!(doubtful(false, std::slice::from_ref(&away)), 0, "it was read before");
        assert_eq!(doubtful(false, &[away.clone(), back.clone()]), 0);
        assert_eq!(doubtful(true, std::slice::from_ref(&back)), 0, "listed under its new name");
        assert_eq!(doubtful(false, &[away.clone(), created]), 1);
        assert_eq!(doubtful(false, &[away, over]), 1);
    }
}
