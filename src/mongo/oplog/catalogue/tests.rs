//! A small server of our own makes histories and knows the truth; the catalogue must reach it from any point.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document, Uuid as BsonUuid, doc};
use proptest::prelude::*;

use super::*;
use crate::mongo::oplog::entry::Op;

fn ns(text: &str) -> Namespace {
    Namespace::parse(text).unwrap()
}

fn uuid(n: u8) -> Uuid {
    [n; 16]
}

fn command(db: &str, ui: Option<Uuid>, o: Document) -> Document {
    let mut d = doc! {"op": "c", "ns": format!("{db}.$cmd"), "o": o};
    if let Some(ui) = ui {
        d.insert("ui", BsonUuid::from_bytes(ui));
    }
    d
}

fn crud(op: &str, name: &str, ui: Uuid, o: Document) -> Document {
    doc! {"op": op, "ns": name, "ui": BsonUuid::from_bytes(ui), "o2": {"_id": o.get("_id").cloned().unwrap_or(Bson::Null)}, "o": o}
}

fn feed(catalogue: &mut Catalogue, ops: &[Document]) -> Result<()> {
    for (n, op) in ops.iter().enumerate() {
        let bytes = op.to_vec().unwrap();
        catalogue.apply(Timestamp::new(n as u32 + 1, 1), &Op::parse(&bytes)?)?;
    }
    Ok(())
}

fn recorded(name: &str) -> Collection {
    Collection::new(ns(name), false, doc! {}, vec![], Some(0))
}

/// What a step of a history does; the numbers choose among what exists.
#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    Drop(u8),
    Rename(u8, u8, bool),
    Index(u8, u8, i32),
    CommitBuild(u8, u8, i32),
    DropIndex(u8, u8),
    Hide(u8, u8, bool),
    Validate(u8, i32),
    Write(u8),
    View(u8, i32),
    DropView(u8),
    ChangeView(u8, i32),
    DropDatabase,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6).prop_map(Step::Create),
        2 => any::<u8>().prop_map(Step::Drop),
        3 => (any::<u8>(), 0u8..6, any::<bool>()).prop_map(|(a, b, c)| Step::Rename(a, b, c)),
        3 => (any::<u8>(), 0u8..3, -1i32..5).prop_map(|(a, b, c)| Step::Index(a, b, c)),
        2 => (any::<u8>(), 0u8..3, -1i32..5).prop_map(|(a, b, c)| Step::CommitBuild(a, b, c)),
        2 => (any::<u8>(), 0u8..3).prop_map(|(a, b)| Step::DropIndex(a, b)),
        2 => (any::<u8>(), 0u8..3, any::<bool>()).prop_map(|(a, b, c)| Step::Hide(a, b, c)),
        2 => (any::<u8>(), 0i32..4).prop_map(|(a, b)| Step::Validate(a, b)),
        4 => any::<u8>().prop_map(Step::Write),
        2 => (0u8..3, any::<i32>()).prop_map(|(a, b)| Step::View(a, b)),
        1 => (0u8..3).prop_map(Step::DropView),
        1 => (0u8..3, any::<i32>()).prop_map(|(a, b)| Step::ChangeView(a, b)),
        1 => Just(Step::DropDatabase),
    ]
}

#[derive(Debug, Clone, PartialEq)]
struct Truth {
    name: String,
    validator: Option<Document>,
    indexes: BTreeMap<String, Document>,
}

/// A server with one database: what is alive now, and the entry each change wrote.
#[derive(Debug, Clone, Default)]
struct Server {
    collections: BTreeMap<Uuid, Truth>,
    views: BTreeMap<String, Document>,
    next: u8,
}

impl Server {
    fn pick(&self, n: u8) -> Option<Uuid> {
        let all: Vec<&Uuid> = self.collections.keys().collect();
        (!all.is_empty()).then(|| *all[n as usize % all.len()])
    }

