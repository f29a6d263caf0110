//! What each release of the server takes of a definition, and what becomes of what it does not take.
//!
//! A server learns that a definition is not for it when the collection, or after hours of loading its indexes, are made.
//! Everything that can be known before is known here, so that the plan says it, and the restore and the export make what
//! was said. The tables were filled by trying each case on MongoDB 4.4.2, 5.0.4, 6.0.5, 6.0.27 and 7.0.11 (docs/rules.md).

mod tables;

use mongodb::bson::Bson;

use crate::artifact::bson::{Element, Writer, tag};
use crate::artifact::raw::Raw;
use crate::domain::clock;
use crate::domain::namespace::Namespace;
use crate::domain::restore::LeftOut;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::catalogue::Collection;
use tables::*;

/// Whom definitions are made fit for.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    release: Release,
    /// Of an export nobody knows where it is restored: what this release takes, and what none takes otherwise.
    exported: bool,
    /// Seconds since 1970: older releases take no longer time to expire.
    now: f64,
}

/// The first two numbers of a version such as `6.0.5` or `6.0`.
pub fn release(text: &str) -> Option<Release> {
    let mut numbers = text.split(['.', '-']).map(|n| n.parse::<u32>().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// `6.0`.
pub fn shown(release: Release) -> String {
    format!("{}.{}", release.0, release.1)
}

impl Target {
    /// A server of `version` that acts as one of `fcv`, where that is known.
    pub fn server(version: &str, fcv: Option<&str>) -> Self {
        let release = release(version).unwrap_or(NEWEST);
        let as_release = fcv.and_then(self::release).map_or(release, |fcv| fcv.min(release));
        Self { release: as_release, exported: false, now: now() }
    }

    /// Whoever takes what a server of `version` takes.
    pub fn export(version: &str) -> Self {
        Self { release: release(version).unwrap_or(NEWEST), exported: true, now: now() }
    }

    /// Makes `collection`, which becomes `to`, one that the target takes. Gives what that changes.
    ///
    /// Errors: `Unsupported`, with the remedy, for what the target does not know and the collection is nothing without.
    pub fn fit(&self, from: &Namespace, to: &Namespace, collection: &mut Collection) -> Result<Vec<LeftOut>> {
        let mut changes = Changes { of: escape(&from.to_string()), found: Vec::new() };
        self.options(from, to, collection, &mut changes)?;
        let capped = collection.is_capped();
        let mut kept = Vec::with_capacity(collection.indexes.len());
        for spec in std::mem::take(&mut collection.indexes) {
            kept.extend(self.index(spec, capped, &mut changes));
        }
        collection.indexes = kept;
        Ok(changes.found)
    }

    /// What newer releases than this do not take of `collection`, a sentence for each: of an export, whose target is not
    /// known.
    pub fn later(&self, from: &Namespace, collection: &Collection) -> Vec<String> {
        let mut said: Vec<(String, String)> = Vec::new();
        for release in [(5, 0), (6, 0), (7, 0)].into_iter().filter(|r| *r > self.release) {
            let mut copy = collection.clone();
            let newer = Self { release, exported: false, ..*self };
            for LeftOut { what, .. } in newer.fit(from, from, &mut copy).unwrap_or_default() {
                if !said.iter().any(|(known, _)| *known == what) {
                    said.push((what, shown(release)));
                }
            }
        }
        said.into_iter().map(|(what, release)| format!("MongoDB {release} and newer do not take {what}")).collect()
    }

    fn lacks(&self, known: &Known) -> bool {
        known.gone.is_some_and(|gone| self.release >= gone)
    }

    fn options(
        &self,
        from: &Namespace,
        to: &Namespace,
        collection: &mut Collection,
        changes: &mut Changes,
    ) -> Result<()> {
        for known in &COLLECTION_OPTIONS {
            if !collection.options.contains_key(known.name) {
                continue;
            }
            if self.release < known.since {
                return Err(self.refused(from, known));
            }
            if self.lacks(known) {
                collection.options.remove(known.name);
                changes.add(known.name, format!("MongoDB {} has none; {}", shown(self.release), known.instead));
            }
        }
        let zero = |value: Option<Element<'_>>| value.and_then(|e| e.number()).is_some_and(|n| n < 1.0);
        if collection.is_capped() && zero(collection.options.get("size")) {
            collection.options.insert("size", LEAST_SIZE);
            collection.bounds.size = Some(Bson::Int64(LEAST_SIZE));
            changes.add("the size 0", format!("it stands for {LEAST_SIZE}, which is written instead"));
        }
        for key in ["storageEngine", "indexOptionDefaults"] {
            if self.release >= WITHOUT_LSM && collection.options.get(key).is_some_and(|e| names_lsm(&e)) {
                collection.options.remove(key);
                changes.add(key, format!("MongoDB {} has no storage of the type lsm", shown(self.release)));
            }
        }
        if self.release >= ENCRYPTED_BY_NAME && !self.exported {
            self.encrypted(from, to, &collection.options)?;
        }
        Ok(())
    }

    fn encrypted(&self, from: &Namespace, to: &Namespace, options: &Raw) -> Result<()> {
        let Some(fields) = options.get_document("encryptedFields") else { return Ok(()) };
        for (key, end) in [("escCollection", "esc"), ("ecocCollection", "ecoc")] {
            let expected = format!("enxcol_.{}.{end}", to.collection);
            if let Some(name) = fields.get_str(key).filter(|name| *name != expected) {
                let (from, name, release) = (escape(&from.to_string()), escape(name), shown(self.release));
                let message =
                    format!("{from} is encrypted, and MongoDB {release} wants {expected} where it has {name}");
                return Err(Error::new(ErrorKind::Unsupported, message)
                    .hint("restore it under its own name, or into an older release, or leave it out (--include)"));
            }
        }
        Ok(())
    }

    fn refused(&self, from: &Namespace, known: &Known) -> Error {
        let from = escape(&from.to_string());
        let message = format!("MongoDB {} does not take {}, which {from} has", shown(self.release), known.name);
        Error::new(ErrorKind::Unsupported, message).hint(format!(
            "restore into a server of {} or newer, at that feature compatibility version, or leave {from} out (--include)",
            shown(known.since)
        ))
    }

    /// The index as the target takes it; `None`: not at all.
    fn index(&self, mut spec: Raw, capped: bool, changes: &mut Changes) -> Option<Raw> {
        let name = escape(&spec.get("name").map_or_else(String::new, |e| e.lossy()));
        let release = shown(self.release);
        let key = spec.get_document("key").unwrap_or_default();
        for kind in key.iter().filter_map(|e| e.str()).filter(|kind| !kind.is_empty()) {
            let known = INDEX_KINDS.iter().find(|known| known.name == kind);
            let why = match known {
                Some(known) if self.lacks(known) => {
                    format!("MongoDB {release} has no {kind} indexes; {}", known.instead)
                }
                None if self.release <= NEWEST => format!("MongoDB {release} has no {} indexes", escape(kind)),
                _ => continue,
            };
            changes.add(&format!("index {name}"), why);
            return None;
        }
        if let Some(plain) = plain_key(&key) {
            spec.set_element("key", &Element { tag: tag::DOCUMENT, key: b"key", value: &plain });
            let why = "values in its key that servers before 3.4 took for 1 are written as 1";
            changes.add(&format!("the key of index {name}"), why.into());
        }
        if spec.get("v").and_then(|e| e.number()).is_some_and(|v| v < 1.0) {
            spec.remove("v");
            changes.add(
                &format!("version 0 of index {name}"),
                "no server makes it; the index is made in the usual one".into(),
            );
        }
        let texts = key.iter().any(|e| e.str() == Some("text"));
        for option in spec.clone().iter() {
            let shown_option = format!("{} of index {name}", escape(&String::from_utf8_lossy(option.key)));
            let known = INDEX_OPTIONS.iter().find(|known| known.name.as_bytes() == option.key);
            let why = match known {
                None if self.release <= NEWEST => format!("MongoDB {release} knows no such option"),
                Some(known) if self.lacks(known) => format!("MongoDB {release} has none; {}", known.instead),
                Some(known) if self.release < known.since => {
                    format!("MongoDB has it since {}", shown(known.since))
                }
                Some(known) if known.name == "weights" && !texts && self.release >= STRICT => {
                    "it is not an index of texts".into()
                }
                Some(known) if known.name == "storageEngine" && self.release >= WITHOUT_LSM && names_lsm(&option) => {
                    format!("MongoDB {release} has no storage of the type lsm")
                }
                _ => continue,
            };
            spec.remove(&String::from_utf8_lossy(option.key));
            changes.add(&shown_option, why);
        }
        self.flags(&mut spec, &name, changes);
        self.expiry(&mut spec, capped, &name, changes);
        Some(spec)
    }

    fn flags(&self, spec: &mut Raw, name: &str, changes: &mut Changes) {
        if self.release < STRICT {
            return;
        }
        for flag in ["unique", "sparse", "background"] {
            let Some(value) = spec.get(flag) else { continue };
            if matches!(value.tag, tag::BOOLEAN | tag::INT32 | tag::INT64 | tag::DOUBLE | tag::DECIMAL) {
                continue;
            }
            // As the servers that let it in read it: only nothing is false.
            let on = !matches!(value.tag, 0x06 | 0x0a);
            spec.insert(flag, on);
            changes
                .add(&format!("{flag} of index {name}"), format!("its value counts as {on}, which is written instead"));
        }
        // Values of another type were let in by servers before 5.0, and used by none.
        for number in NUMBERS {
            let is_number =
                |value: &Element<'_>| matches!(value.tag, tag::INT32 | tag::INT64 | tag::DOUBLE | tag::DECIMAL);
            if spec.get(number).is_some_and(|value| !is_number(&value)) {
                spec.remove(number);
                changes.add(&format!("{number} of index {name}"), "it is no number".into());
            }
        }
        for text in TEXTS {
            if spec.get(text).is_some_and(|value| value.str().is_none()) {
                spec.remove(text);
                changes.add(&format!("{text} of index {name}"), "it is no text".into());
            }
        }
    }

    /// The seconds after which documents expire. A server that cannot have them as they are takes some of them for others,
    /// of which the worst is 0 for "never".
    fn expiry(&self, spec: &mut Raw, capped: bool, name: &str, changes: &mut Changes) {
        const KEY: &str = "expireAfterSeconds";
        let Some(seconds) = spec.value(KEY) else { return };
        let what = format!("the expiry of index {name}");
        if capped && self.release >= NEVER {
            spec.remove(KEY);
            return changes.add(&what, "nothing expires in a capped collection".into());
        }
        let seconds = match seconds {
            Bson::Int32(n) => Some(f64::from(n)),
            Bson::Int64(n) => Some(n as f64),
            Bson::Double(n) => Some(n),
            Bson::Decimal128(n) => n.to_string().parse::<f64>().ok(),
            _ => None,
        };
        let Some(seconds) = seconds else {
            spec.remove(KEY);
            return changes.add(&what, "it is no number, and nothing expires by it".into());
        };
        let most = if self.release >= NEVER { f64::from(NEVER_SECONDS) } else { self.now };
        if seconds.is_nan() {
            if self.release < STRICT && !self.exported {
                return;
            }
            self.never(spec, KEY);
            let written = self.written_never();
            changes.add(&what, format!("it is not a number, by which nothing expires; {written}"));
        } else if seconds <= -1.0 {
            spec.remove(KEY);
            changes.add(
                &what,
                format!("no server takes {seconds} seconds; documents do not expire by the restored index"),
            );
        } else if seconds > most {
            self.never(spec, KEY);
            let release = shown(self.release);
            let written = self.written_never();
            changes.add(&what, format!("{seconds} seconds are more than MongoDB {release} takes; {written}"));
        }
    }

    fn never(&self, spec: &mut Raw, key: &str) {
        if self.can_say_never() { spec.insert(key, NEVER_SECONDS) } else { spec.remove(key) }
    }

    /// An export may be restored into an older release, whose index builds 2147483647 would stop.
    fn can_say_never(&self) -> bool {
        self.release >= NEVER
    }

    fn written_never(&self) -> String {
        match self.can_say_never() {
            true => format!("written as {NEVER_SECONDS}, which means never"),
            false => "the index is made without, so that nothing expires by it".into(),
        }
    }
}

struct Changes {
    /// The collection, as it is shown.
    of: String,
    found: Vec<LeftOut>,
}

impl Changes {
    fn add(&mut self, what: &str, why: String) {
        self.found.push(LeftOut { what: format!("{what} of {}", self.of), why });
    }
}

fn now() -> f64 {
    clock::now().timestamp() as f64
}

fn names_lsm(option: &Element<'_>) -> bool {
    option.value.windows(8).any(|text| text == b"type=lsm")
}

/// The key with 1 for what is neither a number that says a direction nor the name of a kind; `None`: it is so already.
fn plain_key(key: &Raw) -> Option<Vec<u8>> {
    let is_plain = |e: &Element<'_>| match e.tag {
        tag::STRING => e.str() != Some(""),
        tag::INT32 | tag::INT64 | tag::DOUBLE => e.number().is_some_and(|n| n != 0.0 && !n.is_nan()),
        tag::DECIMAL => true,
        _ => false,
    };
    if key.iter().all(|e| is_plain(&e)) {
        return None;
    }
    let mut w = Writer::default();
    for e in key.iter() {
        match is_plain(&e) {
            true => w.element(&e),
            false => w.raw(tag::INT32, e.key, &1_i32.to_le_bytes()),
        };
    }
    Some(w.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{Decimal128, Document, doc};

    fn fitted(version: &str, options: Document, indexes: &[Document]) -> (Collection, Vec<String>) {
        let ns = Namespace::new("d", "c");
        let indexes = indexes.iter().map(Raw::from).collect();
        let mut collection = Collection::new(ns.clone(), false, options, indexes, Some(0));
        let changes = Target::server(version, None).fit(&ns, &ns, &mut collection).unwrap();
        (collection, changes.into_iter().map(|c| c.what).collect())
    }

    fn index(more: Document) -> Document {
        let mut spec = doc! {"v": 2, "key": {"a": 1}, "name": "n"};
        spec.extend(more);
        spec
    }

    #[test]
    fn seconds_that_mean_never_never_become_some() {
        let never = |version: &str, seconds: Bson| {
            let (collection, changes) = fitted(version, doc! {}, &[index(doc! {"expireAfterSeconds": seconds})]);
            assert!(changes.is_empty() || changes == ["the expiry of index n of d.c"], "{changes:?}");
            (collection.indexes[0].value("expireAfterSeconds"), !changes.is_empty())
        };
        let nan = || Bson::Double(f64::NAN);
        assert!(matches!(never("4.4.2", nan()), (Some(Bson::Double(n)), false) if n.is_nan()));
        // 5.0.4 would take it for 0, and takes no number that means never.
        for seconds in [nan(), Bson::Decimal128("NaN".parse().unwrap()), Bson::Int32(i32::MAX), Bson::Int32(-1)] {
            assert_eq!(never("5.0.4", seconds), (None, true));
        }
        let most = Some(Bson::Int32(i32::MAX));
        for version in ["6.0.5", "7.0.11", "8.0.1"] {
            assert_eq!(never(version, nan()), (most.clone(), true));
            assert_eq!(never(version, Bson::Int64(1 << 40)), (most.clone(), true));
            assert_eq!(never(version, Bson::Int32(i32::MAX)), (most.clone(), false));
            assert_eq!(never(version, Bson::Double(-1.0)), (None, true));
            assert_eq!(never(version, Bson::String("3600".into())), (None, true));
        }
        for seconds in [Bson::Double(1.5), Bson::Double(-0.5), Bson::Int64(0)] {
            assert_eq!(never("7.0.11", seconds.clone()), (Some(seconds), false));
        }
        let decimal = Bson::Decimal128("3600".parse::<Decimal128>().unwrap());
        assert_eq!(never("5.0.4", decimal.clone()), (Some(decimal), false));
    }

    #[test]
    fn an_export_is_taken_by_whoever_restores_it() {
        let ns = Namespace::new("d", "c");
        let specs = [index(doc! {"expireAfterSeconds": f64::NAN}), index(doc! {"safe": true, "name": "m"})];
        let options = doc! {"recordPreImages": true};
        let mut collection =
            Collection::new(ns.clone(), false, options, specs.iter().map(Raw::from).collect(), Some(0));
        let target = Target::export("4.4.2");
        let changes = target.fit(&ns, &ns, &mut collection).unwrap();
        let changes: Vec<&str> = changes.iter().map(|c| c.what.as_str()).collect();
        assert_eq!(changes, ["the expiry of index n of d.c", "safe of index m of d.c"]);
        assert_eq!(collection.indexes[0], index(doc! {}));
        assert_eq!(target.later(&ns, &collection), ["MongoDB 7.0 and newer do not take recordPreImages of d.c"]);
        assert!(Target::export("7.0.11").later(&ns, &collection).is_empty());
    }

    #[test]
    fn what_a_release_does_not_take_is_changed_and_named() {
        let (c, changes) = fitted(
            "7.0.11",
            doc! {"recordPreImages": true, "capped": true, "size": 4096},
            &[index(doc! {"expireAfterSeconds": 5})],
        );
        assert_eq!(changes, ["recordPreImages of d.c", "the expiry of index n of d.c"]);
        assert_eq!(
            (c.options, c.indexes[0].clone()),
            (doc! {"capped": true, "size": 4096}.into(), index(doc! {}).into())
        );
        let old = [
            doc! {"v": 2, "key": {"p": "geoHaystack", "q": 1}, "name": "hay", "bucketSize": 1},
            index(doc! {"bucketSize": 1, "w": 1}),
            index(doc! {"sparse": "x", "unique": Bson::Null, "background": 1, "name": "flags"}),
            doc! {"v": 1, "key": {"a": true, "b": "", "c": -1.0, "t": "text"}, "name": "key", "weights": {"t": 1}},
            index(doc! {"weights": {"a": 1}, "name": "weights"}),
            doc! {"v": 0, "key": {"z": 1}, "name": "zero"},
            index(doc! {"2dsphereIndexVersion": "3", "default_language": 5, "bits": "x", "min": 1.0, "name": "types"}),
        ];
        let (c, changes) = fitted("5.0.4", doc! {"capped": true, "size": 0}, &old);
        assert_eq!(changes.len(), 12, "{changes:#?}");
        assert_eq!(c.options, doc! {"capped": true, "size": 4096_i64});
        let expected = [
            index(doc! {}),
            index(doc! {"sparse": true, "unique": false, "background": 1, "name": "flags"}),
            doc! {"v": 1, "key": {"a": 1, "b": 1, "c": -1.0, "t": "text"}, "name": "key", "weights": {"t": 1}},
            index(doc! {"name": "weights"}),
            doc! {"key": {"z": 1}, "name": "zero"},
            index(doc! {"min": 1.0, "name": "types"}),
        ];
        assert_eq!(c.indexes, expected);
        let (c, changes) = fitted("4.4.2", doc! {"capped": true, "size": 0, "recordPreImages": true}, &old[..1]);
        assert_eq!((c.indexes.len(), changes), (1, vec!["the size 0 of d.c".to_owned()]));
        let lsm = doc! {"storageEngine": {"wiredTiger": {"configString": "type=lsm"}}};
        assert_eq!(fitted("6.0.5", lsm.clone(), &[]).1.len(), 0);
        assert_eq!(fitted("7.0.11", lsm.clone(), &[index(lsm)]).1.len(), 2);
        // Of a release that nobody tried an option is not known to be too much.
        let new = index(doc! {"brandNew": true});
        assert_eq!(fitted("9.0.0", doc! {}, std::slice::from_ref(&new)).0.indexes, [new]);
    }

    #[test]
    fn what_a_release_does_not_know_yet_is_refused_with_the_remedy() {
        let ns = Namespace::new("d", "c");
        let refused = |target: Target, to: &Namespace, options: Document| {
            let mut collection = Collection::new(ns.clone(), false, options, vec![], None);
            let error = target.fit(&ns, to, &mut collection).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            format!("{error} {}", error.hint_text().unwrap())
        };
        let clustered = doc! {"clusteredIndex": {"key": {"_id": 1}, "unique": true}};
        let said = refused(Target::server("5.0.4", Some("5.0")), &ns, clustered.clone());
        assert!(said.contains("clusteredIndex") && said.contains("6.0 or newer"), "{said}");
        refused(Target::server("6.0.5", Some("5.0")), &ns, clustered);
        let encrypted = doc! {"encryptedFields": {"escCollection": "enxcol_.c.esc", "fields": []}};
        let said = refused(Target::server("7.0.11", None), &Namespace::new("d", "x"), encrypted.clone());
        assert!(said.contains("enxcol_.x.esc"), "{said}");
        let mut collection = Collection::new(ns.clone(), false, encrypted, vec![], None);
        assert_eq!(Target::server("7.0.11", None).fit(&ns, &ns, &mut collection).unwrap(), []);
    }

    #[test]
    fn releases_compare_as_numbers() {
        assert!(release("10.0.1") > release("9.9.9"));
        assert_eq!(release("6.0.5-rc1"), release("6.0"));
        assert_eq!(release("x"), None);
    }
}
