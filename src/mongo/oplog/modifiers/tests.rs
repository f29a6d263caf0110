use super::*;
use crate::mongo::oplog::diff;
use mongodb::bson::{Bson, Document, Timestamp, doc};
use proptest::prelude::*;

fn bytes(d: &Document) -> Vec<u8> {
    d.to_vec().unwrap()
}

fn document(bytes: &[u8]) -> Document {
    bson::check(bytes).unwrap();
    Document::from_reader(bytes).unwrap()
}

/// Applies `o` to `before`, and the differences that it becomes, which must end in the same.
fn changed(before: &Document, o: &Document) -> Document {
    let o = bytes(o);
    assert_eq!(form(&o).unwrap(), Form::Modifiers);
    let after = document(&apply(&bytes(before), &o).unwrap());
    let (mut by_differences, mut now) = (before.clone(), bytes(before));
    for change in changes(&o).unwrap() {
        let Some(edited) = edit(&now, &change).unwrap() else { continue };
        let difference = document(&edited.difference.unwrap());
        diff::apply(&mut by_differences, &difference).unwrap();
        now = edited.document;
    }
    assert_eq!(by_differences, after);
    after
}

/// Each result was seen on the servers that take these (4.4.2, 5.0.4, 6.0.5, 6.0.27).
#[test]
fn paths_are_followed_as_the_servers_follow_them() {
    let null = Bson::Null;
    let set = |fields: Document| doc! {"$v": 1, "$set": fields};
    let unset = |fields: Document| doc! {"$v": 1, "$unset": fields};
    let cases = [
        (
            doc! {"a": {"b": 1}, "l": [1, 2]},
            set(doc! {"l.0": 9, "a.b": 2, "new.x": 3}),
            doc! {"a": {"b": 2}, "l": [9, 2], "new": {"x": 3}},
        ),
        (doc! {"l": {"0": 1}}, set(doc! {"l.0": 9}), doc! {"l": {"0": 9}}),
        (doc! {}, set(doc! {"l.0.x": 9}), doc! {"l": {"0": {"x": 9}}}),
        (doc! {"l": [1]}, set(doc! {"l.3.x.0": 7}), doc! {"l": [1, &null, &null, {"x": {"0": 7}}]}),
        (doc! {"l": [1, 2, 3]}, set(doc! {"l.01": 7, "l.-1": 8, "l. 1": 9}), doc! {"l": [1, 7, 3]}),
        (doc! {"a": 5, "l": [1]}, set(doc! {"a.b": 2, "l.x": 2, "z": 1}), doc! {"a": 5, "l": [1], "z": 1}),
        (
            doc! {"a": {"b": 1}, "l": [1, 2]},
            unset(doc! {"l.0": true, "a.b": true, "l.9": true, "none.x": true}),
            doc! {"a": {}, "l": [&null, 2]},
        ),
        (doc! {"l": [[1], {"0": 1}]}, unset(doc! {"l.0.0": true, "l.1.0": true}), doc! {"l": [[&null], {}]}),
        (doc! {"a": 1}, doc! {"$set": {"a": {"b": 1}}}, doc! {"a": {"b": 1}}),
        (doc! {}, set(doc! {"l.10": 1, "l.9": 2}), doc! {"l": {"10": 1, "9": 2}}),
        (
            doc! {},
            set(doc! {"$a": 1, "t": Timestamp { time: 0, increment: 0 }}),
            doc! {"$a": 1, "t": Timestamp { time: 0, increment: 0 }},
        ),
    ];
    for (before, o, after) in cases {
        assert_eq!(changed(&before, &o), after, "{before} {o}");
    }
}

#[test]
fn a_name_that_stands_twice_is_changed_once() {
    let mut w = Writer::default();
    w.i32("a", 1).i32("b", 1).i32("a", 2);
    let o = bytes(&doc! {"$v": 1, "$set": {"a": 9}});
    let edited = edit(&w.finish(), &changes(&o).unwrap()[0]).unwrap().unwrap();
    let mut expected = Writer::default();
    expected.i32("a", 9).i32("b", 1).i32("a", 2);
    assert_eq!((edited.document, edited.difference), (expected.finish(), None));
}

#[test]
fn forms() {
    for whole in [doc! {"_id": 1, "$v": 1}, doc! {"_id": 1, "$x": 1}, doc! {"b": 1}, doc! {}] {
        assert_eq!(form(&bytes(&whole)).unwrap(), Form::Whole, "{whole}");
    }
    assert_eq!(form(&bytes(&doc! {"$v": 2, "diff": {}})).unwrap(), Form::Difference);
    for other in [
        doc! {"$v": 3, "diff": {}},
        doc! {"$v": 0, "$set": {"a": 1}},
        doc! {"$v": 1, "$inc": {"a": 1}},
        doc! {"$inc": {"a": 1}},
        doc! {"$set": {"a": 1}, "b": 1},
        doc! {"$v": 2},
        doc! {"$v": 2, "diff": {}, "$set": {}},
        doc! {"$v": 1, "$set": {"a..b": 1}},
        doc! {"$v": 1, "$set": {"": 1}},
        doc! {"$v": 1, "$set": {format!("a{}", ".a".repeat(300)): 1}},
    ] {
        assert_eq!(check(&bytes(&other)).unwrap_err().kind(), ErrorKind::Unsupported, "{other}");
    }
    assert!(edit(&bytes(&doc! {"l": []}), &changes(&bytes(&doc! {"$set": {"l.1500002": 1}})).unwrap()[0]).is_err());
}

#[test]
fn servers_by_version() {
    let of = |numbers, fcv| UpdateForms::taken_by(numbers, fcv);
    assert_eq!(of([4, 4, 2], Some("4.4")), UpdateForms::Modifiers);
    assert_eq!(of([5, 0, 4], Some("4.4")), UpdateForms::Modifiers);
    assert_eq!(of([5, 0, 4], None), UpdateForms::Both);
    assert_eq!(of([6, 0, 27], Some("6.0")), UpdateForms::Both);
    assert_eq!(of([7, 0, 11], Some("6.0")), UpdateForms::Differences);
    assert_eq!(of([10, 0, 0], None), UpdateForms::Differences);
}

fn value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![any::<i32>().prop_map(Bson::Int32), Just(Bson::Null), Just(Bson::String("x".into()))];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let fields = proptest::collection::vec((name(), inner.clone()), 0..4);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Bson::Array),
            fields.prop_map(|fields| Bson::Document(fields.into_iter().collect())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["a", "b", "0", "1", "2", "10"]).prop_map(str::to_owned)
}

proptest! {
    /// Whatever the document and the paths are, the differences end in what the paths end in.
    #[test]
    fn differences_say_what_paths_say(
        before in proptest::collection::vec((name(), value()), 0..5),
        paths in proptest::collection::vec((proptest::collection::vec(name(), 1..5), proptest::option::of(value())), 1..4),
    ) {
        let before: Document = before.into_iter().collect();
        let (mut set, mut unset) = (Document::new(), Document::new());
        for (path, to) in paths {
            match to {
                Some(to) => drop(set.insert(path.join("."), to)),
                None => drop(unset.insert(path.join("."), true)),
            }
        }
        changed(&before, &doc! {"$v": 1, "$set": set, "$unset": unset});
    }
}