    fn named(&self, name: &str) -> Option<Uuid> {
        self.collections.iter().find(|(_, c)| c.name == name).map(|(u, _)| *u)
    }

    fn step(&mut self, step: &Step) -> Vec<Document> {
        let spec = |n: &u8, way: i32| doc! {"v": 2, "key": {format!("f{n}"): way}, "name": format!("i{n}")};
        match step {
            Step::Create(n) => {
                let name = format!("c{n}");
                if self.named(&name).is_some() || self.next == u8::MAX {
                    return vec![];
                }
                self.next += 1;
                let id = uuid(self.next);
                self.collections.insert(id, Truth { name: name.clone(), validator: None, indexes: BTreeMap::new() });
                vec![command(
                    "d",
                    Some(id),
                    doc! {"create": name, "idIndex": {"v": 2, "key": {"_id": 1}, "name": "_id_"}},
                )]
            }
            Step::Drop(n) => {
                let Some(id) = self.pick(*n) else { return vec![] };
                let gone = self.collections.remove(&id).unwrap();
                vec![command("d", Some(id), doc! {"drop": gone.name})]
            }
            Step::Rename(n, to, over) => {
                let Some(id) = self.pick(*n) else { return vec![] };
                let to = format!("c{to}");
                let mut o =
                    doc! {"renameCollection": format!("d.{}", self.collections[&id].name), "to": format!("d.{to}")};
                match self.named(&to) {
                    Some(target) if target == id || !over => return vec![],
                    Some(target) => {
                        self.collections.remove(&target);
                        o.insert("dropTarget", BsonUuid::from_bytes(target));
                    }
                    None => {}
                }
                self.collections.get_mut(&id).unwrap().name = to;
                vec![command("d", Some(id), o)]
            }
            Step::Index(n, i, way) | Step::CommitBuild(n, i, way) => {
                let Some(id) = self.pick(*n) else { return vec![] };
                let truth = self.collections.get_mut(&id).unwrap();
                let new = spec(i, *way);
                if truth.indexes.contains_key(&format!("i{i}")) {
                    return vec![];
                }
                truth.indexes.insert(format!("i{i}"), new.clone());
                let o = if matches!(step, Step::Index(..)) {
                    let mut o = doc! {"createIndexes": truth.name.clone()};
                    o.extend(new);
                    o
                } else {
                    doc! {"commitIndexBuild": truth.name.clone(), "indexes": [new]}
                };
                vec![command("d", Some(id), o)]
            }
            Step::DropIndex(n, i) => {
                let Some(id) = self.pick(*n) else { return vec![] };
                let truth = self.collections.get_mut(&id).unwrap();
                if truth.indexes.remove(&format!("i{i}")).is_none() {
                    return vec![];
                }
                vec![command("d", Some(id), doc! {"dropIndexes": truth.name.clone(), "index": format!("i{i}")})]
            }
            Step::Hide(n, i, hide) => {
                let Some(id) = self.pick(*n) else { return vec![] };
                let truth = self.collections.get_mut(&id).unwrap();
                let Some(index) = truth.indexes.get_mut(&format!("i{i}")) else { return vec![] };
                if *hide {
                    index.insert("hidden", true);
                } else {
                    index.remove("hidden");
                }
                let o = doc! {"collMod": truth.name.clone(), "index": {"name": format!("i{i}"), "hidden": *hide}};
                vec![command("d", Some(id), o)]
            }
            Step::Validate(n, value) => {
                let Some(id) = self.pick(*n) else { return vec![] };
                let truth = self.collections.get_mut(&id).unwrap();
                let validator = if *value == 0 {
                    doc! {}
                } else {
                    doc! {"a": *value}
                };
                truth.validator = (*value != 0).then(|| validator.clone());
                vec![command("d", Some(id), doc! {"collMod": truth.name.clone(), "validator": validator})]
            }
            Step::Write(n) => {
                let Some(id) = self.pick(*n) else { return vec![] };
                vec![crud("i", &format!("d.{}", self.collections[&id].name), id, doc! {"_id": 1})]
            }
            Step::View(n, x) => {
                let name = format!("d.v{n}");
                if self.views.contains_key(&name) {
                    return vec![];
                }
                let options = doc! {"viewOn": "c0", "pipeline": [{"$match": {"x": *x}}]};
                self.views.insert(name.clone(), options.clone());
                let mut o = doc! {"_id": name};
                o.extend(options);
                vec![crud("i", "d.system.views", uuid(255), o)]
            }
            Step::DropView(n) => {
                let name = format!("d.v{n}");
                if self.views.remove(&name).is_none() {
                    return vec![];
                }
                vec![crud("d", "d.system.views", uuid(255), doc! {"_id": name})]
            }
            Step::ChangeView(n, x) => {
                let name = format!("d.v{n}");
                let Some(view) = self.views.get_mut(&name) else { return vec![] };
                let pipeline = vec![doc! {"$match": {"x": *x}}];
                view.insert("pipeline", pipeline.clone());
                let mut change =
                    crud("u", "d.system.views", uuid(255), doc! {"$v": 2, "diff": {"u": {"pipeline": pipeline}}});
                change.insert("o2", doc! {"_id": name});
                vec![change]
            }
            Step::DropDatabase => {
                let mut out: Vec<Document> = std::mem::take(&mut self.collections)
                    .into_iter()
                    .map(|(id, c)| command("d", Some(id), doc! {"drop": c.name}))
                    .collect();
                if !self.views.is_empty() {
                    self.views.clear();
                    out.push(command("d", Some(uuid(255)), doc! {"drop": "system.views"}));
                }
                out.push(command("d", None, doc! {"dropDatabase": 1}));
                out
            }
        }
    }
}

fn decoded(raw: &Raw) -> Document {
    crate::artifact::bson::decode(raw.as_bytes()).unwrap()
}

fn seen(catalogue: &Catalogue) -> (BTreeMap<Uuid, Truth>, BTreeMap<String, Document>) {
    let collections = catalogue
        .collections()
        .map(|(id, c)| {
            let indexes = c.indexes.iter().map(|i| (i.get_str("name").unwrap().to_owned(), decoded(i))).collect();
            let validator = c.options.get_document("validator").map(|v| decoded(&v));
            (*id, Truth { name: c.namespace.collection.clone(), validator, indexes })
        })
        .collect();
    let views = catalogue.views().iter().map(|(ns, v)| (ns.to_string(), decoded(&v.options))).collect();
    (collections, views)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The oplog range begins anywhere; each collection's name is listed somewhere in it, its definition is read at
    /// or after that, views again elsewhere.
    #[test]
    fn any_backup_of_any_history_reaches_the_truth(
        steps in prop::collection::vec(step(), 1..60),
        begin in any::<prop::sample::Index>(), list in any::<prop::sample::Index>(),
        reads in prop::collection::vec(any::<prop::sample::Index>(), 16), views_at in any::<prop::sample::Index>(),
    ) {
        let mut server = Server::default();
        let (mut states, mut ends, mut log) = (vec![server.clone()], vec![0], Vec::new());
        for step in &steps {
            log.extend(server.step(step));
            states.push(server.clone());
            ends.push(log.len());
        }
        let begin = begin.index(states.len());
        let between = |index: &prop::sample::Index, from: usize| from + index.index(states.len() - from);
        let listed_at = between(&list, begin);
        let mut catalogue = Catalogue::default();
        for (n, (id, listed)) in states[listed_at].collections.iter().enumerate() {
            let read_at = between(&reads[n % reads.len()], listed_at);
            // Gone before it was read: such a collection is not in the backup.
            let Some(read) = states[read_at].collections.get(id) else { continue };
            let options = read.validator.clone().map_or(doc! {}, |v| doc! {"validator": v});
            let indexes = read.indexes.values().map(Into::into).collect();
            let recorded = Collection::new(Namespace::new("d", listed.name.clone()), false, options, indexes, Some(n));
            catalogue.add_collection(*id, recorded);
        }
        for (name, options) in &states[between(&views_at, begin)].views {
            catalogue.add_view(ns(name), options.clone(), Some(0));
        }
        feed(&mut catalogue, &log[ends[begin]..]).unwrap();
        let (collections, views) = seen(&catalogue);
        prop_assert_eq!(collections, server.collections);
        prop_assert_eq!(views, server.views);
        prop_assert_eq!(catalogue.strangers().count(), 0);
        catalogue.check_names().unwrap();
    }
}

#[test]
fn a_stranger_is_named_by_its_last_name() {
    let mut catalogue = Catalogue::default();
    let log = [
        crud("i", "d.secret", uuid(1), doc! {"_id": 1}),
        command("d", Some(uuid(1)), doc! {"renameCollection": "d.secret", "to": "d.public"}),
        crud("i", "d.gone", uuid(2), doc! {"_id": 1}),
        command("d", Some(uuid(2)), doc! {"drop": "gone"}),
        crud("i", "config.transactions", uuid(3), doc! {"_id": 1}),
        crud("i", "admin.system.users", uuid(4), doc! {"_id": 1}),
    ];
    feed(&mut catalogue, &log).unwrap();
    let strangers: Vec<Stranger> = catalogue.strangers().collect();
    assert_eq!(strangers, [Stranger { uuid: uuid(1), last_name: ns("d.public"), first_ts: Timestamp::new(1, 1) }]);
}

#[test]
fn what_nobody_knows_stops_it() {
    for o in [
        doc! {"importCollection": "c"},
        doc! {"upgradeDowngradeViewlessTimeseries": "c"},
        doc! {"truncateRange": "d.c"},
        doc! {"somethingNew": "c"},
    ] {
        let mut catalogue = Catalogue::default();
        catalogue.add_collection(uuid(1), recorded("d.c"));
        let error = feed(&mut catalogue, &[command("d", Some(uuid(1)), o.clone())]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{o}");
    }
    let mut catalogue = Catalogue::default();
    catalogue.add_collection(uuid(1), recorded("d.c"));
    let odd = doc! {"collMod": "c", "newOption": true};
    assert_eq!(feed(&mut catalogue, &[command("d", Some(uuid(1)), odd)]).unwrap_err().kind(), ErrorKind::Unsupported);
    for o in [doc! {"$v": 3, "diff": {}}, doc! {"$v": 1, "$inc": {"a": 1}}, doc! {"$v": 1, "$set": {"a..b": 1}}] {
        let mut catalogue = Catalogue::default();
        catalogue.add_collection(uuid(1), recorded("d.c"));
        let mut update = crud("u", "d.c", uuid(1), o.clone());
        update.insert("o2", doc! {"_id": 1});
        assert_eq!(feed(&mut catalogue, &[update]).unwrap_err().kind(), ErrorKind::Unsupported, "{o}");
    }
    for o in [
        doc! {"startIndexBuild": "c"},
        doc! {"abortIndexBuild": "c"},
        doc! {"setMultikeyMetadata": "c"},
        doc! {"dropIdent": "x"},
    ] {
        feed(&mut catalogue, &[command("d", Some(uuid(1)), o)]).unwrap();
    }
}

#[test]
fn index_changes_keep_everything_else() {
    let mut catalogue = Catalogue::default();
    let mut collection = recorded("d.c");
    collection.indexes = [
        doc! {"v": 2, "key": {"_id": 1}, "name": "_id_"},
        doc! {"v": 2, "key": {"_id": "hashed"}, "name": "_id_hashed"},
        doc! {"v": 2, "key": {"t": 1}, "name": "ttl", "expireAfterSeconds": 60, "weights": {"x": 1}},
        doc! {"v": 2, "key": {"u": 1}, "name": "u", "prepareUnique": true},
        doc! {"v": 2, "key": {"_id": 1}, "name": "clustered", "unique": true, "clustered": true},
    ]
    .map(Raw::from)
    .into();
    catalogue.add_collection(uuid(1), collection);
    let log = [
        command("d", Some(uuid(1)), doc! {"collMod": "c", "index": {"name": "ttl", "expireAfterSeconds": 90i64}}),
        command("d", Some(uuid(1)), doc! {"collMod": "c", "index": {"keyPattern": {"u": 1}, "unique": true}}),
        command(
            "d",
            Some(uuid(1)),
            doc! {"collMod": "c", "cappedSize": 4096i64, "changeStreamPreAndPostImages": {"enabled": true}},
        ),
        command("d", Some(uuid(1)), doc! {"collMod": "c", "changeStreamPreAndPostImages": {"enabled": false}}),
    ];
    feed(&mut catalogue, &log).unwrap();
    let c = catalogue.collection(&uuid(1)).unwrap();
    assert_eq!(
        c.indexes,
        [
            doc! {"v": 2, "key": {"_id": "hashed"}, "name": "_id_hashed"},
            doc! {"v": 2, "key": {"t": 1}, "name": "ttl", "expireAfterSeconds": 90i64, "weights": {"x": 1}},
            doc! {"v": 2, "key": {"u": 1}, "name": "u", "unique": true},
        ]
    );
    assert_eq!(c.options, doc! {"size": 4096i64});
}

#[test]
fn a_time_series_is_followed_through_its_buckets() {
    let mut catalogue = Catalogue::default();
    let series = doc! {"timeField": "t", "metaField": "m", "granularity": "seconds", "bucketMaxSpanSeconds": 3600};
    let log = [
        command(
            "d",
            Some(uuid(1)),
            doc! {
                "create": "system.buckets.w", "validator": {"$jsonSchema": {}}, "clusteredIndex": true, "timeseries": series.clone(),
            },
        ),
        crud("i", "d.system.views", uuid(2), doc! {"_id": "d.w", "viewOn": "system.buckets.w", "pipeline": []}),
        command(
            "d",
            Some(uuid(1)),
            doc! {
                "createIndexes": "system.buckets.w", "v": 2, "name": "m_1_t_-1",
                "key": {"meta": 1, "meta.a": -1, "control.max.t": -1, "control.min.t": -1},
            },
        ),
        command(
            "d",
            Some(uuid(1)),
            doc! {
                "createIndexes": "system.buckets.w", "v": 2, "name": "s", "key": {"control.min.x": 1, "control.max.x": 1},
                "originalSpec": {"v": 2, "key": {"x": 1}, "name": "s", "partialFilterExpression": {"m": 1}},
            },
        ),
        command(
            "d",
            Some(uuid(1)),
            doc! {"collMod": "system.buckets.w", "expireAfterSeconds": 60i64, "timeseries": {"granularity": "hours"}},
        ),
    ];
    feed(&mut catalogue, &log).unwrap();
    let c = catalogue.collection(&uuid(1)).unwrap();
    assert_eq!((c.namespace.clone(), c.storage_namespace()), (ns("d.w"), ns("d.system.buckets.w")));
    assert!(catalogue.views().is_empty());
    assert_eq!(
        c.options,
        doc! {
            "timeseries": {"timeField": "t", "metaField": "m", "granularity": "hours"},
            "expireAfterSeconds": 60i64
        }
    );
    assert_eq!(
        c.indexes,
        [
            doc! {"v": 2, "name": "m_1_t_-1", "key": {"m": 1, "m.a": -1, "t": -1}},
            doc! {"v": 2, "key": {"x": 1}, "name": "s", "partialFilterExpression": {"m": 1}},
        ]
    );
}

#[test]
fn one_name_for_two_is_refused() {
    let mut catalogue = Catalogue::default();
    catalogue.add_collection(uuid(1), recorded("d.c"));
    catalogue.add_collection(uuid(2), recorded("d.c"));
    assert!(catalogue.check_names().unwrap_err().full().contains("d.c"));
}
